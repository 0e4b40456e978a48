"""The network as the rest of Ronda sees it: resolve a name, open a TCP stream, make a UDP socket; per source or interface.

Law: every wait here can be cancelled; no threads (a dead resolver would hold them for 10 s each). Names are looked up as the
box itself would: /etc/hosts, then the servers of /etc/resolv.conf. Errors leave as Failure with one of the contract's reasons.
"""

import asyncio
import socket
from pathlib import Path


class Net:
    """The real network. `root` is where etc/hosts, etc/resolv.conf and proc/net/ are read from."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    async def resolve(self, host: str, family: int = socket.AF_UNSPEC) -> list[str]:
        """The addresses of `host`, IPv4 first; an address is its own; `gateway` is the default gateway now. Raises Failure("resolve")."""
        raise NotImplementedError

    def gateways(self) -> list[str]:
        """The default gateways of the box now (IPv4, then IPv6 with %interface), lowest metric first; empty: none."""
        raise NotImplementedError

    def resolvers(self) -> list[str]:
        """The servers of etc/resolv.conf now; empty: none."""
        raise NotImplementedError

    async def connect(self, address: str, port: int, source: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP stream. Raises Failure: refused, unreachable, reset, send (our own side). The caller sets the deadline."""
        raise NotImplementedError

    def udp(self, address: str, source: str = "") -> socket.socket:
        """A non-blocking UDP socket of the address's family, bound to `source`. Raises Failure("send")."""
        raise NotImplementedError

    def bind(self, sock: socket.socket, source: str) -> None:
        """Binds to an address, or to an interface (SO_BINDTODEVICE; no privilege needed since Linux 5.7). Raises Failure("send")."""
        raise NotImplementedError
