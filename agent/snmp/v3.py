"""Messages of SNMPv3 as USM secures them (RFC 3412 section 6; RFC 3414 sections 2.4, 3): read, held against a digest, opened, sealed.

Law: pure, and the one place where that is done, for what one asks (messages.py) and for what devices send (notifications.py). `read`
believes nothing: a message is authentic when `authentic` says so, and only then is what `opened` finds in it its sender's word.
"""

import hmac
from typing import NamedTuple

from agent.snmp import ber, usm
from agent.snmp.ber import SEQUENCE, STRING, Element, Malformed

AUTH, PRIVATE, REPORTABLE = 1, 2, 4
SAFETY = AUTH | PRIVATE
USM = 3  # RFC 3411, snmpSecurityModel
WINDOW = 150  # seconds (RFC 3414 section 2.2.3)
MAX_NUMBER = (1 << 31) - 1  # of a message, of boots, of seconds


class OtherModel(Malformed):
    """Of another security model than USM."""


class Message(NamedTuple):
    """Its head read, and nothing of it believed."""

    raw: bytes
    number: int
    flags: int
    engine: bytes
    boots: int
    seconds: int
    user: bytes
    digest: Element
    salt: bytes
    data: Element


def read(message: Element) -> Message:
    """What stands behind the version. Raises Malformed."""
    head = message.take(SEQUENCE)
    number, _, flags, model = head.integer(), head.integer(), head.string(), head.integer()
    if not 0 <= number <= MAX_NUMBER or len(flags) != 1 or flags[0] & SAFETY == PRIVATE:
        raise Malformed("a head that can't be")
    if model != USM:
        raise OtherModel("of another security model than USM")
    security, data = message.take(STRING), message.take(SEQUENCE, STRING)
    message.done()
    said = Element(security.raw, security.start, security.end).take(SEQUENCE)
    engine, boots, seconds, user = said.string(), said.integer(), said.integer(), said.string()
    digest, salt = said.take(STRING), said.string()
    if not 0 <= boots <= MAX_NUMBER or not 0 <= seconds <= MAX_NUMBER or len(engine) > 32 or len(user) > 32:
        raise Malformed("security parameters that can't be")
    return Message(message.raw, number, flags[0], engine, boots, seconds, user, digest, salt, data)


def authentic(who: usm.User, it: Message) -> bool:
    """Whether its digest is what the user's key gives: of the whole message, with zeros for the digest (RFC 3414 section 6.3.2)."""
    raw, digest = it.raw, it.digest
    whole = b"".join((raw[: digest.start], bytes(digest.end - digest.start), raw[digest.end :]))
    return hmac.compare_digest(digest.content, who.digest(whole, it.engine))


def opened(who: usm.User, it: Message) -> Element:
    """Its scoped PDU, from the beginning whoever has read in it before. Raises Malformed; with a wrong key it is garbage."""
    if it.flags & PRIVATE:
        return _deciphered(who, it)
    if it.data.tag != SEQUENCE:
        raise Malformed("enciphered, but not said to be")
    return Element(it.data.raw, it.data.start, it.data.end, SEQUENCE)


def _deciphered(who: usm.User, it: Message) -> Element:
    if who.privacy == "none" or it.data.tag != STRING:
        raise Malformed("said to be private, and isn't")
    try:
        clear = usm.decipher(who, it.engine, it.boots, it.seconds, it.salt, it.data.content)
    except ValueError as e:
        raise Malformed(str(e)) from None
    return Element(clear, 0, len(clear)).take(SEQUENCE)  # behind it stands what DES has filled up with


class Seal(NamedTuple):
    """How a message is secured. flags: AUTH and PRIVATE say whether it is; salt: never the same twice with one key; most: bytes we take."""

    flags: int
    engine: bytes
    boots: int
    seconds: int
    name: bytes
    salt: int
    most: int


def sealed(number: int, seal: Seal, who: usm.User | None, *scoped: bytes) -> bytes:
    """A whole message of these parts of a scoped PDU. `who`: whose keys; None where neither AUTH nor PRIVATE is wanted."""
    data, salt = ber.element(SEQUENCE, *scoped), b""
    if who and seal.flags & PRIVATE:
        salt = seal.salt.to_bytes(8, "big")
        data = ber.string(usm.encipher(who, seal.engine, seal.boots, seal.seconds, salt, data))
    head = ber.element(SEQUENCE, ber.integer(number), ber.integer(seal.most), ber.string(bytes((seal.flags,))), ber.integer(USM))

    def whole(digest: bytes) -> bytes:
        times = ber.string(seal.engine), ber.integer(seal.boots), ber.integer(seal.seconds)
        security = ber.element(SEQUENCE, *times, ber.string(seal.name), ber.string(digest), ber.string(salt))
        return ber.element(SEQUENCE, ber.integer(3), head, ber.string(security), data)

    if not who or not seal.flags & AUTH:
        return whole(b"")
    return whole(who.digest(whole(bytes(usm.DIGESTS[who.auth])), seal.engine))
