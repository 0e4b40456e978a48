"""Nameservers for tests: a small one that misbehaves as told, and a real dnsmasq. Both on loopback, on a port of their own."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.rrset

Answer = Callable[[dns.message.Message, str], list[bytes]]


def reply(query: dns.message.Message, *records: str, **changes: Any) -> bytes:
    """A reply to `query` with records in zone file form; `rcode`, `id` and `flags` (added) may be changed."""
    made = dns.message.make_response(query, recursion_available=True)
    for record in records:
        owner, *rest = record.split(" ", 4)
        made.answer.append(dns.rrset.from_text(dns.name.from_text(owner), *rest))
    made.set_rcode(changes.get("rcode", 0))
    made.flags |= changes.get("flags", 0)
    made.id = changes.get("id", query.id)
    return made.to_wire()


def zone(*records: str) -> Answer:
    """Answers from records: those of the name and type asked, or NXDOMAIN where nothing has the name."""

    def answer(query: dns.message.Message, transport: str) -> list[bytes]:
        name, type_ = query.question[0].name.to_text().lower(), query.question[0].rdtype.name
        named = [r for r in records if r.split()[0] == name]
        return [reply(query, *(r for r in named if r.split()[3] == type_), rcode=0 if named else 3)]

    return answer


def silent(query: dns.message.Message, transport: str) -> list[bytes]:
    return []


class Nameserver(asyncio.DatagramProtocol):
    """Answers by `answer(query, transport)`; `asked` has the queries as "name type transport"."""

    def __init__(self, answer: Answer, log: list[str]) -> None:
        self.answer, self.asked = answer, log
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for out in self._answers(data, "udp"):
            self.transport.sendto(out, addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, OSError):
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            outs = self._answers(data, "tcp")
            for out in outs:
                writer.write(len(out).to_bytes(2, "big") + out)
            if outs:
                await reader.read()

    def _answers(self, data: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked.append(f"{question.name} {question.rdtype.name} {transport}")
        return self.answer(query, transport)


def port_pair(address: str = "127.0.0.1", port: int = 0) -> tuple[socket.socket, socket.socket]:
    """A UDP and a bound TCP socket on one port. A port that is free for the one may be taken for the other: then the next is tried."""
    for attempt in range(50):
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(bool(port)))
            tcp.bind((address, port))
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            if port or attempt == 49:
                raise
        else:
            return udp, tcp
    raise AssertionError


@contextlib.asynccontextmanager
async def serve(answer: Answer, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[int, list[str]]]:
    """Serves UDP and TCP; yields the port and the list of what was asked."""
    asked: list[str] = []
    udp, tcp = port_pair(address, port)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Nameserver(answer, asked), sock=udp)
    server = await asyncio.start_server(protocol.stream, sock=tcp)
    try:
        yield tcp.getsockname()[1], asked
    finally:
        transport.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


@contextlib.contextmanager
def dnsmasq(directory: Path, *options: str) -> Iterator[int]:
    """A real dnsmasq without upstream on 127.0.0.1; yields its port."""
    udp, tcp = port_pair()
    port = udp.getsockname()[1]
    udp.close()
    tcp.close()
    command = [str(shutil.which("dnsmasq")), "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"]
    command += ["--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}", "--local=/#/", "--log-facility=-", *options]
    log = directory / "dnsmasq.log"
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process:
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"dnsmasq did not start: {log.read_text()}")
