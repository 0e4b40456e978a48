"""The inventory: the centre's one file, read strictly into frozen dataclasses; calendar.yaml beside it.

Law: all that is wrong is told at once, with file and line; what leaves `load` is whole: every default is filled in, every name that
refers to something finds it. What is only doubtful (a year without calendar data, nobody to send to) is a warning, never an error.
The same two files give the same Inventory; today's date decides warnings alone.
"""

import argparse
import dataclasses
import difflib
import ipaddress
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints
from zoneinfo import ZoneInfo

from agent.config import ANCHORS, MIN_BUDGET, Zone
from agent.config import schema as agent_schema
from agent.httpclient import parse_url
from agent.snmp.wire import split
from agent.sockets import parse_address
from agent.structure import ConfigError, IpAddress, Matching, Problem, Reader, Regex, Scalar, Size, Slug, Source, read_bytes
from agent.tls import File
from central.calendars import FOR_EVER, Calendar, Date, Hours, YearDays, load_years, offset
from collectors import KINDS
from collectors.snmp import Wanted

CENTRE = "pusat"  # the `site` of the centre's own alerts; no office may be called so
ALWAYS = "24-jam"  # this calendar is there without being written, and is a 24-jam site's unless it names another
LONGEST_LABEL = 100  # characters, of all names of interfaces that a thrifty box is to tell of
SILENCE = {"fibre": 40.0, "metered": 700.0}  # seconds without a sign of life that make a site silent

Class = Literal["24-jam", "layanan", "kantor", "desa"]
Status = Literal["active", "planned", "retired"]
Delivery = Literal["push", "pull"]
Profile = Literal["fibre", "metered"]
Medium = Literal["fibre", "4g", "vsat", "wireless", "cable"]
DeviceKind = Literal["router", "switch", "radio", "ups", "other"]
Audience = Literal["ops", "csirt", "isp", "pimpinan"]
ChannelName = Literal["ops", "csirt", "isp", "pimpinan", "digest", "deadman"]

BREAKS = {"Cc", "Zl", "Zp"}  # Unicode's control characters and line breaks: a name with one would tear a message, a file, a label


def _line(longest: int, least: int = 1) -> Any:
    def parse(text: str) -> str:
        if any(unicodedata.category(c) in BREAKS for c in text):
            raise ValueError("holds a line break or a control character; it must be one line")
        if not least <= len(text.strip()) or len(text) > longest:
            raise ValueError(f"has {len(text)} characters; {least} to {longest} are allowed")
        return text

    return parse


def _url(text: str) -> str:
    parse_url(text)
    return text


def _moment(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
        raise ValueError
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError from None


def _between(low: float, high: float, what: str) -> Any:
    def parse(text: str) -> float:
        if not re.fullmatch(r"[+-]?\d{1,9}(\.\d{1,9})?", text, re.ASCII):
            raise ValueError
        if not low <= float(text) <= high:
            raise ValueError(f"is not {what} ({low:g} to {high:g})")
        return float(text)

    return parse


def _address(text: str) -> str:
    if not (m := re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^\s/@?#\[\]:]{1,253}):(\d{1,5})", text, re.ASCII)) or not 0 < int(m[2]) < 65536:
        raise ValueError
    return text


def _device_at(text: str) -> str:
    split(text)
    return text


def _anchor(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError from None
    return text


Name = Annotated[str, Scalar("a name", _line(200))]
Line = Annotated[str, Scalar("a text", _line(100, 0))]
Code = Annotated[str, Scalar("a site code", Matching(r"[A-Z0-9]{2,8}"), "two to eight capitals or digits, e.g. DKC")]
Url = Annotated[str, Scalar("a URL", _url)]
Moment = Annotated[datetime, Scalar("a local time", _moment, "try 2026-12-01T20:00")]
Percent = Annotated[float, Scalar("a percentage", _between(0, 100, "a percentage"))]
Mbps = Annotated[float, Scalar("a speed in Mbit/s", _between(0.001, 1_000_000, "a speed in Mbit/s"))]
Rupiah = Annotated[int, Scalar("an amount of rupiah", lambda t: int(Matching(r"\d{1,15}")(t)), "digits only, e.g. 2500000")]
Degrees = Annotated[float, Scalar("degrees", _between(-180, 180, "degrees"), "with a point, e.g. 2.1017")]
HostPort = Annotated[str, Scalar("host:port", _address, "try 192.0.2.10:17663")]
DeviceAt = Annotated[str, Scalar("a device's address", _device_at, "try gateway, 192.0.2.2 or 192.0.2.2:1161")]
InterfaceName = Annotated[str, Scalar("an interface's name", _line(64), "as the device itself calls it, e.g. ether1")]
Anchor = Annotated[str, Scalar("an address", _anchor, "an IP address, e.g. 9.9.9.9")]
Email = Annotated[str, Scalar("an e-mail address", Matching(r"[^\s@<>,;\"]{1,64}@[A-Za-z0-9.-]{1,253}"), "try piket@example.go.id")]
ChatId = Annotated[str, Scalar("a Telegram chat", Matching(r"-?\d{1,19}"), 'digits, a group begins with -, e.g. "-100123"')]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_AGENT = agent_schema(KINDS)

if TYPE_CHECKING:
    Targets = Any
else:
    Targets = get_type_hints(_AGENT)["collectors"]


# -- what the file says -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centre:
    """The Kominfo office itself. `url`: where the agents push to; `token_file`: the file on each box with its own token for it.

    csirt: whom to call about a security finding, and whom its report names, e.g. "TTIS Labuhanbatu 0624-000009"
    """

    name: Name
    timezone: Zone = "Asia/Jakarta"
    url: Url = ""
    token_file: File | None = None
    phone: Line = ""
    csirt: Line = ""
    anchors: list[Anchor] = dataclasses.field(default_factory=lambda: list(ANCHORS))

    def problems(self) -> Iterable[tuple[str, str]]:
        if len(set(self.anchors)) != len(self.anchors) or not self.anchors:
            yield "anchors", "must be different addresses, at least one"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Isp:
    name: Name
    noc: Line = ""  # the number to call
    sla: Percent | None = None
    email: Email = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Service:
    """An application that offices share; one failing for many healthy sites is one incident, its owner's."""

    name: Name
    url: Url
    owner: Line = ""
    phone: Line = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uplink:
    """One of a site's ways to the internet. price: rupiah a month; from, until: of the contract.

    device, interface: where its traffic is counted, for what is used against what is bought
    """

    name: Slug = ""  # empty in the file: the ISP's key
    isp: Slug
    medium: Medium
    customer: Line = ""
    mbps: Mbps | None = None
    price: Rupiah | None = None
    from_: Date | None = None
    until: Date | None = None
    source: Source = ""  # the box's address or interface on this uplink
    device: Slug = ""
    interface: InterfaceName = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.isp)

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.from_ and self.until and self.until < self.from_:
            yield "until", f"is before its from ({self.from_})"
        if bool(self.device) != bool(self.interface):
            yield ("interface", "is missing beside device") if self.device else ("device", "is missing beside interface")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteDevice:
    """A router, switch, radio or UPS of an office, as its box asks it by SNMP (credentials_file) and hears it (logs, traps).

    credentials_file: on the box; without it the device is not asked. keep, drop: which interfaces are shown, as the kind snmp has them.
    watch: interfaces that must never be down, beside the uplinks'
    """

    address: DeviceAt
    kind: DeviceKind = "other"
    credentials_file: File | None = None
    profiles: Wanted = dataclasses.field(default_factory=lambda: Wanted(["auto"]))
    keep: list[Regex] = dataclasses.field(default_factory=list)
    drop: list[Regex] = dataclasses.field(default_factory=list)
    watch: list[InterfaceName] = dataclasses.field(default_factory=list)
    logs: bool = False
    traps: bool = False

    def problems(self) -> Iterable[tuple[str, str]]:
        if not (self.credentials_file or self.logs or self.traps):
            yield "address", "would be neither asked nor heard: give credentials_file, logs or traps"
        if (self.logs or self.traps) and not self.sender:
            yield "address", "must be an address or gateway where logs or traps are taken: a sender is known by its address"
        if self.watch and not self.credentials_file:
            yield "watch", "needs credentials_file: interfaces are asked for"

    @property
    def sender(self) -> str:
        """Whom its logs and traps come from: an address without port, or `gateway`; empty where it is a name."""
        host, _ = split(self.address)
        return host if host == "gateway" or parse_address(host) else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contact:
    name: Name
    phone: Line = ""
    audience: Audience = "ops"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maintenance:
    """A planned outage, in the site's local time; `until` is not included."""

    from_: Moment
    until: Moment
    reason: Line = ""

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.until <= self.from_:
            yield "until", f"is not after its from ({self.from_:%Y-%m-%dT%H:%M})"

    def timestamps(self, zone: ZoneInfo) -> tuple[float, float]:
        """Beginning and end as Unix times."""
        return self.from_.replace(tzinfo=zone).timestamp(), self.until.replace(tzinfo=zone).timestamp()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """One office. After `load` nothing is left open: profile, calendar and timezone are filled in.

    address: of the agent, host:port, for delivery pull; targets: tasks by kind, as in an agent's `collectors`; admins: from where devices
    that send their logs are looked after, as the kind syslog has them
    """

    name: Name
    code: Code
    district: Line = ""
    class_: Class
    status: Status = "active"
    delivery: Delivery = "push"
    profile: Profile = ""  # type: ignore[assignment]  # empty in the file: by the uplinks' media
    budget: Size | None = None  # bytes a month over each uplink
    address: HostPort = ""
    calendar: Slug = ""
    location: list[Degrees] = dataclasses.field(default_factory=list)
    power: Literal["always", "off_after_hours"] = "always"
    timezone: Zone = ""
    uplinks: list[Uplink] = dataclasses.field(default_factory=list)
    services: list[Slug] = dataclasses.field(default_factory=list)
    targets: Targets = dataclasses.field(default_factory=lambda: Targets())
    devices: dict[Slug, SiteDevice] = dataclasses.field(default_factory=dict)
    admins: list[IpAddress] = dataclasses.field(default_factory=list)
    contacts: list[Contact] = dataclasses.field(default_factory=list)
    maintenance: list[Maintenance] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        thrifty = bool(self.uplinks) and all(u.medium in ("4g", "vsat") for u in self.uplinks)
        object.__setattr__(self, "profile", self.profile or ("metered" if thrifty else "fibre"))
        object.__setattr__(self, "calendar", self.calendar or (ALWAYS if self.class_ == "24-jam" else ""))

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.admins and not any(device.logs for device in self.devices.values()):
            yield "admins", "would vouch for nobody: no device of this office has `logs: true`"
        if self.budget is None:
            return
        if self.delivery == "pull":
            yield "budget", "is kept by an agent that pushes; this site is fetched from"
        elif self.budget < (least := MIN_BUDGET[self.profile]):
            yield "budget", f"is for a month, and less than what the signs of life of {self.profile} take (at least {least // 1_000_000}MB)"

    @property
    def latitude(self) -> float | None:
        return self.location[0] if self.location else None

    @property
    def longitude(self) -> float | None:
        return self.location[1] if self.location else None

    def tasks(self) -> Iterable[tuple[str, Any]]:
        """Yields (kind, its config) for each task that the file names for this site."""
        return ((f.name, task) for f in dataclasses.fields(self.targets) for task in getattr(self.targets, f.name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Telegram:
    chat_id: ChatId
    token_file: File
    api_url: Url = "https://api.telegram.org"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmailTo:
    to: list[Email]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Webhook:
    url: Url


@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
    """Where an audience is told; several at once are fine."""

    telegram: Telegram | None = None
    email: EmailTo | None = None
    webhook: Webhook | None = None

    def problems(self) -> Iterable[tuple[str, str]]:
        if not (self.telegram or self.email or self.webhook):
            yield "telegram", "is missing (or email, or webhook): nobody would be told"
        if self.email and not self.email.to:
            yield "email.to", "names nobody"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smtp:
    host: HostPort
    from_: Email
    username: Line = ""
    password_file: File | None = None
    require_tls: bool = True

    def problems(self) -> Iterable[tuple[str, str]]:
        if bool(self.username) != bool(self.password_file):
            yield ("password_file", "is missing beside username") if self.username else ("username", "is missing beside password_file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InventoryFile:
    """The top of inventory.yaml."""

    centre: Centre
    calendars: dict[Slug, Hours] = dataclasses.field(default_factory=dict)
    isps: dict[Slug, Isp] = dataclasses.field(default_factory=dict)
    services: dict[Slug, Service] = dataclasses.field(default_factory=dict)
    sites: dict[Slug, Site] = dataclasses.field(default_factory=dict)
    channels: dict[ChannelName, Channel] = dataclasses.field(default_factory=dict)
    smtp: Smtp | None = None


# -- what the centre works with ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """All of both files, whole and cross-checked.

    calendars: by name, in the centre's zone; `24-jam` is always there. channels: by audience, digest or deadman; may lack any.
    """

    centre: Centre
    calendars: dict[str, Calendar]
    isps: dict[str, Isp]
    services: dict[str, Service]
    sites: dict[str, Site]
    channels: dict[ChannelName, Channel]
    smtp: Smtp | None = None
    warnings: tuple[str, ...] = ()

    def active(self) -> dict[str, Site]:
        return {slug: site for slug, site in self.sites.items() if site.status == "active"}

    def zone(self, slug: str) -> ZoneInfo:
        return ZoneInfo(self.sites[slug].timezone)

    def calendar_of(self, slug: str) -> Calendar:
        """The site's calendar on the site's own clocks."""
        site = self.sites[slug]
        return self.calendars[site.calendar].in_zone(site.timezone)

    def calendar_zones(self) -> list[Calendar]:
        """Each calendar in each zone that sites use it in, in order of name and zone."""
        used = sorted({(site.calendar, site.timezone) for site in self.sites.values()})
        return [self.calendars[name].in_zone(zone) for name, zone in used]

    def silence_limit(self, slug: str) -> float:
        """Seconds without a sign of life after which the site is silent."""
        site = self.sites[slug]
        return SILENCE["fibre"] if site.delivery == "pull" else SILENCE[site.profile]

    def covered_until(self) -> date:
        """The last day for which every calendar that a site uses knows the holidays."""
        return min((self.calendars[s.calendar].covered_until() for s in self.sites.values()), default=FOR_EVER)


def load(path: Path, calendar: Path | None = None, today: date | None = None) -> Inventory:
    """Reads the inventory and its calendar; default: calendar.yaml beside it (calendar.x.yaml for inventory.x.yaml), if there is one.

    `today` decides only what is warned of. Raises ConfigError with all that is wrong in both files; OSError never.
    """
    reader = _InventoryReader(path.name)
    problems: list[Problem] = []
    years: dict[int, YearDays] = {}
    beside = calendar or _beside(path)
    try:
        if calendar or beside.exists():
            years = load_years(beside)
    except ConfigError as e:
        problems = e.problems
    file = None
    try:
        file = reader.whole(read_bytes(path), InventoryFile)
        _judge(reader)
    except ConfigError as e:
        problems = [*e.problems, *problems]
    found = [*sorted(reader.problems, key=lambda p: p.line), *problems]
    if found or not isinstance(file, InventoryFile):
        raise ConfigError(found)
    made = _whole(file, years)
    return dataclasses.replace(
        made, warnings=tuple(_warnings(made, reader, beside.name, today or datetime.now(ZoneInfo(made.centre.timezone)).date()))
    )


def _beside(path: Path) -> Path:
    twin = path.with_name(path.name.replace("inventory", "calendar"))
    return twin if twin != path and twin.exists() else path.with_name("calendar.yaml")


class _InventoryReader(Reader):
    def lies_elsewhere(self, path: str) -> bool:
        """Secrets and certificates that a site's targets and devices name are files on that site's box, not here."""
        return (".targets." in path or ".devices." in path) and path.endswith("_file")


def _whole(file: InventoryFile, years: Mapping[int, YearDays]) -> Inventory:
    zone = file.centre.timezone
    hours = {ALWAYS: Hours(always=True), **file.calendars}
    return Inventory(
        centre=file.centre,
        calendars={name: Calendar(name=name, hours=h, zone=zone, years=years) for name, h in hours.items()},
        isps=file.isps,
        services=file.services,
        sites={slug: dataclasses.replace(site, timezone=site.timezone or zone) for slug, site in file.sites.items()},
        channels=file.channels,
        smtp=file.smtp,
    )


# -- rules between the parts ------------------------------------------------------------------------------------------------------


class _Sheet:
    """What was well read, by path: rules are judged on it even where other parts of the file are wrong."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._children: dict[str, list[str]] = {}
        for path in reader.lines:
            cut = max(path.rfind("."), path.rfind("["))
            self._children.setdefault(path[: max(cut, 0)], []).append(path)

    def under(self, path: str) -> list[str]:
        """The paths of what a list or mapping holds, well read or not."""
        return self._children.get(path, [])

    def keys(self, path: str) -> list[str]:
        return [child[len(path) + 1 :] for child in self.under(path)]

    def get(self, path: str, default: Any = None) -> Any:
        return self.reader.values.get(path, default)

    def has(self, path: str) -> bool:
        return path in self.reader.lines

    def said(self, path: str, other: str, message: str) -> None:
        """Notes a problem at `path` that `other` has a part in: "… (sites.a.code, line 12)"."""
        self.reader.object(path, f"{message} ({other}, line {self.reader.line(other)})")


def _judge(reader: Reader) -> None:
    """Notes every problem between parts of the file."""
    sheet = _Sheet(reader)
    _judge_centre(sheet)
    _judge_codes(sheet)
    for site in sheet.under("sites"):
        _judge_site(sheet, site)
        _judge_calendar(sheet, site)
        _judge_uplinks(sheet, site)
        _judge_maintenance(sheet, site)
        _judge_targets(sheet, site)
        _judge_devices(sheet, site)


def _judge_centre(sheet: _Sheet) -> None:
    pushing = [s for s in sheet.under("sites") if sheet.get(f"{s}.delivery", "push") == "push"]
    if pushing and sheet.has("centre") and not sheet.has("centre.url"):
        sheet.reader.object("centre.url", f"is missing: the sites with delivery push send there (first: {pushing[0]})")
    _judge_zone(sheet, "centre.timezone")
    own = sheet.get(f"calendars.{ALWAYS}")
    if isinstance(own, Hours) and not own.always:
        sheet.reader.object(f"calendars.{ALWAYS}", "is the calendar that never closes; give other hours another name")
    mailed = [c for c in sheet.under("channels") if sheet.has(f"{c}.email")]
    if mailed and not sheet.has("smtp"):
        sheet.reader.object(f"{mailed[0]}.email", "needs the key smtp at the top of the file: through which server")


def _judge_zone(sheet: _Sheet, path: str) -> None:
    try:
        offset(sheet.get(path) or "UTC")
    except ValueError as e:
        sheet.reader.object(path, str(e))


def _judge_codes(sheet: _Sheet) -> None:
    first: dict[str, str] = {}
    for site in sheet.under("sites"):
        path = f"{site}.code"
        code = sheet.get(path)
        if code in first:
            sheet.said(path, first[code], f'"{code}" is the code of two sites')
        elif code:
            first[code] = path


def _judge_site(sheet: _Sheet, site: str) -> None:
    if site == f"sites.{CENTRE}":
        sheet.reader.object(site, f"{CENTRE} stands for the centre itself; give the office another name")
    _judge_zone(sheet, f"{site}.timezone")
    if sheet.get(f"{site}.delivery") == "pull" and not sheet.has(f"{site}.address"):
        sheet.reader.object(f"{site}.address", "is missing: delivery pull needs the agent's host:port")
    place = sheet.get(f"{site}.location")
    if place is not None and (len(place) != 2 or abs(place[0]) > 90):
        sheet.reader.object(f"{site}.location", "must be [latitude, longitude], e.g. [2.1017, 99.8295]")
    seen: set[str] = set()
    for path in sheet.under(f"{site}.services"):
        name = sheet.get(path)
        _refers(sheet, path, "services", "service", sheet.keys("services"))
        if name in seen:
            sheet.reader.object(path, f'"{name}" stands twice')
        seen.add(name)


def _refers(sheet: _Sheet, path: str, whole: str, noun: str, known: Collection[str]) -> None:
    """Notes a name at `path` that is not one of `known`."""
    name = sheet.get(path)
    if name is None or name in known:
        return
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"{whole} has: {', '.join(sorted(known)[:20]) or 'nothing'}"
    sheet.reader.object(path, f'"{name}" is no {noun} of this file ({hint})')


def _judge_calendar(sheet: _Sheet, site: str) -> None:
    path, class_ = f"{site}.calendar", sheet.get(f"{site}.class")
    known = {ALWAYS, *sheet.keys("calendars")}
    if not sheet.has(path) and class_ and class_ != "24-jam":
        sheet.reader.object(path, f"is missing (calendars has: {', '.join(sorted(known))})")
    _refers(sheet, path, "calendars", "calendar", known)


def _judge_uplinks(sheet: _Sheet, site: str) -> None:
    uplinks = sheet.under(f"{site}.uplinks")
    names: dict[str, str] = {}
    sources: dict[str, str] = {}
    for path in uplinks:
        _refers(sheet, f"{path}.isp", "isps", "ISP", sheet.keys("isps"))
        name = sheet.get(f"{path}.name") or sheet.get(f"{path}.isp")
        if name in names:
            sheet.said(path, names[name], f'is the second uplink called "{name}"; give it a `name` of its own')
        elif name:
            names[name] = path
        source = sheet.get(f"{path}.source")
        if len(uplinks) > 1 and not source and not (sheet.has(f"{path}.source") and source is None):
            sheet.reader.object(f"{path}.source", "is missing: with two uplinks each needs the box's address or interface on it")
        elif source in sources:
            sheet.said(f"{path}.source", sources[source], f'"{source}" is the source of two uplinks')
        elif source:
            sources[source] = f"{path}.source"


def _judge_maintenance(sheet: _Sheet, site: str) -> None:
    spans = [(m, path) for path in sheet.under(f"{site}.maintenance") if isinstance(m := sheet.get(path), Maintenance)]
    spans.sort(key=lambda s: s[0].from_)
    for (last, earlier), (span, path) in itertools.pairwise(spans):
        if span.from_ < last.until:
            sheet.said(path, earlier, "overlaps another maintenance of this site")


def _judge_targets(sheet: _Sheet, site: str) -> None:
    """What an agent would say of these tasks as a whole: two alike, labels that are taken."""
    targets = sheet.get(f"{site}.targets")
    if targets is None:
        return
    for field, message in _AGENT(site="x", collectors=targets).problems():
        path = f"{site}.{field.replace('collectors', 'targets', 1)}"
        sheet.reader.object(path, message.replace("collectors.", f"{site}.targets."))


DEFAULT_TASKS = frozenset({"gateway", "resolver", "link", "host", "lan", "guard", "traps", "syslog"})  # of every office's box


def _judge_devices(sheet: _Sheet, site: str) -> None:
    """A device's name is its task's, so it is nobody else's; what names a device finds it; what it sends is known by its address."""
    names = sheet.keys(f"{site}.devices")
    taken = {sheet.get(p) for p in sheet.under(f"{site}.services")} | {str(task.name) for _, task in _own_tasks(sheet, site)}
    for name in names:
        path = f"{site}.devices.{name}"
        if name in DEFAULT_TASKS or re.fullmatch(r"(.+-)?anchor-\d+", name):
            sheet.reader.object(path, f'"{name}" is the name of a task that every box has; give the device another')
        elif name in taken:
            sheet.reader.object(path, f'"{name}" is the name of a service or a target of this site too; give the device another')
        _judge_asked(sheet, path, name)
    _judge_ways(sheet, site, names)
    for what in ("logs", "traps"):
        _judge_senders(sheet, [p for p in sheet.under(f"{site}.devices") if sheet.get(f"{p}.{what}")])


def _judge_asked(sheet: _Sheet, path: str, name: str) -> None:
    """What its box would say of the task that asks it."""
    made = sheet.get(path)
    if isinstance(made, SiteDevice) and made.credentials_file:
        asked = KINDS["snmp"].config(name=name, target=made.address, credentials_file=made.credentials_file, profiles=made.profiles)
        for field, message in asked.problems():
            if field == "profiles":
                sheet.reader.object(f"{path}.profiles", message)


def _judge_senders(sheet: _Sheet, devices: Iterable[str]) -> None:
    first: dict[str, str] = {}
    for path in devices:
        made = sheet.get(path)
        if isinstance(made, SiteDevice) and made.sender in first:
            sheet.said(
                f"{path}.address", first[made.sender], "is that of another device that sends: nobody could tell whose its messages are"
            )
        elif isinstance(made, SiteDevice):
            first[made.sender] = path


def _own_tasks(sheet: _Sheet, site: str) -> Iterable[tuple[str, Any]]:
    targets = sheet.get(f"{site}.targets")
    return ((f.name, task) for f in dataclasses.fields(targets) for task in getattr(targets, f.name)) if targets is not None else ()


def _judge_ways(sheet: _Sheet, site: str, devices: Collection[str]) -> None:
    """The interfaces that uplinks go out by: of a device that is asked, and each of one uplink only."""
    first: dict[tuple[str, str], str] = {}
    for uplink in sheet.under(f"{site}.uplinks"):
        device, interface = sheet.get(f"{uplink}.device"), sheet.get(f"{uplink}.interface")
        if not device:
            continue
        _refers(sheet, f"{uplink}.device", f"{site}.devices", "device", devices)
        made = sheet.get(f"{site}.devices.{device}")
        if isinstance(made, SiteDevice) and not made.credentials_file:
            sheet.reader.object(f"{uplink}.device", f'"{device}" has no credentials_file: its traffic is not asked for')
        if interface and (device, interface) in first:
            sheet.said(f"{uplink}.interface", first[device, interface], f"{device} {interface} is that of two uplinks")
        first.setdefault((device, interface or ""), f"{uplink}.interface")


# -- what is doubtful -------------------------------------------------------------------------------------------------------------


def _warnings(made: Inventory, reader: Reader, calendar: str, today: date) -> Iterator[str]:
    def at(path: str, message: str) -> str:
        line = reader.line(path) if path.partition(".")[0] in reader.lines else 0
        return str(Problem(reader.file, line, path, message))

    if not made.sites:
        yield at("sites", "has no sites yet: nothing is watched")
    yield from _calendar_warnings(made, calendar, today)
    yield from _channel_warnings(made, at)
    if made.centre.url.startswith("http:") and (parse_url(made.centre.url).host not in LOOPBACK):
        yield at("centre.url", "is plain http: what agents send, their tokens too, can be read on the way (use https)")
    if _pushes_far(made) and not made.centre.token_file:
        yield at(
            "centre.token_file", "is missing: a gateway elsewhere takes nothing without a token (usually /etc/ronda/token, on each box)"
        )
    for slug, site in made.active().items():
        if not site.uplinks:
            yield at(f"sites.{slug}", "has no uplinks: an outage names no ISP")
        for i, uplink in enumerate(site.uplinks):
            if uplink.interface and uplink.mbps is None:
                yield at(f"sites.{slug}.uplinks[{i}].mbps", "is missing: what is used can't be compared with what was bought")
            if uplink.until and uplink.until < today:
                yield at(f"sites.{slug}.uplinks[{i}].until", f"the contract ended on {uplink.until}")
        for name, device in site.devices.items():
            if site.profile == "metered" and len(",".join(device.watch)) > LONGEST_LABEL:
                yield at(
                    f"sites.{slug}.devices.{name}.watch", "names too much for a metered office: the centre is told of none of these ports"
                )


def _pushes_far(made: Inventory) -> bool:
    """Whether a site pushes to a gateway that isn't on its own machine."""
    return any(s.delivery == "push" for s in made.active().values()) and parse_url(made.centre.url).host not in LOOPBACK


def _calendar_warnings(made: Inventory, file: str, today: date) -> Iterator[str]:
    dated = [c for c in made.calendar_zones() if not c.hours.always]
    if not dated:
        return
    years = dated[0].years
    wanted = {today.year, *([today.year + 1] if today.month >= 11 else []), *range(min(years, default=today.year), max(years, default=0))}
    for year in sorted(wanted - years.keys()):
        yield f"{file}: knows nothing of {year}: offices count as open on its holidays"
    if any(c.hours.ramadan != c.hours.week for c in dated):
        for year in sorted(y for y, days in years.items() if not days.ramadan):
            yield f"{file}: {year} has no ramadan: the ordinary hours count all year"


def _channel_warnings(made: Inventory, at: Callable[[str, str], str]) -> Iterator[str]:
    if "ops" not in made.channels:
        yield at("channels.ops", "is missing: nobody is told of an outage")
    if "csirt" not in made.channels:
        yield at("channels.csirt", "is missing: security findings go to nobody (they never go to ops)")
    if "deadman" not in made.channels:
        yield at("channels.deadman", "is missing: nobody would notice that the centre itself has fallen silent")


# -- ronda central check ----------------------------------------------------------------------------------------------------------


def check_command(args: argparse.Namespace) -> int:
    """Prints what was read, for a person; ConfigError (all that is wrong) is the caller's to print."""
    inventory = load(args.inventory, args.calendar)
    print("\n".join([f"{args.inventory}: fine", *summary(inventory)]))
    for warning in inventory.warnings:
        print(f"warning: {warning}")
    return 0


def summary(inventory: Inventory) -> list[str]:
    """A few lines that let a person see whether it is the inventory they meant."""
    sites, active = inventory.sites.values(), inventory.active().values()
    uplinks = Counter(u.isp for site in active for u in site.uplinks)
    told = {name: [w for w in ("telegram", "email", "webhook") if getattr(c, w)] for name, c in inventory.channels.items()}
    dated = inventory.covered_until()
    rows = {
        "centre": f"{inventory.centre.name}, {inventory.centre.timezone}",
        "sites": f"{len(sites)}{_split(_count([s.status for s in sites], get_args(Status)))}",
        "class": _count([s.class_ for s in active], get_args(Class)),
        "district": _count([s.district or "(none)" for s in active]),
        "delivery": _count([f"{s.delivery} {s.profile}" for s in active]),
        "uplinks": ", ".join(f"{inventory.isps[isp].name} {n}" for isp, n in uplinks.most_common()),
        "services": ", ".join(s.name for s in inventory.services.values()),
        "told": "; ".join(f"{name} by {', '.join(ways)}" for name, ways in told.items()),
        "calendars": f"{', '.join(inventory.calendars)}; holidays known "
        + (f"until {dated}" if date(1970, 1, 1) < dated < FOR_EVER else "of no year"),
    }
    return [f"  {head:<10}{text}" for head, text in rows.items() if text]


def _split(text: str) -> str:
    return f": {text}" if text else ""


def _count(words: Iterable[str], order: Sequence[str] = ()) -> str:
    found = Counter(words)
    return ", ".join(f"{word} {found[word]}" for word in (order or sorted(found)) if found[word])
