"""The config of each site's agent: `agents/<site>.yaml`, made from the inventory.

Law: what is rendered passes `ronda check` on the box. What every office has (gateway, anchors, resolver, shared services, link, host,
lan, guard) is here and nowhere else; then a task for each device, and one each for what they send (traps, syslog). A site's own `targets`
come after, and replace one of these where they name or mean the same task.
"""

import dataclasses
import ipaddress
import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.budget import ESTIMATE
from agent.collector import Kind, TaskConfig
from agent.config import task_name
from agent.push import UPLINKS, WATCHED
from agent.structure import loads, parse_duration, parse_size
from central import yamltext
from central.inventory import LONGEST_LABEL, Centre, Inventory, Site, SiteDevice, Uplink
from central.target import Target
from collectors import KINDS

HEADER = """{site}: rendered by `ronda central render` for {name}.
Put it on the box as /etc/ronda/agent.yaml. Changes here are lost at the next rendering: change the inventory."""

LOOPBACK = ("localhost", "[::1]")

Task = tuple[str, TaskConfig]  # kind, config


def files(inventory: Inventory, target: Target) -> dict[str, str]:  # noqa: ARG001  (every part of the centre is asked alike)
    """A file for each site that has an agent, or will have one."""
    return {f"agents/{slug}.yaml": agent_file(inventory, slug) for slug, site in inventory.sites.items() if site.status != "retired"}


def agent_file(inventory: Inventory, slug: str) -> str:
    site = inventory.sites[slug]
    office = {"name": site.name, "code": site.code, "phone": inventory.centre.phone, "timezone": site.timezone}
    config: dict[str, Any] = {"site": slug, "office": {k: v for k, v in office.items() if v}}
    if site.delivery == "pull":
        config["web"] = {"listen": _listen(site.address)}
    else:
        config["push"] = _push(inventory.centre, site.profile) | ({"budget": f"{site.budget}B"} if site.budget else {})
    config["collectors"] = collectors(tasks(inventory, slug))
    return yamltext.dump(config, header=HEADER.format(site=slug, name=" ".join(site.name.split())))


def _listen(address: str) -> str:
    """On every address, for the centre comes from elsewhere; on loopback where the centre is this machine."""
    host, _, port = address.rpartition(":")
    return address if host in LOOPBACK or host.startswith("127.") else f":{port}"


def _push(centre: Centre, profile: str) -> dict[str, Any]:
    way: dict[str, Any] = {"url": centre.url, "profile": profile}
    if centre.token_file:
        way["token_file"] = str(centre.token_file)
    if centre.url.startswith("http:") and not _loopback(centre.url):
        way["insecure"] = True  # the inventory says so in its url, and `ronda central check` warns of it
    return way


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


# -- which tasks ------------------------------------------------------------------------------------------------------------------


def tasks(inventory: Inventory, slug: str) -> list[Task]:
    """All that the site's agent runs, in order, and at the intervals that its uplinks can bear."""
    site = inventory.sites[slug]
    made = _merged([*_distinct(list(_defaults(inventory, site)), site.services), *_of_devices(site)], site.tasks())
    return stretched(made) if site.profile == "metered" else made


def _defaults(inventory: Inventory, site: Site) -> Iterator[Task]:
    icmp, dns, http = KINDS["icmp"].config, KINDS["dns"].config, KINDS["http"].config
    yield "icmp", icmp(name="gateway", target="gateway", interval=1.0, labels={"role": "gateway"})
    for uplink in site.uplinks or (None,):
        for number, address in enumerate(inventory.centre.anchors, 1):
            yield "icmp", icmp(target=address, interval=1.0, **_anchor(uplink, number, alone=len(site.uplinks) < 2))
    # whether the resolver answers at all is the question, not what it makes of the name
    any_answer = loads(b"rcode: [NOERROR, NXDOMAIN]", typing.get_type_hints(dns)["expect"], "")
    yield "dns", dns(name="resolver", query="go.id", type="NS", expect=any_answer, labels={"role": "resolver"})
    for key in site.services:
        yield "http", http(name=key, target=inventory.services[key].url, interval=15.0, labels={"role": "service", "service": key})
    yield "link", KINDS["link"].config(name="link", interval=15.0)
    yield "host", KINDS["host"].config(name="host", interval=15.0)
    for kind in ("lan", "guard"):  # what they can't see on a box they say by ronda_detector_coverage
        yield kind, KINDS[kind].config(name=kind, interval=15.0)


def _anchor(uplink: Uplink | None, number: int, *, alone: bool) -> dict[str, Any]:
    """Name, labels and way of an anchor; with two uplinks each is asked from the box's own address on it."""
    if uplink is None:
        return {"name": f"anchor-{number}", "labels": {"role": "anchor"}}
    labels = {"role": "anchor", "uplink": uplink.name}
    if alone:
        return {"name": f"anchor-{number}", "labels": labels}
    return {"name": f"{uplink.name}-anchor-{number}", "labels": labels, "source": uplink.source}


# -- the office's devices ---------------------------------------------------------------------------------------------------------

TRAPS, SYSLOG = "0.0.0.0:162", "0.0.0.0:514"  # where devices send to unless told otherwise; systemd opens them for the agent


def _of_devices(site: Site) -> Iterator[Task]:
    """A device's task has its name; the labels `uplinks` and `watch` say which of its interfaces a thrifty box tells the centre of."""
    for name, device in site.devices.items():
        if device.credentials_file:
            yield "snmp", _asked(site, name, device)
    trapping = {name: d for name, d in site.devices.items() if d.traps}
    if trapping:
        files = {name: d.credentials_file for name, d in trapping.items() if d.credentials_file}
        senders = {name: d.sender for name, d in trapping.items()}
        yield "traps", KINDS["traps"].config(name="traps", listen=TRAPS, senders=senders, credentials_files=files)
    if logging := {name: d.sender for name, d in site.devices.items() if d.logs}:
        yield "syslog", KINDS["syslog"].config(name="syslog", listen=SYSLOG, senders=logging, admins=site.admins)


def _asked(site: Site, name: str, device: SiteDevice) -> TaskConfig:
    snmp = KINDS["snmp"].config
    ways = sorted(u.interface for u in site.uplinks if u.device == name)
    said: dict[str, Any] = {"profiles": device.profiles}
    keep = [*device.keep, *(f"^{re.escape(i)}$" for i in sorted({*ways, *device.watch}))]  # shown even if they never were up
    if keep or device.drop:
        said["interfaces"] = typing.get_type_hints(snmp)["interfaces"](keep=keep, drop=device.drop)
    named = {UPLINKS: ways, WATCHED: sorted(set(device.watch) - set(ways))}
    labels = {"role": "device", **{label: text for label, of in named.items() if 0 < len(text := ",".join(of)) <= LONGEST_LABEL}}
    made: TaskConfig = snmp(name=name, target=device.address, credentials_file=device.credentials_file, labels=labels, **said)
    return made


def _distinct(made: list[Task], services: Iterable[str]) -> list[Task]:
    """A service keeps its name; what else would be called so is named with its kind (a service may be called `host`)."""
    taken = set(services)

    def named(kind: str, task: TaskConfig) -> TaskConfig:
        clash = task.name in taken and "service" not in task.labels
        return dataclasses.replace(task, name=f"{kind}:{task.name}") if clash else task

    return [(kind, named(kind, task)) for kind, task in made]


def _merged(defaults: list[Task], own: Iterable[Task]) -> list[Task]:
    """The site's own tasks replace those of the same name; one without a name, those that look at the same thing in the same way."""
    made = {task_name(*t): t for t in defaults}
    alike = {(kind, task.identity()): task_name(kind, task) for kind, task in reversed(defaults)}
    for kind, task in own:
        name = task.name or alike.get((kind, task.identity()), task_name(kind, task))
        if (found := made.get(name)) and found[0] == kind:
            task = dataclasses.replace(task, name=name, labels={**found[1].labels, **task.labels})
        made[name] = (kind, task)
    return list(made.values())


# -- what a metered uplink can bear -----------------------------------------------------------------------------------------------
# Probes over a metered uplink may cost 10 MB a day (numbers.md N5). A ping of 56 bytes is 84 bytes of IP, 168 with its answer:
# every second that is 14.5 MB a day, every 15 s 0.97 MB. Three anchors every 15 s: 2.9 MB an uplink. What is left, less a reserve
# for retries, is shared by all other probes that leave the office; they stretch together until they fit. The agent itself sees to it that
# what it was told, and what pages really weigh, fits (agent/budget.py); this chooses what is worth more, and puts it where people see it.

ANCHOR_EVERY = 15.0
LEFT = 6.5e6  # bytes a day
LEAST = {"icmp": 15.0, "dns": 60.0, "tcp": 60.0, "http": 300.0}  # seconds
DAY = 86_400.0
# 10/8 and 172.16/12 are as often the government's own network, behind the uplink, as the office's.
LAN = [ipaddress.ip_network(n) for n in ("192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "fe80::/10", "fc00::/7", "::1/128")]


def stretched(made: list[Task]) -> list[Task]:
    """The same tasks, those that leave the office less often. An interval that the inventory chose stays."""
    far = [(kind, task) for kind, task in made if _stretches(kind, task) and task.labels.get("role") != "anchor"]
    cost = sum(ESTIMATE[kind] * DAY / LEAST[kind] for kind, _ in far)
    factor = max(1.0, cost / LEFT)
    return [(kind, _slower(kind, task, factor)) if _stretches(kind, task) else (kind, task) for kind, task in made]


def _slower(kind: str, task: TaskConfig, factor: float) -> TaskConfig:
    anchor = task.labels.get("role") == "anchor"
    return dataclasses.replace(task, interval=ANCHOR_EVERY if anchor else math.ceil(LEAST[kind] * factor / 15) * 15.0)


def _stretches(kind: str, task: TaskConfig) -> bool:
    chosen = task.interval != type(task).__dataclass_fields__["interval"].default
    return kind in ESTIMATE and not chosen and not _in_office(kind, str(getattr(task, "target", "")))


def _in_office(kind: str, target: str) -> bool:
    host = urlsplit(target).hostname or "" if kind == "http" else target
    if kind == "tcp":
        host = target.rpartition(":")[0].strip("[]")
    address = _address(host)
    return host == "gateway" or (address is not None and any(address in network for network in LAN))


# -- as YAML ----------------------------------------------------------------------------------------------------------------------


def collectors(made: Iterable[Task], kinds: Mapping[str, Kind] = KINDS) -> dict[str, list[dict[str, Any]]]:
    """Tasks by kind, as the agent's file has them."""
    made = list(made)
    return {name: of_kind for name in kinds if (of_kind := [plain(task) for kind, task in made if kind == name])}


def plain(config: Any) -> dict[str, Any]:
    """What a config says beside its defaults, as values for YAML that read back to the same config."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    said = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}
    return {name: _value(value, hints[name]) for name, value in said.items() if value is not None and value != _default(type(config), name)}


def _default(schema: type[Any], name: str) -> Any:
    field = schema.__dataclass_fields__[name]
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _value(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, dict):
        return {k: _value(v, typing.get_args(hint)[1]) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(v, (typing.get_args(hint) or (str,))[0]) for v in value]
    parsers = {getattr(form, "parse", None) for form in _forms(hint)}
    if parse_duration in parsers:
        return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
    return f"{value}B" if parse_size in parsers else value


def _forms(hint: Any) -> Iterator[Any]:
    """The Scalars of a hint, those of `T | None` too."""
    yield from getattr(hint, "__metadata__", ())
    for inner in typing.get_args(hint):
        yield from getattr(inner, "__metadata__", ())
