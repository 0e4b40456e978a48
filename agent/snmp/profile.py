"""Profiles: what is read of which device, as data. This file is their format, and how files of it are found and checked.

Law: a file is right as a whole or refused with file and line; metrics are those of agent/snmp/metrics.py, or declared by the file itself
with names that begin with ronda_snmp_. Nothing is read before it is asked for: an agent without devices loads no profile.

    profile: mikrotik-dhcp                      # the file is called mikrotik-dhcp.yaml
    title: "MikroTik: DHCP leases"
    when: {kinds: [1.3.6.1.4.1.14988.1], has: [1.3.6.1.4.1.14988.1.1.6.1]}
    scalars:
      - {metric: ronda_snmp_dhcp_leases, oid: 1.3.6.1.4.1.14988.1.1.6.1.0}

Where two readings give one series the first that has a value stays: a profile says first what is best.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from agent.model import Metric
from agent.snmp.metrics import ENGINE, SHIPPED
from agent.snmp.wire import Oid, parse_oid
from agent.structure import BAD, ConfigError, Duration, LabelName, LabelValue, Problem, Reader, Scalar, Slug, Text, load

MAX_FILES, MAX_DECLARED, MOST = 128, 256, 4096
FOLDER = Path(__file__).parent / "profiles"


def _metric_name(text: str) -> str:
    if not re.fullmatch(r"ronda_snmp_[a-z0-9_]{1,80}", text):
        raise ValueError
    return text


def _index(text: str) -> int | str:
    if text == "text":
        return text
    if not re.fullmatch(r"-?[1-9][0-9]?", text):
        raise ValueError
    return int(text)


def _value(text: str) -> int | Oid:
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) else parse_oid(text)


def _group(text: str) -> str:
    """A regular expression with one group. Raises ValueError."""
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError):
        raise ValueError("is not a regular expression") from None
    if groups != 1:
        raise ValueError(f"has {groups} groups (round brackets); it needs one: what is wanted")
    return text


OidText = Annotated[Oid, Scalar("an OID", parse_oid, "e.g. 1.3.6.1.2.1.1.5.0")]
Group = Annotated[str, Scalar("a regular expression", _group)]
MetricName = Annotated[str, Scalar("a metric of devices", _metric_name, "it begins with ronda_snmp_")]
Number = Annotated[int, Scalar("a whole number", lambda t: _whole(t))]


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text, re.ASCII):
        raise ValueError
    return int(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class When:
    """Which devices: sysObjectID begins with one of `kinds`, one of `has` is there, none of `lacks`. What isn't said is no matter."""

    kinds: list[OidText] = dataclasses.field(default_factory=list)
    has: list[OidText] = dataclasses.field(default_factory=list)
    lacks: list[OidText] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """A metric of an admin's own file."""

    name: MetricName
    help: Text
    type: Literal["gauge", "counter"] = "gauge"
    labels: list[LabelName] = dataclasses.field(default_factory=list)

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.type == "counter") != self.name.endswith("_total"):
            yield "name", "ends with _total where it is a counter, and only there"
        if (known := SHIPPED.get(self.name)) and (known.type, known.labels) != (self.type, tuple(self.labels)):
            yield "name", f"is Ronda's own: a {known.type} with the labels {', '.join(known.labels) or '(none)'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TextKeys:
    """A text from one OID: `match` takes a part of it, `names` say what numbers mean."""

    oid: OidText
    match: Group = ""
    names: dict[Number, LabelValue] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFrom(_TextKeys):
    """An OID alone, or a mapping that has one."""

    @classmethod
    def read_node(cls, reader: Reader, node: yaml.Node, path: str, depth: int) -> Any:
        if isinstance(node, yaml.ScalarNode):
            oid = reader.read(node, OidText, path, depth)
            return BAD if oid is BAD else cls(oid=oid)
        keys = reader.read(node, _TextKeys, path, depth)
        return BAD if keys is BAD else cls(**vars(keys))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """Where a row's label comes from, one of: a column (`oid`), the row's index (`index`: all of it as a text, or its n-th number; from
    the end where negative), an interface's name by the n-th number of the index (`interface`). Rows that don't `match` are left out."""

    oid: OidText | None = None
    match: Group = ""
    names: dict[Number, LabelValue] = dataclasses.field(default_factory=dict)
    index: Annotated[int | str, Scalar("`text` or a place in the index", _index, "1 is its first number")] | None = None
    interface: Annotated[int, Scalar("a place in the index", lambda t: int(_index(t)), "1 is its first number")] | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if sum(x is not None for x in (self.oid, self.index, self.interface)) != 1:
            yield "oid", "or else `index` or `interface`: one of them, and no more"
        elif self.oid is None and self.match:
            yield "match", "needs an oid"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Where:
    """Only rows whose other column is one of these: numbers or OIDs."""

    oid: OidText
    is_: list[Annotated[int | Oid, Scalar("a number or an OID", _value)]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a value becomes a series: (value - minus) * times * scale; 1 where it is in `true`, else 0; a series for each of `states`."""

    metric: MetricName
    labels: dict[LabelName, LabelValue] = dataclasses.field(default_factory=dict)
    scale: float = 1.0
    absent: list[Number] = dataclasses.field(default_factory=list)  # values that mean: not known
    true: list[Number] = dataclasses.field(default_factory=list)
    states: dict[Number, LabelValue] = dataclasses.field(default_factory=dict)
    match: Group = ""  # of a string: the part that is a number

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.true and self.states:
            yield "states", "does not go with `true`"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Single(Reading):
    """One value of the device."""

    oid: OidText


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column(Reading):
    """One column of a table. `every`: read more rarely than the profile; in between its last value stands."""

    oid: OidText | None = None
    where: Where | None = None
    minus: OidText | None = None
    times: OidText | None = None
    info: dict[LabelName, TextFrom] = dataclasses.field(default_factory=dict)  # value 1, labels from columns
    every: Duration | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from Reading.problems(self)
        if (self.oid is None) != bool(self.info):
            yield "oid", "is needed, unless there is `info`, which has OIDs of its own"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """How many rows there are."""

    metric: MetricName
    oid: OidText
    where: Where | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    table: Slug
    columns: list[Column] = dataclasses.field(default_factory=list)
    labels: dict[LabelName, Label] = dataclasses.field(default_factory=dict)
    most: Annotated[int, Scalar("a number of rows", lambda t: _rows(t), f"1 to {MOST}")] = 256
    unique: Literal["number", "first", "sum", "min", "max"] = "number"  # rows with the same labels; number: the later get "#2"
    count: Count | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.columns and not self.count:
            yield "columns", "or a count is needed"


def _rows(text: str) -> int:
    if not 1 <= (n := _whole(text)) <= MOST:
        raise ValueError
    return n


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """Who the device is, better said than in sysDescr. Of all profiles that apply the first that knows is believed."""

    model: TextFrom | None = None
    version: TextFrom | None = None
    serial: TextFrom | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """A file. `rank`: profiles with a lower one come first, and where there is room for so many series only, they are the last to go."""

    profile: Slug
    title: Text = ""
    when: When = dataclasses.field(default_factory=When)
    every: Duration = 60.0
    rank: Annotated[int, Scalar("a rank", lambda t: _whole(t))] = 50
    metrics: list[Declared] = dataclasses.field(default_factory=list)
    identity: Identity = dataclasses.field(default_factory=Identity)
    scalars: list[Single] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)

    def problems(self) -> Iterator[tuple[str, str]]:
        own = {d.name: (d.type, tuple(d.labels)) for d in self.metrics}
        known = {name: (m.type, m.labels) for name, m in SHIPPED.items() if name not in ENGINE} | own
        for i, single in enumerate(self.scalars):
            yield from _fits(f"scalars[{i}].metric", single, set(single.labels), known)
        for i, table in enumerate(self.tables):
            for j, column in enumerate(table.columns):
                given = set(table.labels) | set(column.labels) | set(column.info)
                yield from _fits(f"tables[{i}].columns[{j}].metric", column, given, known)
            if table.count:
                yield from _fits(f"tables[{i}].count.metric", table.count, set(), known)
        names = [t.table for t in self.tables]
        for name in {n for n in names if names.count(n) > 1}:
            yield "tables", f"has two that are called {name}"

    def metric(self, name: str) -> Metric:
        """The metric of this name, Ronda's own or declared here; the same object for all who declare it alike."""
        if name in SHIPPED:
            return SHIPPED[name]
        return next(_declared(d.name, d.help, d.type, tuple(d.labels)) for d in self.metrics if d.name == name)


def _fits(where: str, reading: Reading | Count, given: set[str], known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whether the labels given are the metric's, but for one that a set of states fills itself."""
    if reading.metric not in known:
        yield where, f"{reading.metric} is no metric that Ronda knows; declare it in `metrics`"
        return
    wanted = set(known[reading.metric][1])
    states = isinstance(reading, Reading) and bool(reading.states)
    if given - wanted or len(wanted - given) != states:
        yield (
            where,
            f"{reading.metric} has the labels {', '.join(sorted(wanted)) or '(none)'}; given: {', '.join(sorted(given)) or '(none)'}",
        )


_OWN: dict[str, Metric] = {}


def _declared(name: str, text: str, kind: Literal["gauge", "counter"], labels: tuple[str, ...]) -> Metric:
    """One object a name, as the exposition wants it; `library` has refused what differs."""
    return _OWN.setdefault(name, Metric(name, text, kind, labels))


@functools.cache
def shipped() -> Mapping[str, Profile]:
    """Ronda's own profiles, by name. They are ours: a mistake in one raises ConfigError at once."""
    return _folder(FOLDER)


def library(directory: str = "") -> Mapping[str, Profile]:
    """Ronda's own and those of an admin's folder, which add or replace by name. Raises ConfigError with everything wrong in any of them."""
    own = _folder(Path(directory)) if directory else {}
    found = dict(shipped()) | own
    problems = []
    for name, profile in own.items():
        for declared in profile.metrics:
            before = _OWN.get(declared.name)
            if before and (before.type, before.labels) != (declared.type, tuple(declared.labels)):
                said = f"{declared.name} is declared elsewhere as a {before.type} with the labels {', '.join(before.labels) or '(none)'}"
                problems.append(Problem(f"{name}.yaml", 0, "metrics", said))
            elif len(_OWN) < MAX_DECLARED and declared.name not in SHIPPED:
                profile.metric(declared.name)
            elif not before and declared.name not in SHIPPED:
                problems.append(Problem(f"{name}.yaml", 0, "metrics", f"more than {MAX_DECLARED} metrics are declared"))
    if problems:
        raise ConfigError(problems)
    return found


def _folder(folder: Path) -> dict[str, Profile]:
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix == ".yaml" and not p.name.startswith("."))
    except OSError as e:
        raise ConfigError([Problem(str(folder), 0, "", f"can't be read: {e.strerror}")]) from None
    if len(files) > MAX_FILES:
        raise ConfigError([Problem(str(folder), 0, "", f"has {len(files)} files; at most {MAX_FILES} are read")])
    found: dict[str, Profile] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            profile = load(file, Profile)
        except ConfigError as e:
            problems += e.problems
            continue
        if profile.profile != file.stem:
            problems.append(Problem(file.name, 1, "profile", f'"{profile.profile}" is in a file that is called {file.name}'))
        found[file.stem] = profile
    if problems:
        raise ConfigError(problems)
    return found


def ordered(profiles: Iterable[Profile]) -> list[Profile]:
    """By rank, then by name: what is read first, is believed first, and is cut last."""
    return sorted(profiles, key=lambda p: (p.rank, p.profile))
