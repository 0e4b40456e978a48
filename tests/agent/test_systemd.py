"""What is said to systemd, on a real socket."""

import os
import socket

from agent.systemd import Notifier


def test_it_tells_readiness_reloads_life_and_end(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        n = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
        n.ready("watching 5 things")
        n.reloading()
        n.alive()
        n.stopping()
        said = [s.recv(200).decode() for _ in range(4)]

    assert n.watchdog == 30
    assert said[0] == "READY=1\nSTATUS=watching 5 things"
    assert said[1].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert said[2:] == ["WATCHDOG=1", "STOPPING=1"]


def test_without_systemd_nothing_is_said():
    n = Notifier({"WATCHDOG_USEC": "30000000"})
    n.ready()

    assert (n.watchdog, n.failures) == (0, 0)


def test_another_process_watchdog_is_not_ours(tmp_path):
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog == 0


def test_a_socket_that_is_gone_is_counted(tmp_path):
    n = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")})
    n.alive()

    assert n.failures == 1
