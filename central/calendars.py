"""Opening hours and the dated calendar: when is an office open, and the same question in PromQL.

Law: `Calendar.open_at` and `Calendar.promql` say the same at every minute; a test lets promtool compare them. Windows are half-open:
07:30-16:00 is open at 07:30:00 and closed at 16:00:00. A window never passes midnight. Public holidays and cuti bersama close every
calendar but `always`. In Ramadan the days (and breaks) that `ramadan` names have other hours; what it does not name stays.

    calendars:
      lima-hari: {mon-thu: "07:30-16:00", fri: "07:30-16:30", break_fri: "12:00-13:30", ramadan: {mon-thu: "08:00-15:00"}}
      puskesmas: {mon-sat: "08:00-12:00, 13:00-15:00"}
      24-jam: always
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml

from agent.structure import BAD, Reader, Scalar, read_bytes

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MIDNIGHT = 24 * 60
FOR_EVER, NEVER = date(9999, 12, 31), date(1970, 1, 1)
KEY = r"(break_)?({0})(-({0}))?".format("|".join(DAYS))
HOURS = r"([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)"
WINDOWS = rf"closed|tutup|{HOURS}(\s*,\s*{HOURS})*"

Window = tuple[int, int]  # minutes of the day: from, until (not included)
Week = tuple[tuple[Window, ...], ...]  # Monday first


class Windows:
    """How `07:30-12:00, 13:00-16:00` or `closed` is read: into windows in their order."""

    pattern = WINDOWS

    def __call__(self, text: str) -> tuple[Window, ...]:
        if not re.fullmatch(WINDOWS, text, re.ASCII):
            raise ValueError
        found = [(_minutes(a), _minutes(b)) for a, b in re.findall(r"(\d\d:\d\d)-(\d\d:\d\d)", text)]
        for start, end in found:
            if start >= end:
                shown = f"{_clock(start)}-{_clock(end)}"
                raise ValueError(
                    f"ends before it begins ({shown}); past midnight needs two: {_clock(start)}-24:00, and 00:00-{_clock(end)}"
                )
        for (_, end), (start, _) in zip(sorted(found), sorted(found)[1:], strict=False):
            if start < end:
                raise ValueError("has windows that overlap")
        return tuple(sorted(found))


def _minutes(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


class Dates:
    """How `2026-01-31` is read."""

    pattern = r"\d{4}-\d\d-\d\d"

    def __call__(self, text: str) -> date:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise ValueError
        try:
            return date.fromisoformat(text)
        except ValueError:  # 2026-02-30; its own words are a programmer's
            raise ValueError from None


class Years:
    """How `2026` is read."""

    pattern = r"20\d\d"

    def __call__(self, text: str) -> int:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            raise ValueError
        return int(text)


def _day_name(text: str) -> str:
    if not text.strip() or len(text) > 200 or any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in text):
        raise ValueError
    return text


Date = Annotated[date, Scalar("a date", Dates(), "try 2026-01-31")]
Year = Annotated[int, Scalar("a year", Years(), "try 2026")]
DayName = Annotated[str, Scalar("a day's name", _day_name, "one line of at most 200 characters")]
Opening = Annotated[tuple[Window, ...], Scalar("opening hours", Windows(), 'try "07:30-16:00", "07:30-12:00, 13:00-16:00" or closed')]


# -- what a file says -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hours:
    """A calendar of the inventory: `always`, or the windows of each day of a week, ordinarily and in Ramadan."""

    always: bool = False
    week: Week = ((),) * 7
    ramadan: Week = ((),) * 7

    @classmethod
    def read_node(cls, reader: Reader, node: yaml.Node, path: str, depth: int) -> Any:
        """`always`, or days with windows. Keys: mon … sun, ranges of them, each with break_ before it; and `ramadan` with the same."""
        if isinstance(node, yaml.ScalarNode):
            found = ALWAYS_OR_DAYS.format(node.value[:60]) if node.value else "has no value: write `always`, or days with hours"
            return cls(always=True) if node.value == "always" else reader.problem(node, path, found)
        if not isinstance(node, yaml.MappingNode):
            return reader.problem(node, path, "must be `always`, or days with hours, is a list")
        ordinary = _read_days(reader, node, path, depth)
        fasting: dict[str, tuple[Window, ...]] | None = {}
        for key, value in ((k.value, v) for k, v in node.value if isinstance(k, yaml.ScalarNode)):
            if key == "ramadan" and isinstance(value, yaml.MappingNode):
                fasting = _read_days(reader, value, f"{path}.ramadan", depth + 1)
            elif key == "ramadan":
                fasting = reader.problem(value, f"{path}.ramadan", "must be days with hours") and None
        if ordinary is None or fasting is None:
            return BAD
        if not any(_week(ordinary)):
            return reader.problem(node, path, "is never open; name its days, or write `always`")
        return cls(week=_week(ordinary), ramadan=_week({**ordinary, **fasting}))

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """For editors."""
        days = {f"^(?:{KEY})$": {"type": "string", "pattern": f"^(?:{WINDOWS})$"}}
        week = {"type": "object", "patternProperties": days, "additionalProperties": False}
        return {"anyOf": [{"const": "always"}, {**week, "properties": {"ramadan": week}}]}


ALWAYS_OR_DAYS = '"{}" is neither `always` nor days with hours, like {{mon-fri: "07:30-16:00"}}'


def _read_days(reader: Reader, node: yaml.MappingNode, path: str, depth: int) -> dict[str, tuple[Window, ...]] | None:
    """Windows by `mon` or `break_mon`; None with problems noted."""
    found: dict[str, tuple[Window, ...]] = {}
    named: dict[str, str] = {}  # day → the key that named it
    good = True
    for key, key_node, value in reader.pairs(node, path):
        if key == "ramadan" and not path.endswith(".ramadan"):
            continue
        where = f"{path}.{key[:60]}"
        windows = reader.read(value, Opening, where, depth + 1)
        days = days_of(key)
        if not days:
            reader.problem(key_node, where, "is no day: write mon, tue, wed, thu, fri, sat, sun, a range (mon-thu), or break_fri")
        for day in days:
            if day in named:
                reader.problem(key_node, where, f"names {day} again, after {named[day]}")
            named.setdefault(day, key)
            found[day] = windows
        good = good and windows is not BAD
    return found if good and not any(p.path.startswith(f"{path}.") for p in reader.problems) else None


def days_of(key: str) -> list[str]:
    """`mon-wed` → mon, tue, wed; `break_fri` → break_fri; `sat-mon` → sat, sun, mon; anything else → nothing."""
    m = re.fullmatch(KEY, key)
    if not m:
        return []
    first, last = DAYS.index(m[2]), DAYS.index(m[4] or m[2])
    return [(m[1] or "") + DAYS[(first + i) % 7] for i in range((last - first) % 7 + 1)]


def _week(days: Mapping[str, tuple[Window, ...]]) -> Week:
    return tuple(_without(days.get(day, ()), days.get(f"break_{day}", ())) for day in DAYS)


def _without(windows: Iterable[Window], breaks: Iterable[Window]) -> tuple[Window, ...]:
    """The windows less the breaks."""
    left = list(windows)
    for b_start, b_end in breaks:
        cut = [piece for a, z in left for piece in ((a, min(z, b_start)), (max(a, b_end), z))]
        left = [(a, z) for a, z in cut if a < z]
    return tuple(left)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ramadan:
    from_: Date
    until: Date  # its last day

    def problems(self) -> Iterable[tuple[str, str]]:
        days = (self.until - self.from_).days + 1
        if not 28 <= days <= 31:
            yield "until", f"makes a Ramadan of {days} days"

    def __contains__(self, day: date) -> bool:
        return self.from_ <= day <= self.until


@dataclasses.dataclass(frozen=True, kw_only=True)
class YearDays:
    """What calendar.yaml says of a year: dates with their names. The year may be given a Ramadan that began in December before."""

    holidays: dict[Date, DayName] = dataclasses.field(default_factory=dict)
    cuti_bersama: dict[Date, DayName] = dataclasses.field(default_factory=dict)
    ramadan: Ramadan | None = None


def load_years(path: Path) -> dict[int, YearDays]:
    """Reads calendar.yaml: `2026: {holidays: {2026-01-01: Tahun Baru}, cuti_bersama: {…}, ramadan: {from:, until:}}`.

    Raises ConfigError.
    """
    reader = Reader(path.name)
    found = reader.whole(read_bytes(path), dict[Year, YearDays])
    for name in list(reader.lines):
        _in_its_year(reader, name)
    reader.refuse()
    return dict(sorted(found.items()))


def _in_its_year(reader: Reader, path: str) -> None:
    m = re.fullmatch(r"(20\d\d)\.(holidays|cuti_bersama|ramadan)\.([\w-]+)", path, re.ASCII)
    if not m:
        return
    year, day = int(m[1]), reader.values.get(path) if m[2] == "ramadan" else _date_or_none(m[3])
    if day and day.year != year and not (m[2] == "ramadan" and (day.year, day.month) in {(year - 1, 12), (year + 1, 1)}):
        reader.object(path, f"is not a day of {year}")


def _date_or_none(text: str) -> date | None:
    try:
        return Dates()(text)
    except ValueError:
        return None


# -- the question -----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calendar:
    """Opening hours, the dated days, and the time zone that its hours are told in."""

    name: str
    hours: Hours
    zone: str = "Asia/Jakarta"
    years: Mapping[int, YearDays] = dataclasses.field(default_factory=dict)

    def in_zone(self, zone: str) -> "Calendar":
        """The same hours on another zone's clocks."""
        return dataclasses.replace(self, zone=zone)

    @functools.cached_property
    def closed_days(self) -> dict[date, str]:
        """Public holidays and cuti bersama, in order, with their names."""
        return dict(sorted((day, name) for y in self.years.values() for day, name in {**y.cuti_bersama, **y.holidays}.items()))

    @functools.cached_property
    def fasts(self) -> tuple[Ramadan, ...]:
        return tuple(y.ramadan for y in self.years.values() if y.ramadan)

    def open_at(self, local: datetime) -> bool:
        """Whether it is open at a time of the zone's own clocks (a tzinfo, if there is one, is not looked at)."""
        if self.hours.always:
            return True
        day = local.date()
        if day in self.closed_days:
            return False
        week = self.hours.ramadan if any(day in fast for fast in self.fasts) else self.hours.week
        return any(start <= local.hour * 60 + local.minute < end for start, end in week[day.weekday()])

    def covered_until(self) -> date:
        """The last day of the last year with data, counted from the first without a gap; `always` needs none (9999-12-31)."""
        if self.hours.always:
            return FOR_EVER
        year = next((y for y in self.years if y + 1 not in self.years), None)
        return date(year, 12, 31) if year else NEVER

    def promql(self) -> str:
        """One instant vector without labels: 1 while open, 0 while closed; for PromQL as of 2.42, made of time() alone.

        Times are compared as HHMM, dates as YYYYMMDD; label_replace strips the label of a date that is one of the closed ones,
        so that `unless` meets it. Raises ValueError where the zone has no fixed offset.
        """
        if self.hours.always:
            return "vector(1)"
        local = _local(offset(self.zone))
        lines = _any_of(_week_lines(self.hours.week, local))
        if self.fasts and self.hours.ramadan != self.hours.week:
            fast = [f"{_ymd(local)} >= {f.from_:%Y%m%d} <= {f.until:%Y%m%d}" for f in self.fasts]
            lines += [*_any_of(fast, "unless "), *_any_of(_week_lines(self.hours.ramadan, local), "or "), *_any_of(fast, "and ")]
        if self.closed_days:
            lines = ["(", *_indent(lines), f") unless {_dates(self.closed_days, local)}"]
        return "\n".join(["(count(", *_indent(lines), ") or vector(0))"])


def _any_of(lines: list[str], before: str = "") -> list[str]:
    """Any of the lines, in brackets; none: nothing, as PromQL says it."""
    if not lines:
        return [f"{before}(vector(0) > 0)"]
    return [f"{before}(", *_indent([lines[0], *(f"or {line}" for line in lines[1:])]), ")"]


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _local(seconds: int) -> str:
    return f"vector(time() {'+' if seconds >= 0 else '-'} {abs(seconds)})"


def _ymd(local: str) -> str:
    return f"(year({local}) * 10000 + month({local}) * 100 + day_of_month({local}))"


def _dates(days: Iterable[date], local: str) -> str:
    """A vector without labels on one of the days, with a label `date` on others."""
    by_year: dict[int, list[str]] = {}
    for day in days:
        by_year.setdefault(day.year, []).append(f"{day:%m%d}")
    pattern = "|".join(f"{year}({'|'.join(found)})" for year, found in by_year.items())
    return f'label_replace(count_values("date", {_ymd(local)}), "date", "", "date", "{pattern}")'


def _week_lines(week: Week, local: str) -> list[str]:
    """A condition for each run of days with the same windows, and each window."""
    hhmm = f"(hour({local}) * 100 + minute({local}))"
    lines = []
    for days, windows in _runs(week):
        for start, end in windows:
            low = f" >= {start // 60 * 100 + start % 60}" if start else ""
            high = f" < {end // 60 * 100 + end % 60}" if end < MIDNIGHT else ""
            day = f"day_of_week({local}) {days}"
            lines.append(f"{day} and {hhmm}{low}{high}" if low or high else day)
    return lines


def _runs(week: Week) -> Iterator[tuple[str, tuple[Window, ...]]]:
    """(`>= 1 <= 4`, windows): days as PromQL counts them, where Sunday is 0."""
    sunday_first = (week[6], *week[:6])
    first = 0
    for day in range(1, 8):
        if day == 7 or sunday_first[day] != sunday_first[first]:
            if sunday_first[first]:
                yield f"== {first}" if day - first == 1 else f">= {first} <= {day - 1}", sunday_first[first]
            first = day


@functools.cache
def offset(zone: str) -> int:
    """Seconds east of UTC. Raises ValueError where the clocks change: rules reckon with one offset for all their years."""
    found = ZoneInfo(zone)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    offsets = {(start + timedelta(days=7 * week)).astimezone(found).utcoffset() for week in range(52 * 12)}
    if len(offsets) != 1:
        raise ValueError(f"{zone} changes its clocks (daylight saving time); the rules need a zone with one offset")
    return int((offsets.pop() or timedelta()).total_seconds())
