"""`python -m tests.torture.agent DIR`: the agent as it is, in hurried time, with a record of all that it produces.

Law: nothing of the agent is replaced but its clock, its boot's name and its event loop's; what is put in between (a record of each
state that a collector saw, of each row for the centre, of each write that the disk has) passes on what it was given. The record is
written before the agent goes on, so that it knows more than any agent that was killed.
"""

import asyncio
import os
import signal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from agent import buffer, delivery, ledger, logs, segments
from agent.app import App, Options
from agent.collector import Env
from agent.model import Batch
from agent.net import Net
from agent.push import STATES, Row, labels_of
from agent.wire import remote_write
from collectors import KINDS
from tests.torture.speed import Hurried, HurriedLoop, World

# A record's line: what, then fields.  S number head-as-hex | R number ms bits rank ms-when-told | B number ms bits | W path size
_BITS = struct.Struct("<d")
FEW = 250  # what the ledger's first promise is here: so near to what memory holds that too low a one is seen


class Recorder:
    """The sink of what collectors saw, and the keeper of the record."""

    def __init__(self, path: Path, world: World, site: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._world, self._site = world, site
        self._numbers: dict[bytes, int] = {}

    def _number(self, head: bytes, lines: list[str]) -> int:
        number = self._numbers.get(head)
        if number is None:
            number = self._numbers[head] = len(self._numbers)
            lines.append(f"S {number} {head.hex()}")
        return number

    def _say(self, lines: list[str]) -> None:
        if lines:
            os.write(self._fd, ("\n".join(lines) + "\n").encode())

    def write(self, batch: Batch) -> None:
        now, lines = self._world.now(), []
        for sample in batch.samples:
            if sample.metric.name in STATES:
                head = remote_write.head(tuple(labels_of(self._site, batch.labels, sample)))
                number = self._number(head, lines)
                lines.append(f"B {number} {now * 1000:.0f} {_BITS.pack(sample.value).hex()}")
        self._say(lines)

    def rows(self, rows: Sequence[Row]) -> None:
        lines: list[str] = []
        now = self._world.now()
        for row in rows:
            number = self._number(row.series.head, lines)
            lines.append(
                f"R {number} {self._world.true(row.at) * 1000:.0f} {_BITS.pack(row.value).hex()} {row.series.rank} {now * 1000:.0f}"
            )
        self._say(lines)

    def wrote(self, fd: int) -> None:
        self._say([f"W {Path(f'/proc/self/fd/{fd}').readlink()} {os.fstat(fd).st_size}"])

    def begin(self) -> None:
        self._say([f"N {self._world.now() * 1000:.0f}"])


def put_between(recorder: Recorder, world: World) -> None:
    add, write = delivery.Delivery.add, segments.write_all

    def adding(self: delivery.Delivery, rows: Sequence[Row]) -> None:
        recorder.rows(rows)
        add(self, rows)

    def writing(fd: int, data: bytes) -> None:
        if Path(f"/proc/self/fd/{fd}").readlink().parent.name != "buffer":  # the journal's: this is about samples
            write(fd, data)
            return
        if world.tear:
            os.write(fd, data[: int(len(data) * world.tear)])
            os.kill(os.getpid(), signal.SIGKILL)
        write(fd, data)
        recorder.wrote(fd)

    delivery.Delivery.add = adding
    buffer.write_all = segments.write_all = writing
    ledger.START_RISK = FEW
    delivery.this_boot = lambda _: delivery.Boot(world.boot, kept=False)


def main(home: Path) -> int:
    world = World(home / "world")
    clock = Hurried(world)
    logs.setup("info", "text")
    options = Options(config=home / "agent.yaml", data_dir=home / "disk")

    async def work() -> None:
        app = App(KINDS, Env(clock, Net()), options, home / "disk")
        recorder = Recorder(home / "record", world, app.config.site)
        recorder.begin()
        put_between(recorder, world)
        app.scheduler.sinks.insert(0, recorder)
        await app.run()

    with asyncio.Runner(loop_factory=lambda: HurriedLoop(world)) as runner:
        runner.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
