"""Privileges are facts: read from a fixture tree, or from the kernel itself."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import privileges

STATUS = """Name:	ronda
Uid:	1000	{uid}	1000	1000
Gid:	1000	1000	1000	1000
Groups:	27 998
CapInh:	0000000000000000
CapEff:	{caps}
"""


def box(root: Path, *, uid: int = 1000, caps: str = "0000000000000000", ping: str | None = "0\t2147483647\n") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/status").write_text(STATUS.format(uid=uid, caps=caps))
    if ping is not None:
        (root / "proc/sys/net/ipv4").mkdir(parents=True)
        (root / "proc/sys/net/ipv4/ping_group_range").write_text(ping)
    return root


def test_reads_uid_groups_and_capabilities(tmp_path: Path) -> None:
    facts = privileges.look(box(tmp_path, caps="0000000000003000"))
    assert (facts.uid, facts.root) == (1000, False)
    assert facts.gids == {1000, 27, 998}
    assert facts.capabilities == {"cap_net_raw", "cap_net_admin"}


@pytest.mark.parametrize(
    ("text", "groups", "inside"),
    [
        ("0\t2147483647\n", (0, 2147483647), True),
        ("1\t0\n", (1, 0), False),  # the kernel's own default: nobody
        ("998 998\n", (998, 998), True),  # a supplementary group counts
        ("2000 3000\n", (2000, 3000), False),
        (None, None, False),
    ],
)
def test_ping_group_range(tmp_path: Path, text: str | None, groups: tuple[int, int] | None, inside: bool) -> None:
    facts = privileges.look(box(tmp_path, ping=text))
    assert facts.ping_groups == groups
    assert facts.in_ping_groups is inside


@pytest.mark.parametrize("text", ["", "Uid:\t1\n", STATUS.format(uid=1, caps="xyz"), "Uid: 1\nGid: 1\nGroups:\nCapEff: 0\n"])
def test_a_foreign_proc_is_an_error_not_a_fact(text: str) -> None:
    with pytest.raises(ValueError):
        privileges.parse_status(text)


def test_a_missing_proc_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        privileges.look(tmp_path)


def test_facts_of_this_process_agree_with_the_kernel() -> None:
    facts = privileges.look()
    assert facts.uid == os.geteuid()
    assert os.getegid() in facts.gids
    if facts.root and "cap_net_raw" in facts.capabilities:
        assert facts.raw
    if facts.in_ping_groups and facts.ping_groups is not None:
        assert facts.ping


def test_a_socket_nobody_may_open_is_no_and_other_trouble_raises() -> None:
    assert privileges.can_open(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    assert not privileges.can_open(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_TCP)  # EPROTONOSUPPORT
    with pytest.raises(OSError):
        privileges.can_open(socket.AF_INET, 12345, 0)


@pytest.mark.lab
def test_nobody_outside_the_range_can_neither_ping_nor_open_raw() -> None:
    """In a network namespace of its own, where ping_group_range is the kernel's default, as uid 65534."""
    code = (
        "import os\n"
        "from agent import privileges\n"
        "os.setgroups([]); os.setresgid(*[65534]*3); os.setresuid(*[65534]*3)\n"
        "p = privileges.look()\n"
        "print(p.uid, p.can_ping, p.in_ping_groups, sorted(p.capabilities))\n"
    )
    run = subprocess.run(["unshare", "--net", sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "65534 False False []\n"
