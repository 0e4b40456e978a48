"""The inventory: what a file may say, what is filled in, and that every mistake is told at once, with its line."""

import argparse
import contextlib
import dataclasses
import re
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.structure import ConfigError
from central.inventory import Inventory, Site, check_command, load
from tests.fuzz import fuzz

ROOT = Path(__file__).parent.parent.parent
EXAMPLE, EXAMPLE_CALENDAR = ROOT / "config/inventory.example.yaml", ROOT / "config/calendar.example.yaml"
TODAY = date(2026, 6, 1)

SMALL = """
centre: {name: Kominfo, url: "https://pusat.example.go.id:17664"}
calendars: {lima-hari: {mon-fri: "08:00-16:00"}}
isps: {isp-a: {name: ISP A}, isp-b: {name: ISP B}}
services: {siak: {name: SIAK, url: "https://siak.example.go.id/"}}
sites:
  dukcapil:
    name: Dukcapil
    code: DKC
    class: layanan
    calendar: lima-hari
    uplinks: [{isp: isp-a, medium: fibre}]
"""
WITA = """
centre: {name: Kominfo Contoh, timezone: Asia/Makassar, url: "https://pusat.example.go.id"}
calendars: {jam-kantor: {mon-thu: "08:00-16:30", fri: "08:00-11:30, 13:30-17:00"}}
isps: {sat: {name: Satelit}, radio: {name: Radio}}
sites:
  camat-bunaken:
    {name: Kantor Camat, code: BNK, district: Bunaken, class: kantor, calendar: jam-kantor, uplinks: [{isp: sat, medium: vsat}]}
  puskesmas:
    {name: Puskesmas, code: PKM, class: 24-jam, timezone: Asia/Jayapura, delivery: pull, address: "[2001:db8::7]:17663",
     uplinks: [{isp: sat, medium: vsat, source: eth1}, {isp: radio, medium: wireless, source: eth2}],
     maintenance: [{from: 2026-12-01T20:00, until: 2026-12-01T23:00}]}
"""


@pytest.fixture
def made(tmp_path):
    """Writes an inventory (and a calendar) and loads it."""

    def make(text: str, calendar: str = "2026: {ramadan: {from: 2026-02-19, until: 2026-03-20}}\n", today: date = TODAY) -> Inventory:
        (tmp_path / "inventory.yaml").write_text(text)
        (tmp_path / "calendar.yaml").write_text(calendar)
        return load(tmp_path / "inventory.yaml", today=today)

    return make


@pytest.fixture
def errors(made):
    def find(text: str, calendar: str = "") -> list[str]:
        with pytest.raises(ConfigError) as e:
            made(text, calendar)
        return str(e.value).splitlines()

    return find


def small(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


def sites(*lines: str) -> str:
    """The small inventory with further sites, one a line from line 13 on."""
    return SMALL + "".join(f"  {line}\n" for line in lines)


# -- what is read ---------------------------------------------------------------------------------------------------------------


def test_the_example_is_a_whole_regency():
    found = load(EXAMPLE, today=TODAY)
    active = found.active().values()

    assert len({s.district for s in found.sites.values()}) == 9
    assert {s.class_ for s in active} == {"24-jam", "layanan", "kantor", "desa"}
    assert {s.status for s in found.sites.values()} == {"active", "planned", "retired"}
    assert {u.medium for s in active for u in s.uplinks} >= {"fibre", "4g", "vsat", "wireless"}
    assert len(found.sites["rsud"].uplinks) == 2
    assert any(s.power == "off_after_hours" for s in active)
    assert {s for site in active for s in site.services} == set(found.services)
    assert {u.isp for site in active for u in site.uplinks} == set(found.isps)
    assert found.covered_until() == date(2027, 12, 31)
    assert all(s.location for s in found.sites.values())
    assert [w.split(": ")[1] for w in found.warnings] == ["channels.ops", "channels.csirt", "channels.deadman"]


def test_the_examples_lines_that_need_accounts_are_valid_too(tmp_path):
    whole = tmp_path / "inventory.yaml"
    whole.write_text(re.sub(r"^#(?=\S)", "", re.sub(r"^#  (?=[ a-z])", "  ", EXAMPLE.read_text(), flags=re.MULTILINE), flags=re.MULTILINE))
    found = load(whole, EXAMPLE_CALENDAR, TODAY)

    assert list(found.channels) == ["ops", "csirt", "isp", "pimpinan", "digest", "deadman"]
    assert found.channels["ops"].telegram.chat_id == "-1001234567890"
    assert found.smtp.from_ == "ronda@example.go.id"
    assert found.warnings == ()


def test_the_example_shows_every_key():
    import typing

    from central.inventory import InventoryFile, Targets

    def fields(schema: object) -> set[str]:
        if schema is Targets:
            return set()
        inner = set().union(*(fields(a) for a in typing.get_args(schema)))
        if isinstance(schema, type) and dataclasses.is_dataclass(schema):
            hints = typing.get_type_hints(schema, include_extras=True)
            for f in dataclasses.fields(schema):
                inner |= {f.name.rstrip("_")} | fields(hints[f.name])
        return inner

    text = EXAMPLE.read_text()
    missing = {name for name in fields(InventoryFile) if not re.search(rf"\b{name}:", text)}
    assert missing <= {"always", "week"}  # how opening hours are kept, not how they are written


ROUTER = "devices: {router: {address: gateway, kind: router, credentials_file: /etc/ronda/snmp.yaml, DEVICE}}"
WITH_ROUTER = SMALL.replace(
    "    uplinks: [{isp: isp-a, medium: fibre}]", f"    uplinks: [{{isp: isp-a, medium: fibre, UPLINK}}]\n    {ROUTER}"
)


def device(said: str = "logs: false", uplink: str = "mbps: 30") -> str:
    """The small inventory with a router. Its uplinks are in line 12, its devices in line 13."""
    return WITH_ROUTER.replace("DEVICE", said).replace("UPLINK", uplink)


def test_devices_are_read_and_their_senders_known(made):
    said = "logs: true, traps: true}, sw: {address: '192.0.2.2:1161', watch: [sfp1], keep: ['^sfp'], credentials_file: /etc/ronda/snmp.yaml"
    found = made(device(said, "mbps: 30, device: router, interface: ether1")).sites["dukcapil"]

    router, switch = found.devices["router"], found.devices["sw"]
    assert (router.sender, router.logs, router.traps, router.kind, switch.kind) == ("gateway", True, True, "router", "other")
    assert (switch.sender, switch.watch, switch.keep) == ("192.0.2.2", ["sfp1"], ["^sfp"])
    assert (found.uplinks[0].device, found.uplinks[0].interface) == ("router", "ether1")


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("192.0.2.7", "192.0.2.7"), ("192.0.2.7:161", "192.0.2.7"), ("gateway:1161", "gateway"), ("'2001:db8::7'", "2001:db8::7"),
        ("'[2001:db8::7]:1161'", "2001:db8::7"), ("'[2001:db8::7]'", "2001:db8::7"), ("switch.example", ""),
    ],
)  # fmt: skip
def test_whom_a_devices_messages_come_from(made, address, sender):
    said = f"logs: false}}, other: {{address: {address}, credentials_file: /etc/ronda/snmp.yaml"
    assert made(device(said)).sites["dukcapil"].devices["other"].sender == sender


@pytest.mark.parametrize(
    ("said", "uplink", "wrong"),
    [
        ("logs: false", "device: router", "12: uplinks[0].interface: is missing beside device"),
        ("logs: false", "interface: ether1", "12: uplinks[0].device: is missing beside interface"),
        ("logs: false", "device: ruter, interface: ether1",
         '12: uplinks[0].device: "ruter" is no device of this file (did you mean router?)'),
        ("logs: false}, b: {address: 192.0.2.2, logs: true", "device: b, interface: ether1",
         '12: uplinks[0].device: "b" has no credentials_file: its traffic is not asked for'),
        ("logs: false", "source: a, device: router, interface: e}, {isp: isp-b, source: b, medium: 4g, device: router, interface: e",
         "12: uplinks[1].interface: router e is that of two uplinks (sites."),
        ("logs: false}, lan: {address: 192.0.2.2, logs: true", "mbps: 3",
         '13: devices.lan: "lan" is the name of a task that every box has'),
        ("logs: false}, isp-a-anchor-1: {address: 192.0.2.2, logs: true", "mbps: 3",
         '13: devices.isp-a-anchor-1: "isp-a-anchor-1" is the name of a task that every box has'),
        ("logs: false}, b: {address: 192.0.2.2", "mbps: 3",
         "13: devices.b.address: would be neither asked nor heard"),
        ("logs: false}, b: {address: switch.example, traps: true", "mbps: 3",
         "13: devices.b.address: must be an address or gateway where logs or traps"),
        ("logs: false}, b: {address: 192.0.2.2, logs: true, watch: [e]", "mbps: 3",
         "13: devices.b.watch: needs credentials_file: interfaces are asked for"),
        ("traps: true}, b: {address: 'gateway:1161', traps: true", "mbps: 3",
         "13: devices.b.address: is that of another device that sends"),
        ("profiles: [upps]", "mbps: 3", "13: devices.router.profiles: upps is no profile (docs/devices.md); known: airos,"),
        ("profiles: all", "mbps: 3", "13: devices.router.profiles: is `auto`, or a list of names"),
        ("comunity: public", "mbps: 3", "13: devices.router.comunity: unknown key"),
        ("keep: ['(']", "mbps: 3", '13: devices.router.keep[0]: "(" is not a regular expression'),
        ("logs: false}, b: {address: '192.0.2.2:70000', logs: true", "mbps: 3",
         '13: devices.b.address: "192.0.2.2:70000" is not a device\'s address'),
    ],
)  # fmt: skip
def test_what_is_wrong_of_devices(errors, said, uplink, wrong):
    found = errors(device(said, uplink))
    line, _, rest = wrong.partition(": ")
    assert any(f.startswith(f"inventory.yaml:{line}: sites.dukcapil.{rest}") for f in found), found


def test_a_device_is_called_as_nothing_else_of_its_office(errors):
    found = errors(device() + "    targets: {icmp: [{name: router, target: 192.0.2.1}]}\n")
    assert found == [
        'inventory.yaml:13: sites.dukcapil.devices.router: "router" is the name of a service or a target '
        "of this site too; give the device another"
    ]


def test_an_uplink_whose_traffic_is_counted_and_whose_contract_is_not_known_is_doubtful(made):
    found = made(device(uplink="device: router, interface: ether1"))
    assert [w for w in found.warnings if "uplinks[0].mbps" in w] == [
        "inventory.yaml:12: sites.dukcapil.uplinks[0].mbps: is missing: what is used can't be compared with what was bought"
    ]


def test_nothing_is_left_open(made):
    found = made(WITA)
    camat, puskesmas = found.sites["camat-bunaken"], found.sites["puskesmas"]

    assert (camat.timezone, puskesmas.timezone) == ("Asia/Makassar", "Asia/Jayapura")
    assert (camat.profile, puskesmas.profile) == ("metered", "fibre")
    assert (camat.delivery, camat.status, camat.power) == ("push", "active", "always")
    assert puskesmas.calendar == "24-jam"
    assert [u.name for u in puskesmas.uplinks] == ["sat", "radio"]
    assert [found.silence_limit(s) for s in found.sites] == [700, 40]
    assert found.zone("puskesmas") == ZoneInfo("Asia/Jayapura")
    assert [(c.name, c.zone) for c in found.calendar_zones()] == [("24-jam", "Asia/Jayapura"), ("jam-kantor", "Asia/Makassar")]
    start, end = puskesmas.maintenance[0].timestamps(found.zone("puskesmas"))
    assert datetime.fromtimestamp(start, ZoneInfo("UTC")) == datetime(2026, 12, 1, 11, tzinfo=ZoneInfo("UTC"))
    assert end - start == 3 * 3600
    assert found.calendar_of("camat-bunaken").open_at(datetime(2026, 11, 23, 8, 0))
    assert found.centre.anchors == ["1.1.1.1", "8.8.8.8", "9.9.9.9"]


def test_only_active_sites_are_active(made):
    found = made(sites("a: {name: A, code: AA, class: 24-jam, status: planned}", "b: {name: B, code: BB, class: 24-jam, status: retired}"))

    assert list(found.sites) == ["dukcapil", "a", "b"]
    assert list(found.active()) == ["dukcapil"]


def test_targets_are_read_as_an_agent_reads_them(made):
    targets = 'targets: {icmp: [{target: gateway, interval: 500ms}], http: [{target: "https://x.example.go.id/", name: siak}]}'
    site = made(SMALL + f"    {targets}\n").sites["dukcapil"]

    assert [(kind, task.target, task.interval) for kind, task in site.tasks()] == [
        ("icmp", "gateway", 0.5),
        ("http", "https://x.example.go.id/", 15),
    ]


def test_files_of_a_sites_box_need_not_be_here(made):
    """The password is on the box at the site; that it isn't at the centre is no mistake."""
    target = (
        "{target: 'https://x.example.go.id/', basic_auth: {username: ronda, password_file: /nowhere/secret}, tls: {ca_file: /nowhere/ca}}"
    )
    [(_, task)] = made(SMALL + f"    targets: {{http: [{target}]}}\n").sites["dukcapil"].tasks()

    assert task.basic_auth.password_file == "/nowhere/secret"


@pytest.mark.parametrize(
    "name", ['Kantor "Lurah"', "{{ .Labels }}", "{a: b}", "a\\nb", "<b>&amp;", "😀 Dinas 🏥", "x" * 200, "'", "a: b # c", "日本", "-", "no"]
)
def test_names_come_out_as_they_went_in(made, name):
    text = small("name: Dukcapil", f"name: {yaml.safe_dump(name, allow_unicode=True, width=999).strip().removesuffix('...').strip()}")
    assert made(text).sites["dukcapil"].name == name


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\tb", "a\x85b", "a\u2028b", "a\x1bb"])
def test_a_name_is_one_line(errors, name):
    text = small("name: Dukcapil", f"name: {yaml.safe_dump(name, default_style=chr(34), width=999).strip()}")
    [error] = errors(text)
    assert error.startswith("inventory.yaml:8: sites.dukcapil.name: ")
    assert error.endswith("holds a line break or a control character; it must be one line")


def test_names_have_a_length(errors):
    assert "has 201 characters; 1 to 200 are allowed" in errors(small("name: Dukcapil", f"name: {'x' * 201}"))[0]
    assert "has 0 characters" in errors(small("name: Dukcapil", "name: ''"))[0]


def test_an_empty_inventory_is_right(made):
    found = made("centre: {name: Kominfo}\n")

    assert found.sites == {}
    assert found.warnings[0] == "inventory.yaml: sites: has no sites yet: nothing is watched"


def test_five_hundred_sites_load(made):
    rows = [
        f"s{i}: {{name: Kantor {i}, code: S{i}, class: kantor, calendar: lima-hari, uplinks: [{{isp: isp-a, medium: fibre}}]}}"
        for i in range(499)
    ]
    found = made(sites(*rows))

    assert len(found.active()) == 500
    assert found.warnings == made(SMALL).warnings


# -- what is wrong --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("class: layanan", "class: rumah", '10: sites.dukcapil.class: "rumah" is not one of 24-jam, layanan, kantor, desa'),
        ("isp: isp-a", "isp: isp-x", '12: sites.dukcapil.uplinks[0].isp: "isp-x" is no ISP of this file (did you mean isp-b?)'),
        ("isp: isp-a", "isp: telko", '12: sites.dukcapil.uplinks[0].isp: "telko" is no ISP of this file (isps has: isp-a, isp-b)'),
        (
            "calendar: lima-hari",
            "calendar: lima",
            '11: sites.dukcapil.calendar: "lima" is no calendar of this file (did you mean lima-hari?)',
        ),
        ("calendar: lima-hari", "district: X", "8: sites.dukcapil.calendar: is missing (calendars has: 24-jam, lima-hari)"),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    services: [siak, sipd]",
            '12: sites.dukcapil.services[1]: "sipd" is no service of this file (services has: siak)',
        ),
        ("calendar: lima-hari", "calendar: lima-hari\n    services: [siak, siak]", '12: sites.dukcapil.services[1]: "siak" stands twice'),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    delivery: pull",
            "8: sites.dukcapil.address: is missing: delivery pull needs the agent's host:port",
        ),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    location: [99.8, 2.1]",
            "12: sites.dukcapil.location: must be [latitude, longitude], e.g. [2.1017, 99.8295]",
        ),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    location: [2]",
            "12: sites.dukcapil.location: must be [latitude, longitude], e.g. [2.1017, 99.8295]",
        ),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    location: ['2,1', 99]",
            '12: sites.dukcapil.location[0]: "2,1" is not degrees (with a point, e.g. 2.1017)',
        ),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    timezone: Asia/Medan",
            '12: sites.dukcapil.timezone: "Asia/Medan" is not a time zone (try Asia/Jakarta, Asia/Makassar or Asia/Jayapura)',
        ),
        (
            "calendar: lima-hari",
            "calendar: lima-hari\n    timezone: Europe/Paris",
            "12: sites.dukcapil.timezone: Europe/Paris changes its clocks (daylight saving time); the rules need a zone with one offset",
        ),
        ("  dukcapil:", "  pusat:", "8: sites.pusat: pusat stands for the centre itself; give the office another name"),
        (
            "  dukcapil:",
            "  Duk_capil:",
            '7: sites.Duk_capil: "Duk_capil" is not a short name (small letters, digits and hyphens, at most 40)',
        ),
        ("code: DKC", "code: dkc", '9: sites.dukcapil.code: "dkc" is not a site code (two to eight capitals or digits, e.g. DKC)'),
        ("code: DKC", "code: DKC\n    kode: DKC", "10: sites.dukcapil.kode: unknown key (did you mean code?)"),
        ("medium: fibre", "medium: fiber", '12: sites.dukcapil.uplinks[0].medium: "fiber" is not one of fibre, 4g, vsat, wireless, cable'),
        (
            "medium: fibre",
            "medium: fibre, price: Rp 5",
            '12: sites.dukcapil.uplinks[0].price: "Rp 5" is not an amount of rupiah (digits only, e.g. 2500000)',
        ),
        ("medium: fibre", "medium: fibre, mbps: 0", '12: sites.dukcapil.uplinks[0].mbps: "0" is not a speed in Mbit/s (0.001 to 1e+06)'),
        (
            "medium: fibre",
            "medium: fibre, from: 2026-02-30",
            '12: sites.dukcapil.uplinks[0].from: "2026-02-30" is not a date (try 2026-01-31)',
        ),
        (
            "medium: fibre",
            "medium: fibre, from: 2026-02-01, until: 2026-01-01",
            "12: sites.dukcapil.uplinks[0].until: is before its from (2026-02-01)",
        ),
        (
            ', url: "https://pusat.example.go.id:17664"',
            "",
            "2: centre.url: is missing: the sites with delivery push send there (first: sites.dukcapil)",
        ),
        (
            "https://pusat.example.go.id:17664",
            "pusat.example.go.id",
            '2: centre.url: "pusat.example.go.id" must begin with http:// or https://',
        ),
        (
            "name: Kominfo,",
            "name: Kominfo, anchors: [one.one],",
            '2: centre.anchors[0]: "one.one" is not an address (an IP address, e.g. 9.9.9.9)',
        ),
        ("name: Kominfo,", "name: Kominfo, anchors: [9.9.9.9, 9.9.9.9],", "2: centre.anchors: must be different addresses, at least one"),
        (
            "calendars: {",
            "calendars: {24-jam: {mon: '08:00-09:00'}, ",
            "3: calendars.24-jam: is the calendar that never closes; give other hours another name",
        ),
        ("https://siak.example.go.id/", "ftp://x/", '5: services.siak.url: "ftp://x/" must begin with http:// or https://'),
        (
            "services:",
            "channels: {opss: {webhook: {url: 'http://a/'}}}\nservices:",
            '5: channels.opss: "opss" is not one of ops, csirt, isp, pimpinan, digest, deadman',
        ),
        (
            "services:",
            "channels: {ops: {}}\nservices:",
            "5: channels.ops.telegram: is missing (or email, or webhook): nobody would be told",
        ),
        (
            "services:",
            "channels: {ops: {email: {to: [a@example.go.id]}}}\nservices:",
            "5: channels.ops.email: needs the key smtp at the top of the file: through which server",
        ),
        (
            "services:",
            "channels: {ops: {telegram: {chat_id: grup, token_file: /t}}}\nservices:",
            '5: channels.ops.telegram.chat_id: "grup" is not a Telegram chat (digits, a group begins with -, e.g. "-100123")',
        ),
        ("services:", "smtp: {host: 'mail:25', from: a@b, username: u}\nservices:", "5: smtp.password_file: is missing beside username"),
    ],
)
def test_each_mistake_has_its_message(errors, old, new, expected):
    assert errors(small(old, new)) == [f"inventory.yaml:{expected}"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["b: {name: B, code: DKC, class: 24-jam}"], ['13: sites.b.code: "DKC" is the code of two sites (sites.dukcapil.code, line 9)']),
        (["dukcapil: {name: B, code: BB, class: 24-jam}"], ["13: sites.dukcapil: stands twice (first on line 7)"]),
        (
            ["b: {name: B, code: BB, class: 24-jam, uplinks: [{isp: isp-a, medium: 4g}, {isp: isp-a, medium: 4g}]}"],
            [
                '13: sites.b.uplinks[1]: is the second uplink called "isp-a"; give it a `name` of its own (sites.b.uplinks[0], line 13)',
                "13: sites.b.uplinks[0].source: is missing: with two uplinks each needs the box's address or interface on it",
                "13: sites.b.uplinks[1].source: is missing: with two uplinks each needs the box's address or interface on it",
            ],
        ),
        (
            [
                "b: {name: B, code: BB, class: 24-jam,",
                "  uplinks: [{isp: isp-a, medium: 4g, source: w},",
                "  {isp: isp-b, medium: 4g, source: w}]}",
            ],
            ['15: sites.b.uplinks[1].source: "w" is the source of two uplinks (sites.b.uplinks[0].source, line 14)'],
        ),
        (
            [
                "b: {name: B, code: BB, class: 24-jam, maintenance: [{from: 2026-12-01T20:00, until: 2026-12-02T02:00},",
                "  {from: 2026-12-02T02:00, until: 2026-12-02T03:00},",
                "  {from: 2026-12-01T23:00, until: 2026-12-01T23:30}, {from: 2026-12-05T23:00, until: 2026-12-05T22:00}]}",
            ],
            [
                "15: sites.b.maintenance[2]: overlaps another maintenance of this site (sites.b.maintenance[0], line 13)",
                "15: sites.b.maintenance[3].until: is not after its from (2026-12-05T23:00)",
            ],
        ),
        (
            ["b: {name: B, code: BB, class: 24-jam, targets: {icmp: [{target: a}, {target: a}],", "  tcp: [{target: a}], modbus: []}}"],
            [
                '14: sites.b.targets.tcp[0].target: "a" is not host:port (try 192.0.2.80:443, db.example.go.id:5432 or [2001:db8::5]:22)',
                "14: sites.b.targets.modbus: unknown key (known: icmp, tcp, http, dns, link, host, lan, guard, snmp, syslog, traps)",
            ],
        ),
        (
            ["b: {name: B, code: BB, class: 24-jam, targets:", "  {icmp: [{target: a},", "  {target: a}]}}"],
            ['15: sites.b.targets.icmp[1]: is the same task as sites.b.targets.icmp[0] ("icmp:a"); give one of them a `name`'],
        ),
    ],
)
def test_mistakes_between_parts_name_both(errors, lines, expected):
    found = errors(sites(*lines))
    known = [e for e in expected if "host:port (try" not in e]
    assert sorted(e for e in found if "tcp[0]" not in e) == sorted(f"inventory.yaml:{e}" for e in known)


def test_all_is_told_at_once_even_where_parts_are_unreadable(errors):
    """A site that can't be read is no reason to keep quiet about its code, its ISP or the next site."""
    text = sites(
        "b: {name: B, code: DKC, class: nope, uplinks: [{isp: nobody, medium: fibre}]}",
        "c: {name: C, code: CC, class: kantor, calendar: none, colour: red}",
    )
    found = errors(text + "isps: {}\n", "2026: {holidays: {2025-01-01: x}}\nwhat: {}\n")

    assert [e.partition(": ")[0] + " " + e.split(": ")[1] for e in found] == [
        "inventory.yaml:13 sites.b.class",
        "inventory.yaml:13 sites.b.code",
        "inventory.yaml:13 sites.b.uplinks[0].isp",
        "inventory.yaml:14 sites.c.colour",
        "inventory.yaml:14 sites.c.calendar",
        "inventory.yaml:15 isps",
        "calendar.yaml:1 2026.holidays.2025-01-01",
        "calendar.yaml:2 what",
    ]


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "inventory.yaml").write_text(SMALL)
    with pytest.raises(ConfigError, match=r"cal\.yaml: can't be read: No such file"):
        load(tmp_path / "inventory.yaml", tmp_path / "cal.yaml")
    (tmp_path / "inventory.yaml").write_text("a: b: c")
    with pytest.raises(ConfigError, match=r"inventory\.yaml:1: is not YAML"):
        load(tmp_path / "inventory.yaml")


# -- what is doubtful -----------------------------------------------------------------------------------------------------------


def test_a_year_without_data_is_a_warning(made):
    def about(calendar: str, today: date) -> list[str]:
        return [w for w in made(SMALL, calendar, today).warnings if w.startswith("calendar.yaml")]

    assert about("", date(2026, 6, 1)) == ["calendar.yaml: knows nothing of 2026: offices count as open on its holidays"]
    assert about("2026: {}", date(2026, 10, 31)) == []
    assert about("2026: {}", date(2026, 11, 1)) == ["calendar.yaml: knows nothing of 2027: offices count as open on its holidays"]
    assert about("{2026: {}, 2028: {}}", date(2026, 1, 1)) == [
        "calendar.yaml: knows nothing of 2027: offices count as open on its holidays"
    ]


def test_a_year_without_ramadan_is_a_warning_where_its_hours_differ(made):
    text = small('{mon-fri: "08:00-16:00"}', '{mon-fri: "08:00-16:00", ramadan: {mon-fri: "08:00-15:00"}}')
    assert "calendar.yaml: 2026 has no ramadan: the ordinary hours count all year" in made(text, "2026: {}").warnings


def test_what_else_is_doubtful(made):
    text = (
        small("https://pusat", "http://pusat").replace("medium: fibre", "medium: fibre, until: 2026-05-31")
        + "  b: {name: B, code: BB, class: 24-jam}\n"
    )
    found = made(text).warnings

    assert "inventory.yaml:2: centre.url: is plain http: what agents send, their tokens too, can be read on the way (use https)" in found
    assert "inventory.yaml:2: centre.token_file: is missing: a gateway elsewhere takes nothing without a token" in "".join(found)
    assert "inventory.yaml:12: sites.dukcapil.uplinks[0].until: the contract ended on 2026-05-31" in found
    assert "inventory.yaml:13: sites.b: has no uplinks: an outage names no ISP" in found


# -- ronda central check --------------------------------------------------------------------------------------------------------


def test_check_says_what_was_read(capsys):
    assert check_command(argparse.Namespace(inventory=EXAMPLE, calendar=EXAMPLE_CALENDAR)) == 0
    out = capsys.readouterr().out

    assert "inventory.example.yaml: fine" in out
    assert "  centre    Kominfo Labuhanbatu, Asia/Jakarta\n" in out
    assert "  class     24-jam 4, layanan 24, kantor 29, desa 12\n" in out
    assert "warning: inventory.example.yaml: channels.ops: is missing" in out


# -- any input ------------------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    "centre sites isps services calendars name code class calendar uplinks isp medium source targets icmp target maintenance from until "  # noqa: SIM905  (a list of forty quoted words is no easier to read)
    "location services a b mon-fri ramadan delivery channels ops".split()
)
WORDS = st.sampled_from(
    [
        "a",
        "b",
        "AA",
        "kantor",
        "24-jam",
        "always",
        "08:00-16:00",
        "2026-12-01T20:00",
        "2026-12-01",
        "fibre",
        "pull",
        "1",
        "99.5",
        "{{",
        "",
        "pusat",
    ]
)
TREES = st.recursive(WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30)


@fuzz
@given(st.dictionaries(KEYS, TREES, max_size=6), st.binary(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, tree, junk):
    where = tmp_path_factory.mktemp("fuzz")
    (where / "inventory.yaml").write_text(yaml.safe_dump({"centre": {"name": "x"}, **tree}))
    (where / "calendar.yaml").write_bytes(junk)
    with contextlib.suppress(ConfigError):
        assert isinstance(load(where / "inventory.yaml", today=TODAY), Inventory)


UPLINK = st.fixed_dictionaries({"isp": st.sampled_from(["isp-a", "isp-b"]), "medium": st.just("4g"), "source": st.sampled_from(["x", "y"])})
SITE = st.fixed_dictionaries(
    {
        "name": st.text(min_size=1, max_size=12),
        "code": st.sampled_from(["AA", "BB", "CC", "D1"]),
        "class": st.sampled_from(["24-jam", "kantor", "desa"]),
    },
    optional={
        "calendar": st.sampled_from(["lima-hari", "24-jam"]),
        "status": st.sampled_from(["active", "planned"]),
        "location": st.lists(st.floats(-90, 90).map(lambda f: round(f, 4)), min_size=2, max_size=2),
        "uplinks": st.lists(UPLINK, max_size=2),
    },
)


@fuzz
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), SITE, max_size=3))
def test_what_is_read_is_whole(tmp_path_factory, tree):
    where = tmp_path_factory.mktemp("fuzz")
    text = yaml.safe_dump({**yaml.safe_load(SMALL), "sites": tree})  # escaped: YAML itself folds a bare U+0085 into a space
    (where / "inventory.yaml").write_text(text)
    with contextlib.suppress(ConfigError):
        found = load(where / "inventory.yaml", today=TODAY)
        for slug, site in found.sites.items():
            assert isinstance(site, Site)
            assert site.name == tree[slug]["name"]
            assert found.calendar_of(slug).zone == str(found.zone(slug))
            assert found.silence_limit(slug) in (40, 700)
            assert all(u.isp in found.isps and u.name for u in site.uplinks)
        assert len({s.code for s in found.sites.values()}) == len(found.sites)


def test_more_watched_ports_than_a_metered_office_can_name_are_a_warning(made):
    ports = ", ".join(f"GigabitEthernet1/0/{n}" for n in range(1, 7))
    text = small("medium: fibre", "medium: vsat") + "    devices: {switch: {address: 192.0.2.2, credentials_file: /s, watch: [PORTS]}}\n"

    assert "devices.switch.watch: names too much for a metered office" in "".join(made(text.replace("PORTS", ports)).warnings)
    assert "devices.switch.watch" not in "".join(made(text.replace("PORTS", "ether1")).warnings)
