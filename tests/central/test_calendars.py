"""Opening hours: what a file may say, when it is open, and that PromQL says the same at every moment."""

import dataclasses
import json
import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from agent.structure import ConfigError, loads
from central.calendars import FOR_EVER, NEVER, Calendar, Hours, days_of, load_years, offset

CALENDAR_YAML = """
2026:
  holidays: {2026-01-01: Tahun Baru, 2026-03-21: Idulfitri, 2026-03-22: Idulfitri, 2026-12-25: Natal}
  cuti_bersama: {2026-03-23: Idulfitri, 2026-12-24: Natal}
  ramadan: {from: 2026-02-18, until: 2026-03-20}
2027:
  holidays: {2027-01-01: Tahun Baru, 2027-05-03: Waisak}
  ramadan: {from: 2027-02-08, until: 2027-03-09}
"""
HOURS = """
c:
  lima-hari: {mon-thu: "07:30-16:00", fri: "07:30-16:30", break_fri: "12:00-13:30", ramadan: {mon-thu: "08:00-15:00", fri: "08:00-15:30"}}
  enam-hari: {mon-thu: "08:00-12:00, 13:00-15:00", fri-sat: "08:00-11:00", break_mon-thu: "10:00-10:15", ramadan: {sat: closed}}
  tepi: {sat-sun: "00:00-24:00", mon: "00:00-06:00,22:00-24:00", wed: "23:59-24:00"}
  tiap-hari: {mon-sun: "06:00-22:00"}
  minggu: {sun: "09:00-12:00"}
  sepanjang: {mon-sun: "00:00-24:00"}
  24-jam: always
"""
ZONES = ("Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura", "UTC", "America/Bogota")


def hours(text: str) -> dict[str, Hours]:
    schema = dataclasses.make_dataclass("Schema", [("c", dict[str, Hours])])
    made: dict[str, Hours] = loads(text.encode(), schema, "f.yaml").c
    return made


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as e:
        hours(text)
    return str(e.value).splitlines()


@pytest.fixture
def calendars(tmp_path: Path) -> dict[str, Calendar]:
    (tmp_path / "calendar.yaml").write_text(CALENDAR_YAML)
    years = load_years(tmp_path / "calendar.yaml")
    return {name: Calendar(name=name, hours=h, years=years) for name, h in hours(HOURS).items()}


# -- open_at ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "local", "expected"),
    [
        ("lima-hari", "2026-11-23T07:29:59", False),  # a Monday
        ("lima-hari", "2026-11-23T07:30:00", True),
        ("lima-hari", "2026-11-23T15:59:59", True),
        ("lima-hari", "2026-11-23T16:00:00", False),
        ("lima-hari", "2026-11-27T11:59:59", True),  # a Friday
        ("lima-hari", "2026-11-27T12:00:00", False),
        ("lima-hari", "2026-11-27T13:30:00", True),
        ("lima-hari", "2026-11-28T10:00:00", False),  # a Saturday
        ("lima-hari", "2026-12-24T10:00:00", False),  # cuti bersama
        ("lima-hari", "2026-12-25T10:00:00", False),  # a holiday
        ("lima-hari", "2026-02-17T15:30:00", True),  # the day before Ramadan
        ("lima-hari", "2026-02-18T15:30:00", False),  # its first day
        ("lima-hari", "2026-02-20T13:00:00", False),  # the Friday break stays in Ramadan
        ("lima-hari", "2026-02-20T15:29:00", True),
        ("enam-hari", "2026-11-24T10:14:00", False),
        ("enam-hari", "2026-11-24T10:15:00", True),
        ("enam-hari", "2026-11-28T10:30:00", True),
        ("enam-hari", "2026-02-21T10:30:00", False),  # a Saturday of Ramadan
        ("tepi", "2026-11-29T23:59:59", True),
        ("tepi", "2026-11-30T00:00:00", True),
        ("tepi", "2026-11-30T06:00:00", False),
        ("24-jam", "2026-12-25T03:00:00", True),
    ],
)
def test_when_it_is_open(calendars, name, local, expected):
    assert calendars[name].open_at(datetime.fromisoformat(local)) is expected


def test_days_and_ranges():
    assert days_of("mon-thu") == ["mon", "tue", "wed", "thu"]
    assert days_of("sat-mon") == ["sat", "sun", "mon"]
    assert days_of("break_fri") == ["break_fri"]
    assert days_of("break_fri-sat") == ["break_fri", "break_sat"]
    assert [days_of(k) for k in ("senin", "mon-", "break_", "Mon", "mon-thu-fri", "")] == [[]] * 6


def test_how_far_the_calendar_reaches(calendars):
    lima = calendars["lima-hari"]

    assert lima.covered_until() == date(2027, 12, 31)
    assert dataclasses.replace(lima, years={}).covered_until() == NEVER
    assert dataclasses.replace(lima, years={2026: lima.years[2026], 2028: lima.years[2027]}).covered_until() == date(2026, 12, 31)
    assert calendars["24-jam"].covered_until() == FOR_EVER


# -- the same in PromQL -------------------------------------------------------------------------------------------------------


def moments(calendar: Calendar) -> Iterator[datetime]:
    """Local times: every edge of every window of a few days around all that is special, and any times at all."""
    special = [*calendar.closed_days, *(d for f in calendar.fasts for d in (f.from_, f.until)), date(2026, 1, 1), date(2027, 12, 31)]
    days = {day + timedelta(days=d) for day in special for d in (-1, 0, 1)} | {date(2026, 11, 23) + timedelta(days=d) for d in range(7)}
    edges = {m for week in (calendar.hours.week, calendar.hours.ramadan) for day in week for window in day for m in window} | {0, 720}
    for day in sorted(days):
        midnight = datetime.combine(day, time())
        yield from (midnight + timedelta(minutes=m, seconds=s) for m in sorted(edges) for s in (-1, 0))
    chance = random.Random(7)
    yield from (datetime(2025, 12, 1) + timedelta(seconds=chance.randrange(3 * 365 * 86400)) for _ in range(60))


@pytest.mark.needs("promtool")
@pytest.mark.usefixtures("each_version")
@pytest.mark.parametrize(
    ("name", "zone"),
    [
        *(("lima-hari", zone) for zone in ZONES),
        *((name, "Asia/Makassar") for name in ("enam-hari", "tepi", "tiap-hari", "minggu", "sepanjang", "24-jam")),
    ],
)
def test_promql_agrees_at_every_moment(calendars, tmp_path, name, zone):
    calendar = calendars[name].in_zone(zone)
    expression = calendar.promql()
    tests = [
        {
            "expr": expression,
            "eval_time": f"{int(local.replace(tzinfo=ZoneInfo(zone)).timestamp())}s",
            "exp_samples": [{"labels": "{}", "value": int(calendar.open_at(local))}],
        }
        for local in moments(calendar)
    ]
    assert len({t["exp_samples"][0]["value"] for t in tests}) == (1 if name == "24-jam" else 2)
    run = promtool(tmp_path, tests)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


def promtool(where: Path, tests: list[dict[str, object]]) -> "subprocess.CompletedProcess[str]":
    """Evaluates at times since 1970; without rules there is nothing to evaluate on the way there, hence the long interval."""
    file = where / "calendar.test.yaml"
    file.write_text(json.dumps({"evaluation_interval": "5000w", "tests": [{"interval": "5000w", "promql_expr_test": tests}]}))
    return subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.needs("promtool")
@pytest.mark.usefixtures("each_version")
def test_the_comparison_can_fail(calendars, tmp_path):
    """A test that can't fail proves nothing: a wrong expectation is refused."""
    tests = [{"expr": calendars["lima-hari"].promql(), "eval_time": "1s", "exp_samples": [{"labels": "{}", "value": 1}]}]
    assert promtool(tmp_path, tests).returncode != 0


def test_five_years_stay_readable(calendars):
    year = calendars["lima-hari"].years[2026]
    many = {
        y: dataclasses.replace(year, holidays={date(y, 1 + m, 1 + d): "x" for m in range(12) for d in range(2)}) for y in range(2026, 2031)
    }
    text = dataclasses.replace(calendars["lima-hari"], years=many).promql()

    assert len(text) < 4000
    assert max(map(len, text.splitlines())) < 1200
    assert "2026(0101|0102|" in text


def test_a_week_with_nothing_special_is_short(calendars):
    assert dataclasses.replace(calendars["minggu"], years={}).promql() == (
        "(count(\n  (\n    day_of_week(vector(time() + 25200)) == 0 and"
        " (hour(vector(time() + 25200)) * 100 + minute(vector(time() + 25200))) >= 900 < 1200\n  )\n) or vector(0))"
    )


def test_a_zone_with_daylight_saving_is_refused(calendars):
    with pytest.raises(ValueError, match="Europe/Amsterdam changes its clocks"):
        calendars["lima-hari"].in_zone("Europe/Amsterdam").promql()
    assert [offset(z) for z in ZONES] == [25200, 28800, 32400, 0, -18000]
    for zone in ZONES:
        moment = datetime(2026, 7, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset()
        assert moment == timedelta(seconds=offset(zone))


# -- bad input ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alway", '"alway" is neither `always` nor days with hours, like {mon-fri: "07:30-16:00"}'),
        ("[mon]", "must be `always`, or days with hours, is a list"),
        ("{}", "is never open; name its days, or write `always`"),
        ("{sat: closed}", "is never open; name its days, or write `always`"),
        ("", "has no value: write `always`, or days with hours"),
    ],
)
def test_what_is_no_calendar(text, expected):
    assert errors(f"c:\n  a: {text}\n") == [f"f.yaml:2: c.a: {expected}"]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("senin: '07:30-16:00'", "c.a.senin: is no day: write mon, tue, wed, thu, fri, sat, sun, a range (mon-thu), or break_fri"),
        (
            "sat: '7:30-16:00'",
            'c.a.sat: "7:30-16:00" is not opening hours (try "07:30-16:00", "07:30-12:00, 13:00-16:00" or closed)',
        ),
        (
            "sat: '22:00-06:00'",
            'c.a.sat: "22:00-06:00" ends before it begins (22:00-06:00); past midnight needs two: 22:00-24:00, and 00:00-06:00',
        ),
        ("sat: '08:00-12:00, 11:00-13:00'", 'c.a.sat: "08:00-12:00, 11:00-13:00" has windows that overlap'),
        ("mon: '08:00-12:00'", "c.a.mon: names mon again, after mon-thu"),
        ("ramadan: 1", "c.a.ramadan: must be days with hours"),
        (
            "ramadan: {ramadan: {}}",
            "c.a.ramadan.ramadan: is no day: write mon, tue, wed, thu, fri, sat, sun, a range (mon-thu), or break_fri",
        ),
        ("ramadan: {mon: x}", 'c.a.ramadan.mon: "x" is not opening hours (try "07:30-16:00", "07:30-12:00, 13:00-16:00" or closed)'),
        ("mon-thu: closed", "c.a.mon-thu: stands twice (first on line 3)"),
        ("? [x]\n    : y", "c.a: has a key that is not a text"),
    ],
)
def test_each_mistake_in_the_days_has_its_message(day, expected):
    assert f"f.yaml:4: {expected}" in errors(f"c:\n  a:\n    mon-thu: '07:30-16:00'\n    {day}\n")


def test_years_are_checked_with_their_lines(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "2026:\n  holidays:\n    2027-01-01: Tahun Baru\n    2026-13-01: x\n    2026-05-01: ''\n"
        "  ramadan: {from: 2026-02-18, until: 2026-04-20}\n"
        "2027:\n  ramadan: {from: 2026-11-18, until: 2026-12-17}\n  libur: {}\n26: {}\n"
    )
    with pytest.raises(ConfigError) as e:
        load_years(tmp_path / "c.yaml")
    assert str(e.value).splitlines() == [
        "c.yaml:3: 2026.holidays.2027-01-01: is not a day of 2026",
        'c.yaml:4: 2026.holidays.2026-13-01: "2026-13-01" is not a date (try 2026-01-31)',
        'c.yaml:5: 2026.holidays.2026-05-01: "" is not a day\'s name (one line of at most 200 characters)',
        "c.yaml:6: 2026.ramadan.until: makes a Ramadan of 62 days",
        "c.yaml:8: 2027.ramadan.from: is not a day of 2027",
        "c.yaml:9: 2027.libur: unknown key (known: holidays, cuti_bersama, ramadan)",
        'c.yaml:10: 26: "26" is not a year (try 2026)',
    ]


def test_a_ramadan_may_pass_the_years_end(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "2031: {ramadan: {from: 2030-12-26, until: 2031-01-24}}\n2030: {ramadan: {from: 2030-01-06, until: 2030-02-04}}\n"
    )
    years = load_years(tmp_path / "c.yaml")
    calendar = Calendar(name="x", hours=hours(HOURS)["lima-hari"], years=years)

    assert list(years) == [2030, 2031]
    assert [calendar.open_at(datetime(2030, 12, day, 15, 30)) for day in (24, 26)] == [True, False]


def test_an_empty_calendar_file_knows_no_year(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert load_years(tmp_path / "c.yaml") == {}
