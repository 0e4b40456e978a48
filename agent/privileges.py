"""What this process may do: facts from proc/ and from trying to open a socket; nothing is changed and nothing is sent.

Law: facts only. What follows from them (a kind can't run, what to tell an admin) is decided by those who read them.
"""

import dataclasses
import errno
import re
import socket
from pathlib import Path

# The bits of linux/capability.h that Ronda asks for.
CAPABILITIES = {"cap_dac_read_search": 2, "cap_net_admin": 12, "cap_net_raw": 13, "cap_sys_ptrace": 19, "cap_sys_time": 25}

# "You may not", and "this kernel has no such thing": no ping sockets for the family, no IPv6.
_NO = {errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}


@dataclasses.dataclass(frozen=True, slots=True)
class Privileges:
    """uid and gids are the effective ones; `ping_groups` is net.ipv4.ping_group_range (None: this kernel has none)."""

    uid: int
    gids: frozenset[int]
    capabilities: frozenset[str]  # of CAPABILITIES, effective
    ping_groups: tuple[int, int] | None
    ping: bool  # an unprivileged ICMP socket can be opened
    ping6: bool
    raw: bool  # a raw ICMP socket can be opened

    @property
    def root(self) -> bool:
        return self.uid == 0

    @property
    def can_ping(self) -> bool:
        return self.ping or self.raw

    @property
    def in_ping_groups(self) -> bool:
        """Whether the kernel lets one of our groups ping (ping(7): any group, not only the effective one)."""
        if self.ping_groups is None:
            return False
        low, high = self.ping_groups
        return any(low <= gid <= high for gid in self.gids)


def look(root: Path = Path("/")) -> Privileges:
    """The facts of this process. Raises OSError where proc/ can't be read, ValueError where it is not Linux's."""
    uid, gids, capabilities = parse_status((root / "proc/self/status").read_text())
    return Privileges(
        uid=uid,
        gids=gids,
        capabilities=capabilities,
        ping_groups=read_ping_groups(root),
        ping=can_open(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        ping6=can_open(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6),
        raw=can_open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    )


def parse_status(text: str) -> tuple[int, frozenset[int], frozenset[str]]:
    """proc/self/status → (effective uid, effective gid and groups, effective capabilities). Raises ValueError."""
    uid, gid = _field(text, "Uid").split(), _field(text, "Gid").split()
    groups = _field(text, "Groups").split()
    mask = int(_field(text, "CapEff"), 16)
    if len(uid) != 4 or len(gid) != 4:
        raise ValueError("proc/self/status: Uid and Gid must have four numbers each")
    gids = frozenset(int(g) for g in (gid[1], *groups))
    return int(uid[1]), gids, frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*)$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"proc/self/status has no {name}")
    return found[1]


def read_ping_groups(root: Path) -> tuple[int, int] | None:
    """net.ipv4.ping_group_range; None where the kernel has none. `1 0`, the kernel's own default, holds nobody."""
    try:
        low, high = (root / "proc/sys/net/ipv4/ping_group_range").read_text().split()
    except FileNotFoundError:
        return None
    return int(low), int(high)


def can_open(family: int, kind: int, protocol: int) -> bool:
    """Whether such a socket can be opened now. Raises OSError for reasons that are neither a right nor a lack of it."""
    try:
        with socket.socket(family, kind, protocol):
            return True
    except OSError as e:
        if e.errno in _NO:
            return False
        raise
