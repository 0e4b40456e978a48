"""Listeners, firewall, updates, clock, root disk, USB: each true case with its benign twin."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from agent.detect.listeners import KNOWN_AFTER, NewListener
from agent.detect.model import Detector, Finding, Said
from agent.detect.posture import DAY, HOUR, ClockWrong, FirewallOff, RootDiskBad, UpdatesPending, UsbDevice
from agent.detect.seen import Firewall, Listener, Listeners, RootDisk, TimeState, Updates, Usb

SSH = Listener("tcp", "0.0.0.0", 22, "/usr/sbin/sshd", 0)


def told(said: Iterable[Said]) -> list[tuple[str, str, str]]:
    return [(f.key, f.grade, f.state) for f in said if isinstance(f, Finding)]


def opened(said: Iterable[Said]) -> list[tuple[str, str]]:
    return [(key, grade) for key, grade, state in told(said) if state == "open"]


# -- listeners --------------------------------------------------------------------------------------------------------------


def looks(detector: NewListener, *those: tuple[Listener, ...], step: float = 30.0, start: float = 0.0) -> list[tuple[str, str, str]]:
    said = []
    for i, listeners in enumerate(those):
        said += told(detector.see(Listeners(listeners), start + i * step))
    return said


def nc(address: str = "0.0.0.0", port: int = 4444, program: str = "/usr/bin/nc.openbsd", protocol: str = "tcp") -> Listener:
    return Listener("udp" if protocol == "udp" else "tcp", address, port, program, 1000)


def test_a_new_listener_is_told_at_the_second_look_and_closed_when_it_is_gone() -> None:
    key = "tcp 4444 /usr/bin/nc.openbsd"
    assert looks(NewListener(), (SSH,), (SSH, nc())) == []
    assert looks(NewListener(), (SSH,), (SSH, nc()), (SSH, nc()), (SSH, nc())) == [(key, "medium", "open")]
    assert looks(NewListener(), (SSH,), (SSH, nc()), (SSH, nc()), (SSH,))[-1] == (key, "info", "closed")
    assert looks(NewListener(), (SSH,), (SSH, nc()), (SSH,), (SSH, nc()), (SSH,)) == []  # never two looks in a row


@pytest.mark.parametrize("program", ["/tmp/x", "/dev/shm/.x", "/var/tmp/a/b", "/usr/bin/x (deleted)", "/memfd:x"])
def test_a_program_where_nothing_is_installed_is_graver(program: str) -> None:
    new = nc(program=program)
    assert [grade for _, grade, _ in looks(NewListener(), (), (new,), (new,))] == ["high"]


@pytest.mark.parametrize(
    "benign",
    [
        nc("127.0.0.1"),
        nc("::1"),
        nc("127.3.3.3"),
        nc(port=45000, protocol="udp"),
        nc(port=68, protocol="udp"),
        nc(port=546, protocol="udp"),
    ],
)
def test_loopback_and_clients_sockets_are_none(benign: Listener) -> None:
    assert looks(NewListener(), (SSH,), (SSH, benign), (SSH, benign), (SSH, benign)) == []


def test_a_restart_of_a_known_program_is_none() -> None:
    statd = [nc(port=port, program="/sbin/rpc.statd") for port in (40001, 50002)]
    assert looks(NewListener(), (SSH, statd[0]), (), (SSH, statd[1]), (SSH, statd[1])) == []
    unread = SSH._replace(program="")
    assert looks(NewListener(), (SSH,), (unread,), (unread,)) == []  # its path can't be read any more
    assert looks(NewListener(), (unread,), (SSH,), (SSH,)) == []


def test_another_program_at_a_known_port_is_new() -> None:
    assert looks(NewListener(), (SSH,), (SSH._replace(program="/opt/x"),), (SSH._replace(program="/opt/x"),)) == [
        ("tcp 22 /opt/x", "medium", "open")
    ]


def test_after_a_day_it_is_known() -> None:
    detector = NewListener()
    assert looks(detector, (SSH,), (SSH, nc()), (SSH, nc()), (SSH, nc()), step=KNOWN_AFTER / 2 + 1)[-1][2] == "closed"
    assert looks(detector, (SSH,), (SSH, nc()), (SSH, nc()), start=9 * DAY) == []


def test_what_comes_and_goes_is_told_once_a_day_also_over_a_restart_and_what_is_grave_each_time() -> None:
    detector, half_hour = NewListener(), 1800.0
    visits = [those for _ in range(20) for those in ((SSH, nc()), (SSH, nc()), (SSH,))]
    assert [state for _, _, state in looks(detector, (SSH,), *visits, step=half_hour / 3)].count("open") == 1
    later = NewListener()
    later.recall(json.loads(json.dumps(detector.remember())), 50.0)
    assert [s for _, _, s in looks(later, (SSH, nc()), (SSH, nc()), (SSH,), start=100.0)] == ["closed"]
    assert [s for _, _, s in looks(later, (SSH, nc()), (SSH, nc()), start=2 * KNOWN_AFTER)] == ["open"]
    hasty = nc()._replace(program="/tmp/x")
    assert [s for _, _, s in looks(NewListener(), (), (hasty,), (hasty,), (), (hasty,), (hasty,))] == ["open", "closed", "open"]


def test_listeners_outlive_a_restart_known_or_open() -> None:
    before, later = NewListener(), NewListener()
    looks(before, (SSH,), (SSH, nc()), (SSH, nc()))
    later.recall(before.remember(), 100.0)
    assert looks(later, (SSH, nc()), (SSH, nc()), (SSH,), start=100.0) == [("tcp 4444 /usr/bin/nc.openbsd", "info", "closed")]


def test_ten_thousand_listeners_are_bounded() -> None:
    many = tuple(nc(port=i % 32768, program=f"/opt/{i}") for i in range(10_000))
    detector = NewListener()
    assert len(looks(detector, (SSH,), many, many, many)) <= 128
    assert len(detector.remember()["new"]) <= 128


# -- firewall ---------------------------------------------------------------------------------------------------------------


def test_a_firewall_that_goes_is_told_after_a_minute_and_one_that_never_was_quietly() -> None:
    on, off = Firewall(True, True, 9), Firewall(True, False, 0)
    had = FirewallOff()
    said = [opened(had.see(what, at)) for at, what in ((0.0, on), (60.0, off), (90.0, off), (121.0, off), (180.0, off))]
    assert said == [[], [], [], [("off", "high")], []]
    assert told(had.see(on, 240.0)) == [("off", "info", "closed")]
    never = FirewallOff()
    assert [opened(never.see(off, at)) for at in (0.0, 61.0, 122.0)] == [[], [("off", "low")], []]
    blink = FirewallOff()  # a reload is no hole
    assert [opened(blink.see(what, at)) for at, what in ((0.0, on), (60.0, off), (90.0, on), (150.0, off))] == [[], [], [], []]


def test_a_firewall_that_cant_be_read_is_blindness() -> None:
    detector = FirewallOff()
    assert [told(detector.see(Firewall(False), at)) for at in (0.0, 100.0, 10_000.0)] == [[], [], []]
    assert (detector.coverage(frozenset()).share, detector.coverage(frozenset()).why) == (0.0, "firewall_unreadable")
    detector.see(Firewall(True, True), 0.0)
    assert detector.coverage(frozenset()).share == 1.0


def test_that_there_was_a_firewall_outlives_a_restart() -> None:
    before, later = FirewallOff(), FirewallOff()
    list(before.see(Firewall(True, True), 0.0))
    later.recall(before.remember(), 0.0)
    assert [opened(later.see(Firewall(True, False), at)) for at in (0.0, 61.0)] == [[], [("off", "high")]]


# -- updates ----------------------------------------------------------------------------------------------------------------


def pending(*names: str, lists: float = HOUR, oldest: float = -1.0) -> Updates:
    return Updates(len(names), oldest, lists, reboot=False, names=names)


def test_updates_that_wait_for_weeks() -> None:
    detector = UpdatesPending()
    said = {day: opened(detector.see(pending("openssl 3.0.2"), day * DAY)) for day in (0, 10, 13, 15, 30, 46, 50)}
    assert {day: s for day, s in said.items() if s} == {15: [("pending", "medium")], 46: [("pending", "high")]}
    assert ("pending", "info", "closed") in told(detector.see(pending(), 51 * DAY))


def test_updates_that_are_installed_in_time() -> None:
    detector = UpdatesPending()
    said = [opened(detector.see(pending(f"openssl 3.0.{day // 10}"), day * DAY)) for day in range(100)]
    assert [s for s in said if s] == []  # each waits ten days, then the next one


def test_old_lists_are_told_instead_of_all_is_well() -> None:
    detector = UpdatesPending()
    assert opened(detector.see(pending(lists=8 * DAY), 0.0)) == [("lists", "medium")]
    assert ("lists", "info", "closed") in told(detector.see(pending(), 1.0))
    assert opened(UpdatesPending().see(pending(lists=-1.0), 0.0)) == []


def test_what_updates_wait_outlives_a_restart() -> None:
    before, later = UpdatesPending(), UpdatesPending()
    for day in (0, 13):
        list(before.see(pending("openssl 3.0.2"), day * DAY))
    later.recall(before.remember(), 0.0)
    assert opened(later.see(pending("openssl 3.0.2"), 2 * DAY)) == [("pending", "medium")]


# -- clock, disk, USB -------------------------------------------------------------------------------------------------------


def test_a_clock_that_nobody_keeps() -> None:
    detector = ClockWrong()
    said = [(m, opened(detector.see(TimeState(False), m * 60.0))) for m in range(70)]
    assert [pair for pair in said if pair[1]] == [(60, [("unsynchronised", "medium")])]
    boot = ClockWrong()  # NTP comes half an hour late
    assert [s for m in range(90) if (s := opened(boot.see(TimeState(m > 30, 0.001 if m > 30 else None), m * 60.0)))] == []


@pytest.mark.parametrize(("offset", "grade"), [(2.5, "medium"), (-40.0, "high"), (1.9, ""), (float("nan"), "")])
def test_a_clock_that_is_off(offset: float, grade: str) -> None:
    detector = ClockWrong()
    said = [s for m in range(5) for s in opened(detector.see(TimeState(True, offset), m * 60.0))]
    assert said == ([("offset", grade)] if grade else [])
    assert detector.coverage(frozenset({"clock"})).share == 1.0
    assert ClockWrong().coverage(frozenset({"clock"})).why == "no_second_clock"


def test_a_root_disk_that_dies() -> None:
    detector = RootDiskBad()
    assert [opened(detector.see(RootDisk(ro, 0), at)) for at, ro in ((0.0, False), (60.0, True), (120.0, True))] == [
        [], [], [("read_only", "medium")]
    ]  # fmt: skip
    assert ("read_only", "info", "closed") in told(detector.see(RootDisk(False, 0), 180.0))
    errors = RootDiskBad()
    assert [opened(errors.see(RootDisk(False, n), at)) for at, n in ((0.0, 7), (60.0, 7), (120.0, 9))] == [[], [], [("errors", "medium")]]
    assert ("errors", "info", "closed") in told(errors.see(RootDisk(False, 9), 120.0 + DAY))
    blink = RootDiskBad()  # a remount for a moment
    assert [opened(blink.see(RootDisk(ro), at)) for at, ro in ((0.0, False), (60.0, True), (120.0, False))] == [[], [], []]


def test_a_new_kind_of_usb_device() -> None:
    detector = UsbDevice()
    none, stick = Usb({"1-1": "network"}), Usb({"1-1": "network", "1-2": "storage"})
    said = [told(detector.see(what, at)) for at, what in ((0.0, none), (60.0, stick), (120.0, stick), (180.0, stick), (240.0, none))]
    assert said == [[], [], [("storage", "medium", "open")], [], [("storage", "info", "closed")]]
    other = UsbDevice()  # another of a kind that is always there
    assert [told(other.see(what, at)) for at, what in ((0.0, none), (60.0, Usb({"1-1": "network", "1-3": "network"})), (120.0, none))] == [
        [], [], []
    ]  # fmt: skip
    later = UsbDevice()
    for at in (300.0, 360.0):
        detector.see(stick, at)
    later.recall(detector.remember(), 0.0)
    assert told(later.see(none, 1.0)) == [("storage", "info", "closed")]


@pytest.mark.parametrize(
    ("detector", "said"),
    [
        (NewListener, {}), (NewListener, {"known": 1, "new": []}), (NewListener, {"known": [1], "new": []}), (FirewallOff, {}),
        (UpdatesPending, {"hours": 3}), (UpdatesPending, {"hours": {"x": "y"}}), (UsbDevice, {"classes": 4, "open": []}), (UsbDevice, {}),
    ],
)  # fmt: skip
def test_another_lifes_nonsense_is_refused(detector: Callable[[], Detector], said: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        detector().recall(said, 0.0)
