"""The vocabulary of a dashboard: queries, panels, rows, variables; and how they become Grafana's JSON.

Law: pure functions of values; the same input gives the same bytes. Only what Grafana 9 to 12 all understand is written. Ids and
positions follow from the order, so panels can't overlap. A panel without a title, a description in both languages and a unit can't be made.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # Grafana's grid
SCHEMA_VERSION = 37  # Grafana 9.1; later ones migrate it by themselves
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e"
_COLOR_NAMES = {GREEN: "hijau", YELLOW: "kuning", ORANGE: "jingga", RED: "merah", BLUE: "biru", PURPLE: "ungu", GREY: "abu-abu"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query:
    """One PromQL expression. `table`: a snapshot of now as rows, one column a label; else a series over time.

    step: the shortest distance of two points; `$__rate_interval` is never below four of it (see promql.py)
    """

    expr: str
    legend: str = ""
    table: bool = False
    instant: bool = False
    step: str = "15s"
    heatmap: bool = False

    def json(self, ref: str) -> Json:
        now = self.table or self.instant
        made: Json = {"refId": ref, "datasource": DATASOURCE, "expr": self.expr, "editorMode": "code", "interval": self.step}
        made |= {"instant": now, "range": not now, "legendFormat": self.legend or "__auto"}
        return made | {"format": "table" if self.table else "heatmap" if self.heatmap else "time_series"}


@dataclasses.dataclass(frozen=True)
class Level:
    """From `value` on (None: from the start) a number has this colour, because it means `meaning` (Indonesian)."""

    value: float | None
    color: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class Word:
    """What stands for a value: text and colour."""

    text: str
    color: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table, in the order in which they are given. `field` is a label, or `Value #A`."""

    field: str
    title: str
    unit: str = ""
    width: int = 0
    decimals: int | None = None
    levels: Sequence[Level] = ()
    words: Mapping[str, Word] = dataclasses.field(default_factory=dict)
    link: str = ""
    link_title: str = ""
    hidden: bool = False
    nothing: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel. `says` (Indonesian, plain) and `english` become its description; `unit` is Grafana's own name of it.

    options, custom: the panel type's own, as Grafana names them; they win over what `type` brings
    """

    title: str
    says: str
    english: str
    type: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    levels: Sequence[Level] = ()
    words: Mapping[str, Word] = dataclasses.field(default_factory=dict)
    columns: Sequence[Column] = ()
    sort: tuple[str, bool] | None = None  # a column's title, and whether the largest is first
    colors: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of series, by legend
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what a series is called instead of its legend
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    options: Json = dataclasses.field(default_factory=dict)
    custom: Json = dataclasses.field(default_factory=dict)
    before: Sequence[Json] = ()  # transformations ahead of those that make the columns
    nothing: str = "tidak ada data"
    link: str = ""
    link_title: str = ""

    def description(self) -> str:
        """Markdown: what is shown, what its colours mean, then English."""
        meanings = [f"{_COLOR_NAMES[level.color]}: {level.meaning}" for level in self.levels if level.meaning]
        colours = f"\n\nWarna – {'; '.join(meanings)}." if meanings else ""
        return f"{self.says}{colours}\n\nEN: {self.english}"

    def json(self, number: int, x: int, y: int, height: int) -> Json:
        defaults: Json = {
            "unit": self.unit,
            "noValue": self.nothing,
            "mappings": _mappings(self.words),
            "thresholds": _thresholds(self.levels),
        }
        defaults["color"] = {"mode": "thresholds" if self.levels or self.words else "palette-classic"}
        defaults |= {k: v for k, v in (("decimals", self.decimals), ("min", self.low), ("max", self.high)) if v is not None}
        defaults["custom"] = {**_CUSTOM.get(self.type, {}), **_threshold_style(self), **self.custom}
        if self.link:
            defaults["links"] = [_data_link(self.link_title, self.link)]
        made: Json = {"id": number, "type": self.type, "title": self.title, "description": self.description()}
        made |= {"gridPos": {"x": x, "y": y, "w": self.width, "h": height}, "datasource": DATASOURCE, "transparent": False}
        made["targets"] = [q.json(_ref(i)) for i, q in enumerate(self.queries)]
        made["fieldConfig"] = {"defaults": defaults, "overrides": [*_series(self), *map(_column, self.columns)]}
        made["options"] = {**_OPTIONS.get(self.type, {}), **_sorting(self), **self.options}
        made["transformations"] = [*self.before, *(_arranged(self) if self.columns else ())]
        return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Panels beside each other, of one height; `title` opens a section above them."""

    panels: Sequence[Panel]
    height: int = 8
    title: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variable:
    """A choice at the top, filled from a query; `regex` may name the groups `text` (shown) and `value` (used)."""

    name: str
    label: str
    query: str
    regex: str = ""
    several: bool = True

    def json(self) -> Json:
        made: Json = {"type": "query", "name": self.name, "label": self.label, "datasource": DATASOURCE, "definition": self.query}
        made |= {"query": {"query": self.query, "refId": "Variable"}, "regex": self.regex, "refresh": 2, "sort": 5, "hide": 0}
        made |= {"multi": self.several, "includeAll": self.several, "skipUrlSync": False, "options": []}
        return made | (
            {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"], "selected": True}} if self.several else {"current": {}}
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A page. `uid` never changes: links and bookmarks hold it."""

    uid: str
    title: str
    says: str
    english: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    since: str = "now-6h"

    def json(self, timezone: str) -> Json:
        made: Json = {"uid": self.uid, "title": self.title, "description": f"{self.says}\n\nEN: {self.english}", "tags": ["ronda"]}
        made |= {
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "timezone": timezone,
            "weekStart": "monday",
        }
        made |= {"time": {"from": self.since, "to": "now"}, "refresh": "30s", "fiscalYearStartMonth": 0, "liveNow": False}
        made["timepicker"] = {"refresh_intervals": ["15s", "30s", "1m", "5m", "15m", "1h"]}
        made["templating"] = {"list": [_datasource_variable(), *(v.json() for v in self.variables)]}
        made["annotations"] = {"list": []}
        made["links"] = [_dashboards_link()]
        made["panels"] = list(_placed(self.rows))
        return made


def _placed(rows: Iterable[Row]) -> Iterable[Json]:
    number, y = 1, 0
    for row in rows:
        if row.title:
            yield {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
            number, y = number + 1, y + 1
        x = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                raise ValueError(f"{panel.title}: its row is wider than {COLUMNS}")
            yield panel.json(number, x, y, row.height)
            number, x = number + 1, x + panel.width
        y += row.height


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _thresholds(levels: Sequence[Level]) -> Json:
    steps: list[Json] = [{"color": level.color, "value": level.value} for level in levels]
    return {"mode": "absolute", "steps": steps or [{"color": GREEN, "value": None}]}


def _threshold_style(panel: Panel) -> Json:
    drawn = panel.type == "timeseries" and len(panel.levels) > 1
    return {"thresholdsStyle": {"mode": "line"}} if drawn else {}


def _mappings(words: Mapping[str, Word]) -> list[Json]:
    if not words:
        return []
    options = {value: {"text": word.text, "color": word.color, "index": i} for i, (value, word) in enumerate(words.items())}
    return [{"type": "value", "options": options}]


def _data_link(title: str, url: str) -> Json:
    return {"title": title, "url": url, "targetBlank": False}


def _series(panel: Panel) -> Iterable[Json]:
    for legend, color in panel.colors.items():
        yield _override(legend, [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}])
    for legend, name in panel.names.items():
        yield _override(legend, [{"id": "displayName", "value": name}])


def _override(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _column(column: Column) -> Json:
    """An override. `custom.displayMode` is Grafana 9's word for what is `custom.cellOptions` from 10 on."""
    found: list[Json] = []
    if column.unit:
        found.append({"id": "unit", "value": column.unit})
    if column.width:
        found.append({"id": "custom.width", "value": column.width})
    if column.decimals is not None:
        found.append({"id": "decimals", "value": column.decimals})
    if column.levels:
        found.append({"id": "thresholds", "value": _thresholds(column.levels)})
    if column.words:
        found.append({"id": "mappings", "value": _mappings(column.words)})
    if column.levels or column.words:
        found += [
            {"id": "custom.displayMode", "value": "color-background"},
            {"id": "custom.cellOptions", "value": {"type": "color-background"}},
        ]
    if column.link:
        found.append({"id": "links", "value": [_data_link(column.link_title, column.link)]})
    if column.hidden:
        found.append({"id": "custom.hidden", "value": True})
    if column.nothing:
        found.append({"id": "noValue", "value": column.nothing})
    return _override(column.title, found)


def _arranged(panel: Panel) -> Iterable[Json]:
    """Rows of several queries become one where their labels agree; the columns get their order and titles, all others go."""
    if len(panel.queries) > 1:
        yield {"id": "merge", "options": {}}
    titles = {c.field: c.title for c in panel.columns}
    places = {field: i for i, field in enumerate(titles)}
    if "Value #A" in titles:  # Grafana says just "Value" where the other queries found nothing
        titles["Value"], places["Value"] = titles["Value #A"], places["Value #A"]
    yield {"id": "filterFieldsByName", "options": {"include": {"names": list(titles)}}}
    yield {"id": "organize", "options": {"excludeByName": {}, "indexByName": places, "renameByName": titles}}


def _sorting(panel: Panel) -> Json:
    return {"sortBy": [{"displayName": panel.sort[0], "desc": panel.sort[1]}]} if panel.sort else {}


def _datasource_variable() -> Json:
    made: Json = {
        "type": "datasource",
        "name": "datasource",
        "label": "Sumber data",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
    }
    made |= {"multi": False, "includeAll": False, "skipUrlSync": False, "options": []}
    return made | {"current": {"selected": True, "text": "Ronda", "value": "ronda-prometheus"}}


def _dashboards_link() -> Json:
    made: Json = {"type": "dashboards", "title": "Halaman Ronda", "icon": "external link", "tooltip": "", "url": "", "tags": ["ronda"]}
    return made | {"asDropdown": True, "includeVars": False, "keepTime": True, "targetBlank": False}


_HIDE_NOTHING: Json = {"legend": False, "tooltip": False, "viz": False}
_CUSTOM: dict[str, Json] = {
    "timeseries": {
        "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "pointSize": 4,
        "spanNulls": False, "axisPlacement": "auto", "hideFrom": _HIDE_NOTHING,
    },
    "state-timeline": {"fillOpacity": 80, "lineWidth": 0, "hideFrom": _HIDE_NOTHING},
    "table": {"align": "auto", "filterable": True},
}  # fmt: skip
_REDUCE: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False}, "tooltip": {"mode": "single", "sort": "none"},
    },
    "stat": {
        "reduceOptions": _REDUCE, "orientation": "auto", "textMode": "value_and_name", "colorMode": "background", "graphMode": "none",
        "justifyMode": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCE, "orientation": "horizontal", "displayMode": "basic", "showUnfilled": True,
        "minVizWidth": 0, "minVizHeight": 10,
    },
    "table": {"showHeader": True, "footer": {"show": False, "reducer": ["sum"], "fields": "", "countRows": False}},
    "heatmap": {
        "calculate": False, "yAxis": {"unit": "s", "axisPlacement": "left"}, "rowsFrame": {"layout": "auto"}, "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "reverse": False, "exponent": 0.5, "fill": "dark-orange"},
        "filterValues": {"le": 1e-9}, "legend": {"show": True}, "tooltip": {"show": True, "yHistogram": False},
    },
}  # fmt: skip
