"""Profiles as files: what is refused says where, what is shipped is right, and metrics are one object a name."""

from pathlib import Path

import pytest

from agent.snmp import profile
from agent.snmp.metrics import ENGINE, METRICS, SHIPPED
from agent.structure import ConfigError, loads

GOOD = """
profile: toko
title: "A shop's meter"
when: {kinds: [1.3.6.1.4.1.99999], has: [.1.3.6.1.4.1.99999.1]}
metrics: [{name: ronda_snmp_toko_water_liters, help: "Water.", labels: [pipe]}]
identity: {model: 1.3.6.1.4.1.99999.1.1.0, version: {oid: 1.3.6.1.2.1.1.1.0, match: "v(\\\\d+)"}}
scalars:
  - {metric: ronda_snmp_temperature_celsius, labels: {sensor: board}, oid: 1.3.6.1.4.1.99999.1.2.0, scale: 0.1, absent: [0, -2147483648]}
  - {metric: ronda_snmp_ups_status, oid: 1.3.6.1.4.1.99999.1.3.0, states: {2: online, 3: battery}}
tables:
  - table: pipes
    labels: {pipe: {oid: 1.3.6.1.4.1.99999.2.1.2}}
    unique: sum
    columns:
      - {metric: ronda_snmp_toko_water_liters, oid: 1.3.6.1.4.1.99999.2.1.3, where: {oid: 1.3.6.1.4.1.99999.2.1.4, is: [1, 1.3.6.1.2]}}
"""
UNKNOWN = "that Ronda knows; declare it in `metrics`"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as e:
        loads(text.encode(), profile.Profile, "toko.yaml")
    return list(map(str, e.value.problems))


def test_a_whole_file():
    made = loads(GOOD.encode(), profile.Profile, "toko.yaml")

    assert made.when.has == [(1, 3, 6, 1, 4, 1, 99999, 1)]
    assert made.identity.version == profile.TextFrom(oid=(1, 3, 6, 1, 2, 1, 1, 1, 0), match="v(\\d+)")
    assert made.scalars[0].absent == [0, -2147483648]
    assert made.scalars[1].states == {2: "online", 3: "battery"}
    assert made.tables[0].columns[0].where == profile.Where(oid=(1, 3, 6, 1, 4, 1, 99999, 2, 1, 4), is_=[1, (1, 3, 6, 1, 2)])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("unique: sum", "uniqe: sum", "toko.yaml:13: tables[0].uniqe: unknown key (did you mean unique?)"),
        ("unique: sum", "most: 1000000", 'toko.yaml:13: tables[0].most: "1000000" is not a number of rows (1 to 4096)'),
        ("1.3.6.1.4.1.99999.1.2.0", "sysDescr", 'toko.yaml:8: scalars[0].oid: "sysDescr" is not an OID (e.g. 1.3.6.1.2.1.1.5.0)'),
        (
            "{sensor: board}",
            "{place: board}",
            "toko.yaml:8: scalars[0].metric: ronda_snmp_temperature_celsius has the labels sensor; given: place",
        ),
        (
            "name: ronda_snmp_toko_water_liters",
            "name: ronda_snmp_load1",
            "toko.yaml:5: metrics[0].name: is Ronda's own: a gauge with the labels (none)",
        ),
        (
            "name: ronda_snmp_toko",
            "name: toko",
            'toko.yaml:5: metrics[0].name: "toko_water_liters" is not a metric of devices (it begins with ronda_snmp_)',
        ),
        ("_celsius", "_celcius", "toko.yaml:8: scalars[0].metric: ronda_snmp_temperature_celcius is no metric " + UNKNOWN),
        (
            "v(\\\\d+)",
            "v\\\\d+",
            'toko.yaml:6: identity.version.match: "v\\d+" has 0 groups (round brackets); it needs one: what is wanted',
        ),
        (
            "{oid: 1.3.6.1.4.1.99999.2.1.2}",
            "{oid: 1.3.6.1.4.1.99999.2.1.2, index: 1}",
            "toko.yaml:12: tables[0].labels.pipe.oid: or else `index` or `interface`: one of them, and no more",
        ),
        (
            "ronda_snmp_ups_status",
            "ronda_snmp_device_info",
            "toko.yaml:9: scalars[1].metric: ronda_snmp_device_info is no metric " + UNKNOWN,
        ),
    ],
)
def test_what_is_refused_says_where(old: str, new: str, told: str):
    assert old in GOOD
    assert told in problems(GOOD.replace(old, new))


def test_what_is_shipped_is_right_and_fills_every_metric_but_the_engines():
    found = profile.shipped()

    assert {"system", "interfaces", "arp", "bridge", "mikrotik-health", "ups"} <= set(found)
    readings = [r for p in found.values() for r in (*p.scalars, *(c for t in p.tables for c in t.columns))]
    filled = {r.metric for r in readings} | {"ronda_snmp_uptime_seconds", "ronda_snmp_bridge_entries"}  # these by poll.py and sources.py
    assert filled == set(SHIPPED) - ENGINE
    assert len(SHIPPED) == len(METRICS)


def test_an_admins_folder_adds_and_replaces(tmp_path: Path):
    (tmp_path / "toko.yaml").write_text(GOOD)
    (tmp_path / "ups.yaml").write_text("profile: ups\ntitle: mine\n")
    (tmp_path / "README").write_text("no profile")

    found = profile.library(str(tmp_path))

    assert found["ups"].title == "mine"
    assert "toko" in found
    assert "interfaces" in found
    metric = found["toko"].metric("ronda_snmp_toko_water_liters")
    assert metric is profile.library(str(tmp_path))["toko"].metric("ronda_snmp_toko_water_liters")
    assert (metric.type, metric.labels) == ("gauge", ("pipe",))


def test_a_metric_is_declared_once_for_all_folders(tmp_path: Path):
    for folder, labels in (("a", "[pipe]"), ("b", "[pipe, floor]")):
        (tmp_path / folder).mkdir()
        text = GOOD.replace("toko_water", "toko_gas").replace("labels: [pipe]", f"labels: {labels}")
        extra = "labels: {pipe: {oid: 1.3.6.1.4.1.99999.2.1.2}, floor: {index: 1}}" if folder == "b" else None
        (tmp_path / folder / "toko.yaml").write_text(
            text.replace("labels: {pipe: {oid: 1.3.6.1.4.1.99999.2.1.2}}", extra) if extra else text
        )
    profile.library(str(tmp_path / "a"))

    with pytest.raises(ConfigError) as e:
        profile.library(str(tmp_path / "b"))

    assert str(e.value) == "toko.yaml: metrics: ronda_snmp_toko_gas_liters is declared elsewhere as a gauge with the labels pipe"


def test_all_that_is_wrong_in_a_folder_is_told_at_once(tmp_path: Path):
    (tmp_path / "toko.yaml").write_text(GOOD.replace("profile: toko", "profile: warung"))
    (tmp_path / "rusak.yaml").write_text("profile: [")

    with pytest.raises(ConfigError) as e:
        profile.library(str(tmp_path))

    told = str(e.value)
    assert 'toko.yaml:1: profile: "warung" is in a file that is called toko.yaml' in told
    assert "rusak.yaml:2: is not YAML" in told


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        profile.library(str(tmp_path / "none"))


@pytest.mark.parametrize("language", ["id", "en"])
def test_the_example_of_the_handbook_is_right(language: str):
    text = (Path(__file__).parents[2] / f"docs/operations.{language}.md").read_text()
    example = text.partition("genset.yaml: ")[2].partition("\n")[2].partition("```")[0]

    made = loads(example.encode(), profile.Profile, "genset.yaml")

    assert made.profile == "genset"
    assert [t.table for t in made.tables] == ["cylinders"]
