"""Pings: one ICMP socket for all targets of a family and source, with the kernel's own times of sending and receiving.

Law: a reply counts only from the address that was asked, and with the cookie of that packet. Round-trip times come from the kernel's
stamps, so a busy loop or processor never shows up as latency; the stamps are wall clock, so each is held against the monotonic clock.
Trouble on our own side (Failure from `send`) is never a lost packet. What is in flight is bounded.

Who sends (an Owner) keeps its packets, decides when they are late or lost, and then forgets them here.

The kernel's side, all of it reached without privileges where net.ipv4.ping_group_range allows ping sockets (else CAP_NET_RAW):
- SO_TIMESTAMPING (Documentation/networking/timestamping.rst): the stamp of sending comes back on the error queue together with the
  packet. We find our mark in it, rather than count on OPT_ID: the kernel also numbers sends that fail later, so counting goes astray.
- IP_RECVERR: ICMP errors about our packets, on the error queue too. The kernel then lets some later, innocent call fail with that
  error once; hence the second try in `send`.
"""

import array
import asyncio
import dataclasses
import errno
import os
import socket
import struct
import time
import weakref
from typing import Any, ClassVar, NamedTuple, Protocol

from agent import sockets
from agent.collector import Failure
from agent.net import Net
from agent.wire import icmp

MAX_IN_FLIGHT = 1 << 15  # of one socket; below the 65,536 sequence numbers, so that a quoted one is unambiguous
MIN_SIZE = icmp.MARK.size

_BUFFER = 4 << 20  # bytes that the kernel may hold while the loop is busy: some 5,000 replies
_BATCH = 256  # messages read before the loop gets a turn
_SLEW = 1_000_000  # ns; what two clocks may differ by between two looks without a step, ...
_SLEW_RATE = 1000  # ... plus one part in this (the kernel slews by at most 500 ppm, adjtimex(2))

# Constants that the socket module lacks. The _NEW forms carry 64-bit times on 32-bit machines as well (Linux 5.1).
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_TIMESTAMPING_NEW = 32, 33, 26, 65
_TX_SOFTWARE, _RX_SOFTWARE, _SOFTWARE = 1 << 1, 1 << 3, 1 << 4
_IP_TTL, _IP_RECVERR, _IP_RECVTTL = 2, 11, 12
_IPV6_RECVERR, _IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 25, 51, 52
_SOL_IP, _SOL_IPV6, _SOL_RAW, _SOL_ICMPV6, _ICMP_FILTER = 0, 41, 255, 58, 1
_ERROR_QUEUE = socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
_TIME = struct.Struct("=qq")
_HOPS = struct.Struct("=i")


class Moment(NamedTuple):
    """Both clocks, read together; ns."""

    wall: int
    mono: int


def moment() -> Moment:
    """Now. Not env.clock: it is held against the kernel's stamps, which are of the machine's own clock."""
    return Moment(time.time_ns(), time.monotonic_ns())


class Owner(Protocol):
    """Who sent a packet, and is told what became of it."""

    def answered(self, packet: "Packet") -> None:
        """A reply came; `packet.replies` tells whether it is the first."""

    def refused(self, packet: "Packet") -> None:
        """An ICMP error about it came; `packet.refusal` says what. A reply may still follow."""


@dataclasses.dataclass(slots=True, eq=False)
class Packet:
    """One echo request and what is known of it. Times in ns."""

    owner: Owner
    host: str
    key: int
    cookie: bytes
    sent: Moment
    stamp: int = 0  # when the kernel gave it to the device, wall clock; 0: it didn't say
    rtt: int | None = None
    replies: int = 0
    hops: int | None = None  # the hop limit that the first reply arrived with
    refusal: str = ""
    void: bool = False  # its socket was made anew: nobody can know whether it was answered


def round_trip(stamp: int, received: int, sent: Moment, seen: Moment) -> int:
    """The round-trip time in ns from the kernel's stamps (0: none), checked against the monotonic clock.

    What passed between our own two looks bounds it from above. If the wall clock was stepped between the looks, it was so either
    between the stamps or outside of them; where only one of these is possible the stamps, corrected, stay exact. Else, and where
    the stamps make no sense, the monotonic time stands: it includes our own lag, but is never grossly wrong.
    """
    elapsed = seen.mono - sent.mono
    tolerance = _SLEW + elapsed // _SLEW_RATE
    measured = received - (stamp or sent.wall)
    step = seen.wall - sent.wall - elapsed
    candidates = (measured,) if abs(step) <= tolerance else (measured, measured - step)
    possible = [t for t in candidates if received and 0 <= t <= elapsed + tolerance]
    return possible[0] if len(possible) == 1 else elapsed


class Line:
    """One socket: a family and a source. Made and used on one event loop; raises Failure("send") or PermissionError when made."""

    def __init__(self, family: socket.AddressFamily, source: str) -> None:
        self.family, self.source, self.users = family, source, 0
        self.version = 4 if family == socket.AF_INET else 6
        self.ident = int.from_bytes(os.urandom(2))
        self.magic = os.urandom(4)
        self.ignored = 0  # messages that are no reply to us: forged, foreign, damaged, much too late
        self._loop = asyncio.get_running_loop()
        self._key = 0
        self._sent: dict[int, Packet] = {}
        self._room = 256  # bytes for a reply; grows with what is sent
        self._sock: socket.socket | None = None
        self._index = 0
        self.raw = False
        self._open()

    # -- the socket -----------------------------------------------------------------------------------------------------

    def _open(self) -> socket.socket:
        sock, self.raw = _make(self.family)
        try:
            sockets.bind(sock, self.source)
            self._set_up(sock)
        except BaseException:
            sock.close()
            raise
        self._sock, self._index = sock, _index_of(self.source)
        self._loop.add_reader(sock, self._ready)
        return sock

    def _set_up(self, sock: socket.socket) -> None:
        for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, forced, _BUFFER)
            except PermissionError:  # needs CAP_NET_ADMIN; without it net.core.rmem_max is the limit
                sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
        if self.raw:  # by type before the packet is even copied, then by identifier: a busy box's other ICMP never wakes us
            sock.setsockopt(_SOL_RAW if self.version == 4 else _SOL_ICMPV6, _ICMP_FILTER, icmp.type_filter(self.version))
            _attach(sock, icmp.reply_filter(self.version, self.ident))
        if self.version == 4:
            options = ((_SOL_IP, _IP_RECVERR), (_SOL_IP, _IP_RECVTTL))
        else:
            options = ((_SOL_IPV6, _IPV6_RECVERR), (_SOL_IPV6, _IPV6_RECVHOPLIMIT))
        for level, name in options:
            sock.setsockopt(level, name, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW, _TX_SOFTWARE | _RX_SOFTWARE | _SOFTWARE)

    def close(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _reopen(self) -> None:
        """After the interface has vanished: what is in flight can't come back."""
        self.close()
        for packet in self._sent.values():
            packet.void = packet.replies == 0
        self._sent.clear()
        self._open()

    # -- sending --------------------------------------------------------------------------------------------------------

    def send(self, owner: Owner, address: tuple[Any, ...], size: int) -> Packet:
        """Sends a request of `size` payload bytes to a socket address. Raises Failure when this box could not send it."""
        if len(self._sent) >= MAX_IN_FLIGHT:
            raise Failure("send", f"{MAX_IN_FLIGHT} packets are in flight already")
        packet = Packet(owner, address[0], self._key, os.urandom(8), Moment(0, 0))
        self._key = (self._key + 1) & 0xFFFFFFFF
        self._room = max(self._room, size + 128)
        seq = packet.key % icmp.SEQUENCES
        message = icmp.request(self.version, self.ident, seq, icmp.payload(icmp.Mark(self.magic, packet.key, packet.cookie), size))
        try:
            self._transmit(packet, message, address)
        except OSError:
            self._recover()
            try:
                self._transmit(packet, message, address)
            except OSError as again:
                raise sockets.failure_from(again, packet.host) from None
        return packet

    def _transmit(self, packet: Packet, message: bytes, address: tuple[Any, ...]) -> None:
        sock = self._sock or self._open()
        packet.sent = moment()
        sock.sendto(message, address)
        self._sent[packet.key] = packet
        self._read_errors(until=packet)  # the stamp is there by now, unless the packet waits in a queue; saves a wake-up

    def _recover(self) -> None:
        """Clears what may be left from another packet. An interface that was made anew has another index than the one we are bound to."""
        if self._index and self._index != _index_of(self.source):
            self._reopen()
        else:
            self._read_errors()

    def forget(self, packet: Packet) -> None:
        """The owner is done with it: any further reply is ignored."""
        self._sent.pop(packet.key, None)

    # -- receiving ------------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        """The socket has replies, or errors and stamps: asyncio doesn't say which. Errors left unread would wake us for ever."""
        if not self.poll():
            self._read_errors()

    def poll(self) -> int:
        """Reads the replies that are there now; returns how many messages there were (at most a batch)."""
        for n in range(_BATCH):
            if self._sock is None:
                return n
            try:
                data, control, _, address = self._sock.recvmsg(self._room, 256)
            except BlockingIOError:
                return n
            except OSError:  # an ICMP error of some packet, told once (see above); its details are on the error queue
                self._read_errors()
                continue
            self._take(data, control, address)
        return _BATCH

    def _take(self, data: bytes, control: list[tuple[int, int, bytes]], address: tuple[Any, ...]) -> None:
        seen = moment()
        packet = self._match(data, address)
        if packet is None:
            self.ignored += 1
            return
        packet.replies += 1
        if packet.replies == 1:
            if not packet.stamp:
                self._read_errors()
            received, packet.hops = _facts(control)
            packet.rtt = round_trip(packet.stamp, received, packet.sent, seen)
        packet.owner.answered(packet)

    def _match(self, data: bytes, address: tuple[Any, ...]) -> Packet | None:
        """The packet that this is a reply to; None: to none of ours."""
        try:
            if self.raw and self.version == 4:
                data = icmp.strip_ipv4(data).message
            echo = icmp.parse_reply(self.version, data, verify=self.raw and self.version == 4)
            mark = icmp.read_mark(echo.payload)
        except icmp.IcmpError:
            return None
        packet = self._sent.get(mark.key)
        genuine = packet is not None and mark.magic == self.magic and mark.cookie == packet.cookie and address[0] == packet.host
        return packet if genuine else None

    def _read_errors(self, until: Packet | None = None) -> None:
        """Reads the error queue: stamps of sending, and ICMP errors. Stops early at the stamp of `until`."""
        for _ in range(_BATCH):
            if self._sock is None or (until is not None and until.stamp):
                return
            try:
                data, control, _, address = self._sock.recvmsg(256, 256, _ERROR_QUEUE)
            except BlockingIOError:
                return
            stamp, error = 0, b""
            for level, kind, value in control:
                if kind == _SO_TIMESTAMPING_NEW and level == socket.SOL_SOCKET:
                    stamp = _nanoseconds(value)
                elif (level, kind) in ((_SOL_IP, _IP_RECVERR), (_SOL_IPV6, _IPV6_RECVERR)):
                    error = value
            if icmp.is_timestamp(error):
                self._stamp(data, stamp)
            elif error:
                self._refuse(data, error, address)

    def _stamp(self, data: bytes, stamp: int) -> None:
        mark = icmp.find_mark(data, self.magic)
        packet = self._sent.get(mark.key) if mark else None
        if mark and packet and packet.cookie == mark.cookie:
            packet.stamp = packet.stamp or stamp

    def _refuse(self, data: bytes, error: bytes, address: tuple[Any, ...]) -> None:
        """An ICMP error; `data` is the request as quoted by who reports it, `address` where it was going."""
        try:
            found = icmp.parse_extended_error(error)
            packet = self._quoted(icmp.parse_request(self.version, data), address) if found.unreachable else None
        except icmp.IcmpError:
            packet = None
        if packet is None:
            self.ignored += 1
            return
        packet.refusal = str(found)
        packet.owner.refused(packet)

    def _quoted(self, echo: icmp.Echo, address: tuple[Any, ...]) -> Packet | None:
        """The packet that was quoted: by its mark, or by its sequence number where only 8 bytes were quoted (RFC 792)."""
        last = self._key - 1
        packet = self._sent.get(last - (last - echo.seq) % icmp.SEQUENCES)
        if packet is None or packet.host != address[0] or (self.raw and echo.ident != self.ident):
            return None
        if len(echo.payload) >= MIN_SIZE and icmp.read_mark(echo.payload).cookie != packet.cookie:
            return None
        return packet


def _make(family: socket.AddressFamily) -> tuple[socket.socket, bool]:
    """A ping socket, or else a raw one (True)."""
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        return socket.socket(family, socket.SOCK_DGRAM | flags, protocol), False
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT):
            raise Failure("send", f"no ICMP socket: {e.strerror}") from None
    try:
        return socket.socket(family, socket.SOCK_RAW | flags, protocol), True
    except PermissionError:
        raise PermissionError("may not ping: neither sysctl net.ipv4.ping_group_range nor CAP_NET_RAW allows it") from None
    except OSError as e:
        raise Failure("send", f"no ICMP socket: {e.strerror}") from None


def _index_of(interface: str) -> int:
    """The number of an interface; 0: there is none of this name (an address has none either)."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def _attach(sock: socket.socket, program: bytes) -> None:
    """Puts a classic BPF filter on a socket (struct sock_fprog: count, pointer), without ctypes and its megabyte."""
    code = array.array("B", program)
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(code) // 8, code.buffer_info()[0]))


def _facts(control: list[tuple[int, int, bytes]]) -> tuple[int, int | None]:
    """When a message arrived (ns, wall clock; 0: unknown) and with which hop limit."""
    received, hops = 0, None
    for level, kind, value in control:
        if kind == _SO_TIMESTAMPING_NEW and level == socket.SOL_SOCKET:
            received = _nanoseconds(value)
        elif (level, kind) in ((_SOL_IP, _IP_TTL), (_SOL_IPV6, _IPV6_HOPLIMIT)):
            hops = int(_HOPS.unpack_from(value)[0])
    return received, hops


def _nanoseconds(value: bytes) -> int:
    """The software stamp, first of the three in struct scm_timestamping64."""
    seconds, nanoseconds = _TIME.unpack_from(value)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


class Pinger:
    """The lines of a process, each shared by all who want it and closed when the last has let go of it."""

    _shared: ClassVar["weakref.WeakKeyDictionary[Net, Pinger]"] = weakref.WeakKeyDictionary()

    def __init__(self) -> None:
        self._lines: dict[tuple[int, str], Line] = {}

    @classmethod
    def shared(cls, net: Net) -> "Pinger":
        """The pinger of a net, made at first use."""
        return cls._shared.setdefault(net, cls())

    def line(self, family: socket.AddressFamily, source: str = "") -> Line:
        """A line to use until it is released. Raises Failure("send"), or PermissionError where this process may not ping at all."""
        key = (family, source)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(family, source)
        line.users += 1
        return line

    def release(self, line: Line) -> None:
        line.users -= 1
        if not line.users:
            line.close()
            del self._lines[line.family, line.source]
