"""The first question to a device: who it is, since when it is up, and whether its interfaces may have changed.

Law: pure. Whether it began anew is judged by sysUpTime alone, which turns over after 497 days (RFC 3418) and then has not.
"""

from collections.abc import Mapping

from agent.snmp import interfaces
from agent.snmp.counters import WRAP
from agent.snmp.interfaces import LONGEST, clean
from agent.snmp.wire import Oid, Value

DESCR: Oid = (1, 3, 6, 1, 2, 1, 1, 1, 0)
KIND: Oid = (1, 3, 6, 1, 2, 1, 1, 2, 0)
UPTIME: Oid = (1, 3, 6, 1, 2, 1, 1, 3, 0)
NAME: Oid = (1, 3, 6, 1, 2, 1, 1, 5, 0)
HOST_UPTIME: Oid = (1, 3, 6, 1, 2, 1, 25, 1, 1, 0)  # hrSystemUptime: of the box; sysUpTime is of the program that answers
ENGINE_TIME: Oid = (1, 3, 6, 1, 6, 3, 10, 2, 1, 3, 0)  # snmpEngineTime: seconds; sysUpTime turns over after 497 days
HELLO = (KIND, DESCR, NAME, UPTIME, HOST_UPTIME, ENGINE_TIME, interfaces.IF_NUMBER, interfaces.TABLE_CHANGED)


def identity(values: Mapping[Oid, Value], oid: Oid) -> str:
    return clean(values[oid].value, 128 if oid == KIND else LONGEST) if oid in values else ""


def integer(values: Mapping[Oid, Value], oid: Oid) -> int:
    value = values[oid].value if oid in values else -1
    return value if isinstance(value, int) else -1


def uptime_of(values: Mapping[Oid, Value]) -> float:
    """Seconds since the device was started, -1 where it doesn't say.

    Of the box where it tells that (hrSystemUptime) and the program that answers isn't older; else that program's own time. Both turn over
    (2^32 hundredths: 497 days); snmpEngineTime, in seconds, tells how often.
    """
    ticks, host, engine = integer(values, UPTIME), integer(values, HOST_UPTIME), integer(values, ENGINE_TIME)
    of_box = host >= 0 and host + 30_000 >= ticks
    if not of_box and ticks < 0:
        return -1.0
    turns = round((engine * 100 - ticks) / WRAP) if engine > 0 and ticks >= 0 else 0
    if turns <= 0 or abs(engine * 100 - ticks - turns * WRAP) >= 12_000:
        turns = 0
    if of_box:
        return (host + turns * WRAP) / 100
    return float(engine) if turns else ticks / 100


def went_back(before: float, now: float, seconds: float) -> bool:
    """Whether sysUpTime began anew: it is lower than it was, and hasn't only turned over (RFC 3418: after 497 days)."""
    if before < 0 or now < 0 or now >= before:
        return False
    return abs(before + seconds * 100 - WRAP - now) > 6_000 + seconds * 5
