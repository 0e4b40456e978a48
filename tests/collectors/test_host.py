"""The host kind on trees of files (a Pi, a dying card, an office PC), on a fake clock, and on this machine."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from agent import timesync
from agent.clock import SystemClock
from agent.collector import Env
from agent.model import Event, Sample
from agent.net import Net
from collectors import host
from tests.fakes import FakeClock

FIXTURES = Path(__file__).parents[1] / "fixtures/host"
GOOD = timesync.TimeState(True, 0.0021, 0.0004, 0.05, 1)
BAD = timesync.TimeState(False, 0.0, 16.0, 16.0, 0x40)


class Box:
    """A host collector on a tree of files."""

    def __init__(self, root: Path, time: timesync.TimeState = GOOD) -> None:
        self.clock, self.root, self.time = FakeClock(), root, time
        self.host = host.Host(Env(self.clock, Net(root), root), lambda: self.time)

    def look(self) -> list[Sample | Event]:
        self.seen = list(asyncio.run(self.host.collect()))
        return self.seen

    @property
    def samples(self) -> list[Sample]:
        return [s for s in self.seen if isinstance(s, Sample)]

    def value(self, metric, *labels: str) -> float | None:
        found = [s.value for s in self.samples if s.metric is metric and s.labels == labels]
        assert len(found) < 2, "a series stands twice"
        return found[0] if found else None

    def series(self, metric) -> dict:
        return {s.labels[0] if s.labels else "": s.value for s in self.samples if s.metric is metric}

    def events(self) -> list[str]:
        return [e.kind for e in self.seen if isinstance(e, Event)]

    def pass_time(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(seconds))

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)


@pytest.fixture
def box(tmp_path: Path):
    """Makes a Box on a copy of a fixture, so that a test can change the files."""

    def make(name: str, **kwargs) -> Box:
        shutil.copytree(FIXTURES / name, tmp_path / name)
        made = Box(tmp_path / name, **kwargs)
        made.look()
        return made

    return make


def test_a_raspberry_pi(box):
    pi = box("pi")

    assert pi.value(host.CPU, "user") == 1452.30
    assert pi.series(host.CPU).keys() == set(host.MODES)
    assert (pi.value(host.LOAD), pi.value(host.BOOT), pi.value(host.UPTIME)) == (0.42, 1794980000, 86500.12)
    assert (pi.value(host.MEMORY), pi.value(host.AVAILABLE)) == (945364 * 1024, 519950 * 1024)
    assert (pi.value(host.SWAP), pi.value(host.SWAP_FREE)) == (102396 * 1024, 81916 * 1024)
    assert pi.series(host.READ) == {"mmcblk0": 2048000 * 512}
    assert pi.series(host.WRITTEN) == {"mmcblk0": 1024000 * 512}
    assert pi.value(host.BUSY, "mmcblk0") == 73.44
    assert pi.series(host.SIZE).keys() == pi.series(host.AVAIL).keys() == {"/", "/boot/firmware", "/media/usb stick"}
    assert pi.series(host.READONLY) == {"/": 0, "/boot/firmware": 0, "/media/usb stick": 0}
    assert pi.series(host.TEMPERATURE) == {"cpu-thermal": 71.426}
    assert pi.series(host.ERRORS) == {"/": 0}


def test_a_weak_power_supply_is_told_once_and_again_when_it_returns(box):
    pi = box("pi")
    throttled = "sys/devices/platform/soc/soc:firmware/get_throttled"

    assert pi.series(host.THROTTLED) == {"under_voltage": 1, "frequency_capped": 0, "throttled": 1, "soft_temperature_limit": 0}
    assert pi.series(host.THROTTLED_SEEN) == {"under_voltage": 1, "frequency_capped": 0, "throttled": 1, "soft_temperature_limit": 0}
    assert pi.events() == ["under_voltage"]
    pi.look()
    assert pi.events() == []
    pi.write(throttled, "50000\n")
    pi.look()
    assert (pi.events(), pi.value(host.THROTTLED, "under_voltage"), pi.value(host.THROTTLED_SEEN, "under_voltage")) == ([], 0, 1)
    pi.write(throttled, "50001\n")
    pi.look()
    assert pi.events() == ["under_voltage"]


def test_debians_kernel_on_a_pi_just_booted_seen_from_a_sandbox(box):
    pi = box("pi-debian")

    assert pi.series(host.THROTTLED) == {"under_voltage": 1}
    assert pi.series(host.THROTTLED_SEEN) == {}
    assert pi.series(host.READONLY) == {"/": 0, "/boot/firmware": 0}  # systemd's ProtectSystem=strict is no dead card
    assert pi.events() == ["under_voltage", "host_booted"]
    pi.look()
    assert pi.events() == []


@pytest.mark.parametrize("name", ["readonly", "readonly-new"])
def test_a_root_that_should_be_writable_and_is_not(box, name):
    made = box(name)

    assert made.series(host.READONLY) == {"/": 1, "/boot/firmware": 0}
    assert made.events() == ["filesystem_readonly"]
    (event,) = [e for e in made.seen if isinstance(e, Event)]
    assert (event.severity, event.fields["device"]) == ("critical", "/dev/mmcblk0p2")
    assert host.glance(made.samples).startswith("kartu hanya bisa dibaca · ")
    made.look()
    assert made.events() == []


def test_a_root_turns_read_only_while_we_look_and_is_repaired(box):
    pi = box("pi")
    healthy = (pi.root / "proc/1/mountinfo").read_text()
    pi.write("proc/1/mountinfo", (FIXTURES / "readonly/proc/1/mountinfo").read_text())
    pi.write("sys/fs/ext4/mmcblk0p2/errors_count", "3\n")
    pi.look()
    assert pi.events() == ["filesystem_readonly", "filesystem_errors"]
    assert pi.value(host.ERRORS, "/") == 3
    pi.write("proc/1/mountinfo", healthy)
    pi.look()
    assert pi.events() == ["filesystem_writable"]


def test_what_is_read_only_on_purpose_has_no_series(box):
    kiosk = box("kiosk")

    assert kiosk.series(host.READONLY) == {"/boot/firmware": 0}
    assert kiosk.events() == []


def test_an_office_pc(box):
    pc = box("pc")

    assert pc.series(host.TEMPERATURE) == {"x86_pkg_temp": 48, "acpitz": 27.8, "acpitz_2": 29.8, "coretemp_temp1": 49}
    assert pc.series(host.SIZE).keys() == {"/", "/boot/efi"}
    assert pc.series(host.READ) == {"nvme0n1": 800 * 512, "sda": 80 * 512}
    assert pc.series(host.THROTTLED) == {}


def test_sticks_under_ever_new_names_leave_nothing_behind(box):
    pi = box("pi")
    mounts = (pi.root / "proc/1/mountinfo").read_text()
    for i in range(50):
        pi.write("proc/1/mountinfo", mounts + f"90 28 8:17 / /media/stick{i} rw - ext4 /dev/sdb1 rw\n")
        pi.write("sys/fs/ext4/sdb1/errors_count", "0\n")
        pi.look()
    assert len(pi.host._writable) <= 4
    assert len(pi.host._errors) <= 2
    assert len(pi.host._conditions) <= 7


def test_a_sensor_that_falls_silent_loses_its_series(box):
    pi = box("pi")
    (pi.root / "sys/class/thermal/thermal_zone0/temp").unlink()
    pi.look()

    assert pi.series(host.TEMPERATURE) == {}


def test_counters_do_not_go_back(box):
    pi = box("pi")
    stat = (pi.root / "proc/stat").read_text()
    pi.write("proc/stat", stat.replace("8123400 23010", "8123399 23000"))
    pi.look()

    assert (pi.value(host.CPU, "idle"), pi.value(host.CPU, "iowait")) == (81234.0, 230.1)


@pytest.mark.parametrize("step", [3600.0, -5.0, 1.5, 1_500_000_000.0])
def test_a_step_of_the_wall_clock(box, step):
    pi = box("pi")
    pi.pass_time(15)
    pi.clock.step_wall(step)
    pi.look()

    (event,) = [e for e in pi.seen if isinstance(e, Event)]
    assert (event.kind, float(event.fields["seconds"])) == ("clock_stepped", pytest.approx(step, abs=0.001))
    assert float(event.fields["to"]) - float(event.fields["from"]) == pytest.approx(step, abs=0.002)
    assert pi.value(host.STEPS) == 1
    pi.pass_time(15)
    pi.look()
    assert (pi.events(), pi.value(host.STEPS)) == ([], 1)


def test_slewing_and_a_long_sleep_are_no_steps(box):
    pi = box("pi")
    pi.pass_time(300)
    pi.clock.step_wall(0.4)  # what NTP may slew in that time, and more
    pi.look()
    assert pi.events() == []
    pi.pass_time(15)
    pi.clock.step_wall(7200)  # suspended for two hours: the uptime went on, the monotonic clock did not
    pi.write("proc/uptime", f"{86500.12 + 7215:.2f} 1.0\n")
    pi.look()
    assert (pi.events(), pi.value(host.STEPS)) == ([], 0)


def test_the_clocks_synchronisation_and_its_changes(box):
    pi = box("pi-debian", time=BAD)
    assert (pi.value(host.SYNCHRONISED), pi.value(host.OFFSET), pi.value(host.CLOCK_ERROR)) == (0, None, None)
    assert "clock_unsynchronised" not in pi.events()  # it never was otherwise
    pi.time = GOOD
    pi.look()
    assert (pi.value(host.SYNCHRONISED), pi.value(host.OFFSET), pi.value(host.CLOCK_ERROR)) == (1, 0.0021, 0.0004)
    assert pi.events() == ["clock_synchronised"]
    pi.time = BAD
    pi.look()
    assert pi.events() == ["clock_unsynchronised"]


def test_glance(box):
    pi = box("pi")
    text = re.sub(r"kartu \d+ %", "kartu N %", host.glance(pi.samples))

    assert text == "beban 0,4 · memori 45 % · kartu N % · 71 °C"
    assert host.glance([]) == ""


@pytest.mark.parametrize("name", ["proc/stat", "proc/meminfo", "proc/loadavg", "proc/uptime", "proc/1/mountinfo"])
def test_without_what_every_linux_has_the_look_fails(box, name):
    pi = box("pi")
    (pi.root / name).unlink()

    with pytest.raises(OSError):
        pi.look()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/stat", "cpu 1 2 3\n"),
        ("proc/stat", ""),
        ("proc/stat", "cpu 1 2 3 4 5 6 7 8\nno time of the boot\n"),
        ("proc/meminfo", "MemTotal: 12 kB\n"),
        ("proc/loadavg", "much\n"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "not hex\n"),
    ],
)
def test_garbage_is_an_error_and_no_number(box, name, text):
    pi = box("pi")
    pi.write(name, text)

    with pytest.raises(ValueError):
        pi.look()


def test_a_clock_that_may_not_be_read_is_told_once_and_the_rest_is_seen(box):
    pi = box("pi")

    def refused() -> timesync.TimeState:
        raise OSError(1, "adjtimex: Operation not permitted")

    pi.host = host.Host(Env(pi.clock, Net(pi.root), pi.root), refused)
    pi.look()
    assert pi.events() == ["under_voltage", "clock_unreadable"]
    pi.look()
    assert pi.events() == []
    assert (pi.value(host.SYNCHRONISED), pi.value(host.OFFSET), pi.value(host.STEPS)) == (None, None, 0)


def test_filesystems_disks_and_sensors_are_bounded(box, tmp_path):
    mounts = "\n".join(f"{i} 1 8:{i} / /srv/{i:03} rw - ext4 /dev/sda{i} rw" for i in range(100))
    disks = "\n".join(f" 8 {i} sd{chr(97 + i // 26)}{chr(97 + i % 26)} 1 1 1 1 1 1 1 1 1 1 1" for i in range(60))
    for i in range(40):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{i}"
        zone.mkdir(parents=True)
        (zone / "type").write_text("soc")

    assert len(host.parse_mounts(mounts, ours=False)) == host.MAX_FILESYSTEMS
    pi = box("pi")
    pi.write("proc/diskstats", disks)
    pi.look()
    assert len(pi.series(host.READ)) == host.MAX_DISKS
    names = [name for name, _ in host.find_sensors(tmp_path)]
    assert (len(names), len(set(names))) == (host.MAX_SENSORS, host.MAX_SENSORS)


def test_a_filesystem_mounted_twice_is_one_and_network_ones_are_not_asked():
    text = """
1 0 8:1 / /srv/data/exports rw - ext4 /dev/sda1 rw
2 0 8:1 / /srv rw - ext4 /dev/sda1 rw
3 0 0:9 / /mnt/nas rw - nfs4 nas:/x rw
4 0 0:8 / /mnt/smb rw - cifs //nas/x rw
5 0 0:7 / /mnt/ssh rw - fuse.sshfs me@x: rw
6 0 0:6 / /home rw - autofs systemd-1 rw
7 0 0:5 / / rw - overlay overlay rw
torn line
"""
    assert [m.mountpoint for m in host.parse_mounts(text, ours=False)] == ["/", "/srv"]


def test_names_and_labels_on_a_pi(box):
    pi = box("pi")
    labels = {host.CPU: set(host.MODES), host.THROTTLED: set(host.CAUSES), host.THROTTLED_SEEN: set(host.CAUSES)}
    labels |= {m: {"mmcblk0"} for m in (host.READ, host.WRITTEN, host.BUSY)}
    labels |= {m: {"/", "/boot/firmware", "/media/usb stick"} for m in (host.SIZE, host.AVAIL, host.READONLY)}
    labels |= {host.TEMPERATURE: {"cpu-thermal"}, host.ERRORS: {"/"}}

    for metric in host.METRICS:
        if metric not in (host.FILES, host.FILES_FREE):  # a filesystem under the fixture may have none
            assert set(pi.series(metric)) == labels.get(metric, {""}), metric.name
    assert {s.metric for s in pi.samples} <= set(host.METRICS)


def test_metrics_and_events_are_declared_once_and_all(box):
    made = {v for v in vars(host).values() if isinstance(v, type(host.CPU))}
    text = Path(host.__file__).read_text()
    events = set(re.findall(r'Event\(\s*"(\w+)"', text)) | {"clock_synchronised", "clock_unsynchronised"}

    assert made == set(host.METRICS)
    assert len({m.name for m in host.METRICS}) == len(host.METRICS)
    assert events == set(host.EVENTS) == set(host.KIND.events)


def test_this_machine():
    made = host.build(host.Config(), Env(SystemClock(), Net()))
    seen = [x for x in asyncio.run(made.collect()) if isinstance(x, Sample)]
    value = {(s.metric.name, *s.labels): s.value for s in seen}

    assert len(value) == len(seen), "a series stands twice"
    assert 0 < value["ronda_host_memory_available_bytes",] <= value["ronda_host_memory_total_bytes",]
    assert value["ronda_host_uptime_seconds",] > 0
    assert sum(value["ronda_host_cpu_seconds_total", mode] for mode in host.MODES) > 0
    assert value["ronda_clock_steps_total",] == 0
    for name, where in [k for k in value if k[0] == "ronda_host_filesystem_size_bytes"]:
        assert 0 <= value["ronda_host_filesystem_avail_bytes", where] <= value[name, where]
