"""Frames for everybody drown the network, because cables make a loop or one device has gone mad (broadcast_storm, L15).

Law: a rate alone proves nothing. Told are
    storm          over 500 frames for everybody a second, for ten seconds; where fifty PCs boot together, many speak and none repeats
                   itself: that is waited for, a minute long
    loop           our own frames come back to us
    spanning_tree  the switches' tree changes again and again ("low", and evidence for the others): one change is somebody plugging in
Confirmed is what two of these agree on, or a storm of which most frames are the same ones over and over.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.ground import Ground, host_mac, of_ronda
from agent.detect.model import Finding, Plain, Rule, Said, Vouched
from agent.detect.seen import (
    Arp,
    Counters,
    Dhcp,
    Frame,
    Identity,
    NameAnswer,
    NameQuery,
    Neighbour,
    Neighbours,
    Network,
    RouterAdvert,
    SpanningTree,
)  # fmt: skip
from agent.detect.telling import Telling

RATE, LASTS = 500.0, 10.0
CROWD, CROWD_LASTS = 20, 60.0  # so many speakers, none of which repeats itself, are people who come to work
SAME = 0.5  # share of frames that have been seen before within the window
SAMPLE, LEAST, WINDOW = 512, 50, 10.0
BACK, BACK_WITHIN = 3, 10.0
EPISODES, EPISODES_WITHIN, APART = 6, 600.0, 40.0  # a change is flagged for 35 s (802.1D: max age and forward delay)
AGREE = 120.0
LONGEST_GAP = 120.0


class BroadcastStorm(Plain):
    """`rate`: frames for everybody a second, for ronda_bcast_rate."""

    rule: ClassVar[Rule] = Rule("broadcast_storm", "L15", "1", "network", quiet=300.0)
    wants: ClassVar[tuple[type, ...]] = (
        Network, Neighbours, Counters, SpanningTree, Arp, Dhcp, NameQuery, NameAnswer, Neighbour, RouterAdvert, Identity,
    )  # fmt: skip

    def __init__(self, vouched: Vouched) -> None:  # noqa: ARG002  (nobody is vouched for here)
        self.rate = 0.0
        self._ground = Ground()
        self._count: tuple[float, float] | None = None  # when, and the counter
        self._since: float | None = None  # since when the rate is a storm's
        self._sample: collections.deque[tuple[float, int, str, Frame]] = collections.deque(maxlen=SAMPLE)
        self._back: collections.deque[tuple[float, Frame]] = collections.deque(maxlen=BACK)
        self._episodes: collections.deque[float] = collections.deque(maxlen=EPISODES)
        self._changed_at = self._stormed_at = self._looped_at = float("-inf")
        self._telling = Telling()

    def see(self, seen: Any, at: float) -> Iterable[Said]:
        if self._ground.hear(seen):
            return ()
        if isinstance(seen, Counters):
            return self._counted(seen.values, at)
        if isinstance(seen, SpanningTree):
            return self._tree(seen, at)
        return self._frame(seen.frame, at)

    # -- rates ------------------------------------------------------------------------------------------------------------------

    def _counted(self, values: Mapping[str, float], at: float) -> Iterator[Said]:
        now = values.get("broadcast", -1.0)
        before, self._count = self._count, (at, now) if 0.0 <= now < 1e18 else None
        if before is None or self._count is None or now < before[1] or not 0.0 < at - before[0] <= LONGEST_GAP:
            self._since, self.rate = None, 0.0
            return
        self.rate = (now - before[1]) / (at - before[0])
        if self.rate <= RATE:
            self._since = None
            return
        first = self._since is None
        self._since = before[0] if self._since is None else self._since
        lasts = at - self._since
        if lasts >= LASTS and (lasts >= CROWD_LASTS or not self._people(at)) and not (first and not self._proved(at)):
            self._stormed_at = at
            yield from self._storm(at)

    def _lately(self, at: float) -> list[tuple[float, int, str, Frame]]:
        return [row for row in self._sample if at - row[0] <= WINDOW]

    def _people(self, at: float) -> bool:
        rows = self._lately(at)
        return at - self._looped_at > AGREE and len({source for _, _, source, _ in rows}) >= CROWD and _repeated(rows) < SAME

    def _proved(self, at: float) -> bool:
        """By something else than the counter; which may have jumped, once."""
        rows = self._lately(at)
        same = len(rows) >= LEAST and _repeated(rows) >= SAME
        return same or at - self._looped_at <= AGREE or at - self._changed_at <= AGREE

    def _storm(self, at: float) -> Iterator[Said]:
        rows = self._lately(at)
        same = _repeated(rows)
        fields = {"ronda.rate": f"{self.rate:.0f}", "ronda.repeated": f"{same:.2f}"}
        loudest = collections.Counter(source for _, _, source, _ in rows).most_common(1)
        if loudest and loudest[0][1] * 2 > len(rows) >= LEAST and loudest[0][0] not in self._ground.macs:
            fields["ronda.loudest_mac"] = loudest[0][0]  # in a loop it may be innocent: nobody is accused
        message = "frames for everybody drown the network, many hundred a second"
        yield from self._tell("storm", message, fields, tuple(frame for *_, frame in rows[-4:]), at, sure=self._proved(at))

    # -- our own voice, and the tree ----------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame, at: float) -> Iterator[Said]:
        source = host_mac(frame.source)
        if not source:
            return
        if frame.raw and frame.direction != "out" and not host_mac(frame.target):
            self._sample.append((at, hash(frame.raw), source, frame))
        if frame.direction == "in" and source in self._ground.macs and not of_ronda(source) and self._ground.devices == 1:
            self._back.append((at, frame))
            if len(self._back) == BACK and at - self._back[0][0] <= BACK_WITHIN:
                self._looped_at = at
                sure = self.rate > RATE or at - self._stormed_at <= AGREE or at - self._changed_at <= AGREE
                yield from self._tell("loop", "our own frames come back to us", {}, tuple(f for _, f in self._back), at, sure=sure)

    def _tree(self, seen: SpanningTree, at: float) -> Iterator[Said]:
        if not seen.changed:
            return
        if at - self._changed_at > APART:
            self._episodes.append(at)
        self._changed_at = at
        if len(self._episodes) == EPISODES and at - self._episodes[0] <= EPISODES_WITHIN:
            message = "the switches change their tree again and again"
            yield from self._tell("spanning_tree", message, {}, (seen.frame,), at, sure=False)

    def _tell(
        self, key: str, message: str, fields: Mapping[str, str], frames: tuple[Frame, ...], at: float, *, sure: bool
    ) -> Iterator[Said]:
        grade, confidence = ("low" if key == "spanning_tree" else "high"), ("certain" if sure else "likely")
        finding = Finding(self.rule.name, key, grade, confidence, message, confirmed=sure, fields=fields, frames=frames)  # type: ignore[arg-type]
        yield from self._telling.say(finding, at)


def _repeated(rows: list[tuple[float, int, str, Frame]]) -> float:
    return 1.0 - len({what for _, what, _, _ in rows}) / len(rows) if rows else 0.0
