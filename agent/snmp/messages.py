"""What one asks a device by SNMP and what it answers: v1 (RFC 1157), v2c (RFC 3416), v3 (RFC 3412, 3414), bytes ↔ plain values.

Law: pure, time is an argument. Whatever bytes come, reading ends with a Reply, a Report or Malformed, after work that is bounded by their
number and by how many values were asked for. A Reply of v3 is as safe as the user's keys allow, or it is none.
"""

import hmac
from collections.abc import Sequence
from typing import NamedTuple

from agent.snmp import ber, usm
from agent.snmp.ber import INTEGER, NULL, SEQUENCE, STRING, Element, Malformed
from agent.snmp.wire import Credentials, Oid, Value

GET, NEXT, RESPONSE, BULK, REPORT = 0xA0, 0xA1, 0xA2, 0xA5, 0xA8
TOO_BIG, NO_SUCH_NAME, NO_ACCESS, AUTHORIZATION = 1, 2, 6, 16
STATUS = (
    "noError", "tooBig", "noSuchName", "badValue", "readOnly", "genErr", "noAccess", "wrongType", "wrongLength", "wrongEncoding",
    "wrongValue", "noCreation", "inconsistentValue", "resourceUnavailable", "commitFailed", "undoFailed", "authorizationError",
    "notWritable", "inconsistentName",
)  # fmt: skip
END = Value("opaque", b"end")  # stands for endOfMibView; told from a device's value by identity
_END = 0x82
_VERSIONS = {"1": 0, "2c": 1, "3": 3}
AUTH, PRIVATE, REPORTABLE = 1, 2, 4
USM = 3  # RFC 3411, snmpSecurityModel
WINDOW = 150  # seconds (RFC 3414 section 2.2.3)
MAX_NUMBER = (1 << 31) - 1
MAX_MESSAGE = 65507  # what fits in a datagram of UDP


class Ask(NamedTuple):
    """`repetitions`: rows wanted, of BULK."""

    tag: int
    oids: Sequence[Oid]
    repetitions: int = 0


class Reply(NamedTuple):
    """`where`: which of them an error status is about, from 1. `pairs` in the device's order; None: it has no such thing."""

    number: int
    status: int
    where: int
    pairs: list[tuple[Oid, Value | None]]


class Report(NamedTuple):
    """What an engine of v3 says about a request that it didn't take, and who it is."""

    number: int
    about: Oid
    engine: bytes
    boots: int
    seconds: int


class _Head(NamedTuple):
    raw: bytes
    number: int
    flags: int
    engine: bytes
    boots: int
    seconds: int
    digest: Element
    salt: bytes
    data: Element


class Session:
    """What is known of a device, as one asks it with these credentials. `user` is usm.user(credentials) for v3."""

    def __init__(self, credentials: Credentials, user: usm.User | None, salt: int = 0) -> None:
        self.credentials, self.user = credentials, user
        self.engine = b""
        self._boots, self._seconds, self._at = 0, 0, 0.0
        self._salt = salt

    def sync(self, report: Report, at: float) -> None:
        """Believes who it is and how late it is there. A lie costs the liar's device its answers, no more."""
        self.engine, self._boots, self._seconds, self._at = report.engine, report.boots, report.seconds, at

    # -- asking -----------------------------------------------------------------------------------------------------------

    def request(self, number: int, ask: Ask, at: float) -> bytes:
        pairs = [ber.element(SEQUENCE, ber.oid(oid), ber.element(NULL)) for oid in ask.oids]
        pdu = ber.element(ask.tag, ber.integer(number), ber.integer(0), ber.integer(ask.repetitions), ber.element(SEQUENCE, *pairs))
        if self.user is None:
            version = ber.integer(_VERSIONS[self.credentials.version])
            return ber.element(SEQUENCE, version, ber.string(self.credentials.community.encode()), pdu)
        return self._sealed(self.user, number, pdu, at)

    def discovery(self, number: int) -> bytes:
        """Asks who the device is (RFC 3414 section 4)."""
        pdu = ber.element(GET, ber.integer(number), ber.integer(0), ber.integer(0), ber.element(SEQUENCE))
        nothing, zero = ber.string(b""), ber.integer(0)
        security = ber.element(SEQUENCE, nothing, zero, zero, nothing, nothing, nothing)
        scoped = ber.element(SEQUENCE, nothing, nothing, pdu)
        return ber.element(SEQUENCE, ber.integer(3), _global(number, REPORTABLE), ber.string(security), scoped)

    def _sealed(self, who: usm.User, number: int, pdu: bytes, at: float) -> bytes:
        seconds, salt = min(self._now(at), MAX_NUMBER), b""
        data = ber.element(SEQUENCE, ber.string(self.engine), ber.string(self.credentials.context.encode()), pdu)
        if who.level & PRIVATE:
            self._salt = self._salt + 1 & (1 << 64) - 1  # never the same twice with one key
            salt = self._salt.to_bytes(8, "big")
            data = ber.string(usm.encipher(who, self.engine, self._boots, seconds, salt, data))
        head, times = _global(number, who.level | REPORTABLE), (ber.integer(self._boots), ber.integer(seconds))

        def whole(digest: bytes) -> bytes:
            security = ber.element(SEQUENCE, ber.string(self.engine), *times, ber.string(who.name), ber.string(digest), ber.string(salt))
            return ber.element(SEQUENCE, ber.integer(3), head, ber.string(security), data)

        size = usm.DIGESTS[who.auth]
        return whole(who.digest(whole(bytes(size)), self.engine)) if size else whole(b"")

    def _now(self, at: float) -> int:
        return self._seconds + int(at - self._at)

    # -- reading ----------------------------------------------------------------------------------------------------------

    def read(self, raw: bytes, most: int, at: float) -> Reply | Report:
        """An answer that holds at most `most` values. Raises Malformed, also of what is not safe enough."""
        whole = Element(raw, 0, len(raw))
        message = whole.take(SEQUENCE)
        whole.done()
        version = message.integer()
        if version != _VERSIONS[self.credentials.version]:
            raise Malformed("of another version of SNMP than was asked in")
        if self.user is not None:
            return self._read3(self.user, _head(message), most, at)
        message.string()
        return _reply(message, most)

    def _read3(self, who: usm.User, head: _Head, most: int, at: float) -> Reply | Report:
        authentic = bool(head.flags & AUTH) and self._authentic(who, head)
        scoped = Element(head.data.raw, head.data.start, head.data.end)
        if head.flags & PRIVATE:
            scoped = self._deciphered(who, head)
        elif head.data.tag != SEQUENCE:
            raise Malformed("enciphered, but not said to be")
        scoped.string()
        scoped.string()
        if scoped.more and scoped.raw[scoped.at] == REPORT:  # may be open: who doesn't know our user has no key for it
            return Report(head.number, _about(scoped), head.engine, head.boots, head.seconds)
        if who.level & (AUTH | PRIVATE) != head.flags & (AUTH | PRIVATE):
            raise Malformed("less safe than it was asked")
        if head.engine != self.engine:
            raise Malformed("of another engine than was asked")
        if authentic:
            self._heard(head, at)
        return _reply(scoped, most)

    def _authentic(self, who: usm.User, head: _Head) -> bool:
        if who.auth == "none":
            raise Malformed("authenticated, though that was not asked for")
        raw, digest = head.raw, head.digest
        whole = b"".join((raw[: digest.start], bytes(digest.end - digest.start), raw[digest.end :]))
        if not hmac.compare_digest(digest.content, who.digest(whole, head.engine)):
            raise Malformed("with a wrong digest: a password or a way of authentication differs, or somebody changed it on its way")
        return True

    def _deciphered(self, who: usm.User, head: _Head) -> Element:
        if who.privacy == "none" or head.data.tag != STRING:
            raise Malformed("said to be private, and isn't")
        try:
            clear = usm.decipher(who, head.engine, head.boots, head.seconds, head.salt, head.data.content)
        except ValueError as e:
            raise Malformed(str(e)) from None
        return Element(clear, 0, len(clear)).take(SEQUENCE)  # behind it stands what DES has filled up with

    def _heard(self, head: _Head, at: float) -> None:
        """RFC 3414 section 3.2 (7b): a newer time is taken, an older one by more than the window is something played again."""
        if head.boots > self._boots or (head.boots == self._boots and head.seconds > self._now(at)):
            self._boots, self._seconds, self._at = head.boots, head.seconds, at
        elif head.boots < self._boots or head.seconds < self._now(at) - WINDOW:
            raise Malformed("old: not within the time of its engine")


def _global(number: int, flags: int) -> bytes:
    return ber.element(SEQUENCE, ber.integer(number), ber.integer(MAX_MESSAGE), ber.string(bytes((flags,))), ber.integer(USM))


def _head(message: Element) -> _Head:
    head = message.take(SEQUENCE)
    number, _, flags, model = head.integer(), head.integer(), head.string(), head.integer()
    if len(flags) != 1 or flags[0] & (AUTH | PRIVATE) == PRIVATE or model != USM:
        raise Malformed("a head that can't be")
    security, data = message.take(STRING), message.take(SEQUENCE, STRING)
    message.done()
    said = Element(security.raw, security.start, security.end).take(SEQUENCE)
    engine, boots, seconds, _ = said.string(), said.integer(), said.integer(), said.string()
    digest, salt = said.take(STRING), said.string()
    if not (0 <= boots <= MAX_NUMBER and 0 <= seconds <= MAX_NUMBER and len(engine) <= 32):
        raise Malformed("security parameters that can't be")
    return _Head(message.raw, number, flags[0], engine, boots, seconds, digest, salt, data)


def _reply(message: Element, most: int) -> Reply:
    pdu = message.take(RESPONSE)
    number, status, where = pdu.integer(), pdu.integer(), pdu.integer()
    return Reply(number, status, where, _pairs(pdu.take(SEQUENCE), most))


def _pairs(listed: Element, most: int) -> list[tuple[Oid, Value | None]]:
    found: list[tuple[Oid, Value | None]] = []
    while listed.more:
        if len(found) >= most:
            raise Malformed("more values than were asked for")
        pair = listed.take(SEQUENCE)
        name, value = pair.oid(), pair.take()
        found.append((name, END if value.tag == _END else ber.value_of(value)))
    return found


def _about(scoped: Element) -> Oid:
    pdu = scoped.take(REPORT)
    for _ in range(3):
        pdu.integer(INTEGER)
    return pdu.take(SEQUENCE).take(SEQUENCE).oid()
