"""The ronda command, as a user meets it. Only loopback is looked at."""

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import __version__, cli
from agent.show import text
from collectors import KINDS

ROOT = Path(__file__).parents[2]


def ronda(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "agent", *args], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        yield s.getsockname()[1]


def test_version_and_usage():
    assert ronda("--version").stdout == f"ronda {__version__}\n"
    assert ronda().returncode == 2
    assert ronda("nonsense").returncode == 2


def test_check_says_fine(tmp_path):
    (tmp_path / "a.yaml").write_text("site: s\ncollectors: {tcp: [{target: '127.0.0.1:80'}]}")
    done = ronda("check", "--config", str(tmp_path / "a.yaml"))

    assert done.returncode == 0
    assert "tcp:127.0.0.1:80, every 15 s" in done.stdout
    assert "fine, 1 tasks for site s" in done.stdout


def test_check_shows_what_is_stretched(tmp_path):
    text = "site: s\npush: {{url: 'https://pusat.example', {}}}\ncollectors: {{icmp: [{{target: gateway}}], http: [{{target: 'https://a.example/'}}]}}"
    for said, interval, metered in (
        ("profile: fibre", "every 15 s\n", False),
        ("profile: metered", "every 15 s, stretched to 95 s ", False),  # 60 MB a day by the estimate, of 9.5
        ("budget: 300MB", "every 15 s, stretched to 225 s ", True),  # 10 MB a day, of which push takes six
    ):
        (tmp_path / "a.yaml").write_text(text.format(said))
        done = ronda("check", "--config", str(tmp_path / "a.yaml"))
        assert done.returncode == 0
        assert "icmp:gateway, every 1 s\n" in done.stdout
        assert f"http:https://a.example/, {interval}" in done.stdout
        assert ("push tells only what metered tells" in done.stdout) is metered


def test_check_warns_of_what_is_over_with_its_line_and_is_fine_all_the_same(tmp_path):
    path = tmp_path / "agent.yaml"
    entry = "        - {{rule: arp_sweep, until: {}, reason: peralatan printer}}\n"
    ahead = f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"
    path.write_text("site: rsud\ncollectors:\n  lan:\n    - suppress:\n" + entry.format(ahead) + entry.format("2024-01-31"))
    result = ronda("check", "--config", str(path))
    assert result.returncode == 0
    (warning,) = result.stderr.splitlines()
    assert "agent.yaml:6: suppress.until: sudah lewat (2024-01-31) dan tidak berlaku lagi untuk arp_sweep" in warning


def test_check_says_everything_that_is_wrong(tmp_path):
    (tmp_path / "a.yaml").write_text("site: S\ncollectors:\n  tcp: [{target: '127.0.0.1'}]\n  udp: []\n")
    done = ronda("check", "--config", str(tmp_path / "a.yaml"))

    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["a.yaml:1", "a.yaml:3", "a.yaml:4"]
    assert "Traceback" not in done.stderr


def test_check_without_a_file_shows_what_would_be_watched():
    done = ronda("check")

    assert done.returncode == 0
    assert "icmp:1.1.1.1" in done.stdout
    assert "host, every" in done.stdout


def test_once_shows_everything_and_fails_when_it_is_down(port):
    done = ronda("once", "tcp", f"127.0.0.1:{port}")
    assert done.returncode == 0
    assert "phases:" in done.stdout

    done = ronda("once", "tcp", "127.0.0.1:1", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["reason"] == "refused"


def test_once_of_the_host_and_of_what_does_not_exist():
    done = ronda("once", "host", "--json")
    assert done.returncode == 0
    assert any(s["name"] == "ronda_host_memory_total_bytes" for s in json.loads(done.stdout)["samples"])

    done = ronda("once", "pigeon", "x")
    assert done.returncode == 2
    assert "kinds: icmp" in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tcp"], "target: is missing"),
        (["tcp", "127.0.0.1:1", "colour=red"], "colour: unknown key"),
        (["tcp", "127.0.0.1:1", "timeout"], "is not KEY=VALUE"),
        (["tcp", "127.0.0.1:1", "--timeout", "soon"], '"soon" is not a duration'),
        (["icmp", "127.0.0.1", "--interval", "x"], "is not a duration (try 50ms)"),
    ],
)
def test_a_wrong_once_says_why(args, said):
    done = ronda("once", *args)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_collectors_lists_kinds_and_their_manuals():
    listed = ronda("collectors").stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(KINDS)
    for kind in KINDS.values():
        manual = ronda("collectors", kind.name).stdout if kind.name == "tcp" else None
        if manual:
            assert all(m.name in manual for m in kind.metrics)
            assert "interval  (default 15.0)" in manual


def test_a_reader_that_goes_away_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "collectors", "tcp"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        p.stdout.close()
        err = p.stderr.read()

    assert b"Traceback" not in err


def test_text_is_printable_and_complete():
    shown = text(
        {
            "name": "a\x1b[2Jb",
            "phases": {"connect": 0.0012},
            "rows": [{"a": 1, "b": None}, {"a": 22, "b": True}],
            "deep": [{"x": {"y": [1, 2]}}],
        }
    )

    assert "\x1b" not in shown
    assert "1.200 ms" in shown
    assert shown.splitlines()[-1].strip() == "y  1, 2"


def test_main_returns_codes_in_process(capsys):
    assert cli.main(["once", "pigeon"]) == 2
    assert "there is no kind" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--web.listen-address", "abc"], '"abc" is not an address to listen on'),
        (["run", "--web.listen-address", "127.0.0.1:99999"], "is not an address to listen on"),
        (["run", "--web.listen-address", "[::1:0"], "is not an address to listen on"),
        (["once", "icmp", "127.0.0.1", "--count", "0"], '"0" is not a number of packets'),
        (["once", "icmp", "127.0.0.1", "--count", "9" * 30], "is not a number of packets"),
        (["once", "tcp", "127.0.0.1:1", "--count", "3"], "--count and --interval go with icmp"),
        (["once", "dns", "127.0.0.1", "query=x", "--interval", "2s"], "--count and --interval go with icmp"),
    ],
)
def test_what_can_not_be_meant_is_said_and_is_no_traceback(args, said):
    done = ronda(*args)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
