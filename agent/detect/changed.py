"""What intruders change so that they can come back: accounts, sudoers, keys, what starts by itself, setuid programs.

Law: the first look is what is so; only what differs from it is a finding. What the package manager did in that moment, or what is as its
package brought it, is none (the commonest false alarm of all watchers of files), but for accounts with root's number and for keys.

A change is a moment, so its case closes by itself after half a day; what it changed to is what is so from then on.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from agent.detect.model import Coverage, Finding, Grade, Plain, Rule, Said, Vouched
from agent.detect.seen import Files, FileState, Packages

AROUND = 120.0  # seconds around the package manager's work that are still its own
MAX_TOLD = 64  # changed files of one look that are told one by one
QUIET = 12 * 3600.0
MAX_NAMES = 8
KEPT = 16  # hexadecimal digits of a digest that are remembered


class Known(NamedTuple):
    """As much of a FileState as says whether it is the same file."""

    digest: str
    mode: int
    owner: int


class Changed(Plain):
    """What the four of them share: `group` is the class of files."""

    group: ClassVar[str]
    rule: ClassVar[Rule]
    partial: ClassVar[str] = ""  # the reason of coverage where some of its files can't be read
    excuses: ClassVar[bool] = True  # whether the package manager may do this
    wants: ClassVar[tuple[type, ...]] = (Files, Packages)
    noun: ClassVar[str] = ""

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: ARG002, B008  (the table's)
        self._known: dict[str, Known] | None = None
        self._unread: tuple[str, ...] = ()
        self._packages: tuple[float, float] | None = None  # monotonic: the package manager's last work, begin and end
        self._looked = 0.0

    def coverage(self, able: frozenset[str]) -> Coverage:
        if "files" not in able:
            return Coverage(0.0, "files_not_read")
        return Coverage(0.5, self.partial) if self._unread else Coverage(1.0)

    def see(self, seen: Files | Packages, at: float) -> Iterable[Said]:
        if isinstance(seen, Packages):
            self._packages = (at - max(seen.ago, seen.began), at - seen.ago) if seen.ago >= 0 else None
            return ()
        if seen.group != self.group:
            return ()
        now = {path: Known(s.digest[:KEPT], s.mode, s.owner) for path, s in seen.files.items() if self._minds(s)}
        before, self._known, self._unread = self._known, now, seen.unread
        said = list(self._facts(seen, first=before is None))
        if before is not None:
            paths = [p for p in sorted(before.keys() | now.keys()) if self._differs(p, before.get(p), now.get(p))]
            said += self._told([p for p in paths if not self._excused(p, seen.files.get(p), at)], before, seen)
        self._looked = at
        return said

    def _minds(self, state: FileState) -> bool:
        """What is as its package brought it need not be remembered: if that ends, it is new to us."""
        return state.packaged is not True or not self.excuses

    def _differs(self, path: str, before: Known | None, now: Known | None) -> bool:
        if path in self._unread and now is None:  # it can't be read any more; whether it is gone isn't known
            return False
        if before and now and not (before.digest and now.digest):
            return before[1:] != now[1:]
        return before != now

    def _excused(self, path: str, state: FileState | None, at: float) -> bool:  # noqa: ARG002  (for those that ask more)
        if not self.excuses:
            return False
        if state and state.packaged:
            return True
        if not self._packages:
            return False
        begin, end = self._packages
        if state is None or state.age < 0:  # it went between two looks
            return end >= self._looked - AROUND
        return begin - AROUND <= at - state.age <= end + AROUND

    def _facts(self, seen: Files, *, first: bool) -> Iterator[Finding]:  # noqa: ARG002
        yield from ()

    def _told(self, paths: list[str], before: Mapping[str, Known], seen: Files) -> Iterator[Finding]:
        for path in paths[:MAX_TOLD]:
            state = seen.files.get(path)
            brought = state is not None and state.packaged is not None
            yield self._finding(path, "deleted" if not state else "changed" if path in before or brought else "created", seen)
        if len(paths) > MAX_TOLD:
            message = f"{len(paths) - MAX_TOLD} more {self.noun} changed at once"
            yield Finding(self.rule.name, "many", "high", "certain", message, confirmed=True, times=len(paths) - MAX_TOLD)

    def _finding(self, path: str, what: str, seen: Files) -> Finding:
        """The content and the kernel's own time of the change are two witnesses."""
        fields = {"file.path": path, "event.type": {"created": "creation", "deleted": "deletion"}.get(what, "change")}
        if state := seen.files.get(path):
            fields |= {"file.hash.sha256": state.digest, "file.mode": f"{state.mode:04o}", "file.owner": str(state.owner)}
        return Finding(self.rule.name, path, self._grade(path), "certain", f"{self.noun} {what}", confirmed=True, fields=fields)

    def _grade(self, path: str) -> Grade:  # noqa: ARG002
        return "high"

    def remember(self) -> Mapping[str, Any]:
        return {"known": {path: [k.digest, k.mode, k.owner] for path, k in self._known.items()}} if self._known is not None else {}

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        if said:
            self._known = {str(p): Known(str(d), int(m), int(o)) for p, (d, m, o) in said["known"].items()}
            self._looked = at


class AccountsChanged(Changed):
    group, noun, partial = "accounts", "the file of accounts", "shadow_unreadable"
    rule: ClassVar[Rule] = Rule("accounts_changed", "H03", "1", "iam", ("T1136.001",), quiet=QUIET)

    def __init__(self, vouched: Vouched = Vouched()) -> None:  # noqa: B008
        super().__init__(vouched)
        self._users: dict[str, frozenset[str]] = {}
        self._new: list[str] = []
        self._gone: list[str] = []

    def _facts(self, seen: Files, *, first: bool) -> Iterator[Finding]:
        """A second account with root's number is an open door: it stays open as long as it is there."""
        now = {name: frozenset(members) for name, members in seen.facts.items()}
        twins = sorted(now.get("uid0", frozenset()) - {"root"})
        if twins:
            was = not first and self._users.get("uid0", frozenset())
            grade: Grade = "high" if first and not was else "critical"
            fields = {"user.name": " ".join(twins[:MAX_NAMES])}
            message = "there is a second account with the rights of root"
            yield Finding(self.rule.name, "uid 0", grade, "certain", message, confirmed=True, fields=fields)
        elif self._users.get("uid0", frozenset()) - {"root"}:
            yield Finding(self.rule.name, "uid 0", "info", "certain", "root is alone again with its rights", "closed")
        old_names, names = self._users.get("users", frozenset()), now.get("users", frozenset())
        self._new, self._gone = ([], []) if first else (sorted(names - old_names), sorted(old_names - names))
        self._users = now

    def _finding(self, path: str, what: str, seen: Files) -> Finding:
        found = super()._finding(path, what, seen)
        who = {"user.name": " ".join(self._new[:MAX_NAMES]), "ronda.users_gone": " ".join(self._gone[:MAX_NAMES])}
        return found._replace(key=self.group, fields={**found.fields, **{name: text for name, text in who.items() if text}})

    def _grade(self, path: str) -> Grade:
        """Changing one's password changes shadow only."""
        return "high" if not path.endswith("shadow") or self._new or self._gone else "medium"

    def remember(self) -> Mapping[str, Any]:
        said = dict(super().remember())
        return said | {"users": {name: sorted(members) for name, members in self._users.items()}} if said else said

    def recall(self, said: Mapping[str, Any], at: float) -> None:
        super().recall(said, at)
        self._users = {str(name): frozenset(map(str, members)) for name, members in said["users"].items()}


class SudoersChanged(Changed):
    group, noun, partial = "sudoers", "a file of sudo's rights", "sudoers_unreadable"
    rule: ClassVar[Rule] = Rule("sudoers_changed", "H03", "1", "iam", ("T1548.003",), quiet=QUIET)


class KeysChanged(Changed):
    group, noun, partial = "keys", "a file of keys that may log in", "homes_unreadable"
    rule: ClassVar[Rule] = Rule("keys_changed", "H03", "1", "iam", ("T1098.004",), quiet=QUIET)
    excuses = False  # no package brings keys


class PersistenceChanged(Changed):
    group, noun, partial = "persistence", "a file that makes something start by itself", "cron_unreadable"
    rule: ClassVar[Rule] = Rule("persistence_changed", "H04", "1", "configuration", ("T1053.003", "T1543.002"), quiet=QUIET)


class SetuidNew(Changed):
    """Of the setuid programs only those that no package owns, and only new ones."""

    group, noun, partial = "setuid", "a program that runs with its owner's rights", "directories_unreadable"
    rule: ClassVar[Rule] = Rule("setuid_new", "H05", "1", "file", ("T1548.001",), quiet=QUIET)
    excuses = False

    def _minds(self, state: FileState) -> bool:
        return state.packaged is None

    def _differs(self, path: str, before: Known | None, now: Known | None) -> bool:
        """Gone is good; a new one under an old name is new."""
        return now is not None and super()._differs(path, before, now)
