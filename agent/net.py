"""The network as the rest of Ronda sees it: resolve a name, open a TCP stream, make a UDP socket; per source or interface.

Law: every wait here can be cancelled; no threads (a dead resolver would hold them for 10 s each). Names are looked up as the
box itself would (agent/resolver.py). Errors leave as Failure with one of the contract's reasons; `failure_from` (agent/sockets.py)
is the one table from errno to reason, for whoever goes on with a socket or stream from here.
"""

import asyncio
import collections
import ipaddress
import socket
import sys
from pathlib import Path

from agent import resolver, sockets
from agent.collector import Failure
from agent.sockets import failure_from, family_of, parse_address
from agent.wire import dns

__all__ = ["Net", "failure_from", "family_of", "parse_address", "parse_route", "parse_route6"]

_RTF_UP, _RTF_GATEWAY, _RTF_REJECT = 0x1, 0x2, 0x200
_IFF_POINTOPOINT = 0x10

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Net:
    """The real network. `root` is where etc/hosts, etc/resolv.conf and proc/net/ are read from."""

    def __init__(self, root: Path = Path("/"), dns_port: int = 53) -> None:
        self.root = root
        self._resolver = resolver.Resolver(root, dns_port)

    async def resolve(self, host: str, family: int = socket.AF_UNSPEC) -> list[str]:
        """The addresses of `host`, IPv4 first; an address is its own; `gateway` is the default gateway now. Raises Failure("resolve").

        Failure("send") only when this box could not even ask (no file descriptors, a local firewall).
        """
        if host == "gateway":
            found = resolver.of_family(self.gateways(), family)
            if not found:
                raise Failure("resolve", "this box has no default gateway")
            return found
        if parse_address(host) is None:
            return await self._resolver.resolve(host, family)
        if not resolver.of_family([host], family):
            raise Failure("resolve", f"{host} is not an address of the family wanted")
        return [host]

    def gateways(self) -> list[str]:
        """The default gateways of the box now (IPv4, then IPv6 with %interface), lowest metric first; empty: none."""
        return parse_route(self._read("proc/net/route")) + parse_route6(self._read("proc/net/ipv6_route"))

    def neighbours(self) -> list[Network]:
        """The networks that the box is connected to directly: what goes there leaves by no uplink. Tunnels and modems are none."""
        return [
            network
            for device, network in parse_networks(self._read("proc/net/route")) + parse_networks6(self._read("proc/net/ipv6_route"))
            if not self._point_to_point(device)
        ]

    def _point_to_point(self, device: str) -> bool:
        try:
            flags = self._read(f"sys/class/net/{device}/flags").strip()
        except OSError:  # it has just gone, and its routes with it
            return False
        return bool(int(flags, 16) & _IFF_POINTOPOINT) if flags else False

    def resolvers(self) -> list[str]:
        """The servers of etc/resolv.conf now; empty: none."""
        return list(self._resolver.config().servers)

    async def ask(
        self,
        server: str,
        query: dns.Query,
        *,
        port: int = 53,
        source: str = "",
        transport: resolver.Transport = "udp",
        garbage: collections.Counter[str] | None = None,
    ) -> resolver.Reply:
        """One DNS question to one server; see agent.resolver.ask. The caller sets the deadline."""
        return await resolver.ask(server, query, port=port, source=source, transport=transport, garbage=garbage)

    async def connect(self, address: str, port: int, source: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP stream. Raises Failure: refused, unreachable, reset, timeout, send (our own side). The caller sets the deadline."""
        sock = await self.connect_socket(address, port, source)
        try:
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise

    async def connect_socket(self, address: str, port: int, source: str = "") -> socket.socket:
        """As `connect`, without the streams: a non-blocking socket, which is the caller's to close."""
        return await sockets.connect(address, port, source)

    def udp(self, address: str, source: str = "") -> socket.socket:
        """A non-blocking UDP socket of the address's family, bound to `source`. Raises Failure("send")."""
        return sockets.open_socket(address, socket.SOCK_DGRAM, source)

    def bind(self, sock: socket.socket, source: str) -> None:
        """Binds to an address, or to an interface (SO_BINDTODEVICE; no privilege needed since Linux 5.7). Raises Failure("send")."""
        sockets.bind(sock, source)

    def _read(self, path: str) -> str:
        try:
            return (self.root / path).read_text()
        except FileNotFoundError:  # a kernel without IPv6 has no ipv6_route
            return ""


def parse_route(text: str) -> list[str]:
    """The default gateways in the text of proc/net/route, lowest metric first. Its addresses are numbers in the CPU's byte order."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8 and fields[1] == fields[7] == "00000000" and _is_gateway(int(fields[3], 16)):
            found.append((int(fields[6]), str(ipaddress.IPv4Address(int(fields[2], 16).to_bytes(4, sys.byteorder)))))
    return _by_metric(found)


def parse_route6(text: str) -> list[str]:
    """The default gateways in the text of proc/net/ipv6_route, lowest metric first; link-local ones with their %interface."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 10 and fields[1] == "00" and fields[3] == "00" and _is_gateway(int(fields[8], 16)):
            address = ipaddress.IPv6Address(bytes.fromhex(fields[4]))
            found.append((int(fields[5], 16), f"{address}%{fields[9]}" if address.is_link_local else str(address)))
    return _by_metric(found)


def parse_networks(text: str) -> list[tuple[str, Network]]:
    """(interface, network) of each network in the text of proc/net/route that is reached without a gateway."""
    found: list[tuple[str, Network]] = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or int(fields[3], 16) & (_RTF_UP | _RTF_GATEWAY | _RTF_REJECT) != _RTF_UP or int(fields[7], 16) == 0:
            continue
        address, mask = (int(field, 16).to_bytes(4, sys.byteorder) for field in (fields[1], fields[7]))
        found.append((fields[0], ipaddress.IPv4Network((address, int.from_bytes(mask).bit_count()), strict=False)))
    return found


def parse_networks6(text: str) -> list[tuple[str, Network]]:
    """The same in the text of proc/net/ipv6_route. The box's own addresses and multicast stand there too; they do no harm."""
    found: list[tuple[str, Network]] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 10 or int(fields[8], 16) & (_RTF_UP | _RTF_GATEWAY | _RTF_REJECT) != _RTF_UP or int(fields[1], 16) == 0:
            continue
        found.append((fields[9], ipaddress.IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)), strict=False)))
    return found


def _is_gateway(flags: int) -> bool:
    return flags & (_RTF_UP | _RTF_GATEWAY | _RTF_REJECT) == _RTF_UP | _RTF_GATEWAY


def _by_metric(found: list[tuple[int, str]]) -> list[str]:
    return list(dict.fromkeys(address for _, address in sorted(found, key=lambda f: f[0])))
