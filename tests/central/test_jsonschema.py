"""The schema for editors: what is checked in is what the code says, the example passes it, and what editors should mark is marked."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from central.jsonschema import calendar_schema, schema, schema_command

CONFIG = Path(__file__).parent.parent.parent / "config"
TYPES = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "null": type(None)}


class Core12(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: no dates, no yes and no."""


Core12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":bool"))]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Core12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|false"), list("tf"))


def faults(value: Any, part: dict[str, Any], whole: dict[str, Any], path: str = "") -> list[str]:
    """The paths that do not fit: as much of draft 2020-12 as our schema uses. An unknown keyword is an error."""
    known = {"$schema", "$defs", "$ref", "title", "description", "default", "type", "enum", "const", "anyOf", "pattern", "items"}
    assert set(part) <= known | {"properties", "patternProperties", "additionalProperties", "propertyNames", "required"}
    if "$ref" in part:
        return faults(value, whole["$defs"][part["$ref"].removeprefix("#/$defs/")], whole, path)
    if "anyOf" in part:
        each = [faults(value, p, whole, path) for p in part["anyOf"]]
        return [] if [] in each else max(each, key=lambda found: max(map(len, found)))
    if not fits(value, part):
        return [path]
    if isinstance(value, list):
        return [f for i, v in enumerate(value) for f in faults(v, part["items"], whole, f"{path}[{i}]")]
    if isinstance(value, dict):
        lacks = [f"{path}.{name}" for name in part.get("required", []) if name not in value]
        return lacks + [f for k, v in value.items() for f in below(k, v, part, whole, f"{path}.{k}")]
    return []


def fits(value: Any, part: dict[str, Any]) -> bool:
    types = [part["type"]] if isinstance(part.get("type"), str) else part.get("type", [])
    return (
        (not types or any(isinstance(value, TYPES[t]) for t in types))
        and ("enum" not in part or value in part["enum"])
        and ("const" not in part or value == part["const"])
        and ("pattern" not in part or not isinstance(value, str) or re.search(part["pattern"], value) is not None)
    )


def below(key: str, value: Any, part: dict[str, Any], whole: dict[str, Any], path: str) -> list[str]:
    if not fits(key, part.get("propertyNames", {})):
        return [path]
    found = part.get("properties", {}).get(key)
    found = found or next((p for pattern, p in part.get("patternProperties", {}).items() if re.search(pattern, key)), None)
    found = found or part.get("additionalProperties", {})
    return [path] if found is False else faults(value, found, whole, path)


def wrong(text: str, made: dict[str, Any]) -> list[str]:
    return faults(yaml.load(text, Core12), {k: v for k, v in made.items() if k != "$schema"}, made)


@pytest.mark.parametrize("calendar", [False, True])
def test_what_is_checked_in_is_what_the_command_prints(calendar, capsys):
    name = "calendar" if calendar else "inventory"
    assert schema_command(argparse.Namespace(calendar=calendar)) == 0
    printed = capsys.readouterr().out
    assert printed == (CONFIG / f"{name}.schema.json").read_text(), (
        f"run: ronda central schema{' --calendar' * calendar} > config/{name}.schema.json"
    )
    assert json.loads(printed)["title"] == f"Ronda {name}"


def test_the_example_passes():
    text = (CONFIG / "inventory.example.yaml").read_text()
    assert wrong(text, schema()) == []
    assert wrong(re.sub(r"^#(?=\S)", "", re.sub(r"^#  (?=[ a-z])", "  ", text, flags=re.MULTILINE), flags=re.MULTILINE), schema()) == []
    assert "$schema=inventory.schema.json" in text


SITE = "centre: {name: K}\nsites: {a: {name: A, code: AA, class: kantor, %s}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sites: {}", [".centre"]),
        ("centre: {name: K}\nsitus: {}", [".situs"]),
        ("centre: {name: K}\nsites: {A b: {name: x, code: XX, class: kantor}}", [".sites.A b"]),
        ("centre: {name: K}\nsites: {a: {name: A, code: a, class: rumah}}", [".sites.a.code", ".sites.a.class"]),
        ("centre: {name: K}\nsites: {a: }", []),  # `check` misses name, code and class here; an editor is not to shout while one types
        (SITE % "colour: red", [".sites.a.colour"]),
        (SITE % "uplinks: {isp: a}", [".sites.a.uplinks"]),
        (SITE % "uplinks: [{isp: a, medium: fiber}]", [".sites.a.uplinks[0].medium"]),
        (SITE % "targets: {icmp: [{target: a, interva: 1s}]}", [".sites.a.targets.icmp[0].interva"]),
        (SITE % "contacts: [{name: x, phone: 0624}]", []),
        (SITE % "maintenance: [{from: 2026-12-01T20:00}]", [".sites.a.maintenance[0].until"]),
        ("centre: {name: K}\ncalendars: {a: always, b: {mon-fri: '08:00-16:00', ramadan: {mon: closed}}}", []),
        ("centre: {name: K}\ncalendars: {a: {senin: '08:00-16:00'}}", [".calendars.a.senin"]),
        ("centre: {name: K}\ncalendars: {a: {mon: '8-16'}}", [".calendars.a.mon"]),
        ("centre: {name: K}\nchannels: {opss: {}}", [".channels.opss"]),
    ],
)
def test_what_an_editor_marks(text, expected):
    assert wrong(text, schema()) == expected


def test_the_calendars_example_passes():
    text = (CONFIG / "calendar.example.yaml").read_text()
    assert wrong(text, calendar_schema()) == []
    assert "$schema=calendar.schema.json" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026: {holidays: {2026-01-01: Tahun Baru}, cuti_bersama: , ramadan: {from: 2026-02-19, until: 2026-03-20}}", []),
        ('"26": {}', [".26"]),
        ("2026: {libur: {}}", [".2026.libur"]),
        ("2026: {holidays: {1-1-2026: Tahun Baru}}", [".2026.holidays.1-1-2026"]),
        ("2026: {holidays: [2026-01-01]}", [".2026.holidays"]),
        ("2026: {ramadan: {from: 19 Feb}}", [".2026.ramadan.until", ".2026.ramadan.from"]),
    ],
)
def test_what_an_editor_marks_in_a_calendar(text, expected):
    assert wrong(text, calendar_schema()) == expected
