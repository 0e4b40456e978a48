"""Devices and capacity through all that is rendered: the inventory's facts and calendars, the wrapped rules, who is told when.

Time starts on Thursday 1970-01-01, 07:00 WIB; offices open at 07:30 (30m) and close at 16:00 (540m).
"""

import functools
from pathlib import Path

import pytest
import yaml

from central import prometheus, rules, yamltext
from tests.central.promtest import SITES, Bench, inventory

pytestmark = pytest.mark.needs("promtool")

DEVICES = "devices: {router: {address: gateway, credentials_file: /etc/ronda/snmp.yaml}}"
MEASURED = SITES.replace("medium: fibre}]}", f"medium: fibre, mbps: 50, device: router, interface: ether1}}], {DEVICES}}}")
OFFICES = ("rsud", "camat", "desa", "baru")
STEP = int(48e6 / 8 * 240)  # bytes in four minutes at 48 Mbit/s


@functools.cache
def rendered(kind: str) -> str:
    return rules.files()[f"prometheus/rules/{kind}.yaml"]


def bench(tmp_path: Path, kind: str, series: dict[str, str]) -> Bench:
    """Evaluated, and given values, every four minutes."""
    made = {"inventory.yaml": yamltext.dump({"groups": [prometheus.group(inventory(tmp_path, MEASURED))]}), f"{kind}.yaml": rendered(kind)}
    return Bench(tmp_path, made, series, every="4m", sampled="4m")


def of_port(metric: str, site: str, interface: str = "ether1") -> str:
    return f'ronda_snmp_interface_{metric}{{job="ronda",site="{site}",task="router",interface="{interface}"}}'


@pytest.mark.usefixtures("each_version")
def test_a_full_line_is_told_once_while_its_office_is_open_and_is_not_over_in_the_morning(tmp_path: Path) -> None:
    """Full from 08:00 to 12:00 on Thursday. That it ends after a better day: alerts/rules/uplink.test.yaml."""
    busy = f"0x15 {STEP}+{STEP}x59 {60 * STEP}x1000"
    full = bench(tmp_path, "uplink", {of_port("receive_bytes_total", site): busy for site in OFFICES})
    assert full.sites("UplinkSaturated", "180m", "240m", "700m", "1500m") == [[], *[["camat", "rsud"]] * 3]


def test_what_fills_a_line_at_night_only_is_told_for_who_works_at_night(tmp_path: Path) -> None:
    night = bench(
        tmp_path, "uplink", {of_port("transmit_bytes_total", site): f"0x150 {STEP}+{STEP}x59 {60 * STEP}x300" for site in OFFICES}
    )
    assert night.sites("UplinkSaturated", "590m", "800m", "1000m") == [[], ["rsud"], ["rsud"]]


def test_closing_time_is_told_to_nobody_and_a_lost_uplink_is(tmp_path: Path) -> None:
    ports = {
        of_port(metric, "camat", f"ether{n}"): "1x134 0x100" if metric == "up" else "1x300"
        for n in range(2, 26)
        for metric in ("up", "enabled")
    }
    uplinks = {of_port("up", site): "1x29 0x200" for site in ("camat", "rsud")} | {
        of_port("enabled", site): "1x300" for site in ("camat", "rsud")
    }
    alive = {f'ronda_probe_success{{job="ronda",site="{site}",task="router",kind="snmp"}}': "1x300" for site in OFFICES}
    evening = bench(tmp_path, "snmp", {**ports, **uplinks, **alive})
    told = evening.alerts("DeviceInterfaceDown", "116m", "140m", "560m", "700m")
    lost = [("camat", "ether1"), ("rsud", "ether1")]
    assert [sorted((a.labels["site"], a.labels["interface"]) for a in at) for at in told] == [[], lost, lost, lost]


def test_the_facts_of_devices_are_those_that_the_rules_join(tmp_path: Path) -> None:
    group = prometheus.group(inventory(tmp_path, MEASURED))
    facts = {r["record"]: r["labels"] for r in yaml.safe_load(yamltext.dump(group))["rules"] if r.get("labels", {}).get("site") == "camat"}
    assert facts["ronda_uplink_interface_info"] == {"site": "camat", "uplink": "isp-a", "task": "router", "interface": "ether1"}
    assert facts["ronda_device_watched_info"] == {"site": "camat", "task": "router", "interface": "ether1"}
    assert facts["ronda_device_info"] == {"site": "camat", "task": "router", "device_kind": "other"}
