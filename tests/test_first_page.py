"""The spine, end to end: an agent in an office, a real Prometheus that scrapes it, our rules, a real Alertmanager, a webhook.

A web server behind the ISP dies and comes back. Nothing is faked; run with `-s` to read what the webhook was
sent.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.bench import agent
from tests.lab import centre
from tests.lab.centre import Webhook
from tests.lab.netns import Daemon, until
from tests.lab.office import INTERNET, OFFICE, Office

pytestmark = [pytest.mark.lab, pytest.mark.needs("nginx", "dnsmasq")]
LISTEN = f"{OFFICE}:17663"
SITE = f"http://{INTERNET}/"
# nginx is watched by http alone, and dnsmasq by tcp and dns, so that one death is one alert.
CONFIG = f"""
site: dukcapil
web: {{listen: "{LISTEN}"}}
collectors:
  icmp: [{{target: gateway, interval: 1s}}, {{target: {INTERNET}, interval: 1s}}]
  tcp: [{{target: "{INTERNET}:53", interval: 5s}}]
  http: [{{target: "{SITE}", interval: 5s, timeout: 3s, expect: {{status: [200], body: SIAK}}}}]
  dns: [{{target: {INTERNET}, query: siak.lab.test, type: A, interval: 5s, expect: {{answers: [{INTERNET}]}}}}]
"""


@pytest.fixture
def watched(office: Office) -> Iterator[tuple[Office, Daemon, Daemon]]:
    """(the office, its agent, the web server), with every probe answered."""
    web, _ = office.nginx(), office.dnsmasq()
    daemon = agent.start(office.office, CONFIG, LISTEN)
    until(lambda: _reached(office) == 5, 60, f"all five probes succeed\n{daemon.output()}", every=0.5)
    yield office, daemon, web
    print(daemon.output())


def _metrics(office: Office) -> agent.Series:
    return agent.scrape(office.office, f"http://{LISTEN}/metrics")


def _reached(office: Office) -> float:
    return agent.total(_metrics(office), "ronda_probe_success")


def _evaluated(office: Office, times: int) -> None:
    """Waits until every rule has been evaluated `times` times more, and a scrape has come between."""

    def rounds() -> float:
        return agent.total(agent.scrape(office.centre, "http://127.0.0.1:9090/metrics"), "prometheus_rule_group_iterations_total")

    groups = len(centre.rule_files())
    goal = rounds() + groups * times
    until(lambda: rounds() >= goal, 120, f"rules evaluated {times} times", every=0.5)


@pytest.mark.needs("prometheus", "prometheus-alertmanager")
@pytest.mark.timeout(420)
def test_a_service_dies_and_the_right_page_comes_and_goes(watched: tuple[Office, Daemon, Daemon]) -> None:
    office, _, web = watched
    with Webhook().serving(office.centre) as hook:
        centre.alertmanager(office.centre)
        centre.prometheus(office.centre, centre.prometheus_config({"dukcapil": LISTEN}))
        until(lambda: centre.query(office.centre, "ronda_probe_success"), 60, "Prometheus has scraped the agent", every=0.5)

        _lose_one_packet(office)
        _evaluated(office, 20)
        assert hook.bodies == [], "a blip paged"
        assert centre.query(office.centre, 'ALERTS{alertname!="Watchdog"}') == [], "a blip is near to a page"

        web.stop()
        until(lambda: hook.alerts("firing"), 120, "the page arrives")
        _evaluated(office, 10)
        _the_right_page(hook)

        office.nginx()
        until(lambda: hook.alerts("resolved"), 120, "the all-clear arrives", every=0.5)
        assert hook.names() == {"HttpServiceDown"}


def _the_right_page(hook: Webhook) -> None:
    assert [(a["labels"]["alertname"], a["labels"]["site"]) for a in hook.alerts("firing")] == [("HttpServiceDown", "dukcapil")]
    labels, notes = hook.alerts()[0]["labels"], hook.alerts()[0]["annotations"]
    assert labels["severity"] in {"critical", "warning"}
    assert labels["audience"] == "ops"
    assert INTERNET in str(labels) + str(notes)
    assert notes["summary"]
    assert "\n" in notes["description"]
    assert notes["runbook_url"].endswith("#HttpServiceDown")
    assert hook.bodies[0]["groupLabels"] == {"site": "dukcapil", "alertname": "HttpServiceDown"}


def _lose_one_packet(office: Office) -> None:
    """The ISP drops packets for as long as it takes to send one ping; the wire looks well all the time."""

    def count(what: str) -> float:
        return agent.total(_metrics(office), f"ronda_icmp_packets_{what}_total", target=INTERNET)

    sent, lost = count("sent"), count("lost")
    office.lose(True)
    until(lambda: count("sent") > sent, 10, "a ping goes out into the hole", every=0.02)
    office.lose(False)
    until(lambda: count("lost") > lost, 20, "the loss is counted", every=0.5)
    assert count("lost") - lost <= 2


@pytest.mark.needs("promtool")
def test_the_exposition_is_flawless(watched: tuple[Office, Daemon, Daemon], tmp_path: Path) -> None:
    office, *_ = watched
    text = office.office.get(f"http://{LISTEN}/metrics", accept="text/plain")
    assert text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.stdout, checked.stderr, checked.returncode) == ("", "", 0)
    modern = office.office.get(f"http://{LISTEN}/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert modern
    assert modern.endswith("# EOF\n")
    names = {f.name for f in text_string_to_metric_families(modern)}  # type: ignore[no-untyped-call]
    assert {"ronda_probe_success", "ronda_icmp_packets_sent", "ronda_icmp_rtt_seconds", "ronda_verdict"} <= names


def test_a_bad_file_changes_nothing_and_says_so(watched: tuple[Office, Daemon, Daemon]) -> None:
    office, daemon, _ = watched
    file = office.directory / "ronda/agent.yaml"
    before = agent.total(_metrics(office), "ronda_icmp_packets_sent_total")
    file.write_text(CONFIG.replace("interval: 1s", "interval: 1 minit", 1))
    daemon.signal(signal.SIGHUP)
    until(lambda: agent.total(_metrics(office), "ronda_config_last_reload_successful") == 0, 20, "the failed reload shows")
    assert "minit" in daemon.output()
    assert "agent.yaml:5" in daemon.output()
    until(lambda: agent.total(_metrics(office), "ronda_icmp_packets_sent_total") > before + 4, 20, "the old tasks go on")

    file.write_text(CONFIG.replace("{target: gateway, interval: 1s}, ", ""))
    daemon.signal(signal.SIGHUP)
    until(lambda: agent.total(_metrics(office), "ronda_config_last_reload_successful") == 1, 20, "the good file is taken")
    until(lambda: _reached(office) == 4, 20, "the task that is gone has gone from the metrics")
    after = agent.total(_metrics(office), "ronda_icmp_packets_sent_total", target=INTERNET)
    assert after > before / 2, "the task that stayed began anew"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(watched: tuple[Office, Daemon, Daemon], number: signal.Signals) -> None:
    _, daemon, _ = watched
    asked = time.monotonic()
    daemon.signal(number)
    assert daemon.process.wait(timeout=30) == 0
    print(f"ended after {time.monotonic() - asked:.2f} s")
    assert "Traceback" not in daemon.output()


def test_a_killed_agent_comes_back(watched: tuple[Office, Daemon, Daemon]) -> None:
    office, daemon, _ = watched
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(timeout=30)
    agent.start(office.office, CONFIG, LISTEN)
    until(lambda: _reached(office) == 5, 60, "all probes succeed again", every=0.5)
