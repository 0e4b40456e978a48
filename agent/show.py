"""Findings as text for a terminal: what `ronda once`, `ronda events` and `ronda collectors` print.

Law: text from the network is made printable; nothing is left out, long lists included.
"""

import dataclasses
import inspect
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from agent import rulewords
from agent.collector import Env, Kind, Result
from agent.model import Event, Sample
from agent.texts import Lang
from agent.wire.event import Entry, encode


def printable(value: Any) -> str:
    """A single value: seconds get a unit, control characters become visible."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def _seconds(key: str, value: Any) -> str:
    if key.endswith("_at") and isinstance(value, float):
        return f"{datetime.fromtimestamp(value, UTC):%H:%M:%S.%f}Z"
    small = key.endswith("seconds") or key in ("min", "median", "p99", "max")
    if small and isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 60:
        return f"{value * 1000:.3f} ms"
    return printable(value)


def text(found: Mapping[str, Any], indent: str = "", *, seconds: bool = False) -> str:
    """A mapping as aligned lines; lists of flat mappings as tables."""
    lines = []
    width = max((len(k) for k, v in found.items() if not isinstance(v, (dict, list))), default=0)
    for key, value in found.items():
        timed = seconds or key.endswith("seconds") or key == "phases"
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", text(value, indent + "  ", seconds=timed)] if value else [f"{indent}{key}: -"]
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            lines += [f"{indent}{key}:", _rows(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{key.ljust(width)}  {', '.join(map(printable, value)) or '-'}")
        else:
            lines.append(f"{indent}{key.ljust(width)}  {_seconds('seconds' if timed else key, value)}")
    return "\n".join(lines)


def _rows(rows: Sequence[Mapping[str, Any]], indent: str) -> str:
    rows = [{**row, "labels": _joined(row["labels"])} if isinstance(row.get("labels"), Mapping) else row for row in rows]
    if any(isinstance(v, (Mapping, list)) for row in rows for v in row.values()):
        return "\n".join(f"{indent}{i}.\n{text(row, indent + '   ')}" for i, row in enumerate(rows, 1))
    heads = list(dict.fromkeys(k for row in rows for k in row))
    table = [heads, *([_seconds(h, row.get(h)) for h in heads] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(heads))]
    return "\n".join((indent + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))).rstrip() for line in table)


async def one_run(kind: Kind, config: Any, env: Env) -> dict[str, Any]:
    """One look of a kind without a `once` of its own: its result, samples and events as plain data."""
    collector = kind.build(config, env)
    try:
        if hasattr(collector, "watch"):
            pictures = collector.watch()
            seen: Iterable[Any] = await anext(pictures)
            await pictures.aclose()  # type: ignore[union-attr]
        else:
            seen = await collector.collect()
        return _plain(list(seen))
    finally:
        if hasattr(collector, "close"):
            closed = collector.close()
            if inspect.isawaitable(closed):
                await closed


def _plain(seen: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in seen:
        if isinstance(item, Result):
            found.update(ok=not item.reason, reason=item.reason or None, detail=item.detail or None)
    found["samples"] = [sample_row(s) for s in seen if isinstance(s, Sample)]
    found["events"] = [dataclasses.asdict(e) for e in seen if isinstance(e, Event)]
    return found


def sample_row(sample: Sample) -> dict[str, Any]:
    """name, labels by name, value: what `once` shows of a sample."""
    names = (*sample.metric.labels, "le") if sample.suffix == "_bucket" else sample.metric.labels
    return {"name": sample.metric.name + sample.suffix, "labels": dict(zip(names, sample.labels, strict=True)), "value": sample.value}


def _joined(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in labels.items())


# -- events ------------------------------------------------------------------------------------------------------------------------

SEVERITY = {"critical": "GAWAT", "warning": "PERHATIAN", "info": "INFO"}


def wanted(event: Event, kind: str | None, severity: str | None) -> bool:
    """Whether it is of this kind, and of this severity or a graver one."""
    order = list(SEVERITY)
    return kind in (None, event.kind) and (severity is None or order.index(event.severity) <= order.index(severity))


# Of no use to a person who reads: the same in each, or said in other words. `--json` has all of it.
SAME = ("event.", "observer.", "rule.", "threat.", "ronda.dedup_key", "ronda.advice_id")
SHOWN = frozenset({"event.id", "rule.id", "threat.technique.id"})
FIRST = ("event.id", "ronda.grade", "ronda.confidence", "ronda.state", "ronda.where")


def event_head(zone: tzinfo | None) -> str:
    """What stands above the events: in which zone's time they are told."""
    name = f"{datetime.now(UTC).astimezone(zone):%Z}"
    return f"waktu ({name})" if zone else f"waktu ({name}, zona kotak ini; zona kantor: --config FILE)"


def event_text(entry: Entry, zone: tzinfo | None, lang: Lang = "id") -> str:
    """An event as one line, and its evidence below it under names for people. `~`: no clock that can be believed gave the time."""
    event = entry.event
    first, last = (datetime.fromtimestamp(at, UTC).astimezone(zone) for at in (event.first_seen, event.last_seen))
    until = f" … {last:%H:%M:%S}" if f"{first:%x%X}" != f"{last:%x%X}" else ""
    times = f" ({event.count}×{until})" if event.count > 1 else ""
    when = f"{first:%Y-%m-%d %H:%M:%S}{'~' if entry.unsure else ' '}"
    message = printable(event.message).removesuffix(f" ({event.count} times)")
    called = f"{rulewords.rule(event.kind, lang)} ({event.kind})" if event.kind in rulewords.RULES else event.kind
    line = f"{when} {SEVERITY[event.severity]:10} {called}: {message}{times}"
    evidence = "  ".join(_named(entry, lang))
    return f"{line}\n{'':21}{evidence}" if evidence else line


def _named(entry: Entry, lang: Lang) -> Iterable[str]:
    fields = entry.event.fields
    said = {name: fields[name] for name in FIRST if name in fields}
    said |= {**({"task": entry.task} if entry.task else {}), **entry.labels, **fields}
    for name, value in said.items():
        if value and (name in SHOWN or not name.startswith(SAME)):
            yield f"{printable(rulewords.field(name, lang))}={printable(rulewords.value(name, value, lang))}"


def event_json(site: str, journal: str, entry: Entry) -> str:
    """An event as one JSON object: as it leaves for the centre, with whose it is and its time to be read."""
    when = datetime.fromtimestamp(entry.event.last_seen, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {"time": when, "site": site, "journal": journal, **json.loads(encode(entry, abroad=True))}
    return json.dumps(said, ensure_ascii=False)


def kinds(table: Mapping[str, Kind]) -> str:
    """A line a kind: its name and the first line of its manual."""
    return "\n".join(f"{name:8} {_doc(kind).splitlines()[0]}" for name, kind in table.items())


def manual(kind: Kind) -> str:
    """A kind's manual, config keys with defaults, reasons, metrics and events."""
    parts = [_doc(kind), "", "Config:", *_keys(kind.config)]
    if kind.reasons:
        parts += ["", f"Reasons of a failure: {', '.join(kind.reasons)}"]
    parts += ["", "Metrics:", *(f"  {m.name}{_shown(m.labels)}  {m.type}. {m.help}" for m in kind.metrics)]
    if kind.events:
        parts += ["", f"Events: {', '.join(kind.events)}"]
    return "\n".join(parts)


def _doc(kind: Kind) -> str:
    return inspect.getdoc(inspect.getmodule(kind.config)) or kind.name


def _shown(labels: Sequence[str]) -> str:
    return "{" + ", ".join(labels) + "}" if labels else ""


def _keys(config: type[Any], indent: str = "  ") -> Iterable[str]:
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = field.default if field.default is not dataclasses.MISSING else None
        yield f"{indent}{field.name}{'  (required)' if required else '' if default in (None, '') else f'  (default {default})'}"
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _keys(hints[field.name], indent + "  ")
