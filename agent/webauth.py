"""Basic auth (RFC 7617) against bcrypt hashes.

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

from agent.bucket import Peers

log = logging.getLogger("ronda.web")

TRIES = 5  # wrong passwords in a row for a peer, then one every TRY_EVERY seconds
TRY_EVERY = 10.0
MAX_QUEUE = 8  # logins waiting for bcrypt
MAX_KNOWN = 256


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
    import bcrypt  # here, because most agents have no passwords

    try:
        return bcrypt.checkpw(password[:72], hashed)  # bcrypt knows no more than 72; newer libraries refuse longer ones
    except ValueError:  # a NUL byte in the password
        return False


def _nobody(users: Mapping[str, str]) -> str:
    """A hash of no password, as costly as the others."""
    cost = next(iter(users.values()))[4:6]
    return f"$2b${cost}$" + "." * 53
