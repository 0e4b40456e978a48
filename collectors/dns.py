"""dns: does a resolver answer, with what, and how fast?

    dns: [{target: 192.0.2.53, query: dukcapil.example.go.id, type: A, expect: {answers: [192.0.2.80]}},
          {target: resolver, query: go.id, type: NS, transport: tcp}]

Asks one server one question; `target` is the server's address or name, or `resolver`: the first one that this box uses. Over UDP with
EDNS0 (1232 bytes), and over TCP where the answer was cut off or `transport: tcp` says so; a server that can't do EDNS is asked
without. An address as the `query` of type PTR is turned around by itself. `recursion: false` asks an authoritative server.

What is expected: `rcode` (a list; NOERROR), `answers` (exactly these, in any order), `among` (at least one, and none but these; for
names whose answers rotate), `min_ttl`. Without the last three any answer will do, but none is a failure, unless `rcode` allows more
than NOERROR: then whether the server answers at all is the question. Aliases (CNAME) are
followed within the answer. Names are compared without regard to case and last dot, addresses by value, TXT byte by byte.

Nothing is sent twice: the scheduler tries again. What comes and is no answer to the question (forged, mixed up, broken) is counted
and passed over until the timeout; when nothing else came, the reason is `answer`: somebody answers, and it is wrong.
Times are the kernel's stamps, so a busy box never shows up as a slow resolver.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from agent.collector import Env, Failure, Kind, ProbeConfig, Result, Seen, Traffic, failed, succeeded
from agent.model import Metric, Sample
from agent.net import family_of, parse_address
from agent.resolver import Reply, dns_query
from agent.structure import Duration, Host, Text
from agent.wire import dns

LOOKUP = Metric("ronda_dns_lookup_duration_seconds", "From the question to the last answer, TCP's connection included where it was used.")
RCODE = Metric("ronda_dns_rcode", "Response code of the last answer: 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.")
ANSWERS = Metric("ronda_dns_answers", "Records of the type asked in the last answer, aliases followed.")
TTL = Metric("ronda_dns_answer_ttl_seconds", "The smallest time to live among the records of the last answer.")
BYTES = Metric("ronda_dns_response_bytes", "Size of the last answer.")
TRUNCATED = Metric("ronda_dns_truncated", "1 if the last answer by UDP was cut off and TCP had to be used.")
BAD = Metric(
    "ronda_dns_bad_replies_total", "Packets that came as a reply and were none to our question: forged, mixed up or broken.", "counter"
)

UDP, TCP = 28, 4 * 52  # bytes of headers of a question or its answer; by TCP those of a whole connection each way

Rcode = Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expect:
    rcode: list[Rcode] = dataclasses.field(default_factory=lambda: ["NOERROR"])
    answers: list[Text] = dataclasses.field(default_factory=list)
    among: list[Text] = dataclasses.field(default_factory=list)
    min_ttl: Duration | None = None

    def problems(self) -> Iterable[tuple[str, str]]:
        if not self.rcode:
            yield "rcode", "is empty: no answer could ever be right"
        if self.answers and self.among:
            yield "among", "can't stand beside `answers`"
        if (self.answers or self.among or self.min_ttl) and self.rcode != ["NOERROR"]:
            yield "rcode", "must be NOERROR alone where answers are expected"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ProbeConfig):
    target: Host = "resolver"
    query: Host
    type: Literal["A", "AAAA", "CNAME", "NS", "MX", "TXT", "SOA", "PTR", "SRV", "CAA"] = "A"
    port: int = 53
    transport: Literal["udp", "tcp"] = "udp"
    recursion: bool = True
    expect: Expect = dataclasses.field(default_factory=Expect)

    def identity(self) -> str:
        port = f":{self.port}" if self.port != 53 else ""
        return f"{super().identity()}{port}/{self.query}/{self.type}"

    def problems(self) -> Iterable[tuple[str, str]]:
        yield from super().problems()
        if not 0 < self.port < 65536:
            yield "port", "must be 1 to 65535"
        try:
            dns.encode_name(question_name(self))
        except dns.DnsError as e:
            yield "query", str(e)
        version = {"A": 4, "AAAA": 6}.get(self.type)
        for text in [*self.expect.answers, *self.expect.among]:
            address = parse_address(text)
            if version and (address is None or address.version != version):
                yield "expect", f'"{text}" can\'t be the answer to a question for {self.type}'


def question_name(config: Config) -> str:
    """The name to ask for: an address with type PTR is asked by its reverse name."""
    address = parse_address(config.query) if config.type == "PTR" else None
    return address.reverse_pointer if address else config.query


def normal(type_: str, answer: str) -> str:
    """An answer as it is compared."""
    if type_ == "TXT":
        return answer
    address = parse_address(answer)
    return str(address) if address else answer.lower().rstrip(".")


def judge(config: Config, message: dns.Message, records: list[dns.Record]) -> Result:
    """Whether an answer is as expected; pure."""
    expect, rcode = config.expect, message.rcode_name
    if rcode not in expect.rcode:
        return failed("rcode", f"the server says {rcode}")
    if rcode != "NOERROR" or (not records and set(expect.rcode) > {"NOERROR"}):
        return succeeded()  # where "no such name" will do, so will "no such record"
    got = {normal(config.type, r.data) for r in records}
    shown = ", ".join(sorted(got)) or f"no {config.type} record"
    wanted = {normal(config.type, a) for a in expect.answers or expect.among}
    if not got or (expect.answers and got != wanted) or (expect.among and got - wanted):
        return failed("answer", f"answered {shown}" + (f", expected {', '.join(sorted(wanted))}" if wanted else ""))
    lowest = min(r.ttl for r in records)
    if expect.min_ttl is not None and lowest < expect.min_ttl:
        return failed("answer", f"the time to live is {lowest} s, expected at least {expect.min_ttl:g} s")
    return succeeded()


@dataclasses.dataclass(slots=True)
class Look:
    """One run as far as it came."""

    result: Result = Result("internal", "not tried")  # noqa: RUF009  (a NamedTuple is immutable)
    server: str = ""
    reply: Reply | None = None
    records: list[dns.Record] = dataclasses.field(default_factory=list)
    spent: Traffic = Traffic()  # noqa: RUF009  (as above)
    garbage: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class DnsCollector:
    def __init__(self, config: Config, env: Env) -> None:
        self.config, self.env = config, env
        self.bad = 0

    async def collect(self) -> Iterable[Seen]:
        look = await self.look()
        return [*self._samples(look), look.result._replace(traffic=look.spent)]

    def _samples(self, look: Look) -> Iterable[Sample]:
        yield BAD(self.bad)
        if reply := look.reply:
            yield LOOKUP(reply.seconds)
            yield RCODE(reply.message.rcode)
            yield ANSWERS(len(look.records))
            yield BYTES(reply.size)
            yield TRUNCATED(float(reply.truncated))
        if look.records:
            yield TTL(min(r.ttl for r in look.records))

    async def look(self) -> Look:
        """Asks, and judges what came."""
        look = Look()
        try:
            async with asyncio.timeout(self.config.timeout):
                await self._ask(look)
        except Failure as e:
            look.result = failed(e.reason, e.detail)
        except TimeoutError:
            look.result = self._nothing(look)
        self.bad += look.garbage.total()
        return look

    def _nothing(self, look: Look) -> Result:
        """What a timeout means. Garbage alone is an answer too, and a wrong one."""
        if look.garbage:
            kinds = ", ".join(f"{n} {what}" for what, n in look.garbage.most_common())
            return failed("answer", f"{look.server} sent nothing that answers the question: {kinds}")
        return failed("timeout", f"{look.server or self.config.target} did not answer within {self.config.timeout:g} s")

    async def _ask(self, look: Look) -> None:
        look.server = await self._server()
        name = question_name(self.config)
        reply = await self._query(look, name, dns.EDNS_SIZE)
        if reply.message.rcode_name == "FORMERR" and not reply.message.edns:
            reply = await self._query(look, name, 0)  # it does not know EDNS (RFC 6891 7)
        look.reply = reply
        look.records = reply.message.chain(dns.canonical(name), self.config.type)[1]
        result = judge(self.config, reply.message, look.records)
        look.result = result if result.reason else succeeded(reply.seconds)

    async def _server(self) -> str:
        if self.config.target != "resolver":
            return (await self.env.net.resolve(self.config.target, family_of(self.config.source)))[0]
        servers = self.env.net.resolvers()
        if not servers:
            raise Failure("resolve", "this box has no resolver (etc/resolv.conf)")
        return servers[0]

    async def _query(self, look: Look, name: str, edns: int) -> Reply:
        config = self.config
        query = dns_query(name, config.type, config.recursion, edns)
        look.spent = look.spent.plus(Traffic(len(query.pack()) + UDP))
        reply = await self.env.net.ask(
            look.server, query, port=config.port, source=config.source, transport=config.transport, garbage=look.garbage
        )
        by_tcp = reply.transport == "tcp"
        look.spent = look.spent.plus(Traffic(TCP if by_tcp else 0, reply.size + (TCP if by_tcp else UDP)))
        return reply


async def once(config: Config, env: Env) -> dict[str, Any]:
    """One question and its answer in full."""
    look = await DnsCollector(config, env).look()
    found: dict[str, Any] = {
        "target": config.target,
        "ok": not look.result.reason,
        "reason": look.result.reason or None,
        "detail": look.result.detail or None,
        "server": look.server or None,
        "question": {"name": question_name(config), "type": config.type, "recursion": config.recursion},
        "bad_replies": dict(look.garbage),
    }
    if reply := look.reply:
        message = reply.message
        found |= {
            "rcode": message.rcode_name,
            "flags": sorted(message.flags),
            "transport": reply.transport,
            "truncated": reply.truncated,
            "response_bytes": reply.size,
            "duration_seconds": reply.seconds,
            "answers": [r._asdict() for r in message.answers],
            "authority": [r._asdict() for r in message.authority],
            "additional": [r._asdict() for r in message.additional],
        }
    return found


KIND = Kind(
    name="dns",
    config=Config,
    metrics=(LOOKUP, RCODE, ANSWERS, TTL, BYTES, TRUNCATED, BAD),
    build=DnsCollector,
    probe=True,
    reasons=("resolve", "timeout", "refused", "unreachable", "reset", "rcode", "answer", "send"),
    once=once,
)
