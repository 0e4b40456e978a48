"""Basic auth (RFC 7617) against bcrypt hashes, and token buckets for who asks too often.

Law: bcrypt (58 ms at cost 10) runs in a thread, one at a time; what it found true is kept under an HMAC with a key of this process,
so a scrape every 15 s costs one bcrypt in all. A user who does not exist costs as much as a wrong password. Nothing grows: tables are
bounded, a peer who keeps guessing is told to wait before anything is computed, also for the right password.
"""

import asyncio
import base64
import binascii
import collections
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping

import bcrypt

log = logging.getLogger("ronda.web")

TRIES = 5  # wrong passwords in a row for a peer, then one every TRY_EVERY seconds
TRY_EVERY = 10.0
MAX_QUEUE = 8  # logins waiting for bcrypt
MAX_KNOWN = 256
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
    """A bucket a peer, for the MAX_PEERS heard of last."""

    def __init__(self, burst: float, interval: float) -> None:
        self._burst, self._interval = burst, interval
        self._buckets: collections.OrderedDict[str, Bucket] = collections.OrderedDict()

    def wait(self, peer: str, now: float) -> float:
        bucket = self._buckets.get(peer)
        return bucket.wait(now) if bucket else 0.0

    def take(self, peer: str, now: float) -> float:
        bucket = self._buckets.setdefault(peer, Bucket(self._burst, self._interval, now))
        self._buckets.move_to_end(peer)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return bucket.take(now)


class BusyError(Exception):
    """Too many logins at once, or too many wrong ones; try again in `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"try again in {wait:.0f} s")
        self.wait = wait


def credentials(header: str) -> tuple[str, bytes] | None:
    """(user, password) of an Authorization header; None where it is not one of basic auth."""
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


class Auth:
    """Checks passwords. `now` is monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._key = secrets.token_bytes(32)
        self._known: collections.OrderedDict[bytes, None] = collections.OrderedDict()
        self._one = asyncio.Lock()
        self._queue = 0
        self._peers = Peers(TRIES, TRY_EVERY)

    async def check(self, users: Mapping[str, str], header: str, peer: str) -> bool:
        """Whether the header names one of `users` (name → bcrypt hash) with his password. Raises BusyError."""
        wait = self._peers.wait(peer, self._now())
        if wait:
            raise BusyError(wait)
        given = credentials(header)
        if given is None:
            return False
        user, password = given
        hashed = users.get(user) or _nobody(users)
        seal = hmac.digest(self._key, b"\0".join((hashlib.sha256(password).digest(), user.encode(), hashed.encode())), "sha256")
        if seal in self._known:
            self._known.move_to_end(seal)
            return True
        right = await self._bcrypt(password, hashed) and user in users
        if right:
            self._remember(seal)
        else:
            self._peers.take(peer, self._now())
            log.warning("a wrong user or password from %s", peer)
        return right

    async def _bcrypt(self, password: bytes, hashed: str) -> bool:
        if self._queue >= MAX_QUEUE:
            raise BusyError(5.0)
        self._queue += 1
        try:
            async with self._one:
                return await asyncio.to_thread(_matches, password, hashed.encode())
        finally:
            self._queue -= 1

    def _remember(self, seal: bytes) -> None:
        self._known[seal] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:72], hashed)  # bcrypt knows no more than 72; newer libraries refuse longer ones
    except ValueError:  # a NUL byte in the password
        return False


def _nobody(users: Mapping[str, str]) -> str:
    """A hash of no password, as costly as the others."""
    cost = next(iter(users.values()))[4:6]
    return f"$2b${cost}$" + "." * 53
