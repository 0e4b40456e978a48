"""Every recorded device, asked by the kind over UDP: who it is, which profiles apply, every series, no more and no less; who is where.

The other side of each comparison is tests/snmp/expected.py, which reads the recording without us. Where the corpus of real devices isn't
here, the generated recordings are compared alone, and that is said.
"""

import asyncio
import functools
import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from agent.clock import SystemClock
from agent.collector import Env, Result
from agent.detect.seen import Bridge, DeviceIdentity, RouterArp
from agent.model import Event, Sample
from agent.net import Net
from agent.snmp import metrics
from agent.snmp.profile import Profile, shipped
from agent.snmp.wire import Credentials, Oid
from collectors.snmp import Config, InterfacesConfig, Snmp
from tests.snmp import expected
from tests.snmp.recording import Responder, Row, oid, parse, read
from tests.snmp.recordings import GENERATED_NAMES, REAL_NAMES, recording
from tests.snmp.snmpd import COMMUNITY, Snmpd

ALL = [*REAL_NAMES, *GENERATED_NAMES]
EVERYTHING = InterfacesConfig(down=True, virtual=True)

# name → (model, version, serial number, the profiles that apply beside system and interfaces)
WHO = {
    "apc_smt750x-nmc2": ("Smart-UPS X 750", "UPS 09.8 (ID20)", "AS1907242163", "apc apc-environment arp"),
    "edgeswitch_us-8": ("UBNT-USW", "5.76.7.13442", "", "unifi-switch bridge ether host-resources ucd entity"),
    "ios_2960x": ("WS-C2960X-48FPS-L", "15.0(2a)EX5", "FCW1929B68S", "cisco arp bridge ether entity"),
    "jetstream_vlans": ("", "", "", "tplink arp bridge ether"),
    "linux_ups-nut": ("", "", "", "nut"),
    "openwrt": ("Linksys WRT1200AC", "OpenWrt 21.02.0-rc4", "", "openwrt host-resources ucd"),
    "routeros": (
        "RB952Ui-5ac2nD",
        "6.40.5",
        "71B1060EE89D",
        "mikrotik mikrotik-6 arp bridge host-resources mikrotik-60ghz mikrotik-dhcp mikrotik-health mikrotik-optical mikrotik-poe "
        "mikrotik-ppp mikrotik-wireless entity",
    ),
    "routeros_rb750gr3": (
        "RB750Gr3",
        "7.20.4",
        "6F3A071688EA",
        "mikrotik arp bridge host-resources mikrotik-dhcp mikrotik-health mikrotik-ppp entity",
    ),
    "airos": ("", "", "", "airos ucd"),
    "apc-old": ("Smart-UPS 1500", "601.3.I", "AS00TEST", "apc apc-environment"),
    "cisco": ("WS-C2960-24TT-L", "12.2(55)SE12", "FOC0000TEST", "cisco entity"),
    "linux": ("Contoh AP-1", "OpenWrt 23.05.2", "", "openwrt host-resources nut ucd"),
    "mikrotik-lte": (
        "RB912R-2nD-LTm",
        "7.16.1",
        "HGA0000TEST",
        "mikrotik mikrotik-dhcp mikrotik-health mikrotik-lte mikrotik-ppp mikrotik-queues mikrotik-wireless",
    ),
    "mikrotik-old": (
        "CCR1036-8G-2S+",
        "6.49.10",
        "HGA1111TEST",
        "mikrotik mikrotik-6 mikrotik-health mikrotik-optical mikrotik-wireless",
    ),
    "tplink": ("T1600G-28TS 2.0", "2.0.5 Build 20180929 Rel.49999(s)", "2180000000000", "tplink bridge ether"),
    "ups-rfc1628": ("Tower 3K", "03.07", "", "ups"),
}
WITHOUT_INTERFACES = {"apc-old", "cisco", "linux", "linux_ups-nut"}
DOCS = pathlib.Path(__file__).parents[2] / "docs" / "devices.md"
OURS = metrics.ENGINE | {metrics.UPTIME.name, metrics.INTERFACE_INFO.name}


class Look(NamedTuple):
    """What the kind has told, and put on the board for other tasks."""

    profiles: list[str]
    samples: list[Sample]
    events: list[Event]
    identity: DeviceIdentity
    arp: RouterArp | None
    bridge: Bridge | None


def look(rows: Mapping[Oid, Row], interfaces: InterfacesConfig) -> Look:
    """One look of the kind, at a device that answers from these rows."""
    with Responder(rows) as device:
        return look_at(device.port, "public", interfaces)


def look_at(port: int, community: str, interfaces: InterfacesConfig, **more: str) -> Look:
    env = Env(SystemClock(), Net())
    config = Config(target=f"127.0.0.1:{port}", name="router", interfaces=interfaces, series=20_000, **more)  # type: ignore[arg-type]
    poller = Snmp(config, env, Credentials(community=community))
    told = list(asyncio.run(poller.collect()))
    assert [s.reason for s in told if isinstance(s, Result)] == [""]
    posted = [env.board.of(kind).get("router", (0.0, None))[1] for kind in (DeviceIdentity, RouterArp, Bridge)]
    samples, events = ([s for s in told if isinstance(s, kind)] for kind in (Sample, Event))
    return Look(poller.picture.profiles, samples, events, *posted)  # type: ignore[arg-type]


@functools.cache
def seen(name: str, everything: bool = False) -> tuple[Look, expected.Reading] | None:
    """A look at a recorded device, and its recording; None where that isn't here, which is said."""
    path = recording(name)
    if path is None:
        return None
    rows = read(path).rows
    return look(rows, EVERYTHING if everything else InterfacesConfig()), expected.Reading(rows)


def series(samples: list[Sample]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for s in samples:
        key = (s.metric.name, frozenset(zip(s.metric.labels, s.labels, strict=True)))
        assert key not in found
        found[key] = s.value
    return found


def wanted(name: str, reading: expected.Reading, which: Mapping[str, str]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The facts, but for interfaces that the device has and that aren't shown."""
    hidden = set(reading.names().values()) - set(which.values())
    found = {}
    for metric, labels, value in [*expected.FACTS[name](reading), *expected.interfaces(reading, which)]:
        key = (f"ronda_snmp_{metric}", frozenset(labels.items()))
        assert key not in found
        if labels.get("interface") not in hidden or name in ("openwrt", "airos"):
            found[key] = value
    return found


@pytest.mark.parametrize("everything", [False, True], ids=["as-usual", "everything"])
@pytest.mark.parametrize("name", ALL)
def test_every_series_is_what_the_device_said(name: str, everything: bool) -> None:
    if (both := seen(name, everything)) is None:
        return
    picture, reading = both
    assert picture.events == []
    which = expected.shown(reading, everything)
    told = {key: value for key, value in series(picture.samples).items() if key[0] not in OURS}
    want = wanted(name, reading, which)
    assert sorted(map(repr, told.keys() - want.keys())) == []  # no series without a line
    assert sorted(map(repr, want.keys() - told.keys())) == []  # no line without its series
    assert told == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_what_people_call_an_interface_is_in_its_info(name: str) -> None:
    if (both := seen(name)) is None:
        return
    picture, reading = both
    aliases = {index: row.value for index, row in reading.column(expected.MIB2 + "31.1.1.1.18").items()}
    info = {s.labels[0]: s.labels[1:] for s in picture.samples if s.metric is metrics.INTERFACE_INFO}
    for index, interface in expected.shown(reading).items():
        description, kind = info.pop(interface)
        said = aliases.get(index, b"")
        assert isinstance(said, bytes)
        assert description == said.decode().strip()
        assert (kind == "ethernet") == (reading.numbers(expected.MIB2 + "2.2.1.3").get(index) == 6)
    assert info == {}


@pytest.mark.parametrize("name", ALL)
def test_who_it_is(name: str) -> None:
    if (both := seen(name)) is None:
        return
    picture, reading = both
    model, version, serial, profiles = WHO[name]
    basic = ["system"] if name in WITHOUT_INTERFACES else ["system", "interfaces"]
    assert picture.profiles == [*basic, *profiles.split()]
    who = picture.identity
    assert (who.model, who.version, who.serial) == (model, version, serial)
    said = reading.rows[oid("1.3.6.1.2.1.1.2.0")].value
    assert isinstance(said, tuple)
    assert who.kind == ".".join(map(str, said))
    told = series(picture.samples)
    count = {key: value for key, value in told.items() if key[0] == metrics.INTERFACES.name}
    assert count.get((metrics.INTERFACES.name, frozenset({("state", "shown")})), 0) == len(expected.shown(reading))
    assert sum(count.values()) == len(reading.names())
    refused = name == "linux"  # a UPS that doesn't know its input
    assert [told[m.name, frozenset()] for m in (metrics.REFUSED, metrics.ROWS_CUT, metrics.SERIES_CAPPED)] == [refused, 0, 0]


@pytest.mark.parametrize("name", ALL)
def test_who_is_where_goes_to_the_board_and_to_no_label(name: str) -> None:
    if (both := seen(name, everything=True)) is None:
        return
    picture, reading = both
    addresses, ports = expected.arp(reading), expected.macs(reading)
    assert (picture.arp.entries if picture.arp else {}) == addresses
    assert (picture.bridge.ports if picture.bridge else {}) == ports
    labels = {label.lower().replace("-", ":") for s in picture.samples for label in s.labels}
    assert not labels & {*addresses, *addresses.values(), *ports}


@pytest.mark.skipif(shutil.which("snmpd") is None, reason="net-snmp is not installed (Debian: snmpd)")
def test_a_real_netsnmp_says_what_the_kernel_says(tmp_path: pathlib.Path) -> None:
    box = Snmpd(tmp_path)
    box.start()
    try:
        picture = look_at(box.port, COMMUNITY, EVERYTHING)
    finally:
        box.stop()
    assert {"host-resources", "ucd", "interfaces"} <= set(picture.profiles)
    told = series(picture.samples)
    kernel = dict(re.findall(r"(\w+): +(\d+) kB", pathlib.Path("/proc/meminfo").read_text()))
    assert told["ronda_snmp_memory_size_bytes", frozenset()] == int(kernel["MemTotal"]) * 1024
    root = os.statvfs("/")
    assert told["ronda_snmp_storage_size_bytes", frozenset({("storage", "/")})] == root.f_blocks * root.f_frsize
    flags = int(pathlib.Path("/sys/class/net/lo/flags").read_text(), 16)
    assert told["ronda_snmp_interface_up", frozenset({("interface", "lo")})] == flags & 1  # IFF_UP


def asked(profile: Profile) -> set[Oid]:
    """Every OID that a profile reads or looks for."""
    found = {s.oid for s in profile.scalars} | set(profile.when.has) | set(profile.when.lacks)
    found |= {spec.oid for spec in (profile.identity.model, profile.identity.version, profile.identity.serial) if spec}
    for table in profile.tables:
        found |= {label.oid for label in table.labels.values() if label.oid} | ({table.count.oid} if table.count else set())
        for column in table.columns:
            found |= {o for o in (column.oid, column.times, column.minus, column.where and column.where.oid) if o}
            found |= {spec.oid for spec in column.info.values()}
    return found


def test_no_oid_of_a_profile_is_in_no_recording() -> None:
    """A slip of the pen in an OID finds nothing anywhere, and would never be missed."""
    paths = [recording(name) for name in ALL]
    if not all(paths):
        return
    rows = {name for path in paths if path for name in read(path).rows}
    below = {name[:n] for name in rows for n in range(7, len(name) + 1)}
    assert sorted((p.profile, o) for p in shipped().values() for o in asked(p) if o not in below) == []


def test_the_example_for_admins_reads_a_device(tmp_path: pathlib.Path) -> None:
    text = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "thermometer.yaml").write_text(text)
    lines = [
        "1.1.1.0|4|Thermometer, firmware 1.4.2 (2024)",
        "1.1.2.0|6|1.3.6.1.4.1.99999.1.7",
        "4.1.99999.1.1.0|4|TH-2",
        "4.1.99999.1.2.1.0|2|237",
        "4.1.99999.1.3.1.2.1|4|depan",
        "4.1.99999.1.3.1.2.2|4|belakang",
        "4.1.99999.1.3.1.3.1|2|1",
        "4.1.99999.1.3.1.3.2|2|2",
    ]
    rows, skipped = parse(f"1.3.6.1.{'' if line.startswith('4') else '2.'}{line}".encode() for line in lines)
    assert skipped == 0
    with Responder(rows) as device:
        picture = look_at(device.port, "public", InterfacesConfig(), profiles_dir=str(tmp_path))
    assert picture.profiles == ["system", "thermometer"]
    assert (picture.identity.model, picture.identity.version) == ("TH-2", "1.4.2")
    told = {key: value for key, value in series(picture.samples).items() if key[0] not in OURS}
    assert told == {
        ("ronda_snmp_temperature_celsius", frozenset({("sensor", "room")})): 23.7,
        ("ronda_snmp_door_open", frozenset({("door", "depan")})): 0,
        ("ronda_snmp_door_open", frozenset({("door", "belakang")})): 1,
    }


def test_every_shipped_profile_is_in_the_docs() -> None:
    rows = [line.split("|")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert set(shipped()) <= {name for row in rows for name in row.split("`")[1::2]}
