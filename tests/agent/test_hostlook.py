"""What stands on the box, read from a root of files: watched files, packages, setuid programs, sockets, firewall, USB."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import hostlook
from agent.detect.seen import Files
from agent.dpkg import Dpkg, compare

UNIT = "[Service]\nExecStart=/usr/sbin/cron\n"


def put(root: Path, name: str, text: str = "x\n", mode: int = 0o644) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def look(root: Path, group: hostlook.Group) -> Files:
    return hostlook.Watched(root, Dpkg(root, rest=0.0), rest=0.0).look(group, time.time())


# -- watched files ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("useradd")
def test_useradd_in_a_root_is_seen(tmp_path: Path) -> None:
    put(tmp_path, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    for name in ("etc/group", "etc/shadow", "etc/gshadow", "etc/login.defs"):
        put(tmp_path, name, "root:x:0:\n" if "group" in name else "")
    if os.geteuid():
        pytest.skip("needs root: useradd -R changes its root")
    watched = hostlook.Watched(tmp_path, Dpkg(tmp_path, rest=0.0), rest=0.0)
    before = watched.look("accounts", time.time())
    run = subprocess.run(["useradd", "-P", str(tmp_path), "-o", "-u", "0", "tamu"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    after = watched.look("accounts", time.time())
    assert before.facts["uid0"] == ("root",)
    assert after.facts["uid0"] == ("root", "tamu")
    assert before.files["/etc/passwd"].digest != after.files["/etc/passwd"].digest
    assert 0 <= after.files["/etc/passwd"].age < 60


def test_each_group_finds_its_files_and_no_others(tmp_path: Path) -> None:
    put(tmp_path, "etc/passwd", "root:x:0:0::/root:/bin/sh\nbudi:x:1:1::/home/budi:/bin/sh\nevil:x:2:2::/home/../etc:/bin/sh\nx::\n:::\n")
    put(tmp_path, "home/budi/.ssh/authorized_keys")
    put(tmp_path, "etc/sudoers.d/x")
    for name in ("etc/cron.daily/x", "etc/crontab", "var/spool/cron/crontabs/root", "etc/ld.so.preload", "etc/pam.d/sshd", "etc/rc.local",
                 "etc/systemd/system/x.service", "lib/systemd/system/cron.service", "etc/motd"):  # fmt: skip
        put(tmp_path, name)
    (tmp_path / "etc/systemd/system/multi-user.target.wants").mkdir()
    (tmp_path / "etc/systemd/system/multi-user.target.wants/x.service").symlink_to("/lib/x.service")
    assert set(look(tmp_path, "keys").files) == {"/home/budi/.ssh/authorized_keys"}
    assert set(look(tmp_path, "sudoers").files) == {"/etc/sudoers.d/x"}
    found = set(look(tmp_path, "persistence").files)
    assert "/etc/motd" not in found
    assert {"/etc/cron.daily/x", "/etc/ld.so.preload", "/etc/systemd/system/multi-user.target.wants/x.service"} <= found
    assert len(found) == 9


def test_what_its_package_brought_is_told_from_what_was_changed(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/systemd/system/cron.service", UNIT)
    (tmp_path / "lib").symlink_to("usr/lib")
    put(tmp_path, "etc/pam.d/sshd", "auth\n")
    brought = hashlib.md5(b"auth\n").hexdigest()
    put(tmp_path, "var/lib/dpkg/info/cron.md5sums", f"{hashlib.md5(UNIT.encode()).hexdigest()}  lib/systemd/system/cron.service\n")
    put(tmp_path, "var/lib/dpkg/status", f"Package: sshd\nConffiles:\n /etc/pam.d/sshd {brought}\n")
    files = look(tmp_path, "persistence").files
    assert set(files) == {"/usr/lib/systemd/system/cron.service", "/etc/pam.d/sshd"}
    assert all(state.packaged for state in files.values())
    put(tmp_path, "usr/lib/systemd/system/cron.service", UNIT + "ExecStartPre=/tmp/x\n")
    put(tmp_path, "etc/systemd/system/x.service")
    files = look(tmp_path, "persistence").files
    assert files["/usr/lib/systemd/system/cron.service"].packaged is False
    assert files["/etc/systemd/system/x.service"].packaged is None


SNAP_UNIT = """[Unit]
Description=Mount unit for core20, revision 2318
After=snapd.mounts-pre.target
Before=snapd.mounts.target

[Mount]
What=/var/lib/snapd/snaps/core20_2318.snap
Where=/snap/core20/2318
Type=squashfs
Options=nodev,ro,x-gdu.hide,x-gvfs-hide
LazyUnmount=yes

[Install]
WantedBy=snapd.mounts.target
WantedBy=multi-user.target
"""


def test_snapds_own_mounts_are_as_brought_and_nothing_that_only_looks_like_one(tmp_path: Path) -> None:
    system = "etc/systemd/system/"
    good = put(tmp_path, f"{system}snap-core20-2318.mount", SNAP_UNIT)
    wants = tmp_path / f"{system}multi-user.target.wants"
    wants.mkdir()
    (wants / good.name).symlink_to(f"/{system}{good.name}")
    (wants / "snap-evil-1.mount").symlink_to("/tmp/evil.mount")
    put(tmp_path, f"{system}snap-gtk-1.mount", SNAP_UNIT + "[Service]\nExecStart=/tmp/x\n")
    put(tmp_path, f"{system}snap-gtk-2.mount", SNAP_UNIT.replace("/var/lib/snapd/snaps/", "/tmp/"))
    put(tmp_path, f"{system}snap-gtk-3.mount", SNAP_UNIT.replace("nodev,ro", "dev,exec"))
    put(tmp_path, f"{system}snap.gtk.daemon.service", SNAP_UNIT)
    put(tmp_path, f"{system}backup.mount", SNAP_UNIT)
    files = look(tmp_path, "persistence").files
    assert {path for path, state in files.items() if state.packaged} == {
        f"/{system}{good.name}",
        f"/{system}multi-user.target.wants/{good.name}",
    }
    assert len(files) == 8


def test_fifos_links_and_giants_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "etc/crontab", "x" * (3 << 20))
    os.mkfifo(tmp_path / "etc/ld.so.preload")
    (tmp_path / "etc/rc.local").symlink_to("/dev/zero")
    files = look(tmp_path, "persistence").files
    assert set(files) == {"/etc/crontab", "/etc/ld.so.preload", "/etc/rc.local"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody who may not")
def test_what_may_not_be_read_is_named_and_still_seen_to_change(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(directory.stat().st_mode | 0o055)
    put(tmp_path, "etc/passwd", "budi:x:1:1::/home/budi:/bin/sh\n")
    shadow = put(tmp_path, "etc/shadow", "root:*\n", 0o600)
    put(tmp_path, "home/budi/.ssh/authorized_keys")
    (tmp_path / "home/budi/.ssh").chmod(0o700)
    script = (
        "import sys,os,time,json;sys.path.insert(0,sys.argv[2])\n"
        "from pathlib import Path;from agent import hostlook;from agent.dpkg import Dpkg;os.setuid(65534)\n"
        "w=hostlook.Watched(Path(sys.argv[1]),Dpkg(Path(sys.argv[1])))\n"
        "a=w.look('accounts',time.time());k=w.look('keys',time.time())\n"
        "print(json.dumps([a.files['/etc/shadow'].digest,a.unread,k.unread]))"
    )
    here = Path(hostlook.__file__).parents[1]

    def digest() -> tuple[str, list[str], list[str]]:
        run = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(here)], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return tuple(json.loads(run.stdout))

    first, unread, keys = digest()
    assert first.startswith(hostlook.UNREAD)
    assert unread == ["/etc/shadow"]
    assert "/home/budi/.ssh/authorized_keys" in keys
    shadow.write_text("root:!!!\n")
    assert digest()[0] != first


# -- packages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.needs("dpkg")
def test_versions_are_compared_as_dpkg_does() -> None:
    versions = [
        "1.0",
        "1.0-1",
        "1.0~rc1",
        "1:0.5",
        "1.0a",
        "1.0+dfsg-1",
        "1.0.1",
        "1.0-1+deb12u14",
        "1.0-1+deb12u9",
        "0",
        "2:1.0",
        "1.0~~",
        "10",
    ]
    for one in versions:
        for other in versions:
            less = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0
            assert (compare(one, other) < 0) == less, (one, other)


def test_pending_security_updates(tmp_path: Path) -> None:
    status = [("openssl", "arm64", "3.0.11-1~deb12u1", "install ok installed"), ("curl", "arm64", "7.88", "hold ok installed"),
              ("tzdata", "all", "2024a", "install ok installed"), ("gone", "arm64", "1", "deinstall ok config-files")]  # fmt: skip
    put(
        tmp_path, "var/lib/dpkg/status", "".join(f"Package: {p}\nStatus: {s}\nArchitecture: {a}\nVersion: {v}\n\n" for p, a, v, s in status)
    )
    offers = [("openssl", "arm64", "3.0.11-1~deb12u2"), ("openssl", "armhf", "9"), ("curl", "arm64", "8"), ("tzdata", "all", "2024b"),
              ("gone", "arm64", "2"), ("other", "arm64", "1")]  # fmt: skip
    text = "".join(f"Package: {p}\nArchitecture: {a}\nVersion: {v}\nDescription: x\n y\n\n" for p, a, v in offers)
    path = put(tmp_path, "var/lib/apt/lists/deb_debian-security_dists_bookworm-security_main_binary-arm64_Packages", text)
    found = Dpkg(tmp_path, rest=0.0).pending(time.time())
    assert (found.names, found.why) == (("openssl 3.0.11-1~deb12u2", "tzdata 2024b"), "")
    assert 0 <= found.lists < 60
    for name in ("", "lists/partial"):
        target = tmp_path / "var/lib/apt/lists" if not name else tmp_path / "var/lib/apt" / name
        target.mkdir(exist_ok=True)
        os.utime(target, (1e9, 1e9))
    path.rename(path.with_name("deb_debian_dists_bookworm_main_binary-arm64_Packages"))
    os.utime(tmp_path / "var/lib/apt/lists", (1e9, 1e9))
    found = Dpkg(tmp_path, rest=0.0).pending(time.time())
    assert (found.names, found.why) == ((), "no_security_lists")
    assert found.lists > 86400 * 100


def test_lists_of_garbage_and_other_shapes(tmp_path: Path) -> None:
    put(tmp_path, "var/lib/dpkg/status", "\0\xff\nPackage\n: :\n\n" * 100)
    for suffix in ("", ".gz", ".xz", ".lz4", ".zst"):
        put(tmp_path, f"var/lib/apt/lists/x_dists_b-security_main_binary-arm64_Packages{suffix}", "garbage \0\n")
    found = Dpkg(tmp_path, rest=0.0).pending(time.time())
    assert (found.names, found.why) == ((), "lists_unreadable")
    assert Dpkg(tmp_path / "nothing", rest=0.0).pending(time.time()).lists == -1.0


def test_when_dpkg_worked(tmp_path: Path) -> None:
    now = 1_795_000_000.0
    line = lambda ago: time.strftime("%Y-%m-%d %H:%M:%S status installed x 1", time.localtime(now - ago)) + "\n"  # noqa: E731
    put(tmp_path, "var/log/dpkg.log", "garbage\n" + line(9000) + line(500) + line(420) + line(330) + line(300))
    os.utime(put(tmp_path, "var/lib/dpkg/status", ""), (now - 310, now - 310))
    assert Dpkg(tmp_path).worked(now) == (300.0, 500.0)
    assert Dpkg(tmp_path / "nothing").worked(now) == (-1.0, -1.0)


# -- setuid, sockets, firewall, USB -----------------------------------------------------------------------------------------


def test_setuid_programs_and_whose_they_are(tmp_path: Path) -> None:
    put(tmp_path, "usr/bin/su", mode=0o4755)
    put(tmp_path, "usr/local/bin/pintu", mode=0o4755)
    put(tmp_path, "usr/bin/ls", mode=0o755)
    put(tmp_path, "var/lib/docker/overlay2/x/su", mode=0o4755)
    (tmp_path / "usr/bin/link").symlink_to("su")
    put(tmp_path, "var/lib/dpkg/info/login.md5sums", f"{'0' * 32}  bin/su\n")
    found = hostlook.find_setuid(tmp_path, Dpkg(tmp_path, rest=0.0), time.time(), rest=0.0)
    assert found
    assert {path: state.packaged for path, state in found.files.items()} == {"/usr/bin/su": True, "/usr/local/bin/pintu": None}
    assert hostlook.find_setuid(tmp_path, Dpkg(tmp_path), time.time(), stop=lambda: True) is None


def test_a_real_listener_and_its_program_and_none_of_our_own() -> None:
    own = socket.create_server(("127.0.0.1", 0))
    code = "import socket,sys;s=socket.create_server(('127.0.0.1',0));print(s.getsockname()[1],flush=True);sys.stdin.read()"
    with subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        port = int(other.stdout.readline())
        found = hostlook.Sockets(Path("/")).look()
        assert found
        mine = [x for x in found.listeners if x.port == own.getsockname()[1]]
        theirs = next(x for x in found.listeners if x.port == port and x.protocol == "tcp")
        assert mine == []
        assert (theirs.address, theirs.user) == ("127.0.0.1", os.getuid())
        assert "python" in theirs.program
        other.communicate()
    own.close()


def test_sockets_of_six_and_of_garbage() -> None:
    head = "  sl  local_address remote_address st\n"
    row = "   0: {}:0016 {}:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n"
    six = row.format("0" * 32, "0" * 32)
    mapped = row.format("0000000000000000FFFF00000100007F", "0" * 32)
    assert [r[1:3] for r in hostlook.parse_sockets(head + six + mapped, "tcp", "0A")] == [("::", 22), ("127.0.0.1", 22)]
    for text in ("", head, head + "x\n", head + "1: zz:0016 0:0000 0A\n", head + row.format("00", "00"), "\0" * 999):
        assert hostlook.parse_sockets(text, "tcp", "0A") == []


OFF = "add table inet t; add chain inet t in { type filter hook input priority 0; policy accept; }; add rule inet t in tcp dport 22 accept"
RULESETS = [
    ("", False),
    (OFF, False),
    (OFF.replace("policy accept", "policy drop"), True),
    (OFF + "; add rule inet t in counter drop", True),
    (OFF + "; add rule inet t in tcp dport 23 drop", False),
    (OFF.replace("hook input", "hook output").replace("policy accept", "policy drop"), False),
]


@pytest.mark.lab
@pytest.mark.needs("nft", "unshare")
@pytest.mark.parametrize(("rules", "guarded"), RULESETS)
def test_real_rulesets_of_nft(tmp_path: Path, rules: str, guarded: bool) -> None:
    state = put(tmp_path, hostlook.STATE_FILE, "")
    script = f"nft '{rules}' && nft -j list ruleset >{state}" if rules else f"nft -j list ruleset >{state}"
    run = subprocess.run(["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, check=False, timeout=20)
    assert run.returncode == 0, run.stderr
    found = hostlook.firewall(tmp_path, time.time())
    assert (found.readable, found.guarded) == (True, guarded)


def test_an_old_or_broken_state_of_the_firewall_is_none(tmp_path: Path) -> None:
    state = put(tmp_path, hostlook.STATE_FILE, '{"nftables": []}')
    assert hostlook.firewall(tmp_path, time.time()).readable
    assert not hostlook.firewall(tmp_path, time.time() + 2 * hostlook.STATE_AGE).readable
    for text in ("", "{", "[]", '{"nftables": [{"chain": {}}]}', '{"nftables": 5}', "[" * 99999):
        state.write_text(text)
        assert not hostlook.firewall(tmp_path, time.time()).readable


def test_usb_interfaces_by_class(tmp_path: Path) -> None:
    assert hostlook.usb(tmp_path) is None
    for name, code in (("1-0:1.0", "09"), ("1-1:1.0", "08"), ("1-1:1.1", "03"), ("1-2:1.0", "ff"), ("usb1", "")):
        put(tmp_path, f"sys/bus/usb/devices/{name}/bInterfaceClass", f"{code}\n")
    found = hostlook.usb(tmp_path)
    assert found
    assert found.devices == {"1-1:1.0": "storage", "1-1:1.1": "hid", "1-2:1.0": "other"}
