"""`ronda central status`: what a real Prometheus knows, as an admin on ssh reads it."""

import argparse
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent.texts import CAUSES
from central.status import FINE, TROUBLE, UNKNOWN, UnreadableError, ask, status_command
from tests.central.alertbench import free_port

NOON = 1_795_496_400  # 2026-11-24 12:00 WIB


def _rule(record: str, value: float, **labels: str) -> dict[str, object]:
    return {"record": record, "expr": f"vector({value})", "labels": labels}


def _office(site: str, name: str, state: str, cause: str, **also: str) -> list[dict[str, object]]:
    other = {"ok": "down"}.get(state, "ok")
    return [
        _rule("ronda_site_info", 1, site=site, name=name, timezone="Asia/Jakarta", status="active"),
        _rule("ronda:site_state", 1, site=site, state=state),
        _rule("ronda:site_state", 0, site=site, state=other),
        _rule("ronda:site_state_since:timestamp", NOON, site=site, state=state),
        _rule("ronda_verdict", 1, site=site, cause=cause),
        *(_rule("ronda:condition", 1, site=site, alertname=alert, audience=audience) for alert, audience in also.items()),
    ]


FINE_OFFICE = _office("camat", "Camat Panai", "ok", "ok")
SICK_OFFICES = [
    *_office("rsud", "RSUD", "silent", "isp", SiteDown="ops", ArpConflict="csirt"),
    *_office("dukcapil", "Dukcapil", "down", "isp"),
    {"alert": "SharedServiceDown", "expr": "vector(1)", "labels": {"site": "pusat", "service": "siak", "audience": "ops"}},
    {"alert": "Watchdog", "expr": "vector(1)", "labels": {"site": "pusat", "audience": "deadman"}},
]


@pytest.fixture
def knowing(tmp_path: Path) -> Iterator[object]:
    """A function: rules → the address of a Prometheus that has reckoned them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(rules: list[dict[str, object]]) -> str:
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": rules}]}))
        (tmp_path / "prometheus.yml").write_text("rule_files: [rules.yaml]\n")
        listen = f"127.0.0.1:{free_port()}"
        files = ("--config.file", str(tmp_path / "prometheus.yml"), "--storage.tsdb.path", str(tmp_path / "data"))
        started.append(subprocess.Popen(["prometheus", *files, f"--web.listen-address={listen}"], stderr=subprocess.DEVNULL))
        url, end = f"http://{listen}", time.monotonic() + 60
        while not _answered(url, rules[-1]):
            assert time.monotonic() < end, "Prometheus has not reckoned its rules"
            time.sleep(0.1)
        return url

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


def _answered(url: str, last: dict[str, object]) -> bool:
    """Rules of a group are reckoned in order: with the last, all are."""
    try:
        return bool(ask(url, str(last["record"]) + '{site="camat"}' if "record" in last else f'ALERTS{{alertname="{last["alert"]}"}}'))
    except UnreadableError:
        return False


@pytest.mark.needs("prometheus")
def test_the_worst_stands_first_with_its_cause_and_what_is_shared(knowing, capsys):
    url = knowing([*FINE_OFFICE, *SICK_OFFICES])

    assert status_command(argparse.Namespace(prometheus=url)) == TROUBLE
    head, shared, *rows = capsys.readouterr().out.splitlines()

    assert head == "3 kantor: 1 putus, 1 tanpa kabar, 1 baik"
    assert shared == "bersama: SharedServiceDown siak"
    assert [row.split("  ")[0].strip() for row in rows] == ["putus", "tanpa kabar", "baik"]
    assert "12.00 WIB" in rows[0]
    assert rows[0].endswith(f"  {CAUSES['isp'].short.id}")
    assert rows[1].split("12.00 WIB")[1].strip() == "SiteDown", "what a silent box said last is no cause, and the CSIRT's is not shown"


@pytest.mark.needs("prometheus")
def test_all_well_is_exit_0_and_names_no_cause(knowing, capsys):
    url = knowing(FINE_OFFICE)

    assert status_command(argparse.Namespace(prometheus=url)) == FINE
    assert "tidak ada gangguan" not in capsys.readouterr().out


def test_a_prometheus_that_is_not_there_is_said_with_the_way_out(capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

    assert status_command(argparse.Namespace(prometheus=url)) == UNKNOWN
    said = capsys.readouterr().err
    assert url in said
    assert "--prometheus URL" in said
