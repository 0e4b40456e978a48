"""What a start says of the time before it: was the agent away, or the whole box, from when to when, and did it end well.

Law: pure. Wall times come from whoever knows the true time: without it nothing is said of when the absence ended.
"""

from datetime import UTC, datetime, tzinfo

from agent.model import Event, Severity
from agent.state import Last

SHORT = 60.0  # seconds of absence that are an ordinary restart
EVENTS = ("agent_started", "agent_stopped", "agent_was_off", "box_was_off")


def started(version: str, last: Last) -> Event:
    ended = "" if not last.alive_at else ", after an end without warning" if not last.ended else ""
    return Event("agent_started", "info", f"Ronda {version} has started{ended}", {"version": version})


def stopped(version: str) -> Event:
    return Event("agent_stopped", "info", f"Ronda {version} stops, as it was told to", {"version": version})


def absence(last: Last, boot: str, started_at: float, booted_at: float, zone: tzinfo) -> Event | None:
    """The time without a watch before this start, as the box's clocks tell it; None: none that is worth a word.

    A run that ended without warning was last seen at most ten minutes before its end: `last_sign` is not the end itself.
    """
    rebooted = bool(boot and last.boot) and boot != last.boot
    back = min(started_at, booted_at) if rebooted else started_at
    if not last.alive_at or back - last.alive_at < SHORT:
        return None
    who = "the box was off" if rebooted else "Ronda was off"
    since = "from" if last.ended else "after its last sign of life at"
    text = f"{who} {since} {_at(last.alive_at, zone)} until {_at(back, zone)}"
    fields = {"last_sign": _iso(last.alive_at), "back": _iso(back), "ended_well": "yes" if last.ended else "no"}
    severity: Severity = "info" if last.ended else "warning"
    return Event("box_was_off" if rebooted else "agent_was_off", severity, text, fields | {"seconds": f"{back - last.alive_at:.0f}"})


def _at(when: float, zone: tzinfo) -> str:
    return f"{datetime.fromtimestamp(when, zone):%Y-%m-%d %H:%M}"


def _iso(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"
