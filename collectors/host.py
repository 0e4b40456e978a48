"""host: the box itself: processor, memory, disks, temperature, power supply, clock.

    collectors:
      host: [{interval: 15s}]

Needs nothing. Everything is read from proc/, sys/ and etc/ below `env.root`, so a test gives it a tree of files (tests/fixtures/host/):
by psutil what it reads below a root (processor, memory, disk traffic, boot), by ourselves what it would read from the real machine
whatever the root, or could hang on (sensors, filesystems, the firmware's word). Two things are asked of the kernel itself: the size of
filesystems (statvfs on the mountpoint below the root) and its clock (agent.timesync; it describes the machine, so tests inject it).

Law: no read here may hang. Only filesystems on local disks are asked (LOCAL): statvfs on a dead NFS or FUSE mount would never return and
the loop with it. What is not there (a sensor, a Pi's firmware) has no series; what must be there and is not raises. Everything is bounded.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from agent import timesync
from agent.collector import Env, Kind, Poller, TaskConfig
from agent.model import Event, Metric, Sample

MAX_FILESYSTEMS, MAX_SENSORS, MAX_DISKS = 16, 16, 16
LOCAL = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat", "ntfs3", "jfs", "nilfs2", "bcachefs", "overlay"])
NOT_OURS = ("/var/lib/docker", "/var/lib/containers", "/var/lib/kubelet", "/var/lib/lxc", "/snap", "/run", "/dev", "/proc", "/sys")
DISK = re.compile(r"(sd[a-z]+|hd[a-z]+|vd[a-z]+|xvd[a-z]+|nvme\d+n\d+|mmcblk\d+)")
HWMON = frozenset(["coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"])  # others are slow, wake a disk, or hang with it
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
CAUSES = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
STEP_SECONDS = 1.0  # NTP slews at most 0.5 ms a second; more than this between two looks is somebody setting the clock
BOOT_SECONDS = 300.0
RESCAN = 20  # looks between two searches for sensors: they rarely come and go, and the search costs more than the reading

_M, _S = ("mountpoint",), ("sensor",)
CPU = Metric("ronda_host_cpu_seconds_total", "Time that the processors spent in each mode, summed over all.", "counter", ("mode",))
LOAD = Metric("ronda_host_load1", "Processes that ran or wanted to, averaged over a minute.")
MEMORY = Metric("ronda_host_memory_total_bytes", "Memory of the box.")
AVAILABLE = Metric("ronda_host_memory_available_bytes", "Memory that programs could still have without swapping.")
SWAP = Metric("ronda_host_swap_total_bytes", "Swap space.")
SWAP_FREE = Metric("ronda_host_swap_free_bytes", "Swap space that is not used.")
SIZE = Metric("ronda_host_filesystem_size_bytes", "Size of the filesystem.", labels=_M)
AVAIL = Metric("ronda_host_filesystem_avail_bytes", "Space that ordinary programs can still use.", labels=_M)
FILES = Metric("ronda_host_filesystem_files", "Inodes of the filesystem; absent where it makes them as needed.", labels=_M)
FILES_FREE = Metric("ronda_host_filesystem_files_free", "Inodes that are not used.", labels=_M)
READONLY = Metric(
    "ronda_host_filesystem_readonly",
    "Whether a filesystem that should be writable is read-only; absent for those that etc/fstab wants read-only or doesn't know.",
    labels=_M,
)
ERRORS = Metric("ronda_host_filesystem_errors_total", "Errors that ext4 found since the last check of the filesystem.", "counter", _M)
READ = Metric("ronda_host_disk_read_bytes_total", "Bytes read from the disk.", "counter", ("device",))
WRITTEN = Metric("ronda_host_disk_written_bytes_total", "Bytes written to the disk.", "counter", ("device",))
BUSY = Metric("ronda_host_disk_io_seconds_total", "Time in which the disk had something to do.", "counter", ("device",))
TEMPERATURE = Metric("ronda_host_temperature_celsius", "Temperature that a sensor shows.", labels=_S)
THROTTLED = Metric("ronda_host_throttled", "What a Raspberry Pi's firmware holds back now, and why.", labels=("cause",))
THROTTLED_SEEN = Metric("ronda_host_throttled_since_boot", "What it held back at any time since the boot.", labels=("cause",))
BOOT = Metric("ronda_host_boot_timestamp_seconds", "When the box was booted, by its wall clock: moves when that is set.")
UPTIME = Metric("ronda_host_uptime_seconds", "Time since the boot; not touched by changes of the wall clock.")
SYNCHRONISED = Metric(
    "ronda_clock_synchronised", "Whether the kernel's clock is kept right by somebody (NTP); absent where it can't be read."
)
OFFSET = Metric("ronda_clock_offset_seconds", "What NTP still has to correct; absent while not synchronised.")
CLOCK_ERROR = Metric("ronda_clock_estimated_error_seconds", "Error of the clock as NTP estimates it; absent while not synchronised.")
STEPS = Metric("ronda_clock_steps_total", "How often the wall clock jumped by more than a second, seen from the steady one.", "counter")
METRICS = (
    CPU, LOAD, MEMORY, AVAILABLE, SWAP, SWAP_FREE, SIZE, AVAIL, FILES, FILES_FREE, READONLY, ERRORS, READ, WRITTEN, BUSY, TEMPERATURE,
    THROTTLED, THROTTLED_SEEN, BOOT, UPTIME, SYNCHRONISED, OFFSET, CLOCK_ERROR, STEPS,
)  # fmt: skip
EVENTS = ("filesystem_readonly", "filesystem_writable", "filesystem_errors", "under_voltage", "clock_stepped", "clock_synchronised",
          "clock_unsynchronised", "clock_unreadable", "host_booted")  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Nothing to choose."""


class Mount(NamedTuple):
    """A filesystem; `readonly` is the superblock's state, not a sandbox's view of it. `source` is its device's path."""

    mountpoint: str
    kind: str
    source: str
    readonly: bool


class Host:
    """The Poller. Keeps what only a comparison of two looks can tell."""

    def __init__(self, env: Env, read_clock: Callable[[], timesync.TimeState] = timesync.read) -> None:
        self._env, self._read_clock = env, read_clock
        self._root = str(env.root).rstrip("/")  # a text: joining Paths cost a tenth of a look
        self._looks = 0
        self._cpu: dict[str, float] = {}
        self._sensors: list[tuple[str, Path]] = []
        self._firmware: Path | None = None
        self._writable: set[str] = set()  # mountpoints seen writable
        self._conditions: dict[str, bool] = {}  # what events tell the changes of
        self._errors: dict[str, int] = {}
        self._times: tuple[float, float, float] | None = None  # wall, monotonic, uptime
        self._steps = 0

    async def collect(self) -> Iterable[Sample | Event]:
        """One look. Raises OSError or ValueError where proc/ is not as it must be."""
        seen = [*self._basics(), *self._disks(), *self._heat(), *self._clock()]
        self._looks += 1
        return seen

    def _basics(self) -> Iterator[Sample]:
        psutil.PROCFS_PATH = f"{self._root}/proc"  # psutil's own way to another root; set anew, it is the module's
        try:
            times, memory, swap = psutil.cpu_times(), psutil.virtual_memory(), psutil.swap_memory()
            disks, boot, load = psutil.disk_io_counters(perdisk=True), psutil.boot_time(), _read(f"{self._root}/proc/loadavg")
        except (KeyError, IndexError, TypeError, RuntimeError) as e:
            raise ValueError(f"proc/ is not as expected: {e!r}") from e
        for mode in MODES:
            # The kernel's idle and iowait can go back a little (proc(5)); a counter may not.
            self._cpu[mode] = max(getattr(times, mode), self._cpu.get(mode, 0.0))
            yield CPU(self._cpu[mode], mode)
        yield BOOT(boot)
        yield LOAD(float(load.split()[0]))
        yield MEMORY(memory.total)
        yield AVAILABLE(memory.available)
        yield SWAP(swap.total)
        yield SWAP_FREE(swap.free)
        for device in sorted(filter(DISK.fullmatch, disks))[:MAX_DISKS]:
            yield READ(disks[device].read_bytes, device)
            yield WRITTEN(disks[device].write_bytes, device)
            yield BUSY(disks[device].busy_time / 1000, device)

    def _disks(self) -> Iterator[Sample | Event]:
        wanted_readonly, known = parse_fstab(_optional(f"{self._root}/etc/fstab"))
        mounts = self._mounts()
        self._forget_all_but({m.mountpoint for m in mounts})
        for mount in mounts:
            yield from self._space(mount)
            where = mount.mountpoint
            if not mount.readonly:
                self._writable.add(where)
            if where in self._writable or (where not in wanted_readonly and (where in known or where == "/")):
                yield READONLY(float(mount.readonly), where)
                fields = {"mountpoint": where, "device": mount.source, "type": mount.kind}
                if (now := self._turned(f"readonly {where}", mount.readonly, first=True)) is True:
                    yield Event("filesystem_readonly", "critical", f"{where} is read-only: its card or disk may be dying", fields)
                elif now is False:
                    yield Event("filesystem_writable", "info", f"{where} can be written again", fields)
            yield from self._ext4_errors(mount)

    def _forget_all_but(self, mounted: set[str]) -> None:
        """Sticks come and go under ever new names; what is kept of them must not grow for ever."""
        self._writable &= mounted
        self._errors = {where: n for where, n in self._errors.items() if where in mounted}
        gone = {c for c in self._conditions if c.startswith("readonly ") and c.removeprefix("readonly ") not in mounted}
        for condition in gone:
            del self._conditions[condition]

    def _mounts(self) -> list[Mount]:
        """As init sees them: a systemd sandbox makes everything read-only for us alone, and shows binds of its own."""
        text = _optional(f"{self._root}/proc/1/mountinfo")
        return parse_mounts(text, ours=False) if text else parse_mounts(_read(f"{self._root}/proc/self/mountinfo"), ours=True)

    def _space(self, mount: Mount) -> Iterator[Sample]:
        try:
            s = os.statvfs(self._root + mount.mountpoint)
        except OSError:  # mounted where we may not look, or unmounted this instant: no series, not a failure of the whole look
            return
        yield SIZE(s.f_blocks * s.f_frsize, mount.mountpoint)
        yield AVAIL(s.f_bavail * s.f_frsize, mount.mountpoint)
        if s.f_files:
            yield FILES(s.f_files, mount.mountpoint)
            yield FILES_FREE(s.f_favail, mount.mountpoint)

    def _ext4_errors(self, mount: Mount) -> Iterator[Sample | Event]:
        text = _optional(f"{self._root}/sys/fs/ext4/{mount.source.rpartition('/')[2]}/errors_count") if mount.kind == "ext4" else ""
        if not text:
            return
        count, where = int(text), mount.mountpoint
        yield ERRORS(count, where)
        before = self._errors.get(where, count)
        self._errors[where] = count
        if count > before:
            fields = {"mountpoint": where, "device": mount.source, "errors": str(count)}
            yield Event("filesystem_errors", "warning", f"ext4 has found {count - before} errors on {where}", fields)

    def _heat(self) -> Iterator[Sample | Event]:
        if self._looks % RESCAN == 0:
            self._sensors = list(find_sensors(self._env.root))
            self._firmware = find_firmware(self._env.root)
        for name, path in self._sensors:
            if (celsius := _number(_optional(path))) is not None:
                yield TEMPERATURE(celsius / 1000, name)
        now, ever = self._throttled()
        for cause, held in now.items():
            yield THROTTLED(float(held), cause)
        for cause, held in ever.items():
            yield THROTTLED_SEEN(float(held), cause)
        if "under_voltage" in now and (self._turned("under_voltage", now["under_voltage"], first=True) is True):
            yield Event("under_voltage", "warning", "the power supply gives too little voltage")

    def _throttled(self) -> tuple[Mapping[str, bool], Mapping[str, bool]]:
        """(now, since boot) by cause; empty on what is no Raspberry Pi."""
        text = _optional(self._firmware) if self._firmware else ""
        if not text or not self._firmware:
            return {}, {}
        if self._firmware.name == "get_throttled":
            return parse_throttled(text)
        return {"under_voltage": text.strip() != "0"}, {}

    def _clock(self) -> Iterator[Sample | Event]:
        uptime = float(_read(f"{self._root}/proc/uptime").split()[0])
        yield UPTIME(uptime)
        if self._looks == 0 and uptime < BOOT_SECONDS:
            boot = _optional(f"{self._root}/proc/sys/kernel/random/boot_id").strip()
            yield Event("host_booted", "info", f"the box was booted {uptime:.0f} s ago", {"boot_id": boot})
        yield from self._steps_since(self._env.clock.now(), self._env.clock.monotonic(), uptime)
        try:
            state, why = self._read_clock(), ""
        except OSError as e:  # a sandbox may forbid it; the disks are still worth a look, and the event says what is missing
            state, why = None, str(e)
        if self._turned("clock unreadable", state is None, first=True) is True:
            yield Event("clock_unreadable", "warning", f"the kernel's clock state can't be read: {why}")
        if state:
            yield from self._synchronisation(state)

    def _steps_since(self, wall: float, monotonic: float, uptime: float) -> Iterator[Sample | Event]:
        if self._times:
            step = clock_step(self._times, (wall, monotonic, uptime))
            if abs(step) > STEP_SECONDS:
                self._steps += 1
                fields = {"from": f"{wall - step:.3f}", "to": f"{wall:.3f}", "seconds": f"{step:.3f}"}
                yield Event("clock_stepped", "warning", f"the wall clock jumped by {step:+.1f} s", fields)
        self._times = wall, monotonic, uptime
        yield STEPS(self._steps)

    def _synchronisation(self, state: timesync.TimeState) -> Iterator[Sample | Event]:
        yield SYNCHRONISED(float(state.synchronised))
        if state.synchronised:
            yield OFFSET(state.offset_seconds)
            yield CLOCK_ERROR(state.estimated_error_seconds)
        if (now := self._turned("synchronised", state.synchronised)) is not None:
            kind, text = ("clock_synchronised", "is kept right") if now else ("clock_unsynchronised", "is no longer kept right")
            yield Event(kind, "info", f"the clock {text} by NTP", {"status": hex(state.status)})

    def _turned(self, condition: str, now: bool, first: bool = False) -> bool | None:
        """The condition's new state if it has changed, else None. `first`: true at the first look counts as a change."""
        before = self._conditions.get(condition, not now if first and now else now)
        self._conditions[condition] = now
        return now if now != before else None


def clock_step(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    """By how many seconds the wall clock was set between two looks of (wall, monotonic, uptime).

    The monotonic clock stands still while the machine is suspended, the uptime does not: sleeping is no step.
    """
    wall, monotonic, uptime = (b - a for a, b in zip(before, after, strict=True))
    return wall - monotonic - max(0.0, uptime - monotonic)


def parse_mounts(mountinfo: str, *, ours: bool) -> list[Mount]:
    """The local filesystems, each once, under its shortest path. `ours`: flags of single mounts may be a sandbox's, and don't count.

    proc(5): id parent major:minor root mountpoint options optional... - type source super-options
    """
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 6 or len(after) < 3 or after[0] not in LOCAL:
            continue
        where = _unescaped(before[4])
        if where.startswith(NOT_OURS) or (after[0] == "overlay" and where != "/"):
            continue
        flags = set(after[2].split(",")) | (set() if ours else set(before[5].split(",")))
        # Linux 6.12 and newer leave ext4's flag at rw after an error and say emergency_ro
        mount = Mount(where, after[0], _unescaped(after[1]), bool(flags & {"ro", "emergency_ro", "shutdown"}))
        same = found.get(before[2])
        if not same or len(where) < len(same.mountpoint):
            found[before[2]] = mount
    return sorted(found.values())[:MAX_FILESYSTEMS]


def parse_fstab(fstab: str) -> tuple[set[str], set[str]]:
    """(mountpoints wanted read-only, mountpoints known)."""
    rows = [words for words in map(str.split, fstab.splitlines()) if len(words) >= 4 and not words[0].startswith("#")]
    return {_unescaped(w[1]) for w in rows if "ro" in w[3].split(",")}, {_unescaped(w[1]) for w in rows}


def parse_throttled(text: str) -> tuple[dict[str, bool], dict[str, bool]]:
    """(now, since boot) by cause, from the firmware's hexadecimal word: bits 0 to 3 are now, 16 to 19 since the boot."""
    word = int(text, 16)
    return tuple({cause: bool(word >> i + at & 1) for i, cause in enumerate(CAUSES)} for at in (0, 16))  # type: ignore[return-value]


def find_firmware(root: Path) -> Path | None:
    """Where a Raspberry Pi tells of its power supply: Raspberry Pi OS's kernel tells all, Debian's (rpi_volt) the voltage only."""
    if (path := root / "sys/devices/platform/soc/soc:firmware/get_throttled").exists():
        return path
    chips = (chip for chip in root.glob("sys/class/hwmon/hwmon*") if _optional(chip / "name").strip() == "rpi_volt")
    return next((chip / "in0_lcrit_alarm" for chip in chips), None)


def find_sensors(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, file in thousandths of a degree): the thermal zones, and the well-known hwmon chips that are none."""
    zones = sorted(root.glob("sys/class/thermal/thermal_zone*"))
    found = [(_optional(zone / "type").strip() or zone.name, zone / "temp") for zone in zones]
    known = {name.replace("-", "_") for name, _ in found}
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        name = _optional(chip / "name").strip()
        if name in HWMON and name not in known:
            found += [(f"{name}_{p.name.removesuffix('_input')}", p) for p in sorted(chip.glob("temp*_input"))]
    names: dict[str, int] = {}
    for name, path in found[:MAX_SENSORS]:
        names[name] = names.get(name, 0) + 1
        yield (f"{name}_{names[name]}" if names[name] > 1 else name), path


def _unescaped(text: str) -> str:
    """The kernel and fstab write space, tab, newline and backslash as octal."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text) if "\\" in text else text


def _read(path: str | Path) -> str:
    with open(path, "rb", buffering=0) as f:  # noqa: PTH123  (half the cost of Path.read_text, and this is most of a look)
        return (f.read() or b"").decode(errors="replace")


def _optional(path: str | Path) -> str:
    """The text of a file that need not exist; empty: it is not there, or its driver has no answer now."""
    try:
        return _read(path)
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+\s*", text) else None


def glance(samples: Sequence[Sample]) -> str:
    """`beban 0,4 · memori 45 % · kartu 71 % · 52 °C`; what is read-only is said first."""
    value = {(s.metric.name, s.labels): s.value for s in samples}

    def used(free: Metric, total: Metric, *labels: str) -> str:
        whole = value.get((total.name, labels), 0.0)
        return f"{100 * (1 - value.get((free.name, labels), 0.0) / whole):.0f} %" if whole else ""

    load = value.get((LOAD.name, ()))
    hottest = max((s.value for s in samples if s.metric is TEMPERATURE), default=None)
    memory, card = used(AVAILABLE, MEMORY), used(AVAIL, SIZE, "/")
    parts = ["kartu hanya bisa dibaca"] if any(s.metric is READONLY and s.value for s in samples) else []
    parts += [f"beban {load:.1f}".replace(".", ",")] if load is not None else []
    parts += [f"memori {memory}"] if memory else []
    parts += [f"kartu {card}"] if card else []
    parts += [f"{hottest:.0f} °C"] if hottest is not None else []
    return " · ".join(parts)


def build(config: Config, env: Env) -> Poller:  # noqa: ARG001
    return Host(env)


KIND = Kind(name="host", config=Config, metrics=METRICS, build=build, events=EVENTS, glance=glance)
