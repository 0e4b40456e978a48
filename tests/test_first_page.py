"""The spine, end to end: an agent in an office, a real Prometheus that scrapes it, the rendered centre, a real Alertmanager, a webhook.

A web server behind the ISP dies and comes back; then the office's agent does. Nothing is faked; run with `-s` to read what the webhook
was sent.
"""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.bench import agent
from tests.lab import rendered
from tests.lab.centre import HOOK_PORT, Webhook
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
# Open at all hours, so that the moment of the test's run decides nothing.
INVENTORY = {
    "centre": {"name": "Kominfo Labuhanbatu", "phone": "0624-000000", "url": "https://pusat.example.go.id:17664"},
    "isps": {"isp-a": {"name": "ISP A", "noc": "021-000100"}},
    "sites": {
        "dukcapil": {
            "name": "Dukcapil",
            "code": "DKC",
            "class": "24-jam",
            "delivery": "pull",
            "address": LISTEN,
            "uplinks": [{"isp": "isp-a", "medium": "fibre"}],
        }
    },
    "channels": {"ops": {"webhook": {"url": f"http://127.0.0.1:{HOOK_PORT}/ops"}}},
}
STANDING = ("Watchdog", "MorningDigest")  # what is said whatever happens


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


def _evaluated(office: Office, group: str, times: int) -> None:
    """Waits until a group of rules has been evaluated `times` times more."""

    def rounds() -> float:
        found = rendered.query(office.centre, f'prometheus_rule_group_iterations_total{{rule_group=~".*;{group}"}}')
        return sum(value for _, value in found)

    until(lambda: rounds() > 0, 60, "Prometheus has scraped itself", every=0.5)
    goal = rounds() + times
    until(lambda: rounds() >= goal, 120, f"the rules of {group} are evaluated {times} times", every=0.5)


@pytest.mark.needs("prometheus", "prometheus-alertmanager")
@pytest.mark.timeout(600)
def test_the_right_page_comes_and_goes(watched: tuple[Office, Daemon, Daemon]) -> None:
    office, daemon, web = watched
    with Webhook().serving(office.centre) as hook:
        files = rendered.hurried(rendered.render(office, INVENTORY))
        rendered.alertmanager(office.centre, files)
        rendered.prometheus(office.centre, files)
        until(lambda: rendered.query(office.centre, "ronda_probe_success"), 60, "Prometheus has scraped the agent", every=0.5)

        _a_blip_pages_nobody(office, hook)
        _a_service_dies(office, web, hook)
        _an_agent_dies(office, daemon, hook)
        assert _names(hook) == {"HttpServiceDown", "SiteDown"}


def _a_blip_pages_nobody(office: Office, hook: Webhook) -> None:
    _lose_one_packet(office)
    _evaluated(office, "icmp_slow", 1)
    assert _names(hook) == set(), "a blip paged"
    near = rendered.query(office.centre, f'ALERTS{{alertname!~"{"|".join(STANDING)}"}}')
    assert near == [], "a blip is near to a page"


def _a_service_dies(office: Office, web: Daemon, hook: Webhook) -> None:
    web.stop()
    until(lambda: _of(hook, "HttpServiceDown", "firing"), 120, "the page arrives")
    _evaluated(office, "http", 2)
    _the_right_page(hook)

    office.nginx()
    until(lambda: _of(hook, "HttpServiceDown", "resolved"), 120, "the all-clear arrives", every=0.5)
    assert _names(hook) == {"HttpServiceDown"}


def _an_agent_dies(office: Office, daemon: Daemon, hook: Webhook) -> None:
    """Nobody hears the office any more: one message, and its end when the agent is back, with how long it was."""
    daemon.signal(signal.SIGKILL)
    daemon.process.wait(timeout=30)
    until(lambda: _of(hook, "SiteDown", "firing"), 240, "the office is told to be down", every=0.5)
    [told] = _of(hook, "SiteDown", "firing")
    assert (told["labels"]["site"], told["labels"]["severity"], told["labels"]["class"]) == ("dukcapil", "critical", "24-jam")
    assert told["annotations"]["summary"] == "tanpa kabar"

    agent.start(office.office, CONFIG, LISTEN)
    until(lambda: _of(hook, "SiteDown", "resolved"), 120, "the office is told to be back", every=0.5)
    until(lambda: _reached(office) == 5, 60, "all probes succeed again", every=0.5)
    assert len(_of(hook, "SiteDown", "firing")) == 1
    [ended] = _of(hook, "SiteDown", "resolved")
    assert re.fullmatch(r"(\d+m )?\d+s", ended["annotations"]["lasted"])


def _of(hook: Webhook, name: str, status: str) -> list[dict[str, Any]]:
    return [a for a in hook.alerts(status) if a["labels"]["alertname"] == name]


def _names(hook: Webhook) -> set[str]:
    return hook.names() - set(STANDING)


def _the_right_page(hook: Webhook) -> None:
    [told] = _of(hook, "HttpServiceDown", "firing")
    labels, notes = told["labels"], told["annotations"]
    assert (labels["site"], labels["severity"]) == ("dukcapil", "critical")
    assert labels["audience"] == "ops"
    assert INTERNET in str(labels) + str(notes)
    assert notes["summary"]
    assert "\n" in notes["description"]
    assert notes["runbook_url"] == "https://pusat.example.go.id:17664/runbook#HttpServiceDown"
    assert {"site": "dukcapil", "alertname": "HttpServiceDown"} in [b["groupLabels"] for b in hook.bodies]


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
