"""Log lines: what of them is a try to log in, whose, and when; with fail2ban's own lines, each with its verdict, where they are there.

Law: no line raises, none costs more than its length; what isn't as fail2ban sees it is listed below with its reason.
"""

import json
import random
import re
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from agent.detect import lines
from agent.detect.seen import Login

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "logs"
HEAD = "Nov 24 10:00:00 box "
NOW = 1_795_535_072.0  # 2026-11-24 15:44:32 UTC
WIB = timezone(timedelta(hours=7))

# (line without its head, service, user, source, success, method)
TRIES = [
    ("sshd[7]: Failed password for root from 192.0.2.9 port 22 ssh2", "sshd", "root", "192.0.2.9", False, "password"),
    ("sshd[7]: Failed password for invalid user eko from 192.0.2.9 port 22 ssh2", "sshd", "eko", "192.0.2.9", False, "password"),
    ("sshd[7]: Invalid user eko from 2001:DB8::9 port 22", "sshd", "eko", "2001:db8::9", False, "invalid"),
    ("sshd[7]: Failed keyboard-interactive/pam for root from ::ffff:192.0.2.9 port 2 ssh2", "sshd", "root", "192.0.2.9", False,
     "keyboard-interactive"),
    ("sshd[7]: Failed publickey for git from 192.0.2.9 port 2 ssh2: RSA SHA256:abc", "sshd", "git", "192.0.2.9", False, "publickey"),
    ("sshd[7]: Accepted password for root from 192.0.2.9 port 22 ssh2", "sshd", "root", "192.0.2.9", True, "password"),
    ("sshd-session[7]: Accepted publickey for root from 192.0.2.9 port 22 ssh2: ED25519 SHA256:x", "sshd", "root", "192.0.2.9", True,
     "publickey"),
    ("sshd[7]: error: maximum authentication attempts exceeded for root from 192.0.2.9 port 2 ssh2 [preauth]", "sshd", "root",
     "192.0.2.9", False, "limit"),
    ("sshd[7]: Disconnecting invalid user a b 192.0.2.9 port 2: Too many authentication failures [preauth]", "sshd", "a b",
     "192.0.2.9", False, "limit"),
    ("sshd[7]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.9  user=root", "sshd",
     "root", "192.0.2.9", False, "pam"),
    ("sudo[9]: pam_unix(sudo:auth): authentication failure; logname=budi uid=1000 euid=0 tty=/dev/pts/0 ruser=budi rhost=  user=budi",
     "sudo", "budi", "", False, "pam"),
    ("sudo:     budi : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/home/budi ; USER=root ; COMMAND=/usr/bin/id", "sudo", "budi", "",
     False, "console"),
    ("sudo:     budi : TTY=pts/0 ; PWD=/home/budi ; USER=root ; COMMAND=/usr/bin/id", "sudo", "budi", "", True, "console"),
    ("su[9]: FAILED SU (to root) budi on pts/1", "su", "root", "", False, "console"),
    ("su[9]: (to root) budi on pts/1", "su", "root", "", True, "console"),
    ("login[9]: FAILED LOGIN (1) on '/dev/tty1' FOR 'root', Authentication failure", "login", "root", "", False, "console"),
    ("login[9]: ROOT LOGIN  on '/dev/tty1'", "login", "root", "", True, "console"),
    ("dropbear[9]: Bad password attempt for 'root' from 192.0.2.9:4022", "dropbear", "root", "192.0.2.9", False, "password"),
]  # fmt: skip
NONE = [
    "sshd[7]: Connection closed by 192.0.2.9 port 22 [preauth]",
    "sshd[7]: Connection closed by authenticating user root 192.0.2.9 port 46038 [preauth]",
    "sshd[7]: Did not receive identification string from 192.0.2.9 port 35836",
    "sshd[7]: error: kex_exchange_identification: Connection closed by remote host",
    "sshd[7]: Unable to negotiate with 192.0.2.9 port 55419: no matching cipher found. Their offer: none [preauth]",
    "sshd[7]: pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)",
    "CRON[7]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    "kernel: Failed password for root from 192.0.2.9 port 22 ssh2",
    "myapp[7]: Failed password for root from 192.0.2.9 port 22 ssh2",
]


@pytest.mark.parametrize(("line", "service", "user", "source", "success", "method"), TRIES)
def test_a_try_is_read(line: str, service: str, user: str, source: str, success: bool, method: str) -> None:
    login = lines.parse(HEAD + line)
    assert login is not None
    assert (login.service, login.user, login.source, login.success, login.method) == (service, user, source, success, method)


@pytest.mark.parametrize("line", NONE)
def test_what_is_no_try_is_none(line: str) -> None:
    assert lines.split(HEAD + line) is not None
    assert lines.parse(HEAD + line) is None


def test_what_came_again_counts_as_often() -> None:
    line = HEAD + "sshd[7]: message repeated 4 times: [ Failed password for root from 192.0.2.9 port 22 ssh2]"
    assert lines.parse(line) == Login("sshd", "root", "192.0.2.9", False, "password", "7", 4)
    assert lines.parse(line.replace(" 4 ", " 999999999 ")) == Login("sshd", "root", "192.0.2.9", False, "password", "7", lines.MAX_TIMES)


@pytest.mark.parametrize("name", ["x from 10.9.9.9 port 1 ssh2", "x from 10.9.9.9", "from 10.9.9.9", "x from 10.9.9.9 port 1 ssh2: y"])
def test_a_name_accuses_nobody(name: str) -> None:
    for line in (f"Failed password for invalid user {name} from 192.0.2.9 port 22 ssh2", f"Invalid user {name} from 192.0.2.9 port 22"):
        login = lines.parse(f"{HEAD}sshd[7]: {line}")
        assert login
        assert (login.source, login.user) == ("192.0.2.9", name)


def test_the_journal_says_who_really_spoke() -> None:
    said = {"MESSAGE": "Failed password for root from 192.0.2.9 port 22 ssh2", "SYSLOG_IDENTIFIER": "sshd", "_PID": "77", "_UID": "0"}
    assert lines.parse(json.dumps(said)) == Login("sshd", "root", "192.0.2.9", False, "password", "77")
    assert lines.parse(json.dumps(said | {"_UID": "1000"})) is None  # `logger -t sshd` of anybody
    binary = {**said, "MESSAGE": list(b"Failed password for \xff from 192.0.2.9 port 22 ssh2")}
    assert lines.parse(json.dumps(binary)) == Login("sshd", "\ufffd", "192.0.2.9", False, "password", "77")


@pytest.mark.parametrize(
    ("when", "wall"),
    [
        ("Nov 24 15:44:32", NOW), ("Nov 24 15:44:32.500", NOW + 0.5), ("Nov  3 00:00:00", 1_793_664_000.0),
        ("2026-11-24T15:44:32Z", NOW), ("2026-11-24T22:44:32.000001+07:00", NOW + 1e-6), ("2026-11-24T22:44:32+0700", NOW),
        ("Tue 2026-11-24 15:44:32 UTC", NOW), ("1795535072.000000", NOW), ("Dec 31 23:59:59", 1_767_225_599.0),
        ("Feb 29 10:00:00", 1_709_200_800.0), ("<38>Nov 24 15:44:32", NOW),
    ],
)  # fmt: skip
def test_the_time_of_a_line(when: str, wall: float) -> None:
    assert lines.moment(f"{when} box sshd[7]: x", NOW) == pytest.approx(wall)


def test_a_time_without_zone_is_the_offices() -> None:
    assert lines.moment("Nov 24 22:44:32 box sshd[7]: x", NOW, WIB) == NOW
    assert lines.moment("2026-11-24 22:44:32 box sshd[7]: x", NOW, WIB) == NOW
    assert lines.moment('{"__REALTIME_TIMESTAMP": "1795535072000000"}', NOW, WIB) == NOW
    assert lines.moment("Feb 31 10:00:00 box sshd[7]: x", NOW) is None


def garbage() -> Iterator[str | bytes]:
    yield from (b"\xff\x00" * 1_000_000, "{" * 70000, "[" * 70000, '{"MESSAGE":' * 9000, "", "\0", "]" * 3000, "{}", "[]", "null")
    yield from ('{"MESSAGE":[999],"SYSLOG_IDENTIFIER":"sshd"}', '{"MESSAGE":[[]],"SYSLOG_IDENTIFIER":"sshd"}', '{"MESSAGE":1}')
    yield f"{HEAD}sshd[7]: Failed password for {'a' * 5_000_000} from 192.0.2.9 port 22 ssh2"
    dice = random.Random(5)
    bits = [
        "[preauth]",
        "rhost=",
        "Failed password for ",
        " from ",
        "192.0.2.9",
        " port 2",
        " ssh2",
        "\0",
        "\ufffd",
        "  " * 40,
        "]",
        "user=",
        "message repeated 3 times: [ ",
        "pam_unix(sshd:auth): authentication failure; ",
        "Invalid user ",
        '"',
        "\\",
        "x" * 50,
    ]
    for _ in range(3000):
        head = dice.choice([HEAD + "sshd[7]: ", HEAD + "sudo: ", HEAD + "login[7]: ", "<38>1 2019-07-08T17:40:16Z h sshd 5 - ", ""])
        yield head + "".join(dice.choices(bits, k=dice.choice((2, 9, 150))))


def test_no_line_raises_or_grows() -> None:
    for line in garbage():
        login = lines.parse(line)
        lines.moment(line, NOW)
        assert login is None or (len(login.user) <= lines.MAX_NAME and len(login.source) <= 101 and 1 <= login.times <= lines.MAX_TIMES)


# -- fail2ban's lines -------------------------------------------------------------------------------------------------------

# What fail2ban counts, and we don't: a peer that hangs up has tried nothing. Behind a real try its own lines stand.
HUNG_UP = re.compile(r"Received disconnect from|Connection closed by|refused connect from")
HELD = re.compile(r"Failed publickey for git|pam_unix\(sshd:auth\)|Too many authentication failures")  # lines whose session decides
ACCEPTED = re.compile(r"Accepted password for known")  # counted when the session succeeds: tests/detect/test_logins.py
OLD = re.compile(r"ssh2: from 10\.10\.1\.2")  # today's sshd writes nothing behind "ssh2" after a password, so the last source is its own


def verdicts() -> Iterator[tuple[str, bool, str]]:
    """(line, whether it is a failed login, of whom); the sections that aren't about logins left out."""
    said: dict[str, object] = {}
    section = ""
    for line in (CORPUS / "sshd").read_text(encoding="utf-8").splitlines():
        if line.startswith("# filterOptions"):
            section = line
        elif line.startswith("# failJSON: "):
            said = json.loads(line.removeprefix("# failJSON: "))
        elif line and not line.startswith("#") and "ddos" not in section and '"extra"' not in section:
            yield line, bool(said["match"]), str(said.get("host", ""))


def test_fail2bans_verdicts() -> None:
    if not (CORPUS / "sshd").exists():
        print("fail2ban's lines are not there (shared/corpus/logs/sshd): their verdicts were not compared")
        return
    seen = 0
    for line, failed, host in verdicts():
        if any(pattern.search(line) for pattern in (HUNG_UP, HELD, ACCEPTED, OLD)) and "Auth fail" not in line:
            continue
        login = lines.parse(line)
        assert (login is not None and not login.success) == failed, line
        assert not login or login.success or not host or login.source in (lines.address(host), ""), line
        assert lines.moment(line, NOW) is not None, line
        seen += 1
    assert seen > 60


def test_what_is_no_login_in_fail2bans_lines_is_none() -> None:
    """Scanners, floods, monitors: all that fail2ban only counts in its modes "ddos" and "extra"."""
    if not (CORPUS / "sshd").exists():
        print("fail2ban's lines are not there (shared/corpus/logs/sshd)")
        return
    text = (CORPUS / "sshd").read_text(encoding="utf-8")
    others = text[text.index('"mode": "ddos"') : text.index('"logtype": "rfc5424"')]
    found = [line for line in others.splitlines() if not line.startswith("#") and lines.parse(line)]
    assert all("Invalid user " in line for line in found)
    assert len(found) <= 1
