"""The reader on the real helper's sockets: what it tells, what a flood may cost, and how a capture that has died says so."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.capture import reader as reading
from agent.capture.reader import Allowance, Blind, Reader, ask, device_problem
from agent.clock import SystemClock
from tests.capture.eyes import Wire, raw, syn
from tests.lab.netns import Lab

ARP = bytes.fromhex("ffffffffffff 020000000099 0806 0001 0800 06 04 0001 020000000099 c0000201 000000000000 c000024d")


class Brisk(SystemClock):
    """Waits between tries are short."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


# -- the allowance ------------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_spent_before_there_is_a_pause() -> None:
    allowance = Allowance(share=0.1, burst=0.02, at=0.0)
    assert allowance.spend(0.015, at=0.0) == 0.0
    assert allowance.spend(0.015, at=0.0) >= reading.PAUSE


@pytest.mark.parametrize("cost", [1e-5, 1e-3, 0.1])
def test_in_the_long_run_no_more_than_the_share_is_spent(cost: float) -> None:
    allowance, now, spent = Allowance(share=0.03, burst=0.02, at=0.0), 0.0, 0.0
    while now < 600:
        now += cost
        spent += cost
        now += allowance.spend(cost, now)
    assert spent <= 0.03 * now + 0.02 + cost


def test_time_that_goes_back_gives_nothing_and_breaks_nothing() -> None:
    allowance = Allowance(share=0.5, burst=0.02, at=100.0)
    assert allowance.spend(0.03, at=50.0) > 0
    assert allowance.spend(0.0, at=101.0) == 0.0


# -- on the wire --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with Lab(tmp_path_factory.mktemp("reader")) as lab:
        made = Wire(lab)
        made.listen()
        yield made


class Seen(list[tuple[bytes, str, str]]):
    """Frames as they come."""

    def take(self, frame: bytes, direction: str, which: str) -> None:
        self.append((frame, direction, which))

    def of(self, frame: bytes) -> list[tuple[str, str]]:
        return [(direction, which) for got, direction, which in self if got == frame]


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
            return
    raise AssertionError(f"not within {seconds:g} s: {what}")


@contextlib.asynccontextmanager
async def running(reader: Reader, alive: bool = True) -> AsyncIterator[None]:
    task = asyncio.create_task(reader.run())
    try:
        if alive:
            await until(lambda: reader.alive, "the capture lives")
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def reader_on(wire: Wire, take: reading.OnFrame, tmp_path: Path, device: str = "eth0", **more: float) -> Reader:
    return Reader(wire.path, device, take, Brisk(), tmp_path, **more)


@pytest.mark.lab
def test_frames_come_with_their_direction_and_socket(wire: Wire, tmp_path: Path) -> None:
    async def run() -> None:
        seen = Seen()
        reader = reader_on(wire, seen.take, tmp_path)
        own = ARP.replace(bytes.fromhex("020000000099"), bytes.fromhex(wire.box_mac.replace(":", "")))
        with raw(wire.peer) as end:
            async with running(reader):
                assert reader.problem == ""
                end.send(ARP)
                end.send(syn(wire.box_mac))
                reader.send(own)
                contacts = lambda: [direction for _, direction, which in seen if which == "contacts"]  # noqa: E731
                await until(lambda: len(contacts()) == 2 and seen.of(own), "an ARP in, one out, a SYN in, the kernel's RST out")
                counted = reader.counters()
            assert seen.of(ARP) == [("in", "lan")]
            assert seen.of(own) == [("out", "lan")]
            assert seen.of(syn(wire.box_mac)) == [("in", "contacts")]
            assert contacts() == ["in", "out"]
            assert counted["contacts"] == 2
            assert counted["lan"] >= 2
            assert counted["broadcast"] >= 1
            assert counted["contacts_lost"] == counted["lan_lost"] == 0
            assert reader.counters() == counted  # also after its end
            with pytest.raises(OSError, match="ended"):
                reader.send(own)

    asyncio.run(run())


@pytest.mark.lab
def test_a_flood_is_read_within_the_budget_counted_whole_and_blinds_nobody_to_arp(wire: Wire, tmp_path: Path) -> None:
    """Behaviour only: what it costs in time is the bench's to measure (N7)."""
    frames = 40_000
    flooded = threading.Event()

    def flood() -> None:
        with raw(wire.peer) as end:
            for n in range(frames):
                end.send(syn(wire.box_mac, n))
        flooded.set()

    async def run() -> None:
        seen = Seen()
        reader = reader_on(wire, seen.take, tmp_path)
        async with running(reader):
            taps = reader._taps
            sender = threading.Thread(target=flood)
            with raw(wire.peer) as end:
                sender.start()
                sent = 0
                while not flooded.is_set():
                    end.send(ARP + sent.to_bytes(4))
                    sent += 1
                    await asyncio.sleep(0.02)
                sender.join()
                await until(lambda: sum(frame.startswith(ARP) for frame, _, _ in seen) == sent, f"all {sent} of the ARP frames")
            counted = reader.counters()
            read = sum(which == "contacts" for _, _, which in seen)
            assert sent > 0
            assert counted["contacts"] > frames  # each SYN, and what the kernel answered
            assert read < frames / 2
            assert counted["contacts_lost"] > frames / 2
            assert counted["contacts_lost"] + read <= counted["contacts"]
            assert counted["lan_lost"] == 0
            assert taps[1].pauses > 0

    asyncio.run(run())


@pytest.mark.lab
def test_who_takes_frames_may_fail(wire: Wire, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        def take(frame: bytes, direction: str, which: str) -> None:
            raise KeyError("a bug")

        reader = reader_on(wire, take, tmp_path)
        with raw(wire.peer) as end:
            async with running(reader):
                end.send(ARP)
                end.send(ARP)
                await until(lambda: reader.failures == 2, "both failures are counted")
                assert reader.alive

    asyncio.run(run())
    assert caplog.text.count("a frame could not be taken") == 1


# -- what can't be ------------------------------------------------------------------------------------------------------------


def why(path: Path, device: str = "eth0") -> Blind:
    with pytest.raises(Blind) as raised:
        asyncio.run(ask(path, device, within=0.5))
    return raised.value


def test_without_a_helper_it_says_what_cant_be_seen_and_what_to_do(tmp_path: Path) -> None:
    found = why(tmp_path / "none.sock")
    assert found.kind == "helper"
    assert "can't see scans" in str(found)
    assert "systemctl enable --now ronda-capture.socket" in str(found)
    assert "ronda capture" in str(found)
    assert "\n" not in str(found)


def test_a_helper_that_was_ended_is_the_same(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(str(tmp_path / "s"))
    assert "nothing listens" in str(why(tmp_path / "s"))


def test_a_helper_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(str(tmp_path / "s"))
        s.listen()
        assert "doesn't answer" in str(why(tmp_path / "s"))


@contextlib.contextmanager
def helper(path: Path, answer: bytes, sockets: Callable[[], list[socket.socket]] = list) -> Iterator[None]:
    """One that answers what it is told to, to each that asks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(str(path))
        s.listen()

        def work() -> None:
            while True:
                connection, _ = s.accept()
                with connection:
                    if not connection.recv(100):
                        return
                    given = sockets()
                    socket.send_fds(connection, [answer], [g.fileno() for g in given])
                    for g in given:
                        g.close()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(path))
            thread.join()


def pair() -> list[socket.socket]:
    return [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]


def three() -> list[socket.socket]:
    return [*pair(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)]


def files_() -> list[Any]:
    return [Path("/dev/null").open("rb") for _ in range(3)]


@pytest.mark.parametrize(
    ("answer", "sockets", "kind", "text"),
    [
        (b"no: eth0 is down\n", list, "device", "eth0 is down"),
        (b"no: the helper has no CAP_NET_RAW\n", list, "helper", "CAP_NET_RAW"),
        (b"ok\n", list, "device", "ok"),
        (b"ok\n", pair, "helper", "no ronda-capture"),
        (b"ok\n", three, "helper", "no ronda-capture"),
        (b"ok\n", files_, "helper", "no ronda-capture"),
        (b"", list, "helper", "ended without an answer"),
        (b"A" * 5000, list, "device", "AAAA"),
        (b"\xff\xfe\n", list, "device", "\ufffd"),
    ],
)
def test_what_the_helper_says_is_told_and_sockets_never_leak(
    tmp_path: Path, answer: bytes, sockets: Callable[[], list[socket.socket]], kind: str, text: str
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with helper(tmp_path / "s", answer, sockets):
        found = why(tmp_path / "s")
    assert len(list(Path("/proc/self/fd").iterdir())) == before  # its thread has ended: what is open now is a leak
    assert found.kind == kind
    assert text in str(found)


def test_sys_tells_of_a_device_without_asking_anybody(tmp_path: Path) -> None:
    assert device_problem(tmp_path, "eth0") == ""  # no sys/ to tell
    folder = tmp_path / "sys/class/net/eth0"
    folder.mkdir(parents=True)
    (folder / "flags").write_text("0x1003\n")
    assert device_problem(tmp_path, "eth0") == ""
    (folder / "flags").write_text("0x1002\n")
    assert device_problem(tmp_path, "eth0") == "eth0 is down"
    assert device_problem(tmp_path, "usb0") == "usb0 is not there"


@pytest.mark.lab
def test_a_device_that_goes_and_comes_back_is_captured_on_again(wire: Wire, tmp_path: Path) -> None:
    async def run() -> None:
        seen = Seen()
        wire.box.ip("link", "add", "usb0", "type", "veth", "peer", "name", "usb1")
        reader = reader_on(wire, seen.take, tmp_path, "usb0")
        async with running(reader, alive=False):
            await until(lambda: reader.problem == "usb0 is down", "it says that the device is down")
            assert (reader.alive, reader.kind) == (False, "device")
            wire.box.ip("link", "set", "usb0", "up")
            wire.box.ip("link", "set", "usb1", "up")
            await until(lambda: reader.alive, "it captures")
            wire.box.ip("link", "set", "usb0", "down")
            await until(lambda: reader.problem, "it notices that the device went down")
            wire.box.ip("link", "set", "usb0", "up")
            await until(lambda: reader.alive, "it captures again")
            wire.box.ip("link", "del", "usb0")
            await until(lambda: "No such device" in reader.problem, "it notices that the device is gone")
            wire.box.ip("link", "add", "usb0", "type", "veth", "peer", "name", "usb1")
            wire.box.ip("link", "set", "usb0", "up")
            wire.box.ip("link", "set", "usb1", "up")
            await until(lambda: reader.alive, "it captures on the new one")
            with raw(wire.box, "usb1") as end:
                end.send(ARP)
                await until(lambda: seen.of(ARP) == [("in", "lan")], "and sees what comes")

    asyncio.run(run())


def fixture(tmp_path: Path, carrier: str) -> Path:
    folder = tmp_path / "sys/class/net/eth0"
    folder.mkdir(parents=True)
    (folder / "flags").write_text("0x1003\n")
    (folder / "carrier").write_text(carrier)
    return tmp_path


def deaf(wire: Wire) -> Callable[[], list[socket.socket]]:
    """Sockets as the helper's, but the two that are read never hear anything."""

    def made() -> list[socket.socket]:
        with wire.box.entered():
            sockets = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0) for _ in range(3)]
        sockets[2].bind(("eth0", 0))
        return sockets

    return made


@pytest.mark.lab
@pytest.mark.parametrize(("carrier", "noticed"), [("1\n", True), ("0\n", False)], ids=["cable in", "cable out"])
def test_a_capture_that_shows_nothing_of_what_we_send_is_found_out(wire: Wire, tmp_path: Path, carrier: str, noticed: bool) -> None:
    async def run() -> None:
        told: list[str] = []
        reader = Reader(tmp_path / "s", "eth0", Seen().take, Brisk(), fixture(tmp_path, carrier), seen_within=0.02)
        async with running(reader):
            for _ in range(100):
                if reader.alive:
                    reader.send(ARP)
                told.append(reader.problem)
                await asyncio.sleep(0.01)
        assert any("shows nothing" in problem for problem in told) == noticed

    with helper(tmp_path / "s", b"ok\n", deaf(wire)):
        asyncio.run(run())


@pytest.mark.lab
def test_a_capture_that_shows_what_we_send_stays(wire: Wire, tmp_path: Path) -> None:
    async def run() -> None:
        reader = Reader(wire.path, "eth0", Seen().take, Brisk(), fixture(tmp_path, "1\n"), seen_within=0.05)
        async with running(reader):
            for _ in range(50):
                reader.send(ARP)
                await asyncio.sleep(0.01)
                assert reader.problem == ""

    asyncio.run(run())
