"""What devices send unasked: SNMP traps and informs of v1 (RFC 1157), v2c and v3 (RFC 3416, 3412, 3414). A small codec of our own.

Law: pure. Who may speak is known before what is said is read: version, then community (compared in constant time) or user and digest, and
only then the notification. Whatever comes ends in a notification, in a report to the sender, or in Refused with its reason; never in
anything else, and after work that is bounded by the number of bytes.

Of v3 traps the sender's engine is authoritative (RFC 3414 section 3.1): the one that config names, or any whose digest is right, since
that takes the password. Informs need no such thing: there it is our own engine, which the sender asks for.
"""

import collections
import hmac
import itertools
from typing import Literal, NamedTuple, TypeAlias

from agent.snmp import ber, usm, v3
from agent.snmp.ber import SEQUENCE, Element, Malformed
from agent.snmp.v3 import AUTH, MAX_NUMBER, PRIVATE, REPORTABLE, SAFETY, WINDOW, Seal
from agent.snmp.wire import Credentials, Oid, Value

Reason: TypeAlias = Literal["version", "community", "auth", "malformed"]
Answer: TypeAlias = "tuple[Notification | None, bytes]"

NAMES = ("cold_start", "warm_start", "link_down", "link_up", "authentication_failure", "egp_neighbour_loss")  # RFC 1157's numbers
OTHER = "other"
TRAP1, TRAP2, INFORM, RESPONSE, REPORT = 0xA4, 0xA7, 0xA6, 0xA2, 0xA8
PDUS = (0xA0, 0xA1, 0xA2, 0xA3, 0xA5, INFORM, TRAP2, REPORT)
SNMP_TRAPS: Oid = (1, 3, 6, 1, 6, 3, 1, 1, 5)  # below it 1 coldStart … 6 egpNeighborLoss
UPTIME: Oid = (1, 3, 6, 1, 2, 1, 1, 3, 0)
TRAP_OID: Oid = (1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)
IF_INDEX: Oid = (1, 3, 6, 1, 2, 1, 2, 2, 1, 1)
IF_NAMES: tuple[Oid, ...] = ((1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1), (1, 3, 6, 1, 2, 1, 2, 2, 1, 2))  # ifName, else ifDescr
AUTH_ADDRESS: Oid = (1, 3, 6, 1, 4, 1, 9, 2, 1, 5)  # whom the device has refused, where it says so (OLD-CISCO-SYSTEM-MIB)
USM_STATS: Oid = (1, 3, 6, 1, 6, 3, 15, 1, 1)
LEVELS, WINDOWS, USERS, ENGINES, DIGESTS, DECIPHERING = range(1, 7)  # usmStatsUnsupportedSecLevels … usmStatsDecryptionErrors
MAX_BOOTS = MAX_NUMBER
MAX_MESSAGE = 8192
MAX_ENGINES, MAX_INFORMS, INFORM_AGAIN = 8, 64, 60.0
MAX_VALUES = 64  # of one notification that are looked at: devices send a dozen, and a thousand would cost 2 ms
TEXT = 64  # characters of a name that a device gives


class Notification(NamedTuple):
    """name: of NAMES, or "other". uptime: seconds, -1: not said. about: an interface's name; port: its ifIndex, -1: of none.

    source: the address that the device has refused, where it says so
    """

    version: Literal["1", "2c", "3"]
    name: str
    oid: Oid
    uptime: float = -1.0
    about: str = ""
    port: int = -1
    source: str = ""
    inform: bool = False


class Refused(Exception):  # noqa: N818  (an outcome, not an error of ours)
    """`reply` is what RFC 3414 has the sender told, b"": nothing."""

    def __init__(self, reason: Reason, detail: str, reply: bytes = b"") -> None:
        super().__init__(detail)
        self.reason, self.detail, self.reply = reason, detail, reply


class Engine(NamedTuple):
    """Ours, for informs. boots: how often it has begun, so that nothing old can be played again; began: monotonic seconds."""

    id: bytes
    boots: int
    began: float

    def seconds(self, at: float) -> int:
        return max(0, int(at - self.began)) & MAX_BOOTS


class _Pdu(NamedTuple):
    """context: of a v3 message, encoded; what answers it names the same (net-snmp takes no other answer)."""

    tag: int
    request: int
    listed: Element
    context: bytes = b""


class Door:
    """One sender's: what he must know to be heard. `user` is usm.user(credentials) for v3; engine_id: the sender's, b"": any that fits.

    salt: where ours begin; another for each door, since several may answer with one key (RFC 3826 section 3.1.2.1: never the same twice)
    """

    def __init__(self, credentials: Credentials, us: Engine, user: usm.User | None = None, engine_id: bytes = b"", salt: int = 0) -> None:
        self._community = credentials.community.encode()
        self._user, self._us, self._pinned = user, us, engine_id
        self._times: collections.OrderedDict[bytes, tuple[int, int, float]] = collections.OrderedDict()  # boots, seconds, when that was
        self._informs: collections.OrderedDict[tuple[int, Oid], float] = collections.OrderedDict()
        self._salt = salt
        self.reports = 0

    def hear(self, raw: bytes, at: float) -> Answer:
        """What is said (None: nothing new), and what to answer. Raises Refused."""
        try:
            whole = Element(raw, 0, len(raw))
            message = whole.take(SEQUENCE)
            whole.done()
            version = message.integer()
            if version not in (0, 1, 3) or (version == 3) != (self._user is not None):
                raise Refused("version", f"of SNMP version {_version(version)}, which isn't the one of its credentials")
            return self._v3(message, at) if version == 3 else self._plain(message, "2c" if version else "1", at)
        except v3.OtherModel as e:
            raise Refused("version", str(e)) from None
        except Malformed as e:
            raise Refused("malformed", str(e)) from None

    # -- v1, v2c ----------------------------------------------------------------------------------------------------------

    def _plain(self, message: Element, version: Literal["1", "2c"], at: float) -> Answer:
        community = message.string()
        if not self._community or not hmac.compare_digest(community, self._community):
            raise Refused("community", "with another community")
        if version == "1":
            said = _trap1(message.take(TRAP1))
            message.done()
            return said, b""
        pdu = _pdu(message)
        message.done()
        said = _trap2(pdu, version)
        if not said.inform:
            return said, b""
        reply = ber.element(SEQUENCE, ber.integer(1), ber.string(community), _response(pdu))
        return self._new(said, pdu, at), reply

    def _new(self, said: Notification, pdu: _Pdu, at: float) -> Notification | None:
        """An inform is sent again until it is acknowledged: None where it has been heard."""
        key = pdu.request, said.oid
        before = self._informs.get(key)
        self._informs[key] = at
        self._informs.move_to_end(key)
        if len(self._informs) > MAX_INFORMS:
            self._informs.popitem(last=False)
        return None if before is not None and at - before < INFORM_AGAIN else said

    # -- v3 ---------------------------------------------------------------------------------------------------------------

    def _v3(self, message: Element, at: float) -> Answer:
        it = v3.read(message)
        if it.engine == self._us.id:
            return self._to_us(it, at)
        if not it.engine:  # whoever wants to inform us begins so
            return None, self._report(it, ENGINES, at)
        try:
            return self._from_engine(it, at)
        except Refused as e:
            e.reply = self._report(it, ENGINES, at) if it.flags & REPORTABLE else b""
            raise

    def _from_engine(self, it: v3.Message, at: float) -> Answer:
        """A trap: the sender's engine is authoritative."""
        if self._pinned and not hmac.compare_digest(it.engine, self._pinned):
            raise Refused("auth", "of another engine than config names")
        self._authenticate(it, at)
        if it.flags & AUTH and not self._in_time(it, at):
            raise Refused("auth", "old: it was said before, or its sender's clock went back")
        said = _trap2(_scoped(self._user, it), "3")
        if said.inform:
            raise Refused("auth", "an inform to another engine than ours")
        return said, b""

    def _to_us(self, it: v3.Message, at: float) -> Answer:
        """An inform: our engine is authoritative."""
        self._authenticate(it, at)
        in_time = it.boots == self._us.boots and abs(it.seconds - self._us.seconds(at)) <= WINDOW
        if it.flags & AUTH and not in_time:
            report = self._report(it, WINDOWS, at, AUTH)
            if it.boots == it.seconds == 0:  # so whoever doesn't know our time asks for it (RFC 3414 section 4)
                return None, report
            raise Refused("auth", "not within our engine's time", report)
        pdu = _scoped(self._user, it)
        said = _trap2(pdu, "3")
        if not said.inform:
            return said, b""
        return self._new(said, pdu, at), self._sealed(it.number, it.flags & SAFETY, it.user, pdu.context + _response(pdu), at)

    def _authenticate(self, it: v3.Message, at: float) -> None:
        assert self._user
        if not hmac.compare_digest(it.user, self._user.name):
            raise Refused("auth", "of another user", self._report(it, USERS, at))
        if it.flags & SAFETY != self._user.level:
            raise Refused("auth", "not with the authentication and privacy that are wanted", self._report(it, LEVELS, at))
        if self._user.level & AUTH and not v3.authentic(self._user, it):
            raise Refused("auth", "with another password, or another way of authentication", self._report(it, DIGESTS, at))

    def _in_time(self, it: v3.Message, at: float) -> bool:
        """RFC 3414 section 3.2 (7b): what is newer than all before sets the time, what is older by more than the window is a replay."""
        boots, seconds, then = self._times.get(it.engine, (-1, 0, at))
        if it.boots > boots or (it.boots == boots and it.seconds > seconds):
            self._times[it.engine] = it.boots, it.seconds, at
            self._times.move_to_end(it.engine)
            if len(self._times) > MAX_ENGINES:
                self._times.popitem(last=False)
            return it.boots < MAX_BOOTS
        return it.boots == boots and it.seconds >= seconds + (at - then) - WINDOW

    def _report(self, it: v3.Message, which: int, at: float, flags: int = 0) -> bytes:
        """What is wrong, to whoever wants to know; and our engine's id and time with it."""
        if not it.flags & REPORTABLE:
            return b""
        self.reports += 1
        pair = ber.element(SEQUENCE, ber.oid((*USM_STATS, which, 0)), ber.integer(self.reports & 0xFFFFFFFF, ber.COUNTER))
        pdu = ber.element(REPORT, ber.integer(_request(it)), ber.integer(0), ber.integer(0), ber.element(SEQUENCE, pair))
        return self._sealed(it.number, flags, it.user if flags & AUTH else b"", ber.string(self._us.id) + ber.string(b"") + pdu, at)

    def _sealed(self, number: int, flags: int, name: bytes, scoped: bytes, at: float) -> bytes:
        """A whole message of our engine's, enciphered and with a digest as `flags` have it."""
        us = self._us
        if flags & PRIVATE:
            self._salt = self._salt + 1 & (1 << 64) - 1
        return v3.sealed(number, Seal(flags, us.id, us.boots, us.seconds(at), name, self._salt, MAX_MESSAGE), self._user, scoped)


def _version(number: int) -> str:
    return {0: "1", 1: "2c", 3: "3"}.get(number, f"number {number}")


def _request(it: v3.Message) -> int:
    """The number of the request that is in a message, where it stands open in it."""
    try:
        return _scoped_pdu(it.data).request
    except Malformed:
        return 0


def _scoped(who: usm.User | None, it: v3.Message) -> _Pdu:
    """What is said in a message that is authentic. Raises Refused, Malformed."""
    assert who
    try:
        return _scoped_pdu(v3.opened(who, it))
    except Malformed:
        if not it.flags & PRIVATE:
            raise
        raise Refused("auth", "can't be deciphered: another privacy password, or another way of privacy") from None


def _scoped_pdu(scoped: Element) -> _Pdu:
    if scoped.tag != SEQUENCE:
        raise Malformed("enciphered, but not said to be")
    inner = Element(scoped.raw, scoped.start, scoped.end)  # from its beginning, whoever has read in it before
    engine, name = inner.string(), inner.string()  # the context: nothing of ours depends on it
    return _pdu(inner)._replace(context=ber.string(engine) + ber.string(name))


def _pdu(message: Element) -> _Pdu:
    pdu = message.take(*PDUS)
    request, _, _ = pdu.integer(), pdu.integer(), pdu.integer()
    listed = pdu.take(SEQUENCE)
    pdu.done()
    return _Pdu(pdu.tag, request, listed)


def _response(pdu: _Pdu) -> bytes:
    """An inform is acknowledged by its own variables (RFC 3416 section 4.2.7)."""
    return ber.element(RESPONSE, ber.integer(pdu.request), ber.integer(0), ber.integer(0), ber.element(SEQUENCE, pdu.listed.content))


def _trap1(pdu: Element) -> Notification:
    enterprise = pdu.oid()
    pdu.take(ber.ADDRESS)  # what the device calls itself; who it is, the packet says
    generic, specific, ticks = pdu.integer(), pdu.integer(), pdu.integer(ber.TICKS)
    listed = pdu.take(SEQUENCE)
    pdu.done()
    if not 0 <= generic <= 6:
        raise Malformed("a kind of trap that there isn't")
    oid = (*SNMP_TRAPS, generic + 1) if generic < 6 else (*enterprise, 0, specific)  # RFC 3584 section 3.1
    return _said("1", oid, ticks, _values(listed))


def _trap2(pdu: _Pdu, version: Literal["2c", "3"]) -> Notification:
    if pdu.tag not in (TRAP2, INFORM):
        raise Malformed("a message that is no notification")
    found = _values(pdu.listed)
    oid, ticks = found.get(TRAP_OID), found.get(UPTIME)
    if oid is None or not isinstance(oid.value, tuple):
        raise Malformed("a notification that doesn't say of what")
    uptime = ticks.value if ticks and isinstance(ticks.value, int) else -100
    return _said(version, oid.value, uptime, found)._replace(inform=pdu.tag == INFORM)


def _values(listed: Element) -> dict[Oid, Value]:
    """The first MAX_VALUES of them: what tells which notification it is stands in front (RFC 3416 section 4.2.6)."""
    return dict(itertools.islice(ber.varbinds(listed), MAX_VALUES))


def _said(version: Literal["1", "2c", "3"], oid: Oid, ticks: int, found: dict[Oid, Value]) -> Notification:
    kind = oid[-1] if len(oid) == len(SNMP_TRAPS) + 1 and oid[:-1] == SNMP_TRAPS else 0
    name = NAMES[kind - 1] if 1 <= kind <= len(NAMES) else OTHER
    index = _below(found, IF_INDEX)
    about = next((text for column in IF_NAMES if (value := _below(found, column)) and (text := words(value.value))), "")
    refused = _below(found, AUTH_ADDRESS)
    source = ".".join(map(str, refused.value)) if refused and isinstance(refused.value, bytes) and len(refused.value) == 4 else ""
    number = index.value if index and isinstance(index.value, int) and index.value >= 0 else -1
    return Notification(version, name, oid, ticks / 100, about, number, source)


def _below(found: dict[Oid, Value], column: Oid) -> Value | None:
    """The first cell of a column."""
    return next((value for oid, value in found.items() if oid[: len(column)] == column), None)


def words(value: object) -> str:
    """A name as a device gives it, fit for people: without control characters, and not too long."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else ""
    return "".join(c for c in text if c.isprintable()).strip()[:TEXT]
