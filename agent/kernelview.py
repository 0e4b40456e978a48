"""What the kernel's own tables in proc/net say of the wire: who is on it, and how much it had to turn away.

Law: needs no privilege; reads below `root` only. A file that is missing or garbled gives what could be read: never a guess, never an error.
"""

from collections.abc import Iterator
from pathlib import Path

MAX_NEIGHBOURS = 4096
COMPLETE = 0x2 | 0x4  # linux/if_arp.h: ATF_COM, ATF_PERM
NETSTAT = ("ListenDrops", "ListenOverflows", "TCPReqQFullDoCookies", "SyncookiesSent", "TCPSynRetrans")
SNMP = ("NoPorts", "InErrors", "RcvbufErrors")
SYN_RECV = "03"  # include/net/tcp_states.h
NOBODY = "00:00:00:00:00:00"


def neighbours(root: Path, device: str) -> dict[str, str]:
    """Address → MAC of the complete entries on a device (proc/net/arp; IPv4)."""
    found: dict[str, str] = {}
    for line in _lines(root / "proc/net/arp"):
        part = line.split()
        if len(part) == 6 and part[5] == device and _hex(part[2]) & COMPLETE and part[3] != NOBODY:
            found[part[0]] = part[3].lower()
            if len(found) >= MAX_NEIGHBOURS:
                break
    return found


def counters(root: Path) -> dict[str, float]:
    """Of this box since it came up: what its TCP and UDP turned away, and how often TCP asked or answered again."""
    return _table(root / "proc/net/netstat", "TcpExt", NETSTAT) | _table(root / "proc/net/snmp", "Udp", SNMP)


def half_open(root: Path) -> float:
    """TCP connections that are only asked for. Dear: for each file the kernel walks its whole table of connections, some milliseconds."""
    lines = (line for name in ("tcp", "tcp6") for line in _lines(root / f"proc/net/{name}"))
    return float(sum(1 for line in lines if line[:120].split()[3:4] == [SYN_RECV]))


def _table(path: Path, which: str, wanted: tuple[str, ...]) -> dict[str, float]:
    """Two lines of a protocol: names and numbers."""
    rows = [line.split() for line in _lines(path) if line.startswith(f"{which}:")]
    if len(rows) != 2:
        return {}
    numbers = dict(zip(*rows, strict=False))
    return {name: float(numbers[name]) for name in wanted if numbers.get(name, "").isdecimal()}


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(errors="replace") as f:
            yield from f
    except OSError:  # a kernel without IPv6, say
        return


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
