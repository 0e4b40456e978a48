"""Suppressions: what people accept beforehand, for a time and with a reason. What fits one is told as info, and counted.

Law: pure. None lasts longer than MAX_DAYS, none is without a reason; one that is over does nothing, and is said as a warning.
They come from the config (`suppress:` of a task of detectors) and from `ronda events accept`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

MAX_DAYS = 90
DAY = 86400.0


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


def end_of(date: str, zone: tzinfo) -> float:
    """The end of that day there."""
    return (datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=zone) + timedelta(days=1)).timestamp()


def past(suppressions: Iterable[Suppression], wall: float) -> list[Suppression]:
    """Those that are over: they should go from the config."""
    return [s for s in suppressions if wall >= s.until]
