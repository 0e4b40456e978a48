"""Dashboards as a reader of their JSON sees them: panels, queries, and a query as Grafana would send it.

Law: read from the rendered files, not from the code that makes them: what is tested is what Grafana gets.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]
ALL = {"district": ".*", "isp": ".*", "medium": ".*", "site": ".*", "task": ".*", "__rate_interval": "11m", "__range": "6h"}
OF_DEVICES = frozenset({"ronda-devices", "ronda-capacity"})  # pages that tests/central/test_device_panels.py tries


class Place(NamedTuple):
    """Where a query stands: the dashboard's uid, the panel's title, the query's letter."""

    uid: str
    title: str
    ref: str


def dashboards(files: Mapping[str, str]) -> dict[str, Json]:
    """The rendered dashboards by uid."""
    found = [json.loads(text) for path, text in files.items() if path.startswith("grafana/dashboards/")]
    return {d["uid"]: d for d in found}


def panels(dashboard: Json) -> list[Json]:
    """All panels but the headings of rows."""
    return [p for p in dashboard["panels"] if p["type"] != "row"]


def queries(files: Mapping[str, str]) -> Iterator[tuple[Place, str]]:
    for uid, dashboard in dashboards(files).items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Place(uid, panel["title"], target["refId"]), target["expr"]


def filled(expr: str, **values: str) -> str:
    """The expression with its variables replaced; AssertionError where one is not known."""
    for name, value in {**ALL, **values}.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in re.sub(r'"\$\d"', "", expr), expr
    return expr
