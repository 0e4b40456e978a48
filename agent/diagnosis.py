"""From what is known of each task to one verdict: how the office is, why, and since when.

Law: `judge` is a pure function of (facts, time, the last verdict): no clock, no I/O. It reads roles, not kinds: a task's
role is its label `role` (gateway, anchor, resolver, service), or follows from its kind and target. It says `unknown` rather
than guess. The order of the questions is the order of the way out: box, cable, router, provider, names, applications.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Literal

from agent.model import Event, Metric, Sample
from agent.status import Status

SITE_STATES = ("ok", "degraded", "down", "silent", "closed", "maintenance", "planned", "retired")
CAUSES = (
    "ok", "power", "host", "link", "gateway", "isp", "account", "saturated",
    "dns", "portal", "centre", "service", "unknown",
)  # fmt: skip
Confidence = Literal["certain", "likely", "unknown"]
WITNESSES = ("gateway", "anchor", "service")
SETTLING = 30.0  # seconds that a new task may take until it knows

SITE_STATE = Metric("ronda_site_state", "How the office is, as the agent sees it; exactly one state is 1.", labels=("state",))
VERDICT = Metric("ronda_verdict", "The cause that the agent holds responsible now; exactly one is 1.", labels=("cause",))
VERDICT_CHANGES = Metric("ronda_verdict_changes_total", "How often the cause changed since the agent started.", "counter")
METRICS = (SITE_STATE, VERDICT, VERDICT_CHANGES)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the agent holds true. `since` is wall clock seconds; `incident` is empty while all is well; `evidence` names no address."""

    state: str = "ok"
    cause: str = "unknown"
    confidence: Confidence = "unknown"
    since: float = 0.0
    incident: str = ""
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Office:
    """What makes an incident's id: the code of the site, and the zone whose time people there say on the phone."""

    code: str
    zone: tzinfo


def role_of(status: Status) -> str:
    """gateway, anchor, resolver, service, link, host, or "" for what has no part in the verdict."""
    if role := status.labels.get("role"):
        return role
    if status.kind == "icmp":
        return "gateway" if status.target == "gateway" else "anchor"
    return {"dns": "resolver", "http": "service", "tcp": "service", "link": "link", "host": "host"}.get(status.kind, "")


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """How many of a role answer, of how many that are known."""

    up: int = 0
    known: int = 0

    @property
    def all_down(self) -> bool:
        return self.known > 0 and self.up == 0

    @property
    def any_up(self) -> bool:
        return self.up > 0


def _settled(status: Status) -> bool:
    """Only what is settled counts: one that failed for the first time still counts as it did before."""
    return status.state in ("ok", "down") or (status.state == "checking" and status.reached)


def counts(statuses: Iterable[Status]) -> dict[str, Count]:
    """How many answer, by role."""
    found: dict[str, list[int]] = {}
    for status in statuses:
        if _settled(status):
            of_role = found.setdefault(role_of(status), [0, 0])
            of_role[0] += status.state != "down"
            of_role[1] += 1
    return {role: Count(up, known) for role, (up, known) in found.items()}


def ways_out(statuses: Iterable[Status]) -> dict[str, Count]:
    """How many anchors answer, by the label `uplink` ("" where there is one way out only)."""
    found: dict[str, list[Status]] = {}
    for status in statuses:
        if role_of(status) == "anchor":
            found.setdefault(status.labels.get("uplink", ""), []).append(status)
    return {uplink: counts(of_it).get("anchor", Count()) for uplink, of_it in sorted(found.items())}


def settling(statuses: Iterable[Status], now: float) -> bool:
    """Whether a witness is so new that it has not had its say: just after a start the first one to fail proves nothing."""
    return any(
        s.state in ("unknown", "checking") and not s.reached and 0 <= now - s.since < SETTLING and role_of(s) in WITNESSES for s in statuses
    )


def judge(statuses: Sequence[Status], carrier: bool | None, now: float, last: Verdict, office: Office) -> Verdict:
    """The verdict now. `carrier`: whether any cable or radio of the box has a signal; None where nobody knows."""
    state, cause, confidence, evidence = _assess(statuses, carrier)
    if state == "down" and cause != "link" and settling(statuses, now):
        return last
    if cause == "unknown" and state == "ok" and last.incident:
        return last  # nobody can tell (a restart, say): what was open stays open until somebody can
    unchanged = state == last.state and cause == last.cause and last.since > 0
    since = last.since if unchanged else now
    opened = last.incident or incident_id(office, now)
    return Verdict(state, cause, confidence, since, "" if state == "ok" else opened, tuple(evidence))


def incident_id(office: Office, onset: float) -> str:
    """`RSU-1124-0207`: site code, month and day, local time of onset; short enough to say on the phone."""
    return f"{office.code}-{datetime.fromtimestamp(onset, office.zone):%m%d-%H%M}"


def _assess(statuses: Sequence[Status], carrier: bool | None) -> tuple[str, str, Confidence, list[str]]:
    known = counts(statuses)
    gateway, anchors, resolvers, services = (known.get(role, Count()) for role in ("gateway", "anchor", "resolver", "service"))
    evidence = _evidence(carrier, gateway, anchors, resolvers, services) + _uplink_evidence(statuses)
    outside = anchors.any_up or services.any_up
    if outside:
        return (*_inside_trouble(statuses, anchors, resolvers, services), evidence)
    if carrier is False:
        return "down", "link", "certain", evidence
    if not anchors.known and not services.known:
        return ("down", "gateway", "likely", evidence) if gateway.all_down else ("ok", "unknown", "unknown", evidence)
    if gateway.all_down:
        return "down", "gateway", "certain" if carrier else "likely", evidence
    if gateway.any_up and anchors.all_down:
        return "down", "isp", "certain" if anchors.known > 1 else "likely", evidence
    return "down", "unknown", "unknown", evidence


def _inside_trouble(statuses: Sequence[Status], anchors: Count, resolvers: Count, services: Count) -> tuple[str, str, Confidence]:
    """Something outside answers, so a way out is open: names, one of two uplinks, applications, or nothing."""
    unnamed = any(s.state == "down" and s.reason == "resolve" for s in statuses if role_of(s) == "service")
    if resolvers.all_down:
        return "degraded", "dns", "certain" if unnamed or resolvers.known > 1 else "likely"
    if unnamed:
        return "degraded", "dns", "likely"
    if lost := [n for n in ways_out(statuses).values() if n.all_down]:
        return "degraded", "isp", "certain" if any(n.known > 1 for n in lost) and anchors.any_up else "likely"
    if services.known > services.up:
        return "degraded", "service", "certain" if anchors.any_up else "likely"
    return "ok", "ok", "certain"


def _evidence(carrier: bool | None, gateway: Count, anchors: Count, resolvers: Count, services: Count) -> list[str]:
    said = [] if carrier is None else ["kabel atau WiFi tersambung" if carrier else "tidak ada sinyal kabel atau WiFi"]
    if gateway.known:
        said.append("router kantor menjawab" if gateway.any_up else "router kantor tidak menjawab")
    if anchors.known:
        said.append(f"{anchors.up}/{anchors.known} jangkar internet menjawab")
    if resolvers.known:
        said.append(f"{resolvers.up}/{resolvers.known} server nama (DNS) menjawab")
    if services.known:
        said.append(f"{services.up}/{services.known} layanan menjawab")
    return said


def _uplink_evidence(statuses: Sequence[Status]) -> list[str]:
    """Each way out by its name, where there are several."""
    ways = ways_out(statuses)
    return [f"jalur {name}: {n.up}/{n.known} jangkar menjawab" for name, n in ways.items() if n.known] if len(ways) > 1 else []


EVENTS = ("incident_opened", "incident_changed", "incident_closed", "verdict_changed")


def change(before: Verdict, after: Verdict) -> Event:
    """What a new verdict is as an event: an incident's opening, change or end, or a change without one."""
    fields = {"state": after.state, "cause": after.cause, "confidence": after.confidence, "before": f"{before.state}, {before.cause}"}
    said = f"the office is {after.state}, cause {after.cause} ({after.confidence})"
    if incident := after.incident or before.incident:
        fields["incident"] = incident
        said = f"{incident}: {said}"
    if after.evidence:
        fields["evidence"] = "; ".join(after.evidence)
    if after.incident:
        kind = "incident_changed" if before.incident == after.incident else "incident_opened"
        return Event(kind, "critical" if after.state == "down" else "warning", said, fields)
    return Event("incident_closed" if before.incident else "verdict_changed", "info", said, fields)


def samples(verdict: Verdict, changes: int) -> Iterable[Sample]:
    """The verdict as one-hot samples."""
    for state in SITE_STATES:
        yield SITE_STATE(float(state == verdict.state), state)
    for cause in CAUSES:
        yield VERDICT(float(cause == verdict.cause), cause)
    yield VERDICT_CHANGES(changes)
