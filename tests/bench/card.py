"""What is written to the card: by a running agent, and by a day in which the centre is away.

Law: the device's own count where there can be one, for it alone knows what a file system adds; else the kernel's count of a process.
"""

import contextlib
import dataclasses
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agent.buffer import Buffer
from agent.collector import Env
from agent.config import PushConfig
from agent.delivery import STORE_AFTER, STORE_FROM, Delivery
from agent.model import Batch, Metric, Sample
from agent.net import Net
from agent.push import BEAT, HEARTBEAT, STATES, Push, Row
from tests.bench import measure
from tests.fakes import FakeClock

SECTOR = 512


@dataclasses.dataclass(frozen=True)
class Store:
    """A directory, and the block device that it is alone on; empty: there is none."""

    directory: Path
    device: str = ""

    @property
    def how(self) -> str:
        return "as an ext4 of its own has written" if self.device else "as the kernel counts for the process"

    def written(self, pid: int) -> float:
        """Bytes so far."""
        if not self.device:
            return write_bytes(pid)
        subprocess.run(["sync", "-f", str(self.directory)], check=True)
        return int(Path(f"/sys/block/{self.device}/stat").read_text().split()[6]) * float(SECTOR)


def write_bytes(pid: int | str) -> float:
    """Bytes of pages that the process caused to be written (proc(5))."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return float(fields["write_bytes"])


@contextlib.contextmanager
def mounted(directory: Path, mib: int = 256) -> Iterator[Store]:
    """An ext4 in a file, as an SD card has it; a plain directory where this machine allows no loop device."""
    image, mount = directory / "card.img", directory / "card"
    mount.mkdir()
    with image.open("wb") as f:
        f.truncate(mib << 20)
    device = _device(image) if all(map(shutil.which, ("mkfs.ext4", "losetup"))) else ""
    mounts = device and subprocess.run(["mount", "-o", "noatime", device, str(mount)], check=False).returncode == 0
    try:
        yield Store(mount, Path(device).name if mounts else "")
    finally:
        if mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False)
        if device:
            subprocess.run(["losetup", "-d", device], check=False)


def _device(image: Path) -> str:
    """A loop device with a new file system; empty: this machine allows none."""
    options = ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
    subprocess.run(["mkfs.ext4", *options, str(image)], check=True, capture_output=True)
    return subprocess.run(["losetup", "--find", "--show", str(image)], check=False, capture_output=True, text=True).stdout.strip()


# -- a day without a centre -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Seen:
    """Two looks at what an agent exposes (text), some time apart."""

    first: str
    last: str
    seconds: float


async def outage(seen: Seen, seconds: float, store: Store) -> float:
    """Bytes written while a centre is away for so long: the real tiers, records and buffer, fed with what an agent exposed.

    Counters and histograms grow as they did between the two looks, gauges that differed go on changing by chance; time is a fake's.
    """
    clock = FakeClock()
    work = Work(seen)
    rows: list[Row] = []
    push = Push(clock, "bench", "fibre", lambda: work.batch("", clock.monotonic()), work.state, rows.extend)
    buffer = Buffer(store.directory / "outage", "bench", clock)
    delivery = Delivery(Env(clock, Net(), Path("/")), PushConfig(url="http://127.0.0.1:9"), buffer, lambda: None)
    before = store.written(os.getpid())
    push.start()
    for step in range(round(seconds / BEAT)):
        for task in work.tasks:
            push.write(Batch(task, work.labels[task], clock.now(), work.batch(task, clock.monotonic())))
        await clock.advance(BEAT)
        old = clock.monotonic() - STORE_AFTER
        if rows and rows[0].since < old:  # as Delivery does it
            late = [row for row in rows if row.since < clock.monotonic() - STORE_FROM]
            del rows[: len(late)]
            await delivery._store(late)
        if step % 240 == 0:
            measure.progress(f"N6: an outage, hour {step // 240}")
    buffer.close()
    measure.progress("")
    return store.written(os.getpid()) - before


class Work:
    """The tasks of an agent as its exposition shows them."""

    def __init__(self, seen: Seen) -> None:
        self._began = FakeClock().monotonic()
        self._dice = random.Random(1124)
        self.labels: dict[str, dict[str, str]] = {}
        self._samples: dict[str, list[tuple[Sample, float]]] = {"": []}
        last = {key: value for *_, key, value in _samples(seen.last)}
        for metric, suffix, labels, key, value in _samples(seen.first):
            grows = (last.get(key, value) - value) / seen.seconds
            own = {k: v for k, v in labels.items() if k in ("task", "target", "role")} if "target" in labels else {}
            task = own.get("task", "")
            self.labels.setdefault(task, own)
            rest = {k: v for k, v in labels.items() if k not in own}
            values = tuple(v for k, v in rest.items() if k != "le") + ((rest["le"],) if "le" in rest else ())
            made = Metric(metric.name, "", metric.type, tuple(k for k in rest if k != "le"))
            self._samples.setdefault(task, []).append((Sample(made, values, value, suffix), grows))

    @property
    def tasks(self) -> list[str]:
        return [task for task in self._samples if task]

    def batch(self, task: str, now: float) -> list[Sample]:
        return [self._grown(sample, grows, now - self._began) for sample, grows in self._samples[task]]

    def _grown(self, sample: Sample, grows: float, since: float) -> Sample:
        if not grows:
            return sample
        if sample.metric.type == "gauge":
            return sample._replace(value=sample.value * self._dice.uniform(0.7, 1.5))
        return sample._replace(value=sample.value + round(grows * since, 6 if sample.suffix == "_sum" else 0))

    def state(self) -> list[Sample]:
        return [s for s, _ in self._samples[""] if s.metric.name in STATES or s.metric.name == HEARTBEAT]


def _samples(text: str) -> Iterator[tuple[Metric, str, dict[str, str], Any, float]]:
    for family in text_string_to_metric_families(text):
        sort: Any = family.type if family.type in ("counter", "histogram") else "gauge"
        for s in family.samples:
            suffix = s.name.removeprefix(family.name) if sort == "histogram" else ""
            yield Metric(s.name.removesuffix(suffix), "", sort), suffix, s.labels, (s.name, tuple(sorted(s.labels.items()))), s.value
