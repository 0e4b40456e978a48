"""brute_force: what makes a case and what doesn't, told from log lines as sshd and the others write them.

Law: lines go through agent/detect/lines.py, as they do live and in `ronda replay`.
"""

import random
from collections.abc import Iterable
from pathlib import Path

from agent.detect import lines
from agent.detect.logins import HOLD, HOUR, BruteForce
from agent.detect.model import Finding, Vouched
from agent.detect.seen import Login

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "logs"
HEAD = "Nov 24 10:00:00 box "


def fed(detector: BruteForce, told: Iterable[tuple[float, str]], until: float = 0.0) -> list[Finding]:
    """What the detector says of lines without head, each with its time; then time passes."""
    said: list[Finding] = []
    at = 0.0
    for at, line in told:
        login = lines.parse(HEAD + line)
        said += [s for s in detector.tick(at) if isinstance(s, Finding)]
        said += [s for s in (detector.see(login, at) if login else ()) if isinstance(s, Finding)]
    said += [s for s in detector.tick(max(at, until)) if isinstance(s, Finding)]
    return said


def failed(n: int, source: str = "192.0.2.9", user: str = "root", step: float = 2.0, start: float = 0.0) -> list[tuple[float, str]]:
    """n tries, each with all that Debian's sshd writes of one."""
    told = []
    for i in range(n):
        at, pid = start + i * step, 1000 + int(start) + i
        pam = f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={source}  user={user}"
        told += [(at, f"sshd[{pid}]: {pam}"), (at + 0.1, f"sshd[{pid}]: Failed password for {user} from {source} port 4000 ssh2"),
                 (at + 0.2, f"sshd[{pid}]: Connection closed by authenticating user {user} {source} port 4000 [preauth]")]  # fmt: skip
    return told


def accepted(at: float, source: str = "192.0.2.9", user: str = "root", method: str = "password") -> list[tuple[float, str]]:
    return [(at, f"sshd[9]: Accepted {method} for {user} from {source} port 4000 ssh2")]


def test_a_fast_and_a_slow_one_are_found_and_named_by_their_address() -> None:
    for step, least in ((2.0, 8), (20.0, 16)):
        said = fed(BruteForce(), failed(40, step=step))
        assert {(f.key, f.source, f.grade, f.fields["source.ip"]) for f in said} == {("192.0.2.9", "192.0.2.9", "medium", "192.0.2.9")}
        assert all(f.confirmed for f in said)
        assert sum(f.times for f in said) == 40  # each try counted once, though three lines tell of it
        assert said[0].times <= least


def test_five_in_a_minute_and_one_in_two_minutes_are_people() -> None:
    assert fed(BruteForce(), failed(5)) == []
    assert fed(BruteForce(), failed(60, step=120.0)) == []


def test_a_login_after_many_failures_is_critical() -> None:
    said = fed(BruteForce(), [*failed(5), *accepted(60.0)])
    assert [(f.grade, f.confirmed, f.fields["event.outcome"], f.fields["ronda.failures"]) for f in said] == [
        ("critical", True, "success", "5")
    ]
    said = fed(BruteForce(), [*failed(30), *accepted(70.0)])
    assert said[-1].grade == "critical"
    assert {f.key for f in said} == {"192.0.2.9"}


def test_a_login_after_few_or_by_a_key_or_from_elsewhere_or_much_later_is_none() -> None:
    assert fed(BruteForce(), [*failed(4), *accepted(60.0)]) == []
    assert fed(BruteForce(), [*failed(5), *accepted(60.0, method="publickey")]) == []
    assert fed(BruteForce(), [*failed(5), *accepted(60.0, source="192.0.2.8")]) == []
    assert fed(BruteForce(), [*failed(5), *accepted(60.0 + HOUR)]) == []
    twice = [*failed(3), *accepted(60.0), *failed(3, start=100.0), *accepted(160.0)]
    assert fed(BruteForce(), twice) == []  # each success begins anew


def test_one_account_from_many_addresses() -> None:
    told = [pair for i in range(20) for pair in failed(1, source=f"192.0.2.{i + 1}", start=i * 3.0)]
    said = fed(BruteForce(), told)
    assert {f.key for f in said} == {"user sshd root"}
    assert {f.source for f in said} == {""}
    assert said[-1].fields["ronda.sources"] == "16"
    one_each = [pair for i in range(20) for pair in failed(1, source=f"192.0.2.{i + 1}", user=f"orang{i}", start=i * 30.0)]
    assert fed(BruteForce(), one_each) == []


def test_keys_offered_before_one_that_fits_are_no_failures() -> None:
    session = [(i * 0.1, f"sshd[7]: Failed publickey for git from 192.0.2.9 port 2 ssh2: RSA SHA256:{i}") for i in range(5)]
    for _ in range(3):
        detector = BruteForce()
        assert fed(detector, [*session * 3, (2.0, "sshd[7]: Accepted publickey for git from 192.0.2.9 port 2 ssh2: RSA x")], 1000.0) == []
        assert detector.failures["sshd"] == 0
    detector = BruteForce()
    fed(detector, session, until=HOLD + 1)  # none fitted: one try
    assert detector.failures["sshd"] == 1


def test_pam_modules_that_are_asked_one_after_another_are_one_try() -> None:
    pam = "sshd[7]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.9  user=rda"
    detector = BruteForce()
    fed(detector, [(0.0, pam), (0.1, "sshd[7]: Accepted password for rda from 192.0.2.9 port 2 ssh2")], until=1000.0)
    assert detector.failures["sshd"] == 0
    other = pam.replace("user=rda", "user=root")
    fed(detector, [(2000.0, other), (2000.1, other), (2000.2, "sshd[7]: Accepted password for rda from 192.0.2.9 port 2 ssh2")])
    assert detector.failures["sshd"] == 2  # what was tried in another name


def test_monitors_that_only_connect_are_nothing() -> None:
    told = [(i * 1.0, f"sshd[{i}]: Connection closed by 192.0.2.9 port {i + 1} [preauth]") for i in range(500)]
    told += [(500.0 + i, f"sshd[{i}]: Did not receive identification string from 192.0.2.9 port {i + 1}") for i in range(500)]
    detector = BruteForce()
    assert fed(detector, told, until=5000.0) == []
    assert sum(detector.failures.values()) == 0


def test_the_console_and_sudo() -> None:
    console = [(i * 1.0, f"login[7]: FAILED LOGIN ({i % 3 + 1}) on '/dev/tty1' FOR 'root', Authentication failure") for i in range(8)]
    said = fed(BruteForce(), [*console, (40.0, "login[7]: ROOT LOGIN  on '/dev/tty1'")])
    assert [f.grade for f in said] == ["medium", "medium", "medium", "critical"]
    assert {(f.key, f.source) for f in said} == {("login root", "")}
    sudo = "sudo[{}]:     budi : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/home/budi ; USER=root ; COMMAND=/usr/bin/id"
    did = (9.0, "sudo[9]:     budi : TTY=pts/0 ; PWD=/home/budi ; USER=root ; COMMAND=/usr/bin/id")
    said = fed(BruteForce(), [(0.0, sudo.format(1)), (2.0, sudo.format(2)), did])
    assert [(f.grade, f.key) for f in said] == [("medium", "sudo budi"), ("high", "sudo budi")]


def test_repeated_lines_count() -> None:
    line = "sshd[7]: message repeated 5 times: [ Failed password for root from 192.0.2.9 port 22 ssh2]"
    said = fed(BruteForce(), [(0.0, "sshd[7]: Failed password for root from 192.0.2.9 port 22 ssh2"), (1.0, line)])
    assert [f.times for f in said] == [6]


def test_vouched_scanners_are_left_in_peace() -> None:
    vouched = Vouched(scanners=frozenset({"192.0.2.9"}))
    assert fed(BruteForce(vouched), failed(50)) == []


def test_garbage_in_any_field_and_ten_thousand_sources_are_borne() -> None:
    dice, detector = random.Random(1), BruteForce()
    for i in range(12_000):
        text = dice.choice(["", "x" * 500, "\0", "\ufffd", "user", "10.0.0.1"])
        login = Login(dice.choice(["sshd", "", "login", text]), text, f"10.{i >> 8 & 255}.{i & 255}.1", dice.random() < 0.1,
                      dice.choice(["password", "pam", "publickey", "", "limit", text]), str(i), dice.choice([1, 0, -5, 10**9]))  # fmt: skip
        list(detector.see(login, float(i) / 100))
        if i % 100 == 0:
            list(detector.tick(float(i) / 100))
    assert len(detector._sources) <= 4096
    assert len(detector._sessions) <= 4096
    assert len(detector._held) <= 4096
    assert set(detector.failures) <= {"sshd", "login", "sudo", "su", "other"}


def test_what_a_success_may_follow_outlives_a_restart() -> None:
    before, after = BruteForce(), BruteForce()
    fed(before, failed(9))
    after.recall(before.remember(), 5000.0)
    assert [f.grade for f in fed(after, accepted(5001.0))] == ["critical"]


def test_crowdsecs_attack_is_found() -> None:
    if not (CORPUS / "crowdsec_ssh-bf.log").exists():
        print("CrowdSec's lines are not there (shared/corpus/logs)")
        return
    detector, said = BruteForce(), []
    for line in (CORPUS / "crowdsec_ssh-bf.log").read_text().splitlines():
        login, at = lines.parse(line), lines.moment(line, 1.795e9)
        if login and at:
            said += list(detector.see(login, at))
    assert {f.key for f in said if isinstance(f, Finding)} == {"35.188.49.176"}
