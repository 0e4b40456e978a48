"""What time it is at the centre, from the Date of its answers; and which clock a sample's time is taken from.

Law: pure, times are arguments. A Date has whole seconds (RFC 9110 6.6.1) and was written between our asking and its coming: so each
answer gives two bounds for (centre's clock - our monotonic clock), and bounds of several answers narrow each other. The own wall
clock is used while it lies within the bounds and TRUST: it is finer. Otherwise time is our monotonic clock put at the centre's.
"""

import calendar
import math
import re

TRUST = 2.0  # seconds that the own wall clock may be outside of what the centre's answers allow
AHEAD = 5.0  # no sample is stamped later than the centre's now and this: one from the future makes a Prometheus refuse all others
DRIFT = 2e-4  # a quartz is off by at most so many seconds a second: old bounds widen
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")


def parse_date(text: str) -> float | None:
    """`Tue, 24 Nov 2026 08:54:56 GMT` → seconds since 1970; None: it is no such date."""
    found = _DATE.fullmatch(text.strip())
    if not found or found[2] not in MONTHS:
        return None
    day, year, hour, minute, second = (int(found[i]) for i in (1, 3, 4, 5, 6))
    return float(calendar.timegm((year, MONTHS.index(found[2]) + 1, day, hour, minute, second)))


class CentreTime:
    """Bounds for (centre's wall clock - own monotonic clock). `compared`: within this connection."""

    def __init__(self) -> None:
        self.low, self.high = -math.inf, math.inf
        self.compared = False
        self._at = 0.0

    @property
    def known(self) -> bool:
        """Whether it was ever compared."""
        return self.low > -math.inf

    def forget_connection(self) -> None:
        self.compared = False

    def observe(self, date: float, asked: float, came: float) -> None:
        """An answer's Date; `asked` and `came` are monotonic seconds. What can't be true together with it is forgotten."""
        low, high = date - came, date + 1.0 - asked
        worn = max(0.0, came - self._at) * DRIFT
        narrow = max(low, self.low - worn), min(high, self.high + worn)
        self.low, self.high = narrow if self.compared and narrow[0] <= narrow[1] else (low, high)
        self.compared, self._at = True, came

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    def offset(self, wall: float, mono: float) -> float:
        """Seconds that the own wall clock is ahead of the centre's; within half a second. Only when `known`."""
        return wall - mono - self.middle

    def trusts(self, wall: float, mono: float) -> bool:
        """Whether the own wall clock may be used."""
        return self.known and self.low - TRUST <= wall - mono <= self.high + TRUST

    def base(self, wall: float, mono: float) -> float:
        """What to add to monotonic seconds to get the true time. Only when `known`."""
        return wall - mono if self.trusts(wall, mono) else self.middle

    def latest(self, mono: float) -> float:
        """The latest time that a sample may have now. Only when `known`."""
        return mono + self.low + AHEAD
