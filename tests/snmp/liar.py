"""A device that answers wrongly: a socket on loopback whose answers a test makes, from what was asked and from a table of its own.

Law: it reads requests of v1 and v2c by the codec under test (whose readings net-snmp and pysnmp vouch for) and writes what it is told to.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from agent.snmp import ber
from agent.snmp.ber import SEQUENCE, Element
from agent.snmp.client import USM_STATS
from agent.snmp.messages import BULK, NEXT, REPORT, RESPONSE
from agent.snmp.wire import Credentials, Device, Oid

NULL, NO_OBJECT, NO_INSTANCE, END = (bytes((tag, 0)) for tag in (0x05, 0x80, 0x81, 0x82))


class Asked(NamedTuple):
    """first, second: error status and index, or non-repeaters and repetitions of a GETBULK."""

    raw: bytes
    version: int
    community: bytes
    tag: int
    number: int
    first: int
    second: int
    oids: list[Oid]

    def reply(
        self, *pairs: tuple[Oid, bytes], status: int = 0, where: int = 0, number: int | None = None, version: int | None = None
    ) -> bytes:
        """`pairs`: names and encoded values."""
        listed = ber.element(SEQUENCE, *(ber.element(SEQUENCE, ber.oid(name), value) for name, value in pairs))
        head = ber.integer(self.number if number is None else number), ber.integer(status), ber.integer(where)
        version_ = ber.integer(self.version if version is None else version)
        return ber.element(SEQUENCE, version_, ber.string(self.community), ber.element(RESPONSE, *head, listed))


Answer = Callable[[Asked], Sequence[bytes]]


def asked(raw: bytes) -> Asked:
    message = Element(raw, 0, len(raw)).take(SEQUENCE)
    version = message.integer()
    if version == 3:
        return Asked(raw, 3, b"", 0, message.take(SEQUENCE).integer(), 0, 0, [])
    community = message.string()
    pdu = message.take()
    number, first, second = pdu.integer(), pdu.integer(), pdu.integer()
    listed, oids = pdu.take(SEQUENCE), []
    while listed.more:
        oids.append(listed.take(SEQUENCE).oid())
    return Asked(raw, version, community, pdu.tag, number, first, second, oids)


def report(it: Asked, about: int, engine: bytes, boots: int = 1, seconds: int = 1) -> bytes:
    """What an engine of v3 tells of a request that it doesn't take; `about` as in RFC 3414 section 5, not authenticated."""
    head = ber.element(SEQUENCE, ber.integer(it.number), ber.integer(65507), ber.string(b"\0"), ber.integer(3))
    who = ber.string(engine), ber.integer(boots), ber.integer(seconds), ber.string(b""), ber.string(b""), ber.string(b"")
    pair = ber.element(SEQUENCE, ber.oid((*USM_STATS, about, 0)), ber.integer(1, ber.COUNTER))
    pdu = ber.element(REPORT, ber.integer(0), ber.integer(0), ber.integer(0), ber.element(SEQUENCE, pair))
    scoped = ber.element(SEQUENCE, ber.string(engine), ber.string(b""), pdu)
    return ber.element(SEQUENCE, ber.integer(3), head, ber.string(ber.element(SEQUENCE, *who)), scoped)


def honest(table: dict[Oid, bytes]) -> Answer:
    """What a device with these values answers: the standing point of each lie."""
    names = sorted(table)

    def after(oid: Oid) -> tuple[Oid, bytes]:
        name = next((n for n in names if n > oid), None)
        return (name, table[name]) if name else (oid, END)

    def answer(it: Asked) -> list[bytes]:
        if it.tag == BULK:
            pairs, row = [], list(it.oids)
            for _ in range(it.second):
                found = [after(oid) for oid in row]
                pairs, row = pairs + found, [name for name, _ in found]
            return [it.reply(*pairs)]
        return [it.reply(*(after(oid) if it.tag == NEXT else (oid, table.get(oid, NO_INSTANCE)) for oid in it.oids))]

    return answer


class Liar(asyncio.DatagramProtocol):
    """`heard`: what it was asked. `answer` may be changed at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.heard = answer, list[Asked]()
        self.transport: Any = None
        self.port = 0
        self.asker: Any = None  # who asked last

    def connection_made(self, transport: Any) -> None:
        self.transport, self.port = transport, transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        it, self.asker = asked(data), addr
        self.heard.append(it)
        for out in self.answer(it):
            self.transport.sendto(out, addr)

    def device(self, credentials: Credentials | None = None, **changes: Any) -> Device:
        made = Device("127.0.0.1", self.port, credentials or Credentials("2c", "rahasia"), timeout=5.0, retries=0)
        return made._replace(**changes)


@contextlib.asynccontextmanager
async def lying(answer: Answer) -> AsyncIterator[Liar]:
    transport, liar = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Liar(answer), local_addr=("127.0.0.1", 0))
    try:
        yield liar
    finally:
        transport.close()
