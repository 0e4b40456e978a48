"""flood: so much comes in that this box, or its line, may not stand it.

Law: rates of the kernel's and the capture's counters, each against its own past: above max(50/s, ten times its 99th percentile) for HOLD
seconds (while its past is short: above 50/s), which finds a flood within 15 s and lets a burst of a few seconds pass. Two counters that
agree confirm it, or LONG seconds of one.
A scan isn't a flood: its contacts (a sample, for a flood drowns the capture) come from few addresses and go to ever other ports. Sources of
a flood are invented: nobody is accused. It says itself when it is over, once nothing was above for CALM seconds.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.here import Here
from agent.detect.model import Coverage, Finding, Plain, Rule, Said, Vouched
from agent.detect.seen import Contact, Counters, Frame, Neighbours, Network
from agent.detect.telling import Telling

LEAST, TIMES, MOST = 50.0, 10.0, 5000.0  # a second; the most: else a slow attacker teaches it everything
HOLD, LONG, CALM = 8.0, 30.0, 60.0
LEVEL, LEVEL_MOST = 64.0, 128.0  # half-open connections: a number, not a rate; a slow flood's rise must not become what is usual
LOOKS = 300  # until so many, a rate's own past says nothing: who starts in a flood would learn it
TCP = ("contacts", "ListenDrops", "ListenOverflows", "TCPReqQFullDoCookies", "SyncookiesSent", "half_open")
UDP = ("NoPorts", "InErrors", "RcvbufErrors")
SAMPLE, BINS, FADE = 256, 48, 100_000  # contacts looked at between two counts; classes of rates; looks after which the old weigh half


@dataclasses.dataclass(slots=True)
class _Past:
    """How often which rate was seen, in classes of half a power of two."""

    bins: list[int] = dataclasses.field(default_factory=lambda: [0] * BINS)

    def enough(self) -> bool:
        return sum(self.bins) >= LOOKS

    def add(self, rate: float) -> None:
        self.bins[min(BINS - 1, int(2 * math.log2(1 + rate)))] += 1
        if sum(self.bins) > FADE:
            self.bins = [n // 2 for n in self.bins]

    def p99(self) -> float:
        left = sum(self.bins) * 0.01
        for i in range(BINS - 1, -1, -1):
            left -= self.bins[i]
            if left < 0:
                return float(2 ** (i / 2) - 1)
        return 0.0


@dataclasses.dataclass(slots=True)
class _State:
    since: float = float("inf")  # since when something is above
    last: float = float("-inf")  # when it last was
    open: bool = False
    peak: float = 0.0


class Flood(Plain):
    """One case for TCP, one for UDP."""

    rule: ClassVar[Rule] = Rule("flood", "L13", "1", "network", ("T1498.001", "T1499.001"))
    wants: ClassVar[tuple[type, ...]] = (Network, Neighbours, Counters, Contact)

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (nobody is vouched for who floods)
        self._past = {name: _Past() for name in (*TCP, *UDP)}
        self._state = {"tcp": _State(), "udp": _State()}
        self._before: Mapping[str, float] | None = None
        self._at = 0.0
        self._sample: list[Contact] = []
        self._here, self._telling = Here(), Telling(4)

    def see(self, seen: Network | Neighbours | Counters | Contact, at: float) -> Iterable[Said]:
        if isinstance(seen, Contact):
            if seen.step == "asked" and len(self._sample) < SAMPLE:
                self._sample.append(seen)
            return ()
        if isinstance(seen, Counters):
            return self._count(seen, at)
        self._here.hear(seen)
        return ()

    def tick(self, at: float) -> Iterator[Said]:
        for name, state in self._state.items():
            if state.since != float("inf") and at - state.last >= CALM:
                was, self._state[name] = state.open, _State()
                if was:
                    self._telling.close(name)
                    yield Finding("flood", name, "high", "certain", "the flood is over", "closed", True)

    def _count(self, seen: Counters, at: float) -> Iterator[Said]:
        values = {name: value for name in (*TCP, *UDP) if (value := _number(seen.values.get(name))) is not None}
        if self._before is not None and at - self._at < 0.5:
            return
        before, passed = self._before, at - self._at
        self._before, self._at = values, at
        sample, self._sample = self._sample, []
        if before is None or passed > 120.0:
            return
        for which, names in (("tcp", TCP), ("udp", UDP)):
            rates = dict(self._rates(names, values, before, passed))
            yield from self._look(which, rates, sample if which == "tcp" else [], at)

    def _rates(self, names: tuple[str, ...], values: Mapping[str, float], before: Mapping[str, float], passed: float) -> Any:
        for name in names:
            if name in values and name in before:
                rate = values[name] if name == "half_open" else (values[name] - before[name]) / passed
                if 0.0 <= rate < 1e12:
                    yield name, rate

    def _look(self, which: str, rates: Mapping[str, float], sample: list[Contact], at: float) -> Iterator[Said]:
        state = self._state[which]
        above = [name for name, rate in rates.items() if rate > self._limit(name)]
        if above == ["contacts"] and self._harmless(sample):
            above = []
        if not above:
            for name, rate in rates.items():
                self._past[name].add(rate)
            if not state.open and at - state.last > HOLD:
                state.since = float("inf")
            return
        state.since, state.last = min(state.since, at), at
        state.peak = max(state.peak, *(rates[name] for name in above if name != "half_open"), 0.0)
        if at - state.since >= HOLD:
            state.open = True
            yield from self._telling.say(self._finding(which, state, above, rates, sample, at), at)

    def _limit(self, name: str) -> float:
        least, most = (LEVEL, LEVEL_MOST) if name == "half_open" else (LEAST, MOST)
        past = self._past[name]
        return min(max(least, TIMES * past.p99()), most) if past.enough() else least

    def _harmless(self, sample: list[Contact]) -> bool:
        """Our own connections, or a scan: few addresses, ever other ports."""
        if len(sample) < 8:
            return False
        own = sum(self._here.sent(seen.frame, seen.source) for seen in sample)
        few = len({seen.source for seen in sample}) < len(sample) / 2
        return own > len(sample) / 2 or (few and len({seen.port for seen in sample}) > len(sample) / 2)

    def _finding(
        self, which: str, state: _State, above: list[str], rates: Mapping[str, float], sample: list[Contact], at: float
    ) -> Finding:
        kinds = {"queue" if name not in ("contacts", "half_open") else name for name in above}
        sure = len(kinds) >= 2 or at - state.since >= LONG
        ports = collections.Counter(seen.port for seen in sample)
        fields = {f"ronda.rate.{name.lower()}": f"{rates[name]:.0f}" for name in above}
        fields |= {"ronda.peak": f"{state.peak:.0f}", "ronda.sources": str(len({seen.source for seen in sample}))}
        fields["destination.port"] = ",".join(str(port) for port, _ in ports.most_common(3))
        fields["ronda.frames_mac"] = _most([seen.frame for seen in sample])
        kind = "connections are asked for" if which == "tcp" else "UDP packets come"
        words = f"many more {kind} than this box is used to, for {at - state.since:.0f} s"
        frames = tuple(seen.frame for seen in sample[:4])
        return Finding("flood", which, "high", "certain" if sure else "likely", words, "open", sure, fields, frames=frames)

    # -- the rest of the contract ----------------------------------------------------------------------------------------------

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "counters" in able or "capture" in able:
            return Coverage(1.0) if "capture" in able else Coverage(0.5, "no_capture")
        return Coverage(0.0, "no_counters")

    def remember(self) -> Mapping[str, Any]:
        return {"past": {name: list(past.bins) for name, past in self._past.items()}, "open": [n for n, s in self._state.items() if s.open]}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        past = {name: [max(0, min(int(n), FADE)) for n in said["past"][name]] for name in self._past}
        was = [str(name) for name in said["open"]]
        if any(len(bins) != BINS for bins in past.values()):
            raise ValueError("another number of classes")
        for name, bins in past.items():
            self._past[name].bins = bins
        for name in set(was) & self._state.keys():
            self._state[name] = _State(at, at, True)


def _number(value: Any) -> float | None:
    """A counter's value, if it is one."""
    usable = isinstance(value, int | float) and math.isfinite(value) and value >= 0
    return float(value) if usable else None


def _most(frames: list[Frame]) -> str:
    """The MAC that most of the frames come from: evidence, not an accusation, for it may be forged as well."""
    mac, n = collections.Counter(frame.source for frame in frames).most_common(1)[0] if frames else ("", 0)
    return mac if n > 0.8 * len(frames) else ""
