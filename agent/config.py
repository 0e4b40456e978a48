"""The agent's config: what a file may say, what holds without one, and how it is shown.

Law: everything is checked here, at once, with file and line; what leaves this file is frozen and right. Secrets are never
held: only the names of their files are. The kinds' own schemas come from the table of kinds; nothing is listed twice.
"""

import dataclasses
import re
import socket
import zoneinfo
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_type_hints

import yaml

from agent.collector import Kind, TaskConfig
from agent.httpclient import BasicAuth, Url, parse_url
from agent.sockets import parse_address
from agent.structure import ConfigError, Later, Listen, Scalar, Size, Slug, Text, load, loads
from agent.tls import ClientTls, File

MAX_TASKS = 2000
MIN_BUDGET = {"fibre": 250_000_000, "metered": 50_000_000}  # bytes a month: signs of life take 180 and 30 MB, a few probes the rest
ANCHORS = ("1.1.1.1", "8.8.8.8", "9.9.9.9")  # three networks of three owners: one of them down is not the internet down


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError from None
    return text


Zone = Annotated[str, Scalar("a time zone", _zone, "try Asia/Jakarta, Asia/Makassar or Asia/Jayapura")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficeConfig:
    """What people call the office, for the pages and the incident's id."""

    name: Text = ""
    code: Annotated[str, Scalar("a site code", lambda t: _match(r"[A-Z0-9]{2,8}", t), "two to eight capitals or digits, e.g. DKC")] = ""
    phone: Text = ""  # of Kominfo, for the clerk to call
    timezone: Zone = "Asia/Jakarta"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebConfig:
    listen: Listen = "127.0.0.1:17663"
    lan_page: Listen | None = None  # the clerk's page for the office's LAN; off unless given


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushTls(ClientTls):
    """As every `tls:`; but its files are looked at when they are needed: this config is also written where they are not (at the centre)."""

    def problems(self) -> Iterable[tuple[str, str]]:
        if self.key_file and not self.cert_file:
            yield "key_file", "needs a cert_file"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushConfig:
    """The way to the centre. Secrets are read when they are needed: they may change, and a box without its token still watches."""

    url: Text  # judged in problems(), so that no message repeats a password
    profile: Literal["fibre", "metered"] = "fibre"
    budget: Size | None = None  # bytes that each uplink may carry in a month, e.g. 3GB (agent/budget.py)
    token_file: File | None = None
    basic_auth: BasicAuth | None = None
    tls: PushTls = dataclasses.field(default_factory=PushTls)
    proxy: Text = ""  # http://host:port
    proxy_auth: BasicAuth | None = None
    insecure: bool = False  # plain http to elsewhere than this box

    def problems(self) -> Iterable[tuple[str, str]]:
        try:
            url = self.receiver
            if url.scheme == "http" and not self.insecure and not _loopback(url.host):
                yield "url", "must begin with https://: http shows all data and the token on the way (insecure: true allows it)"
        except ValueError as e:
            yield "url", str(e)
        try:
            if self.proxy and parse_url(self.proxy).scheme != "http":
                yield "proxy", "must begin with http:// (the way to the centre is TLS all the same)"
        except ValueError as e:
            yield "proxy", str(e)
        if self.proxy_auth and not self.proxy:
            yield "proxy_auth", "needs a proxy"
        if self.token_file and self.basic_auth:
            yield "token_file", "does not go with basic_auth"
        if self.budget is not None and self.budget < MIN_BUDGET[self.profile]:
            least = MIN_BUDGET[self.profile] // 1_000_000
            yield "budget", f"is for a month, and less than what the signs of life of {self.profile} take (at least {least}MB)"

    @property
    def receiver(self) -> Url:
        """Where samples go: a URL without a path gets the one that Prometheus and VictoriaMetrics share. Raises ValueError."""
        url = parse_url(self.url)
        return url._replace(path="/api/v1/write") if url.path == "/" else url


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventsConfig:
    """A second exit for events. With `push` they go to the centre by themselves, whether this is here or not.

    key_file: the key of pseudonyms (agent/pseudonyms.py), so that a new box keeps them; without it the box has one of its own
    """

    syslog: Text = ""  # tls://host[:6514] or tcp://host[:601]; RFC 5424 with octet counting
    tls: PushTls = dataclasses.field(default_factory=PushTls)
    key_file: File | None = None

    def problems(self) -> Iterable[tuple[str, str]]:
        try:
            collector = self.collector
        except ValueError as e:
            yield "syslog", str(e)
            return
        if collector and not collector.tls and self.tls != PushTls():
            yield "tls", "needs a syslog that begins with tls://"

    @property
    def collector(self) -> "Collector | None":
        """Where syslog goes; None: nowhere. Raises ValueError."""
        return parse_collector(self.syslog) if self.syslog else None


class Collector(NamedTuple):
    """A syslog collector."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'tls' if self.tls else 'tcp'}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_collector(text: str) -> Collector:
    """`tls://siem.example.go.id:6514`. Raises ValueError with what is wrong."""
    scheme, sep, rest = text.partition("://")
    if not sep or scheme not in ("tls", "tcp"):
        raise ValueError("must begin with tls:// or tcp://")
    if scheme == "tls":
        url = parse_url(f"https://{rest}" if re.search(r":\d+/?$", rest) else f"https://{rest.rstrip('/')}:6514")
    else:
        url = parse_url(f"http://{rest}" if re.search(r":\d+/?$", rest) else f"http://{rest.rstrip('/')}:601")
    if url.path != "/":
        raise ValueError("is a host and a port, without a path")
    return Collector(url.host, url.port, scheme == "tls")


def _loopback(host: str) -> bool:
    address = parse_address(host)
    return address.is_loopback if address else host == "localhost"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """The whole file. `collectors` is made from the table of kinds by `schema`: a field a kind, each a list of its Config."""

    site: Slug = dataclasses.field(default_factory=lambda: default_site())
    office: OfficeConfig = dataclasses.field(default_factory=OfficeConfig)
    web: WebConfig = dataclasses.field(default_factory=WebConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    push: PushConfig | None = None
    events: EventsConfig | None = None
    collectors: Any = None
    kinds: ClassVar[Mapping[str, Kind]] = {}

    def problems(self) -> Iterable[tuple[str, str]]:
        seen: dict[str, str] = {}
        whole: dict[tuple[str, frozenset[tuple[str, str]]], str] = {}  # tasks without a target: only labels tell their series apart
        for kind, i, task in self._numbered():
            where, name = f"collectors.{kind}[{i}]", task_name(kind, task)
            if name in seen:
                yield where, f'is the same task as {seen[name]} ("{name}"); give one of them a `name`'
            elif not task.identity():
                twin = whole.setdefault((kind, frozenset((k, v) for k, v in task.labels.items() if v)), where)
                if twin != where:
                    yield where, f"would have the same series as {twin}; leave one of them out, or give them different `labels`"
            seen.setdefault(name, where)
            for label in _own_labels(self.kinds[kind]).intersection(task.labels) if task.labels else ():
                yield f"{where}.labels.{label}", f"is a name that the metrics of {kind} use themselves"
        if len(seen) > MAX_TASKS:
            yield "collectors", f"has {len(seen)} tasks; an agent takes at most {MAX_TASKS}"

    def _numbered(self) -> Iterable[tuple[str, int, TaskConfig]]:
        for field in dataclasses.fields(self.collectors) if self.collectors else ():
            for i, task in enumerate(getattr(self.collectors, field.name)):
                yield field.name, i, task

    def tasks(self) -> Iterable[tuple[str, TaskConfig]]:
        """Yields (kind's name, its config) for each task."""
        return ((kind, task) for kind, _, task in self._numbered())

    @property
    def title(self) -> str:
        return self.office.name or self.site

    @property
    def code(self) -> str:
        return self.office.code or re.sub(r"[^A-Z0-9]", "", self.site.upper())[:3] or "XXX"


def _match(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError
    return text


def default_site() -> str:
    """The box's host name, made to fit."""
    return re.sub(r"[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower())[:40].strip("-") or "kantor"


def task_name(kind: str, task: TaskConfig) -> str:
    """`icmp:gateway`, `host`, or the name given."""
    identity = task.identity()
    return task.name or (f"{kind}:{identity}" if identity else kind)


def _own_labels(kind: Kind) -> frozenset[str]:
    """Those of its metrics."""
    return frozenset(label for metric in kind.metrics for label in metric.labels)


def _configs(kinds: Mapping[str, Kind], name: str) -> Any:
    return GenericAlias(list, (kinds[name].config,))


def schema(kinds: Mapping[str, Kind]) -> type[AgentConfig]:
    """AgentConfig with a field in `collectors` for each kind; a kind is looked up when a file has tasks of it."""
    fields: list[Any] = [(name, Later(partial(_configs, kinds, name)), dataclasses.field(default_factory=list)) for name in kinds]
    collectors = dataclasses.make_dataclass("Collectors", fields, frozen=True, kw_only=True)
    return dataclasses.make_dataclass(
        "AgentFile",
        [("collectors", collectors, dataclasses.field(default_factory=collectors))],
        bases=(AgentConfig,),
        frozen=True,
        kw_only=True,
        namespace={"__doc__": AgentConfig.__doc__, "kinds": kinds},
    )


def load_config(path: Path, kinds: Mapping[str, Kind]) -> AgentConfig:
    """Reads the file. Raises ConfigError with everything that is wrong with it."""
    config = load(path, schema(kinds))
    if not any(True for _ in config.tasks()):
        return dataclasses.replace(config, collectors=None)
    return config


def discover(kinds: Mapping[str, Kind], gateways: list[str], resolvers: list[str], base: AgentConfig | None = None) -> AgentConfig:
    """What is watched without a config: the gateway, the resolvers, three anchors, the link and the host."""
    made = schema(kinds)
    base = base or made()
    collectors = type(made().collectors)

    def of(kind: str, *configs: dict[str, Any]) -> list[Any]:
        return [kinds[kind].config(**c) for c in configs] if kind in kinds else []

    # whether the resolver answers at all is the question here, not what it makes of the name
    any_answer = loads(b"rcode: [NOERROR, NXDOMAIN]", get_type_hints(kinds["dns"].config)["expect"], "") if "dns" in kinds else None
    way_out = [{"target": "gateway", "labels": {"role": "gateway"}}] if gateways else []
    found = {
        "icmp": of("icmp", *way_out, *({"target": a, "labels": {"role": "anchor"}} for a in ANCHORS)),
        "dns": of("dns", *({"target": r, "query": "go.id", "type": "NS", "expect": any_answer} for r in resolvers)),
        "link": of("link", {}),
        "host": of("host", {}),
    }
    return made(
        site=base.site,
        office=base.office,
        web=base.web,
        log=base.log,
        push=base.push,
        events=base.events,
        collectors=collectors(**{k: v for k, v in found.items() if k in kinds}),
    )


def show(config: AgentConfig) -> str:
    """The config in force as YAML, defaults included. Secrets are `<secret>`."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


SECRET = re.compile(
    r"(passw(or)?d|passphrase|secret|token|community|bearer|credential|cookie|authorization|(api|[-_])key)s?$", re.IGNORECASE
)


def _plain(value: Any, name: str = "") -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f.name) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): _plain(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple, frozenset)):
        return [_plain(v, name) for v in value]
    if isinstance(value, str) and value and SECRET.search(name):
        return "<secret>"
    if isinstance(value, str):
        return re.sub(r"(?<=://)[^/@\s]*@", "<secret>@", value)
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


__all__ = ["AgentConfig", "ConfigError", "discover", "load_config", "schema", "show", "task_name"]
