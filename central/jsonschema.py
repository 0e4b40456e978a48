"""The JSON schemas of the inventory and of the calendar, for editors: completion and a red line while typing.

Law: made from the dataclasses that read the files, so that they can't say something else; `config/*.schema.json` are what is made,
held by a test. It helps and does not judge: what spans several places, or a text's finer form, only `ronda central check` tells.

    ronda central schema > inventory.schema.json; and in the inventory: # yaml-language-server: $schema=inventory.schema.json
    ronda central schema --calendar > calendar.schema.json; likewise
"""

import argparse
import dataclasses
import json
import types
import typing
from typing import Annotated, Any, Literal

from agent.structure import Later, Scalar
from central.calendars import Year, YearDays
from central.inventory import InventoryFile

DRAFT = "https://json-schema.org/draft/2020-12/schema"
TEXT = ["string", "number"]  # to an editor an unquoted 0624 is a number; we read the text as it is written


def schema(kind: Any = InventoryFile, title: str = "Ronda inventory") -> dict[str, Any]:
    """The schema of inventory.yaml, or of another file that holds a `kind`; draft 2020-12."""
    parts: dict[str, Any] = {}
    root = _of(kind, parts)
    parts_in_order = {name: parts[name] for name in sorted(parts)}
    return {"$schema": DRAFT, "title": title, **root, "$defs": parts_in_order}


def calendar_schema() -> dict[str, Any]:
    """The schema of calendar.yaml."""
    return schema(dict[Year, YearDays], "Ronda calendar")


def schema_command(args: argparse.Namespace) -> int:
    """Prints the inventory's schema, or the calendar's."""
    print(json.dumps(calendar_schema() if args.calendar else schema(), indent=2, ensure_ascii=False))
    return 0


def _of(kind: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type; dataclasses become parts that are referred to by name."""
    if isinstance(kind, Later):
        return _of(kind.schema(), parts)
    if own := getattr(kind, "json_schema", None):
        made: dict[str, Any] = own()
        return made
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(next(a for a in inner if a is not type(None)), parts), {"type": "null"}]}
    if origin is Annotated:
        return _scalar(kind.__metadata__[0])
    if origin is Literal:
        return {"enum": [str(word) for word in inner]}
    if origin is list:
        return {"type": "array", "items": _of(inner[0], parts)}
    if origin is dict:
        return {"type": ["object", "null"], "propertyNames": _names(inner[0]), "additionalProperties": _of(inner[1], parts)}
    if dataclasses.is_dataclass(kind):
        return _struct(typing.cast("type", kind), parts)
    return dict(PLAIN[kind])


PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"enum": [True, False, "yes", "no", "on", "off"]},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": TEXT},
}


def _scalar(form: Scalar) -> dict[str, Any]:
    found: dict[str, Any] = {"type": TEXT, "description": f"{form.what} ({form.hint})" if form.hint else form.what}
    if pattern := getattr(form.parse, "pattern", ""):
        found["pattern"] = f"^(?:{pattern})$"
    return found


def _names(key: Any) -> dict[str, Any]:
    """What a mapping's keys may be: texts always."""
    found = _of(key, {})
    return {"enum": found["enum"]} if "enum" in found else {k: v for k, v in found.items() if k == "pattern"}


def _struct(kind: type, parts: dict[str, Any]) -> dict[str, Any]:
    name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
    if name not in parts:
        parts[name] = {}
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = [f for f in dataclasses.fields(kind) if f.init]
        parts[name] = {
            "type": ["object", "null"],
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": {f.name.rstrip("_"): {**_of(hints[f.name], parts), **_default(f)} for f in fields},
            "required": [f.name.rstrip("_") for f in fields if f.default is f.default_factory is dataclasses.MISSING],
            "additionalProperties": False,
        }
        if not parts[name]["description"] or parts[name]["description"].startswith(f"{kind.__name__}("):
            del parts[name]["description"]  # a dataclass without words of its own has its signature there
    return {"$ref": f"#/$defs/{name}"}


def _default(field: "dataclasses.Field[Any]") -> dict[str, Any]:
    """Its default, where it is kept as it is written (a duration is kept as seconds)."""
    return {"default": field.default} if isinstance(field.default, str | bool) and field.default != "" else {}
