"""new_listener: a program waits for strangers on this box that did not before.

Law: the first look is what is so. A program is known by protocol, port and path, so that it may restart; sockets of clients (UDP on ports
that the kernel gives away) are none. Two looks agree before anything is said.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Vouched
from agent.detect.seen import Listener, Listeners

EPHEMERAL = 32768  # from here on the kernel gives ports away (ip_local_port_range)
CLIENTS = frozenset({68, 546})  # DHCP's, which wait on a port of their own
KNOWN_AFTER = 24 * 3600.0  # seconds: what has waited as long is how the box is now
HASTY = ("/tmp/", "/dev/shm/", "/var/tmp/", "/run/user/", "/memfd:")  # noqa: S108  (where nothing installed lives, and anybody may write)
MAX_NEW, MAX_KNOWN = 128, 1024


class Key(tuple[str, str, str]):
    """(protocol, port or "dynamic", program or "uid N")."""

    __slots__ = ()


class NewListener(Plain):
    rule: ClassVar[Rule] = Rule("new_listener", "H02", "1", "process", ("T1571",))
    wants: ClassVar[tuple[type, ...]] = (Listeners,)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: ARG002, B008  (the table's)
        self._known: set[Key] | None = None
        self._new: dict[Key, tuple[float, int]] = {}  # since when, in how many looks; told from the second

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "sockets" not in able:
            return Coverage(0.0, "sockets_not_read")
        return Coverage(1.0) if "programs" in able else Coverage(0.5, "programs_unreadable")

    def see(self, seen: Listeners, at: float) -> Iterable[Said]:
        now = {key_of(listener): listener for listener in seen.listeners if counts(listener)}
        if self._known is None:
            self._known = set(list(now)[:MAX_KNOWN])
            return ()
        return [*self._opened(now, at), *self._gone(now)]

    def _opened(self, now: Mapping[Key, Listener], at: float) -> Iterator[Finding]:
        known = self._known if self._known is not None else set()
        for key, listener in now.items():
            if key in known or _same_but_unread(key, known):
                continue
            since, looks = self._new.get(key, (at, 0))
            if key in self._new or len(self._new) < MAX_NEW:
                self._new[key] = since, looks + 1
            if looks == 1:
                yield self._finding(key, listener)
            elif looks > 1 and at - since >= KNOWN_AFTER and len(known) < MAX_KNOWN:
                known.add(key)
                del self._new[key]
                yield self._closed(key, "what waits for strangers has done so for a day: it counts as known")

    def _gone(self, now: Mapping[Key, Listener]) -> Iterator[Finding]:
        for key in [k for k in self._new if k not in now]:
            if self._new.pop(key)[1] >= 2:
                yield self._closed(key, "what waited for strangers is gone")

    def _finding(self, key: Key, listener: Listener) -> Finding:
        grade: Grade = "high" if listener.program.startswith(HASTY) or listener.program.endswith(" (deleted)") else "medium"
        fields = {"network.transport": listener.protocol, "server.port": str(listener.port), "server.ip": listener.address}
        fields |= {"process.executable": listener.program} if listener.program else {}
        fields |= {"user.id": str(listener.user)} if listener.user >= 0 else {}
        message = "a program waits for strangers that did not before"
        return Finding(self.rule.name, " ".join(key), grade, "certain", message, confirmed=True, fields=fields)

    def _closed(self, key: Key, message: str) -> Finding:
        return Finding(self.rule.name, " ".join(key), "info", "certain", message, "closed")

    def remember(self) -> Mapping[str, Any]:
        told = sorted(key for key, (_, looks) in self._new.items() if looks > 1)
        return {"known": sorted(self._known), "new": told} if self._known is not None else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        self._known, new = ({Key((str(a), str(b), str(c))) for a, b, c in said[name][:MAX_KNOWN]} for name in ("known", "new"))
        self._new = dict.fromkeys(new, (at, 2))


def counts(listener: Listener) -> bool:
    """Whether strangers can reach it, and it waits for them."""
    if listener.protocol == "udp" and (listener.port >= EPHEMERAL or listener.port in CLIENTS):
        return False
    try:
        return not ipaddress.ip_address(listener.address).is_loopback
    except ValueError:
        return True


def key_of(listener: Listener) -> Key:
    """A high TCP port is often given by the kernel anew at each start (rpc.statd): the program says more than its number."""
    port = "dynamic" if listener.port >= EPHEMERAL else str(listener.port)
    return Key((listener.protocol, port, listener.program or f"uid {listener.user}"))


def _same_but_unread(key: Key, known: set[Key]) -> bool:
    """The same port, once with and once without its program's path: rights change, the program need not."""
    here = key[2].startswith("uid ")
    return any(k[:2] == key[:2] and k[2].startswith("uid ") != here for k in known)
