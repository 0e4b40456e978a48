"""What stands on this box, as observations: watched files, setuid programs, listening sockets, the firewall's state, what is plugged in.

Law: reads only, and below `root` only. Everything is bounded, and paced (agent/dpkg.py's Pace) where it is long: it runs in a thread of a
small box. What may not be read is named, not guessed. Nothing is followed out of the file that was meant: no symbolic link, no FIFO.
"""

import dataclasses
import hashlib
import json
import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from agent.detect.seen import Files, FileState, Firewall, Listener, Listeners, Usb
from agent.dpkg import Dpkg, Owned, Pace, plain

Group = Literal["accounts", "sudoers", "keys", "persistence", "setuid"]

MAX_WATCHED, MAX_READ, MAX_HOMES = 3000, 1 << 20, 256
MAX_DIRECTORIES, MAX_DEPTH, MAX_SETUID = 200_000, 40, 1024
MAX_SOCKETS, MAX_PIDS, MAX_USB = 4096, 4096, 64
STATE_FILE, STATE_AGE, STATE_BYTES = "run/ronda-firewall/ruleset.json", 300.0, 2 << 20
ADMINS = ("sudo", "wheel", "admin", "root")

WATCHED: Mapping[Group, tuple[str, ...]] = {
    "accounts": ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"),
    "sudoers": ("etc/sudoers", "etc/sudoers.d/*"),
    "keys": ("etc/ssh/authorized_keys*", "etc/ssh/authorized_keys*/*", "etc/dropbear/authorized_keys"),
    "persistence": (
        "etc/crontab", "etc/anacrontab", "etc/cron.*/*", "var/spool/cron/crontabs/*", "var/spool/cron/atjobs/*", "etc/rc.local",
        "etc/init.d/*", "etc/ld.so.preload", "etc/pam.d/*", "etc/profile", "etc/profile.d/*", "etc/udev/rules.d/*", "etc/systemd/system/*",
        "etc/systemd/system/*/*", "etc/systemd/system-generators/*", "lib/systemd/system/*", "usr/lib/systemd/system/*",
        "usr/local/lib/systemd/system/*", "root/.bashrc", "root/.profile",
    ),
}  # fmt: skip
# What isn't this system's own: images of containers hold setuid programs that nobody here can start.
NOT_OURS = frozenset(
    f"/{path}" for path in ("proc", "sys", "dev", "run", "snap", "var/lib/docker", "var/lib/containers", "var/lib/lxc", "var/lib/flatpak",
                            "var/lib/machines", "var/lib/kubelet", "var/lib/snapd")
)  # fmt: skip


@dataclasses.dataclass(slots=True)
class Read:
    """A file as it was read, and what of it says that it is still that one."""

    stamp: tuple[int, ...]
    digest: str
    packaged: bool | None


class Watched:
    """The watched files. A look costs a stat a file; only what has changed is read."""

    def __init__(self, root: Path, dpkg: Dpkg, *, rest: float = 0.02) -> None:
        self._root, self._dpkg, self._rest = root, dpkg, rest
        self._read: dict[str, Read] = {}
        self._owned: Owned | None = None
        self._owned_of: tuple[int, int] | None = None

    def look(self, group: Group, now: float) -> Files:
        """Files of one group now. Waits for the disk."""
        if self._owned is None or self._owned_of != self._dpkg.stamp():
            self._owned_of, self._owned = self._dpkg.stamp(), self._dpkg.owned(_watched)
            self._read.clear()
        files: dict[str, FileState] = {}
        unread: list[str] = []
        pace = Pace(self._rest)
        for path in self._paths(group, unread):
            pace()
            if len(files) >= MAX_WATCHED:
                break
            if state := self._state(path, now, unread):
                files["/" + path] = state
        return Files(group, files, self._facts(group), tuple(unread[:MAX_HOMES]))

    def _paths(self, group: Group, unread: list[str]) -> Iterator[str]:
        for pattern in WATCHED[group]:
            if "*" not in pattern:
                yield pattern
                continue
            above = pattern.partition("*")[0].rpartition("/")[0]
            if (self._root / above).is_dir() and not os.access(self._root / above, os.R_OK | os.X_OK):
                unread.append(f"/{above}")
            if above == "lib/systemd/system" and (self._root / "lib").is_symlink():
                continue
            yield from sorted(str(path.relative_to(self._root)) for path in self._root.glob(pattern))
        if group == "keys":
            for home in self._homes_now():
                yield from (f"{home}/.ssh/authorized_keys", f"{home}/.ssh/authorized_keys2")

    def _homes_now(self) -> list[str]:
        homes = {
            fields[5].strip("/") for fields in self._table("etc/passwd") if len(fields) > 6 and fields[5] not in ("", "/", "/nonexistent")
        }
        return sorted(home for home in homes if ".." not in home.split("/"))[:MAX_HOMES]

    def _table(self, path: str) -> list[list[str]]:
        try:
            with (self._root / path).open("rb") as f:
                return [line.split(":") for line in f.read(MAX_READ).decode(errors="replace").splitlines()[:10_000]]
        except OSError:
            return []

    def _facts(self, group: Group) -> dict[str, tuple[str, ...]]:
        if group != "accounts":
            return {}
        rows = [row for row in self._table("etc/passwd") if len(row) > 2 and row[0]]
        admins = {name for row in self._table("etc/group") if len(row) > 3 and row[0] in ADMINS for name in row[3].split(",") if name}
        return {
            "users": tuple(row[0] for row in rows),
            "uid0": tuple(row[0] for row in rows if row[2].strip().isdigit() and int(row[2]) == 0),
            "admins": tuple(sorted(admins)),
        }

    def _state(self, path: str, now: float, unread: list[str]) -> FileState | None:
        full = self._root / path
        try:
            found = os.lstat(full)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            unread.append(f"/{path}")
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._read.get(path)
        if known is None or known.stamp != stamp:
            digest = self._digest(full, found)
            known = Read(stamp, digest, self._packaged(path, full, digest))
            if len(self._read) < 4 * MAX_WATCHED:
                self._read[path] = known
        if known.digest.startswith(UNREAD):
            unread.append(f"/{path}")
        return FileState(known.digest, stat.S_IMODE(found.st_mode), found.st_uid, known.packaged, max(0.0, now - found.st_ctime))

    def _digest(self, full: Path, found: os.stat_result) -> str:
        """Of what may not be read, size and time stand for the content: that it changes is seen all the same."""
        try:
            if stat.S_ISLNK(found.st_mode):
                return hashlib.sha256(os.fsencode(full.readlink())).hexdigest()
            if not stat.S_ISREG(found.st_mode):
                return f"{stat.S_IFMT(found.st_mode):x}"
            fd = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as f:  # noqa: PTH123  (a descriptor)
                return hashlib.sha256(f.read(MAX_READ) + f"{found.st_size if found.st_size > MAX_READ else ''}".encode()).hexdigest()
        except OSError:
            return UNREAD + hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:11]

    def _packaged(self, path: str, full: Path, digest: str) -> bool | None:
        assert self._owned
        if mounts_a_snap(path, full):
            return True
        name = plain("/" + path)
        if (known := self._owned.sums.get(name)) is None:
            return True if name in self._owned.owned and full.is_symlink() else None
        if digest.startswith(UNREAD):
            return None
        try:
            with full.open("rb") as f:
                return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == known
        except OSError:
            return None


UNREAD = "stat:"  # how the digest of a file that may not be read begins


# snapd writes a unit for each revision of each snap, several a week by itself, and dpkg knows none of them. Such a unit mounts a snap's
# file and starts nothing; it is as brought only with snapd's name and not one line beside these. A snap's services are told as others are.
SNAP = re.compile(r"etc/systemd/system/(?:[a-z.-]+\.target\.wants/)?(snap-[A-Za-z0-9\\]+(?:-[A-Za-z0-9\\]+)*-x?[0-9]+\.mount)")
SNAP_LINES = re.compile(
    r"\[(?:Unit|Mount|Install)\]|"
    r"Description=Mount unit for [a-z0-9-]+(?:, revision x?[0-9]+)?(?: via [a-z-]+)?|"
    r"(?:Before|After)=(?:snapd\.service|snapd\.mounts(?:-pre)?\.target|local-fs(?:-pre)?\.target|zfs-mount\.service)|"
    r"What=/var/lib/snapd/snaps/[a-z0-9-]+_x?[0-9]+\.snap|Where=(?:/var/lib/snapd)?/snap/[a-z0-9-]+/x?[0-9]+|"
    r"Type=(?:squashfs|fuse\.squashfuse|fuse\.snapfuse)|"
    r"Options=(?:nodev|ro|nosuid|allow_other|x-gdu\.hide|x-gvfs-hide)(?:,(?:nodev|ro|nosuid|allow_other|x-gdu\.hide|x-gvfs-hide))*|"
    r"LazyUnmount=yes|DirectoryMode=0755|WantedBy=(?:multi-user|snapd\.mounts)\.target|"
)


def mounts_a_snap(path: str, full: Path) -> bool:
    """Whether it is a unit of snapd's that mounts a snap, or the link by which that starts."""
    named = SNAP.fullmatch(path)
    if not named:
        return False
    try:
        if full.is_symlink():
            return str(full.readlink()) == f"/etc/systemd/system/{named[1]}"
        with full.open("rb") as f:
            text = f.read(4096).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return False
    return len(text) < 4096 and "What=" in text and all(SNAP_LINES.fullmatch(line) for line in text.split("\n"))


def _watched(path: str) -> bool:
    """Whether a plain path could be a watched one: which of dpkg's sums are worth keeping."""
    return path.startswith(("/etc/", "/lib/systemd/system/"))


# -- setuid programs --------------------------------------------------------------------------------------------------------


def find_setuid(root: Path, dpkg: Dpkg, now: float, *, rest: float = 0.02, stop: Callable[[], bool] = lambda: False) -> Files | None:
    """All setuid programs of the root's own file system; None where it was told to stop. Long and slow: once a day."""
    found: dict[str, os.stat_result] = {}
    unread: list[str] = []
    top = os.lstat(root).st_dev
    pace, todo, seen = Pace(rest), [("", 0)], 0
    while todo:
        path, depth = todo.pop()
        pace()
        if stop():
            return None
        seen += 1
        try:
            with os.scandir(f"{root}/{path}" if path else root) as entries:
                for entry in entries:
                    _judge(entry, f"{path}/{entry.name}" if path else f"/{entry.name}", depth, top, todo, found)
        except PermissionError:
            if len(unread) < MAX_HOMES:
                unread.append(path)
        except OSError:
            continue
        if seen > MAX_DIRECTORIES or len(found) > MAX_SETUID:
            unread.append(path)
            break
    names = {plain(path) for path in found}
    owned = dpkg.owned(names.__contains__) if found else Owned({}, frozenset())
    ours = owned.sums.keys() | owned.owned
    files = {
        path: FileState("", stat.S_IMODE(s.st_mode), s.st_uid, True if plain(path) in ours else None, max(0.0, now - s.st_ctime))
        for path, s in found.items()
    }
    return Files("setuid", files, {}, tuple(unread))


def _judge(
    entry: os.DirEntry[str], path: str, depth: int, top: int, todo: list[tuple[str, int]], found: dict[str, os.stat_result]
) -> None:  # fmt: skip
    if entry.is_symlink() or path in NOT_OURS:
        return
    s = entry.stat(follow_symlinks=False)
    if s.st_dev != top:
        return
    if stat.S_ISDIR(s.st_mode):
        if depth < MAX_DEPTH:
            todo.append((path, depth + 1))
    elif stat.S_ISREG(s.st_mode) and s.st_mode & stat.S_ISUID:
        found[path] = s


# -- sockets ----------------------------------------------------------------------------------------------------------------

LISTEN, UNCONNECTED = "0A", "07"  # states of proc/net/tcp and udp


class Sockets:
    """Listening sockets, with their programs where they may be known; the agent's own are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._programs: dict[str, str] = {}  # by inode
        self.programs = False  # whether programs of others can be read

    def look(self) -> Listeners | None:
        """None where the kernel doesn't say. Waits for the kernel."""
        rows: list[tuple[Literal["tcp", "udp"], str, int, int, str]] = []
        there = False
        for name, protocol, state in (
            ("tcp", "tcp", LISTEN),
            ("tcp6", "tcp", LISTEN),
            ("udp", "udp", UNCONNECTED),
            ("udp6", "udp", UNCONNECTED),
        ):
            text = _text(self._root / "proc/net" / name)
            there = there or bool(text)
            rows += parse_sockets(text, "tcp" if protocol == "tcp" else "udp", state)
        if not there:
            return None
        own = set(self._own())
        rows = [row for row in rows if row[4] not in own][:MAX_SOCKETS]
        inodes = {row[4] for row in rows}
        if inodes - self._programs.keys():
            self._find(inodes)
        self._programs = {inode: program for inode, program in self._programs.items() if inode in inodes}
        return Listeners(tuple(Listener(p, address, port, self._programs.get(inode, ""), uid) for p, address, port, uid, inode in rows))

    def _own(self) -> Iterator[str]:
        yield from (inode for _, inode in _inodes("/proc/self/fd"))

    def _find(self, inodes: set[str]) -> None:
        """Which programs hold these: a look at all processes, only when there is a socket that wasn't."""
        denied = False
        self._programs |= dict.fromkeys(inodes - self._programs.keys(), "")
        for pid in [name for name in _names(self._root / "proc") if name.isdigit()][:MAX_PIDS]:
            try:
                for _, inode in _inodes(f"{self._root}/proc/{pid}/fd"):
                    if inode in inodes:
                        self._programs[inode] = str(Path(f"{self._root}/proc/{pid}/exe").readlink())
            except PermissionError:
                denied = True
            except OSError:
                continue
        self.programs = not denied


def _names(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def _inodes(directory: str) -> Iterator[tuple[str, str]]:
    """(descriptor, inode) of the sockets of a process. Raises OSError."""
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                target = str(Path(entry.path).readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                yield entry.name, target[8:-1]


def parse_sockets(text: str, protocol: Literal["tcp", "udp"], state: str) -> list[tuple[Literal["tcp", "udp"], str, int, int, str]]:
    """proc/net/tcp and the like → (protocol, address, port, uid, inode) of the sockets in that state."""
    found: list[tuple[Literal["tcp", "udp"], str, int, int, str]] = []
    for line in text.splitlines()[1 : MAX_SOCKETS * 16]:
        words = line.split()
        try:
            if words[3] == state and words[2].endswith(":0000"):
                host, port = words[1].split(":")
                found.append((protocol, _address(host), int(port, 16), int(words[7]), words[9]))
        except (IndexError, ValueError, OSError, struct.error):
            continue
    return found


def _address(text: str) -> str:
    """The kernel writes addresses as words of the machine's own byte order."""
    if len(text) not in (8, 32):
        raise ValueError("no address")
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    address = socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)
    return address.removeprefix("::ffff:") if "." in address else address


def _text(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return f.read(MAX_READ * 4).decode(errors="replace")
    except OSError:
        return ""


# -- firewall ---------------------------------------------------------------------------------------------------------------


def firewall(root: Path, now: float) -> Firewall:
    """Only root may ask the kernel (CAP_NET_ADMIN), so a timer of root's leaves the rules in a file (config/systemd/ronda-firewall.*)."""
    path = root / STATE_FILE
    try:
        if now - path.stat().st_mtime > STATE_AGE:
            return Firewall(False)
        with path.open("rb") as f:
            said = json.loads(f.read(STATE_BYTES))["nftables"]
        return judge_rules(said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Firewall(False)


def judge_rules(said: Iterable[Mapping[str, Any]]) -> Firewall:
    """`nft -j list ruleset`: guarded where what comes in is refused unless something allows it."""
    entries = [entry for entry in said if isinstance(entry, dict)]
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    inputs = {(c["family"], c["table"], c["name"]) for c in chains if c.get("hook") == "input" and c.get("type") == "filter"}
    policies = sorted(str(c.get("policy", "accept")) for c in chains if (c["family"], c["table"], c["name"]) in inputs)
    refuses = [r for r in rules if (r["family"], r["table"], r["chain"]) in inputs and _refuses_all(r.get("expr", ()))]
    digest = hashlib.sha256(json.dumps([policies, len(refuses)]).encode()).hexdigest()[:16]
    return Firewall(True, "drop" in policies or bool(refuses), len(rules), digest)


def _refuses_all(expressions: Iterable[Mapping[str, Any]]) -> bool:
    """A rule without a condition that drops or rejects; counters and logs are none."""
    words = [word for expression in expressions for word in expression if word not in ("counter", "log", "limit", "comment")]
    return words in (["drop"], ["reject"])


# -- what is plugged in -----------------------------------------------------------------------------------------------------

USB = {"01": "audio", "02": "network", "03": "hid", "06": "camera", "07": "printer", "08": "storage", "0b": "smartcard", "0e": "video",
       "e0": "wireless"}  # fmt: skip
HUB, DATA = "09", "0a"  # of no interest: every box has hubs; 0a belongs to 02


def usb(root: Path) -> Usb | None:
    """Interfaces of what is plugged in, by the classes of usb.org; None where the kernel has no USB."""
    directory = root / "sys/bus/usb/devices"
    if not directory.is_dir():
        return None
    found = {}
    for name in sorted(n for n in _names(directory) if ":" in n)[:MAX_USB]:
        code = _text(directory / name / "bInterfaceClass").strip().lower()
        if code and code not in (HUB, DATA):
            found[name] = USB.get(code, "other")
    return Usb(found)
