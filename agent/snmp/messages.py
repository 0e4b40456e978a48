"""What one asks a device by SNMP and what it answers: v1 (RFC 1157), v2c (RFC 3416), v3 (RFC 3412, 3414), bytes ↔ plain values.

Law: pure, time is an argument. Whatever bytes come, reading ends with a Reply, a Report or Malformed, after work that is bounded by their
number and by how many values were asked for. A Reply of v3 is as safe as the user's keys allow, or it is none.
"""

from collections.abc import Sequence
from typing import NamedTuple

from agent.snmp import ber, usm, v3
from agent.snmp.ber import INTEGER, NULL, SEQUENCE, Element, Malformed
from agent.snmp.v3 import AUTH, MAX_NUMBER, PRIVATE, REPORTABLE, SAFETY, WINDOW, Seal
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
        seal = Seal(REPORTABLE, b"", 0, 0, b"", 0, MAX_MESSAGE)
        return v3.sealed(number, seal, None, ber.string(b""), ber.string(b""), pdu)

    def _sealed(self, who: usm.User, number: int, pdu: bytes, at: float) -> bytes:
        if who.level & PRIVATE:
            self._salt = self._salt + 1 & (1 << 64) - 1  # never the same twice with one key
        seconds = min(self._now(at), MAX_NUMBER)
        seal = Seal(who.level | REPORTABLE, self.engine, self._boots, seconds, who.name, self._salt, MAX_MESSAGE)
        return v3.sealed(number, seal, who, ber.string(self.engine), ber.string(self.credentials.context.encode()), pdu)

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
            return self._read3(self.user, v3.read(message), most, at)
        message.string()
        return _reply(message, most)

    def _read3(self, who: usm.User, it: v3.Message, most: int, at: float) -> Reply | Report:
        authentic = bool(it.flags & AUTH) and self._authentic(who, it)
        scoped = v3.opened(who, it)
        scoped.string()
        scoped.string()
        if scoped.more and scoped.raw[scoped.at] == REPORT:  # may be open: who doesn't know our user has no key for it
            return Report(it.number, _about(scoped), it.engine, it.boots, it.seconds)
        if who.level & SAFETY != it.flags & SAFETY:
            raise Malformed("less safe than it was asked")
        if it.engine != self.engine:
            raise Malformed("of another engine than was asked")
        if authentic:
            self._heard(it, at)
        return _reply(scoped, most)

    def _authentic(self, who: usm.User, it: v3.Message) -> bool:
        if who.auth == "none":
            raise Malformed("authenticated, though that was not asked for")
        if not v3.authentic(who, it):
            raise Malformed("with a wrong digest: a password or a way of authentication differs, or somebody changed it on its way")
        return True

    def _heard(self, it: v3.Message, at: float) -> None:
        """RFC 3414 section 3.2 (7b): a newer time is taken, an older one by more than the window is something played again."""
        if it.boots > self._boots or (it.boots == self._boots and it.seconds > self._now(at)):
            self._boots, self._seconds, self._at = it.boots, it.seconds, at
        elif it.boots < self._boots or it.seconds < self._now(at) - WINDOW:
            raise Malformed("old: not within the time of its engine")


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
