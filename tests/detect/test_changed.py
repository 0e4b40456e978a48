"""Accounts, sudoers, keys, persistence, setuid: what changed, who may have done it, what never is an excuse."""

from collections.abc import Iterable, Mapping

import pytest

from agent.detect.changed import (
    MAX_TOLD,
    AccountsChanged,
    Changed,
    KeysChanged,
    PersistenceChanged,
    SetuidNew,
    SudoersChanged,
)
from agent.detect.model import Finding, Said
from agent.detect.seen import Files, FileState, Packages

LOOK = 900.0


def state(digest: str = "a" * 64, *, packaged: bool | None = None, age: float = 10.0, mode: int = 0o644, owner: int = 0) -> FileState:
    return FileState(digest, mode, owner, packaged, age)


def findings(said: Iterable[Said]) -> list[Finding]:
    return [s for s in said if isinstance(s, Finding)]


def after(
    detector: Changed, before: Mapping[str, FileState], now: Mapping[str, FileState], *, packages: Packages | None = None,
    facts: Mapping[str, tuple[str, ...]] = {}, then: Mapping[str, tuple[str, ...]] | None = None, unread: tuple[str, ...] = (),
) -> list[Finding]:  # fmt: skip
    """What is said at the second look."""
    group = detector.group
    assert [f for f in detector.see(Files(group, before, facts), 1000.0) if isinstance(f, Finding) and f.state == "open"] == []
    if packages:
        assert findings(detector.see(packages, 1000.0 + LOOK)) == []
    return findings(detector.see(Files(group, now, facts if then is None else then, unread), 1000.0 + LOOK))


ALL = [AccountsChanged, SudoersChanged, KeysChanged, PersistenceChanged]


@pytest.mark.parametrize("kind", ALL)
def test_a_change_is_told_once_and_what_is_so_at_first_never(kind: type[Changed]) -> None:
    detector = kind()
    old, new = {"/etc/x": state()}, {"/etc/x": state("b" * 64)}
    said = after(detector, old, new)
    assert [(f.rule, f.grade, f.confirmed, f.fields["file.path"], f.fields["event.type"]) for f in said] == [
        (kind.rule.name, "high", True, "/etc/x", "change")
    ]
    assert findings(detector.see(Files(kind.group, new), 3000.0)) == []


@pytest.mark.parametrize("kind", ALL)
def test_new_gone_and_rights(kind: type[Changed]) -> None:
    assert [f.fields["event.type"] for f in after(kind(), {}, {"/etc/x": state()})] == ["creation"]
    assert [f.fields["event.type"] for f in after(kind(), {"/etc/x": state()}, {})] == ["deletion"]
    assert [f.fields["file.mode"] for f in after(kind(), {"/etc/x": state()}, {"/etc/x": state(mode=0o666)})] == ["0666"]
    assert len(after(kind(), {"/etc/x": state()}, {"/etc/x": state(owner=1000)})) == 1


@pytest.mark.parametrize("kind", [AccountsChanged, SudoersChanged, PersistenceChanged])
def test_the_package_manager_may(kind: type[Changed]) -> None:
    now = {"/etc/x": state("b" * 64, age=300.0), "/etc/new": state(age=210.0)}
    working = Packages(ago=200.0, began=320.0)
    assert after(kind(), {"/etc/x": state()}, now, packages=working) == []
    late = {"/etc/x": state("b" * 64, age=10.0)}  # 190 s after it was done
    assert len(after(kind(), {"/etc/x": state()}, late, packages=working)) == 1
    assert after(kind(), {"/etc/gone": state()}, {}, packages=working) == []
    assert len(after(kind(), {"/etc/gone": state()}, {}, packages=Packages(ago=5000.0, began=5000.0))) == 1
    assert len(after(kind(), {"/etc/x": state()}, now, packages=Packages(-1.0))) == 2


def test_no_package_brings_keys() -> None:
    path = "/home/budi/.ssh/authorized_keys"
    said = after(KeysChanged(), {}, {path: state(age=200.0)}, packages=Packages(ago=200.0, began=200.0))
    assert [f.key for f in said] == [path]


def test_what_is_as_its_package_brought_it_is_none_and_what_is_no_longer_is() -> None:
    unit = "/lib/systemd/system/cron.service"
    assert after(PersistenceChanged(), {unit: state(packaged=True)}, {unit: state("b" * 64, packaged=True)}) == []
    assert after(PersistenceChanged(), {}, {unit: state(packaged=True)}) == []
    said = after(PersistenceChanged(), {unit: state(packaged=True)}, {unit: state("b" * 64, packaged=False)})
    assert [f.fields["event.type"] for f in said] == ["change"]
    assert after(PersistenceChanged(), {unit: state("b" * 64, packaged=False)}, {unit: state(packaged=True)}) == []  # put right again


def test_a_second_root_is_critical_whoever_made_it_and_closes() -> None:
    detector = AccountsChanged()
    facts, twin = {"users": ("root", "budi"), "uid0": ("root",)}, {"users": ("root", "budi", "tamu"), "uid0": ("root", "tamu")}
    said = after(detector, {"/etc/passwd": state()}, {"/etc/passwd": state("b" * 64, age=200.0)}, facts=facts, then=twin,
                 packages=Packages(ago=200.0, began=200.0))  # fmt: skip
    assert [(f.key, f.grade, f.confirmed, f.fields["user.name"]) for f in said] == [("uid 0", "critical", True, "tamu")]
    again = findings(detector.see(Files("accounts", {"/etc/passwd": state("b" * 64)}, twin), 3000.0))
    assert [(f.key, f.state) for f in again] == [("uid 0", "open")]
    over = findings(detector.see(Files("accounts", {"/etc/passwd": state("c" * 64)}, facts), 4000.0))
    assert ("uid 0", "closed") in [(f.key, f.state) for f in over]


def test_a_new_account_is_named_and_a_changed_password_is_less() -> None:
    files = {"/etc/passwd": state(), "/etc/shadow": state()}
    changed = {"/etc/passwd": state("b" * 64), "/etc/shadow": state("b" * 64)}
    said = after(AccountsChanged(), files, changed, facts={"users": ("root",)}, then={"users": ("root", "tamu")})
    assert {(f.key, f.grade, f.fields["user.name"]) for f in said} == {("accounts", "high", "tamu")}
    said = after(AccountsChanged(), files, {**files, "/etc/shadow": state("b" * 64)}, facts={"users": ("root",)})
    assert [f.grade for f in said] == ["medium"]


def test_messages_hold_no_names() -> None:
    said = after(AccountsChanged(), {"/etc/passwd": state()}, {"/etc/passwd": state("b")}, facts={"users": ()}, then={"users": ("tamu",)})
    assert said
    assert not any("tamu" in f.message or "/etc" in f.message for f in said)


def test_setuid_only_new_and_of_no_package() -> None:
    old = {"/usr/bin/su": state(packaged=True, mode=0o4755), "/opt/alat": state(mode=0o4755)}
    new = {**old, "/usr/bin/sudo": state(packaged=True, mode=0o4755), "/usr/local/bin/pintu": state(mode=0o4755)}
    said = after(SetuidNew(), old, new, packages=Packages(ago=5.0, began=5.0))
    assert [(f.key, f.grade) for f in said] == [("/usr/local/bin/pintu", "high")]
    assert after(SetuidNew(), new, old) == []  # gone is good


def test_what_cant_be_read_is_less_coverage_and_no_finding() -> None:
    able = frozenset({"files"})
    for kind, why in ((AccountsChanged, "shadow_unreadable"), (KeysChanged, "homes_unreadable"), (SudoersChanged, "sudoers_unreadable")):
        detector = kind()
        assert detector.coverage(frozenset()).why == "files_not_read"
        assert after(detector, {"/etc/x": state()}, {}, unread=("/etc/x",)) == []
        assert (detector.coverage(able).share, detector.coverage(able).why) == (0.5, why)
        assert after(kind(), {"/etc/x": state("")}, {"/etc/x": state("b" * 64)}) == []  # it can be read now; it need not have changed
    detector = PersistenceChanged()
    after(detector, {}, {})
    assert detector.coverage(able).share == 1.0


def test_a_flood_of_changes_is_bounded() -> None:
    now = {f"/etc/cron.d/{i}": state() for i in range(1000)}
    said = after(PersistenceChanged(), {}, now)
    assert len(said) == MAX_TOLD + 1
    assert said[-1].times == 1000 - MAX_TOLD


@pytest.mark.parametrize("kind", [*ALL, SetuidNew])
def test_a_change_while_nobody_looked_is_found_after_a_restart(kind: type[Changed]) -> None:
    before, later = kind(), kind()
    after(before, {"/etc/x": state()}, {"/etc/x": state()}, facts={"users": ("root",), "uid0": ("root",)})
    later.recall(before.remember(), 1.0)
    same = Files(kind.group, {"/etc/x": state()}, {"users": ("root",), "uid0": ("root",)})
    assert [f for f in findings(later.see(same, 2.0)) if f.state == "open"] == []
    assert len(findings(later.see(same._replace(files={"/etc/x": state("b" * 64)}), 3.0))) == 1
    for bad in ({"known": {"x": 1}}, {"known": 5}, {"known": {"x": ["a", "b", "c"]}, "users": {}}):
        with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
            kind().recall(bad, 1.0)
