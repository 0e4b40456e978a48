"""Token buckets: who may do a thing how often, alone or for each peer.

Law: pure, time is an argument (monotonic seconds); bounded, only the MAX_PEERS heard of last are held.
"""

import collections

MAX_PEERS = 1024


class Bucket:
    """A token bucket: `burst` at once, then one every `interval` seconds."""

    __slots__ = ("_at", "_burst", "_interval", "_tokens")

    def __init__(self, burst: float, interval: float, now: float) -> None:
        self._burst, self._interval, self._tokens, self._at = burst, interval, float(burst), now

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0: there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) / self._interval)
        self._at = now
        return max(0.0, (1.0 - self._tokens) * self._interval)

    def take(self, now: float) -> float:
        """Takes a token. Returns 0, or the seconds to wait when there is none."""
        wait = self.wait(now)
        if not wait:
            self._tokens -= 1
        return wait


class Peers:
    """A bucket for each peer."""

    def __init__(self, burst: float, interval: float) -> None:
        self._burst, self._interval = burst, interval
        self._buckets: collections.OrderedDict[str, Bucket] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, peer: str, now: float) -> float:
        bucket = self._buckets.get(peer)
        return bucket.wait(now) if bucket else 0.0

    def take(self, peer: str, now: float) -> float:
        bucket = self._buckets.setdefault(peer, Bucket(self._burst, self._interval, now))
        self._buckets.move_to_end(peer)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return bucket.take(now)
