"""The registry as text for Prometheus: text format 0.0.4 and OpenMetrics 1.0.

Law: a scrape never holds up a probe: it is written in slices, and the loop gets its turn in between. We write the lines
ourselves: prometheus-client takes 15 to 20 us for each, which was a fifth of the agent's processor time on a small office's work
and 300 ms a scrape with 500 targets. Its writer and its parsers referee ours in the tests.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.model import Metric, Sample

SLICE = 500  # lines: about 2 ms of the loop
EOF = b"# EOF\n"

Row = tuple[Mapping[str, str], Sample]


def escape(text: str, quote: str = '"') -> str:
    """A label value (or, with no `quote`, a help text) as both formats want it."""
    if "\\" in text or "\n" in text or (quote and quote in text):
        text = text.replace("\\", "\\\\").replace("\n", "\\n")
        return text.replace(quote, "\\" + quote) if quote else text
    return text


def number(value: float) -> str:
    """A value in Go's form."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def pairs(names: Iterable[str], values: Iterable[str]) -> str:
    return ",".join([f'{name}="{escape(value)}"' for name, value in zip(names, values, strict=True)])


def head(metric: Metric, *, openmetrics: bool) -> str:
    """HELP and TYPE. OpenMetrics names a counter's family without `_total` and escapes quotes in help texts."""
    name = metric.name.removesuffix("_total") if openmetrics and metric.type == "counter" else metric.name
    text = escape(metric.help, '"' if openmetrics else "")
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n"


def lines(metric: Metric, rows: Iterable[Row], shared: dict[int, str]) -> Iterator[str]:
    """A line a sample. `shared` keeps the text of tasks' labels, which all their samples have in common, by id while rendering."""
    own: dict[tuple[str, ...], str] = {}
    for labels, (_, values, value, suffix) in rows:
        first = shared.get(id(labels))
        if first is None:
            first = shared[id(labels)] = pairs(labels, labels.values())
        rest = own.get(values)
        if rest is None:
            rest = own[values] = pairs((*metric.labels, "le") if suffix == "_bucket" else metric.labels, values)
        text = f"{{{first},{rest}}}" if first and rest else f"{{{first}{rest}}}" if first or rest else ""
        yield f"{metric.name}{suffix}{text} {number(value)}\n"


async def render(families: Iterable[tuple[Metric, Sequence[Row]]], *, openmetrics: bool) -> bytes:
    """The whole exposition, UTF-8."""
    parts: list[str] = []
    shared: dict[int, str] = {}
    written = 0
    for metric, rows in families:
        parts.append(head(metric, openmetrics=openmetrics))
        for line in lines(metric, rows, shared):
            parts.append(line)
            written += 1
            if written % SLICE == 0:
                await asyncio.sleep(0)
    return "".join(parts).encode() + (EOF if openmetrics else b"")
