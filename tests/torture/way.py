"""The way to the centre, as bad as it is told to be: a small receiver in front of a real store, with the true time of the hurried world.

Law: what it refuses for good it refuses for good (`refused` has it); what it passes on, it passes on as it came.
"""

import asyncio
import contextlib
import dataclasses
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator

import cramjam

from agent.wire import remote_write
from tests.torture.speed import World

TOKEN = "benar"
WRITE = "/api/v1/write"
LIVING = ("slow", "500", "503", "429", "408", "404", "401", "302", "page", "garbage", "no date", "hang", "mid-answer", "mid-body",
          "took but 500", "took but silent", "poison", "too large", "400 all")  # fmt: skip
_POINT = struct.Struct("<d")
POISONED = 23  # one sample of so many


def _plain(status: int, body: bytes = b"", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *more, "", ""]).encode() + body


@dataclasses.dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def samples(self) -> Iterator[tuple[bytes, float]]:
        for labels, points in remote_write.parse(bytes(cramjam.snappy.decompress_raw(self.body))):
            head = remote_write.head(labels)
            yield from ((head, value) for _, value in points)

    @property
    def times(self) -> Iterator[int]:
        for _, points in remote_write.parse(bytes(cramjam.snappy.decompress_raw(self.body))):
            yield from (at for at, _ in points)


def poisoned(head: bytes, value: float) -> bool:
    return zlib.crc32(_POINT.pack(value), zlib.crc32(head)) % POISONED == 0


class Hangup(Exception):  # noqa: N818
    """The connection ends here."""


class Way:
    """`mode` is "open", "cut" (nobody listens), or one of LIVING, for each request to come. `took` hears of what the store has taken."""

    def __init__(self, world: World, store_port: int, dice: random.Random) -> None:
        self._world, self._store, self._dice = world, store_port, dice
        self.mode, self.port = "open", 0
        self.requests: dict[str, int] = {}
        self.took: Callable[[Asked], None] = lambda _: None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def set(self, mode: str) -> None:
        self.mode = mode
        if mode == "cut":
            await self.close()
        elif not self._server:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        if self._writers:
            await asyncio.sleep(0.05)  # for those who serve to see it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                writer.write(await self._answer(reader))
                await writer.drain()
        except (Hangup, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        size = int(headers.get("content-length", 0))
        if self.mode == "mid-body" and size:
            await reader.readexactly(size // 2)
            raise Hangup
        method, path, _ = head[0].split(" ")
        asked = Asked(method, path, headers, await reader.readexactly(size))
        said = await self._say(asked)
        status = said[9:12].decode() if said.startswith(b"HTTP/") else "none"
        self.requests[status] = self.requests.get(status, 0) + 1
        return said

    async def _say(self, asked: Asked) -> bytes:
        mode = self.mode
        if mode == "hang":
            await asyncio.sleep(60)
            raise Hangup
        if mode == "slow":
            await asyncio.sleep(self._dice.uniform(0.5, 4.0) / self._world.speed)
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._dated(_plain(401))
        if asked.method == "HEAD":
            return _plain(405) if mode == "no date" else self._dated(_plain(405))
        if asked.path != WRITE:  # as a plain store has it: it takes no events
            return self._dated(_plain(404))
        return self._dated(await self._told(mode, asked))

    async def _told(self, mode: str, asked: Asked) -> bytes:
        if mode in ("500", "503", "408", "404", "401"):
            return _plain(int(mode))
        if mode == "429":
            return _plain(429, b"", "Retry-After: 3")
        if mode == "302":
            return _plain(302, b"", "Location: http://192.0.2.1/")
        if mode == "page":
            return _plain(200, b"<html>Selamat datang</html>")
        if mode == "garbage":
            return bytes(self._dice.randrange(256) for _ in range(200))
        if mode == "400 all" or (mode == "poison" and any(poisoned(*sample) for sample in asked.samples)):
            return _plain(400, b"out of order sample")
        if mode == "too large" and len(asked.body) > 2000:
            return _plain(413)
        said = await self._pass(asked)
        if mode == "mid-answer":
            raise Hangup
        if mode == "took but silent":
            await asyncio.sleep(60)
            raise Hangup
        return _plain(500, b"panic") if mode == "took but 500" else said

    async def _pass(self, asked: Asked) -> bytes:
        lines = [f"POST {WRITE} HTTP/1.1", "Host: centre", "Connection: close", f"Content-Length: {len(asked.body)}"]
        names = ("content-type", "content-encoding", "x-prometheus-remote-write-version")
        lines += [f"{name}: {asked.headers[name]}" for name in names if name in asked.headers]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._store)
        except OSError:
            raise Hangup from None
        with contextlib.closing(writer):
            writer.write("\r\n".join([*lines, "", ""]).encode() + asked.body)
            said = await reader.read()
        if not said.startswith(b"HTTP/1.1 ") or b"\r\n\r\n" not in said:
            raise Hangup
        if said[9:10] == b"2":
            self.took(asked)
        return _plain(int(said[9:12]), said.partition(b"\r\n\r\n")[2][:300] if said[9:10] != b"2" else b"")

    def _dated(self, said: bytes) -> bytes:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self._world.now()))
        return said.replace(b"\r\n", f"\r\nDate: {date}\r\n".encode(), 1) if said.startswith(b"HTTP/") else said
