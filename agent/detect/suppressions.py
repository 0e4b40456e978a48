"""Suppressions: what people accept beforehand, for a time and with a reason. What fits one is told as info, and counted.

Law: pure. None lasts longer than MAX_DAYS, none is without a reason; one that is over does nothing, and is said as a warning.
They come from the config (`suppress:` of a task of detectors) and from `ronda events accept`.
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, NamedTuple

from agent.structure import Scalar, Text

MAX_DAYS = 90
DAY = 86400.0
PLAUSIBLE = 1_767_225_600.0  # 2026-01-01: a clock that says less knows nothing (boxes without a clock chip begin in 1970)


class Suppression(NamedTuple):
    """`until`: wall clock seconds; `by`: where it comes from, "config" or the id of the case that was accepted.

    source, key: whom or which condition it is about, as findings name them; "": all
    """

    rule: str
    until: float
    reason: str
    source: str = ""
    key: str = ""
    by: str = "config"

    def fits(self, rule: str, key: str, source: str, fields: Mapping[str, str], wall: float) -> bool:
        if rule != self.rule or wall >= self.until or (self.key and key != self.key):
            return False
        return not self.source or self.source in (source, key, *(v for name, v in fields.items() if name.startswith(("source.", "host."))))

    def said(self, zone: tzinfo) -> str:
        return f"{datetime.fromtimestamp(self.until, zone):%Y-%m-%d %H:%M}"


def _date(text: str) -> str:
    return f"{datetime.strptime(text, '%Y-%m-%d').replace(tzinfo=UTC):%Y-%m-%d}"  # raises ValueError


def _reason(text: str) -> str:
    if not 4 <= len(text.strip()) <= 200:
        raise ValueError
    return text.strip()


Date = Annotated[str, Scalar("a date", _date, "e.g. 2026-12-31")]
Reason = Annotated[str, Scalar("a reason", _reason, "four to 200 characters that say why")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuppressConfig:
    """One entry of `suppress:`. `until`: the last day, in the office's time zone; `source`: a MAC or an address, else everybody's."""

    rule: Text
    until: Date
    reason: Reason
    source: Text = ""

    def problems(self) -> Iterable[tuple[str, str]]:
        now = time.time()
        if now > PLAUSIBLE and end_of(self.until, UTC) - now > (MAX_DAYS + 2) * DAY:
            yield "until", f"is more than {MAX_DAYS} days ahead: what is accepted must be looked at again"

    def suppression(self, zone: tzinfo) -> Suppression:
        return Suppression(self.rule, end_of(self.until, zone), self.reason, self.source.lower())


def end_of(date: str, zone: tzinfo) -> float:
    """The end of that day there."""
    return (datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=zone) + timedelta(days=1)).timestamp()


def past(suppressions: Iterable[Suppression], wall: float) -> list[Suppression]:
    """Those that are over: they should go from the config."""
    return [s for s in suppressions if wall >= s.until]
