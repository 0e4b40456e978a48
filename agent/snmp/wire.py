"""The narrow interface between Ronda and whatever library speaks SNMP: plain OIDs, plain values, one way to fail.

Law: nothing of a library's types passes here, so another client can take its place when it passes tests/snmp/test_client.py. A client is
bounded in all it does: a device that answers for ever, backwards or nonsense costs one error and no more.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from agent.collector import Failure
from agent.sockets import parse_address

PORT = 161

Oid: TypeAlias = tuple[int, ...]
Kind: TypeAlias = Literal["integer", "string", "oid", "address", "counter32", "gauge32", "timeticks", "opaque", "counter64"]


class Value(NamedTuple):
    """What a device says of one OID, with the type that it gave: a number, bytes (string, address, opaque) or an OID, never converted."""

    kind: Kind
    value: int | bytes | Oid


Column: TypeAlias = Mapping[Oid, Value]  # index (what follows the column's OID) → value, in the device's order


class Credentials(NamedTuple):
    """How to ask. v1 and v2c: `community`. v3: `user`, and keys where auth and privacy aren't "none". Its repr shows no secret."""

    version: Literal["1", "2c", "3"] = "2c"
    community: str = ""
    user: str = ""
    auth: Literal["none", "md5", "sha", "sha224", "sha256", "sha384", "sha512"] = "none"
    auth_password: str = ""
    privacy: Literal["none", "des", "aes", "aes192", "aes256"] = "none"
    privacy_password: str = ""
    context: str = ""

    def __repr__(self) -> str:
        return f"Credentials(version={self.version!r}, user={self.user!r}, auth={self.auth!r}, privacy={self.privacy!r}, <secret>)"


class Device(NamedTuple):
    """Whom to ask: a numeric address, a port, as whom, and how patiently. `source`: an address of this box to ask from; "": as routed."""

    address: str
    port: int
    credentials: Credentials
    timeout: float = 2.0  # seconds for one request
    retries: int = 1
    repetitions: int = 25  # rows a GETBULK asks for (v2c, v3)
    source: str = ""


class Client(Protocol):
    """Raises Failure (agent/collector.py) with reason timeout, refused, unreachable, send, auth or answer.

    auth:   the device says so itself (v3 reports: unknown user, wrong digest, not in time window, unsupported level, no access)
    answer: it answers, but nothing that can be used: OIDs that don't increase, an endless table, wrong types, an error status
    A community that is wrong looks like `timeout`: such a device keeps silent; the detail says that this may be why.
    """

    async def get(self, device: Device, oids: Sequence[Oid]) -> dict[Oid, Value]:
        """Any number of OIDs, in as few requests as fit. Those that the device hasn't got are left out."""
        ...

    async def walk(self, device: Device, columns: Sequence[Oid], most: int) -> dict[Oid, Column]:
        """Columns of one table, side by side, at most `most` rows of each. Each column is there, empty where the device hasn't got it.

        Raises Failure("answer") where there are more rows than `most`: what was read is in the failure's `partial` (dict as returned).
        """
        ...

    def forget(self, device: Device) -> None:
        """No task asks this device any more: what is known of it goes, keys too."""
        ...

    async def close(self) -> None: ...


class TooMuch(Failure):
    """Failure("answer") of a table that is longer than was allowed; `partial` is what was read of it."""

    def __init__(self, detail: str, partial: dict[Oid, Column]) -> None:
        super().__init__("answer", detail)
        self.partial = partial


def parse_oid(text: str) -> Oid:
    """`1.3.6.1.2.1` or `.1.3.6…` → its numbers. Raises ValueError."""
    parts = text.removeprefix(".").split(".")
    if not 2 <= len(parts) <= 128 or not all(p.isascii() and p.isdecimal() and len(p) <= 10 for p in parts):
        raise ValueError
    oid = tuple(map(int, parts))
    if oid[0] > 2 or max(oid) >= 1 << 32:
        raise ValueError
    return oid


def text_of(oid: Oid) -> str:
    return ".".join(map(str, oid))


def split(target: str) -> tuple[str, int]:
    """`host`, `host:port`, `gateway`, an IPv6 address alone or `[address]:port` → host and port. Raises ValueError."""
    if parse_address(target):
        return target, PORT
    m = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s/@?#\[\]:]{1,253}))(?::(\d{1,5}))?", target, re.ASCII)
    if not m or not 0 < int(m[3] or PORT) < 65536:
        raise ValueError
    return m[1] or m[2], int(m[3] or PORT)
