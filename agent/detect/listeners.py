"""new_listener: a program waits for strangers on this box that did not before.

Law: the first look is what is so. A program is known by protocol, port and path, so that it may restart; sockets of clients (UDP on ports
that the kernel gives away) are none. Two looks agree before anything is said. What was told and comes again within a day isn't told again
(many wait for some minutes only, again and again), unless it is grave; a day after it was first seen it is known.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from agent.detect.ground import seconds
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
        self._left: dict[Key, tuple[float, float]] = {}  # told, and gone: since when it was new, and when it went
        self._now = 0.0

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "sockets" not in able:
            return Coverage(0.0, "sockets_not_read")
        return Coverage(1.0) if "programs" in able else Coverage(0.5, "programs_unreadable")

    def see(self, seen: Listeners, at: float) -> Iterable[Said]:
        self._now = at
        now = {key_of(listener): listener for listener in seen.listeners if counts(listener)}
        if self._known is None:
            self._known = set(list(now)[:MAX_KNOWN])
            return ()
        self._left = {key: (since, went) for key, (since, went) in self._left.items() if at - went < KNOWN_AFTER}
        return [*self._opened(now, at), *self._gone(now, at)]

    def _opened(self, now: Mapping[Key, Listener], at: float) -> Iterator[Finding]:
        known = self._known if self._known is not None else set()
        for key, listener in now.items():
            if key in known or _same_but_unread(key, known):
                continue
            since, looks = self._new.get(key) or self._again(key, listener) or (at, 0)
            if key in self._new or len(self._new) < MAX_NEW:
                self._new[key] = since, looks + 1
            if looks == 1:
                yield self._finding(key, listener)
            elif looks > 1 and at - since >= KNOWN_AFTER and len(known) < MAX_KNOWN:
                known.add(key)
                del self._new[key]
                yield self._closed(key, "what waits for strangers has done so for a day: it counts as known")

    def _again(self, key: Key, listener: Listener) -> tuple[float, int] | None:
        """What was told within the day and comes again has been told; what is grave is told each time."""
        left = self._left.pop(key, None)
        return (left[0], 2) if left and not _grave(listener) else None

    def _gone(self, now: Mapping[Key, Listener], at: float) -> Iterator[Finding]:
        for key in [k for k in self._new if k not in now]:
            since, looks = self._new.pop(key)
            if looks >= 2:
                if len(self._left) < MAX_NEW:
                    self._left[key] = since, at
                yield self._closed(key, "what waited for strangers is gone")

    def _finding(self, key: Key, listener: Listener) -> Finding:
        grade: Grade = "high" if _grave(listener) else "medium"
        fields = {"network.transport": listener.protocol, "server.port": str(listener.port), "server.ip": listener.address}
        fields |= {"process.executable": listener.program} if listener.program else {}
        fields |= {"user.id": str(listener.user)} if listener.user >= 0 else {}
        message = "a program waits for strangers that did not before"
        return Finding(self.rule.name, " ".join(key), grade, "certain", message, confirmed=True, fields=fields)

    def _closed(self, key: Key, message: str) -> Finding:
        return Finding(self.rule.name, " ".join(key), "info", "certain", message, "closed")

    def remember(self) -> Mapping[str, Any]:
        told = sorted(key for key, (_, looks) in self._new.items() if looks > 1)
        left = [[*key, round(self._now - since), round(self._now - went)] for key, (since, went) in sorted(self._left.items())]
        return {"known": sorted(self._known), "new": told, "left": left} if self._known is not None else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        self._known, new = ({Key((str(a), str(b), str(c))) for a, b, c in said[name][:MAX_KNOWN]} for name in ("known", "new"))
        self._new = dict.fromkeys(new, (at, 2))
        left = [(Key((str(a), str(b), str(c))), at - seconds(since), at - seconds(went)) for a, b, c, since, went in said.get("left", [])]
        self._left = {key: (since, went) for key, since, went in left[:MAX_NEW]}
        self._now = at


def _grave(listener: Listener) -> bool:
    """Started from where anybody may write, or from a file that is gone."""
    return listener.program.startswith(HASTY) or listener.program.endswith(" (deleted)")


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
