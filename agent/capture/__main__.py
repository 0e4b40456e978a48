"""The privileged helper: opens three filtered sockets on one network device, hands them over a Unix socket, and is gone.

    python -m agent.capture                                        one request on standard input (ronda-capture@.service)
    python -m agent.capture --listen=PATH [--group=G] [--user=U]   the same for each that connects (`ronda capture`)

Law: the standard library only, and as little of it as can be. One bounded line comes in, the device's name; the answer is one line, "ok"
and the sockets or "no: " and why. No packet is ever read here. Each socket is deaf (protocol 0) until its filter is attached and locked
(SO_LOCK_FILTER: not even root can change it then), so nothing unfiltered slips in. The only capability wanted is CAP_NET_RAW.

Whoever holds the sockets can send with them, bind them to another device of this box, and have the card listen to what isn't for it; what
the filter doesn't let through they never get. Hence PATH is for the agent's group only.
"""

# ruff: noqa: PTH101, PTH104, PTH108  (pathlib would be half of what this imports)

import array
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys

from agent.capture.filter import PROGRAMS

WITHIN = 3  # seconds that one request may take in all
LONGEST = 15  # characters of a device's name (IFNAMSIZ - 1)
BUFFERS = {"lan": 212_992, "contacts": 212_992, "count": 0}  # bytes; Debian's net.core.rmem_max; the kernel's least is some 2 KiB
ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
CAP_NET_RAW = 13

_ETH_P_ALL, _ARPHRD_ETHER, _IFF_UP, _IFF_LOOPBACK = 0x0003, 1, 0x1, 0x8
_SIOCGIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8927
_SO_ATTACH_FILTER, _SO_LOCK_FILTER = 26, 44
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _CAP_VERSION_3 = 8, 38, 24, 0x20080522


class Refusal(Exception):  # noqa: N818  (an answer, not an error of ours)
    """Why there are no sockets, in words for a log."""


def serve(connection: socket.socket) -> None:
    """Answers one request."""
    connection.settimeout(WITHIN)
    opened: list[socket.socket] = []
    try:
        device = ethernet(request(connection))
        for name in PROGRAMS:
            opened.append(listening(device, name))  # noqa: PERF401  (what was opened must be closed when the next one fails)
        socket.send_fds(connection, [b"ok\n"], [s.fileno() for s in opened])
    except Refusal as e:
        _answer(connection, f"no: {e}\n")
    except PermissionError:
        _answer(connection, "no: the helper has no CAP_NET_RAW\n")
    except OSError as e:
        _answer(connection, f"no: {e.strerror or e}\n")
    finally:
        for sock in opened:
            sock.close()


def _answer(connection: socket.socket, text: str) -> None:
    try:
        connection.sendall(text.encode())
    except OSError as e:  # it has gone
        print(f"ronda-capture: {e.strerror or e}", file=sys.stderr)


def request(connection: socket.socket) -> str:
    """The device's name: one line, of the characters that such names are made of. Raises Refusal, OSError."""
    line = b""
    while not line.endswith(b"\n"):
        got = connection.recv(LONGEST + 1 - len(line))
        line += got
        if not got or (len(line) > LONGEST and not line.endswith(b"\n")):
            raise Refusal("the request is no line with a device's name")
    name = line[:-1].decode("ascii", "replace")
    if not name or not ALLOWED.issuperset(name):
        raise Refusal("that is no device's name")
    return name


def ethernet(name: str) -> str:
    """The name of a device that is there, up, and speaks Ethernet (Wi-Fi does). Raises Refusal."""
    asked = struct.pack("16s24x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            flags = struct.unpack_from("16xH", fcntl.ioctl(s, _SIOCGIFFLAGS, asked))[0]
            kind = struct.unpack_from("16xH", fcntl.ioctl(s, _SIOCGIFHWADDR, asked))[0]
        except OSError as e:
            raise Refusal(f"{name}: {e.strerror}") from None
    if kind != _ARPHRD_ETHER or flags & _IFF_LOOPBACK:
        raise Refusal(f"{name} is no Ethernet or Wi-Fi device")
    if not flags & _IFF_UP:
        raise Refusal(f"{name} is down")
    return name


def listening(device: str, name: str) -> socket.socket:
    """One of the three sockets. Raises OSError."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        code = array.array("B", PROGRAMS[name]())
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(code) // 8, code.buffer_info()[0]))
        sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERS[name])
        sock.bind((device, _ETH_P_ALL))
    except OSError:
        sock.close()
        raise
    return sock


# -- for boxes without systemd ------------------------------------------------------------------------------------------------


def listen(path: str, group: str = "", user: str = "") -> None:
    """Serves each that connects to PATH, one after the other and each in a process of its own, until it is ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        _bind(listener, path, group)
        _drop_all_but_raw(user)
        print(f"ronda-capture: listening on {path}", file=sys.stderr, flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                _in_a_child(connection)


def _in_a_child(connection: socket.socket) -> None:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    signal.alarm(WITHIN + 1)  # whatever happens, the next one is served
    try:
        serve(connection)
    finally:
        os._exit(0)


def _bind(listener: socket.socket, path: str, group: str) -> None:
    """Listens at PATH, in one step in place of what an earlier life has left there; for the group only, before anybody can connect."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    mask = os.umask(0o177)
    try:
        listener.bind(new)
    finally:
        os.umask(mask)
    if group:
        import grp

        os.chown(new, -1, grp.getgrnam(group).gr_gid)
        os.chmod(new, 0o660)
    listener.listen(8)
    os.rename(new, path)


def _drop_all_but_raw(user: str) -> None:
    """Becomes USER (default nobody) with CAP_NET_RAW and nothing else, for good. An ordinary user stays what it is."""
    if os.geteuid() != 0:
        return
    import ctypes
    import pwd

    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: str, *arguments: object) -> None:
        if getattr(libc, function)(*arguments):
            raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")

    who = pwd.getpwnam(user or "nobody")
    for capability in range(64):
        if capability != CAP_NET_RAW and libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # beyond the last one that this kernel knows
    call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(who.pw_gid, who.pw_gid, who.pw_gid)
    os.setresuid(who.pw_uid, who.pw_uid, who.pw_uid)
    raw = 1 << CAP_NET_RAW
    header, sets = struct.pack("=Ii", _CAP_VERSION_3, 0), struct.pack("=6I", raw, raw, 0, 0, 0, 0)  # effective, permitted, inheritable
    call("capset", header, sets)
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main(arguments: list[str]) -> int:
    if not arguments:
        with socket.socket(fileno=0) as connection:
            serve(connection)
        return 0
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if not options.get("--listen") or not options.keys() <= {"--listen", "--group", "--user"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        listen(options["--listen"], options.get("--group", ""), options.get("--user", ""))
    except (OSError, KeyError) as e:
        print(f"ronda-capture: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
