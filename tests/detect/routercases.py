"""Generated cases of routers' logs: what a router would have written, read as the agent reads it.

What a week has taught (usual places, usual gaps) the manifest says with `recall`. Each attack stands beside its innocent twin.
"""

import random
from collections.abc import Iterable

from agent.detect import routerlines, seen
from agent.wire import rfc3164
from tests.detect.cases import BEGIN, Steps

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
ADMIN, THIEF, WORLD = "192.0.2.10", "192.0.2.66", "36.97.161.219"
FAILED = "system,error,critical login failure for user {} from {} via winbox"
CAME = "system,info,account user admin logged in from {} via winbox"
REFUSED = "firewall,info drop input: in:{} out:(unknown 0), connection-state:new, proto TCP (SYN), {}:59388->192.0.2.1:{}, len 40"


def wrote(at: float, line: str, *, in_hours: bool | None = True) -> Steps:
    """What a line makes the detectors see."""
    yield at, seen.DeviceHeard("router")
    told = routerlines.read(rfc3164.read(f"<30>Jan  1 00:00:09 MikroTik {line}".encode()), "router")
    if isinstance(told, seen.RouterLogin):
        told = told._replace(in_hours=in_hours)
    if told:
        yield at, told


def logins(begin: float, end: float, every: float = 12 * HOUR) -> Steps:
    """An admin looks after the router, and gets it wrong once each time."""
    at = begin
    while at < end:
        yield from wrote(at, FAILED.format("admin", ADMIN))
        yield from wrote(at + 20, CAME.format(ADMIN))
        at += every


def router_guessed_at(rng: random.Random) -> Steps:
    """From within, with a list of names."""
    yield from logins(0.0, HOUR)
    yield HOUR, BEGIN
    for n in range(12):
        yield from wrote(HOUR + n * 0.7, FAILED.format(rng.choice(["admin", "root", "user", ""]), THIEF))


def router_guessed(rng: random.Random) -> Steps:
    """From the internet, until it is right."""
    yield 1.0, BEGIN
    for n in range(7):
        yield from wrote(1.0 + n, FAILED.format("admin", WORLD))
    yield from wrote(9.0, CAME.format(WORLD))


def router_mistyped(rng: random.Random) -> Steps:
    """Four times wrong, then right; and a monitor with an old password that asks once in five minutes."""
    yield from logins(0.0, HOUR)
    for n in range(4):
        yield from wrote(HOUR + n * 6, FAILED.format("admin", ADMIN))
    yield from wrote(HOUR + 30, CAME.format(ADMIN))
    for n in range(12):
        yield from wrote(2 * HOUR + n * 5 * MINUTE, FAILED.format("dude", "192.0.2.9"))


def router_entered(rng: random.Random) -> Steps:
    """From where nobody ever came."""
    yield from logins(0.0, DAY)
    yield DAY + HOUR, BEGIN
    yield from wrote(DAY + HOUR, CAME.format(THIEF))


def router_entered_at_night(rng: random.Random) -> Steps:
    """By the admin's own computer, when nobody works."""
    yield from logins(0.0, DAY)
    yield DAY + HOUR, BEGIN
    yield from wrote(DAY + HOUR, CAME.format(ADMIN), in_hours=False)


def router_looked_after(rng: random.Random) -> Steps:
    """Usual places in working hours; who logs out, and reboots, is no login."""
    yield from logins(0.0, DAY)
    yield from wrote(DAY, "system,info,account user admin logged out from 192.0.2.66 via winbox")
    yield from wrote(DAY + 60, "system,info router rebooted")


BACKDOOR = (
    "system,info user support added by admin",
    "system,info new script scheduled by tcp-msg(winbox):admin@192.0.2.66 (*4 = /system scheduler add interval=1h name=u on-event=x)",
    "system,info socks changed by tcp-msg(winbox):admin@192.0.2.66 (/ip socks set enabled=yes)",
)


def router_turned(rng: random.Random) -> Steps:
    """A thief stays: an account, a schedule, a proxy."""
    yield 1.0, BEGIN
    for n, line in enumerate(BACKDOOR):
        yield from wrote(1.0 + n * 20, line)


def router_schedule(rng: random.Random) -> Steps:
    """What the router itself does each night, and what other programs write about changes."""
    for day in range(3):
        yield from wrote(day * DAY, "system,info device changed by scheduler:wifi-off/action:8 (/interface wireless set 0 disabled=yes)")
        yield from wrote(day * DAY + 60, "script,info filter rule changed by admin")
        yield from wrote(day * DAY + 90, "dhcp,info dhcp1 assigned 192.0.2.120 for 3C:52:82:14:7A:01 PC changed by admin")


def _refused(begin: float, ports: Iterable[int], source: str, interface: str, every: float) -> Steps:
    for n, port in enumerate(ports):
        yield from wrote(begin + n * every, REFUSED.format(interface, source, port))


def router_scanned_from_within(rng: random.Random) -> Steps:
    yield 1.0, BEGIN
    yield from _refused(1.0, rng.sample(range(1, 1024), 60), THIEF, "bridge", 0.05)


def router_scanned_from_outside(rng: random.Random) -> Steps:
    """The internet's weather, and a PC within that asks for one forbidden port all day."""
    for n in range(30):
        yield from _refused(n * 60.0, rng.sample(range(1, 1024), 20), f"36.97.161.{n}", "ether1-WAN", 0.1)
    yield from _refused(4000.0, [25] * 500, "192.0.2.77", "bridge", 2.0)
    yield from _refused(8000.0, range(100, 160), "192.0.2.78", "bridge", 7.0)


def router_fell_silent(rng: random.Random) -> Steps:
    at = 0.0
    while at < DAY / 2:
        yield from wrote(at, "interface,info ether3 link up (speed 100M, full duplex)")
        at += rng.uniform(20.0, 400.0)
    yield at, BEGIN
    yield at + 3 * HOUR, seen.Carrier(True)


def router_quiet_at_night(rng: random.Random) -> Steps:
    """Eleven hours a day with hundreds of messages, then none until the next day; on Sunday none at all."""
    for day in range(4):
        at = day * DAY
        while day != 2 and at < day * DAY + 11 * HOUR:
            yield from wrote(at, "dhcp,info dhcp1 assigned 192.0.2.120 for 3C:52:82:14:7A:01 PC")
            at += rng.uniform(20.0, 400.0)


def router_garbled(rng: random.Random) -> Steps:
    """Lines of the attacks, each with some of its characters torn out: nothing is seen in most, and no case fails."""
    for n in range(400):
        line = rng.choice([FAILED.format("x", THIEF), CAME.format(""), *BACKDOOR, REFUSED.format("", "", n)])
        cut = sorted(rng.sample(range(len(line)), 2))
        yield from wrote(n * 61.0, line[: cut[0]] + line[cut[1] :])
