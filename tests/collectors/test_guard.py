"""The kind guard: a box of files below a root, its log, its changes, its memory; what it says that it can't see.

Law: the files are real, time is not: a turn lets three seconds pass.
"""

import asyncio
import functools
import json
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.collector import Env
from agent.detect import casebook, patrol
from agent.detect.table import HOST
from agent.model import Event
from agent.structure import ConfigError, loads
from collectors import guard
from tests.fakes import FakeClock
from tests.watching import Watching

PASSWD = "root:x:0:0:root:/root:/bin/bash\nbudi:x:1000:1000::/home/budi:/bin/bash\n"
PROC_TCP = "  sl  local_address rem_address   st\n"
PROC_TCP += "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n"
NEW = "   1: 00000000:115C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12 1\n"
FAILED = "Nov 24 10:00:0{} box sshd[{}]: Failed password for root from 192.0.2.77 port 4000 ssh2\n"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A small Debian, as far as this kind looks."""
    root = tmp_path / "box"
    files = {
        "etc/passwd": PASSWD, "etc/group": "sudo:x:27:budi\n", "etc/shadow": "root:*:1::::::\n", "etc/sudoers": "root ALL=(ALL:ALL) ALL\n",
        "etc/crontab": "# nothing\n", "home/budi/.ssh/authorized_keys": "ssh-ed25519 AAAA budi\n", "var/log/auth.log": "",
        "proc/net/tcp": PROC_TCP, "proc/1/mountinfo": "22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw\n", "var/lib/dpkg/status": "",
        "sys/bus/usb/devices/1-1:1.0/bInterfaceClass": "02\n",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "root").mkdir()
    os.utime(root / "var/lib/dpkg/status", (1.7e9, 1.7e9))
    return root


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is run as a task."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        asyncio.run(test(*args, **named))

    return run


class Guard(Watching):
    """The watcher at work; `turns` lets it look so often and gives the events of that time."""

    def __init__(self, box: Path, data: Path, config: guard.Config | None = None) -> None:
        self.clock = FakeClock(wall=time.time())
        data.mkdir(exist_ok=True)
        super().__init__(guard.build(config or guard.Config(), Env(self.clock, None, box, data, code="DKC")))  # type: ignore[arg-type]

    async def turns(self, seconds: float) -> Sequence[Event]:
        before = len(self.events)
        for _ in range(int(seconds / guard.TURN)):
            await self.clock.advance(guard.TURN)
            for _ in range(400):  # until the thread has looked, and it sleeps again
                await asyncio.sleep(0.0005)
                if self._asleep():
                    break
        return self.events[before:]

    def _asleep(self) -> bool:
        if self._task.done():
            self._task.result()
        return any(not alarm.cancelled for _, _, alarm, _ in self.clock._heap)

    def value(self, name: str, *labels: str) -> float | None:
        return next((s.value for s in self.picture if s.metric.name == name and s.labels == labels), None)


def of(events: Sequence[Event], kind: str) -> list[tuple[str, str]]:
    return [(e.fields["ronda.state"], e.fields["ronda.grade"]) for e in events if e.kind == kind]


@awaited
async def test_an_idle_box_has_no_findings_and_says_what_it_does_not_see(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data") as it:
        await it.turns(3000.0)
    assert [e.kind for e in it.events if e.kind != "guard_sight"] == []
    sight = it.events[0]
    assert sight.kind == "guard_sight"
    assert sight.fields["firewall_off"] == "firewall_unreadable"
    covered = {s.labels[0]: s.value for s in it.picture if s.metric is patrol.COVERAGE}
    assert covered.keys() == set(guard.RULES)
    assert covered["firewall_off"] == 0.0
    assert covered["brute_force"] == covered["usb_device"] == 1.0
    assert [s for s in it.picture if s.metric is casebook.ACTIVE] == []
    assert it.value("ronda_guard_listeners") == 1.0


@awaited
async def test_a_brute_force_in_the_log_is_told_within_two_turns(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data") as it:
        with (box / "var/log/auth.log").open("a") as log:
            log.write("".join(FAILED.format(n, 700 + n) for n in range(9)))
        events = await it.turns(6.0)
        await it.turns(15.0)
        assert of(events, "brute_force")[0] == ("open", "medium")
        assert events[0].fields["source.ip"] == "192.0.2.77"
        assert "192.0.2.77" not in events[0].message
        assert it.value("ronda_condition_active", "brute_force", "medium") == 1.0
        assert it.value("ronda_guard_auth_failures_total", "sshd") == 9.0
        with (box / "var/log/auth.log").open("a") as log:
            log.write("Nov 24 10:01:00 box sshd[800]: Accepted password for root from 192.0.2.77 port 4000 ssh2\n")
        assert of(await it.turns(6.0), "brute_force") == [("update", "critical")]


@awaited
async def test_changes_are_found_at_the_next_look_and_after_a_restart(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data") as it:
        (box / "etc/passwd").write_text(PASSWD + "tamu:x:0:0::/tmp:/bin/bash\n")
        (box / "etc/sudoers.d").mkdir()
        (box / "etc/sudoers.d/x").write_text("tamu ALL=NOPASSWD: ALL\n")
        events = await it.turns(guard.FILES + 3.0)
    assert ("open", "critical") in of(events, "accounts_changed")
    assert of(events, "sudoers_changed") == [("open", "high")]
    (box / "home/budi/.ssh/authorized_keys").write_text("ssh-ed25519 BBBB siapa\n")
    (box / "etc/cron.d").mkdir()
    (box / "etc/cron.d/x").write_text("* * * * * root /tmp/x\n")
    async with Guard(box, tmp_path / "data") as again:
        await again.until(lambda: any(e.kind == "keys_changed" for e in again.events))
    assert of(again.events, "keys_changed") == [("open", "high")]
    assert of(again.events, "persistence_changed") == [("open", "high")]
    assert of(again.events, "sudoers_changed") == []


@awaited
async def test_a_listener_a_stick_and_a_read_only_disk(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data") as it:
        (box / "proc/net/tcp").write_text(PROC_TCP + NEW)
        (box / "sys/bus/usb/devices/1-2:1.0").mkdir()
        (box / "sys/bus/usb/devices/1-2:1.0/bInterfaceClass").write_text("08\n")
        (box / "proc/1/mountinfo").write_text("22 1 179:2 / / ro,noatime - ext4 /dev/mmcblk0p2 ro\n")
        events = await it.turns(2 * guard.POSTURE + 6.0)
        assert of(events, "new_listener") == of(events, "usb_device") == of(events, "root_disk") == [("open", "medium")]
        (box / "proc/net/tcp").write_text(PROC_TCP)
        assert of(await it.turns(guard.SOCKETS + 3.0), "new_listener") == [("closed", "medium")]


@awaited
async def test_a_log_that_goes_is_said(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data") as it:
        (box / "var/log/auth.log").unlink()
        events = await it.turns(20.0)
        assert [e.fields["brute_force"] for e in events if e.kind == "guard_sight"] == ["no_login_log"]
        assert it.value("ronda_detector_coverage", "brute_force") == 0.0
        (box / "var/log/auth.log").write_text("")
        await it.turns(20.0)
        assert it.value("ronda_detector_coverage", "brute_force") == 1.0


@awaited
async def test_a_disk_that_does_not_answer_blinds_it_and_is_said_and_counted_until_it_does(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO that nobody writes to: whoever opens it waits in the kernel, as for a dead disk."""
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    async with Guard(box, tmp_path / "data") as it:
        before, mounts = it.value("ronda_detector_coverage", "root_disk"), box / "proc/1/mountinfo"
        text = mounts.read_text()
        mounts.unlink()
        os.mkfifo(mounts)
        await it.turns(guard.POSTURE + guard.TURN)
        await it.until(lambda: any("disk_hangs" in e.fields.values() for e in it.events))
        assert it.value("ronda_guard_looks_late_total") == 1.0
        assert {s.value for s in it.picture if s.metric.name == "ronda_detector_coverage"} == {0.0}
        await it.turns(9.0)
        assert it.value("ronda_guard_looks_late_total") == 1.0, "one thread waits, no more"
        await asyncio.to_thread(mounts.write_text, text)
        mounts.unlink()
        mounts.write_text(text)
        await it.turns(guard.POSTURE)
        assert it.value("ronda_detector_coverage", "root_disk") == before == 0.5


@awaited
async def test_updates_and_setuid_come_later_in_threads_of_their_own(box: Path, tmp_path: Path) -> None:
    lists = box / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    (lists / "x_dists_bookworm-security_main_binary-arm64_Packages").write_text("Package: openssl\nArchitecture: arm64\nVersion: 3.0.2\n\n")
    (box / "var/lib/dpkg/status").write_text("Package: openssl\nStatus: install ok installed\nArchitecture: arm64\nVersion: 3.0.1\n\n")
    (box / "usr").mkdir()
    (box / "usr/pintu").write_text("#!/bin/sh\n")
    (box / "usr/pintu").chmod(0o4755)
    async with Guard(box, tmp_path / "data") as it:
        await it.turns(guard.LATER[guard.UPDATES] - 3.0)
        assert it.value("ronda_guard_updates_pending") is None
        await it.turns(60.0)
        assert it.value("ronda_guard_updates_pending") == 1.0
        assert it.value("ronda_detector_coverage", "setuid_new") == 1.0
        await it.turns(guard.LATER[guard.SETUID])
    assert [e.kind for e in it.events] == ["guard_sight"] * len(it.events)
    held = json.loads((tmp_path / "data/guard.cases.json").read_text())["detectors"]
    assert list(held["setuid_new"]["known"]) == ["/usr/pintu"]
    assert held["updates_pending"] == {"hours": {"openssl 3.0.2": 0}}


@awaited
async def test_memory_that_cannot_be_used_begins_anew(box: Path, tmp_path: Path) -> None:
    async with Guard(box, tmp_path / "data"):
        pass
    path = tmp_path / "data/guard.cases.json"
    held = json.loads(path.read_text())
    assert set(held["detectors"]) <= set(guard.RULES)
    held["detectors"] = {rule: {"known": 7, "classes": {}, "hours": []} for rule in guard.RULES}
    path.write_text(json.dumps(held))
    async with Guard(box, tmp_path / "data") as it:
        await it.turns(9.0)
    assert [e.kind for e in it.events] == ["guard_sight"]


def test_the_config_refuses_rules_that_are_none() -> None:
    good = loads(b"{suppress: [{rule: usb_device, until: 2026-12-31, reason: uji coba}], scanners: [192.0.2.9]}", guard.Config, "x")
    assert good.scanners == ["192.0.2.9"]
    with pytest.raises(ConfigError, match="no rule of guard"):
        loads(b"{suppress: [{rule: rogue_dhcp, until: 2026-12-31, reason: uji coba}]}", guard.Config, "x")


def test_every_detector_of_the_table_is_one_of_the_catalogue() -> None:
    assert guard.RULES == (
        "brute_force", "new_listener", "accounts_changed", "sudoers_changed", "keys_changed", "persistence_changed", "setuid_new",
        "firewall_off", "updates_pending", "clock_wrong", "root_disk", "usb_device",
    )  # fmt: skip
    assert len(HOST) == len(set(guard.RULES))


def test_the_glance() -> None:
    samples = [patrol.COVERAGE(1.0, "a"), patrol.COVERAGE(0.0, "b"), casebook.ACTIVE(1.0, "a", "medium")]
    assert guard.glance(samples) == "1 dari 2 mata melihat, 1 temuan"
    assert guard.glance(samples[:2]) == "1 dari 2 mata melihat, tidak ada temuan"
