"""Whose word is taken of what devices send unasked (kinds traps, syslog): names of the config → addresses as they are now.

Law: a sender is known by the address of its packets alone, so an address is one sender's only. `gateway` is whoever is the gateway now,
unless its address has a name of its own.
"""

import collections
import math
from collections.abc import Iterator, Mapping
from typing import Annotated

from agent.clock import Clock
from agent.net import Net
from agent.sockets import parse_address
from agent.structure import Scalar, parse_ip

MOST = 64
EVERY = 9.0  # seconds between two looks at who is the gateway


def _sender(text: str) -> str:
    return text if text == "gateway" else parse_ip(text)


Sender = Annotated[str, Scalar("a sender", _sender, "an address, e.g. 192.0.2.1, or gateway")]


def problems(listen: str, senders: Mapping[str, str], port: int) -> Iterator[tuple[str, str]]:
    """Of a config that has these two fields; `port`: the usual one."""
    if not 0 < len(senders) <= MOST:
        yield "senders", f"are one to {MOST}: whose word is taken"
    host = listen.rpartition(":")[0].strip("[]")
    if host and not parse_address(host):
        yield "listen", f"is not an address of this box and a port (try 0.0.0.0:{port})"
    for address, n in collections.Counter(senders.values()).items():
        if n > 1:
            yield "senders", f"{address} stands there twice: what it sends can be one sender's only"


def loopback(host: str) -> bool:
    """Whether nobody but this box can send from or to there."""
    found = parse_address(host)
    return found is not None and found.is_loopback


class Senders:
    """`now`: address → name."""

    def __init__(self, senders: Mapping[str, str], net: Net, clock: Clock) -> None:
        self._net, self._clock = net, clock
        self._own = {address: name for name, address in senders.items() if address != "gateway"}
        self._by_gateway = [name for name, address in senders.items() if address == "gateway"]
        self._found: Mapping[str, str] = self._own
        self._due = -math.inf

    def now(self) -> Mapping[str, str]:
        at = self._clock.monotonic()
        if self._by_gateway and at >= self._due:
            self._due = at + EVERY
            gateways = [gateway.partition("%")[0] for gateway in self._net.gateways()]
            self._found = {**{address: name for name in self._by_gateway for address in gateways}, **self._own}
        return self._found
