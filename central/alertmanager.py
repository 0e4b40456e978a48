"""Alertmanager's files: routes, inhibition, receivers, and the words of the inventory as message templates.

Law: Alertmanager only routes, groups, mutes and formats; who may be told when was decided in Prometheus' rules. The messages
themselves are data, alerts/messages/ronda.tmpl; rendered here are only the words that the inventory knows, each a quoted string of Go
templates, never loose text: so a name may hold anything. Group: one message per [site, alertname], since grouped by site alone a
second alert of a site waits for group_interval (measured: over 3.5 min).

Two traps of `equal:`: a label missing on both sides counts as equal, so each rule demands its labels on both sides; and an alert that
matches both sides of one rule would mute others of its kind, so no rule lets it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from agent import texts
from agent.secret import SecretError
from agent.structure import ConfigError, Problem
from central import yamltext
from central.inventory import CENTRE, Channel, Inventory, Site, Smtp, Telegram
from central.target import Target, shipped

LINE = 90  # characters of a message's first line
SEVERITY = len("PERHATIAN · ")
MORE = len(" (+99 lagi)")
NAME = 45  # characters of an office's name in a message
WORD = 40  # of any other name, and of a phone number
BOT_TOKEN_FILE = (0, 26)  # the first Alertmanager that reads a bot's token from its file
NOWHERE = "nowhere"
NOTICE = "kejadian-keamanan"
CSIRT_DIGEST = "csirt-digest"
HEADER = "Rendered by `ronda central render`. Changes here are lost at the next rendering."

Config = dict[str, Any]


def files(inventory: Inventory, target: Target) -> dict[str, str]:
    """The configuration and its templates by path. Before 0.26 the configuration holds bot tokens: its file is nobody else's to read.

    Raises ConfigError where a token is needed and can't be read.
    """
    static = (shipped("alerts") / "messages/ronda.tmpl").read_text()
    return {
        "alertmanager/alertmanager.yml": yamltext.dump(config(inventory, target), header=HEADER),
        "alertmanager/templates/ronda.tmpl": static,
        "alertmanager/templates/inventory.tmpl": templates(inventory, static),
    }


def config(inventory: Inventory, target: Target) -> Config:
    """alertmanager.yml as a value."""
    made: Config = {"global": _smtp(inventory.smtp)} if inventory.smtp else {}
    made |= {"templates": ["templates/*.tmpl"], "route": route(inventory), "inhibit_rules": inhibitions(inventory)}
    return {**made, "receivers": list(_receivers(inventory, target))}


def _smtp(smtp: Smtp) -> Config:
    made: Config = {"smtp_smarthost": smtp.host, "smtp_from": smtp.from_, "smtp_require_tls": smtp.require_tls}
    if smtp.password_file:
        made |= {"smtp_auth_username": smtp.username, "smtp_auth_password_file": str(smtp.password_file)}
    return made


# -- routes -----------------------------------------------------------------------------------------------------------------------


def route(inventory: Inventory) -> Config:
    """Who is told of what. A deadman's switch and the CSIRT's alerts never fall through to the others. `also: csirt` is told to both."""
    channels = inventory.channels
    ops = "ops" if "ops" in channels else NOWHERE
    routes: list[Config] = [_watchdog("deadman" if "deadman" in channels else NOWHERE)]
    tells_others = ops != NOWHERE and _for_people(channels["ops"])
    csirt = "csirt" if "csirt" in channels else NOWHERE
    digest_ = CSIRT_DIGEST if "csirt" in channels else NOWHERE
    routes.append({"receiver": digest_, "matchers": ['alertname="SecurityDigest"'], "group_by": ["alertname"], "group_wait": "30s"})
    # what the catalogue calls low or info: on the CSIRT's dashboard and in its digest
    routes.append({"receiver": NOWHERE, "matchers": ['audience="csirt"', 'severity="info"']})
    if csirt != NOWHERE:  # a blind detector, a looped cable: those on call must mend it, and the CSIRT must know
        both = {"matchers": ['also="csirt"']}
        routes += [{"receiver": csirt, **both, "continue": True}, {"receiver": ops, **both}]
    routes.append({"receiver": csirt, **_audience("csirt"), **({"continue": True} if tells_others else {})})
    if tells_others:
        routes.append({"receiver": NOTICE, **_audience("csirt")})
    if "isp" in channels:  # a provider is told of its own outage; so are those on call
        about = {"matchers": ['alertname="IspDown"']}
        routes += [{"receiver": "isp", **about, "continue": True}, {"receiver": ops, **about}]
    routes += [{"receiver": who if who in channels else ops, **_audience(who)} for who in ("isp", "pimpinan")]
    digest = "digest" if {"digest", "ops"} & channels.keys() else NOWHERE
    routes.append({"receiver": digest, **_audience("digest"), "group_by": ["alertname"], "group_wait": "30s"})
    timing = {"group_wait": "2s", "group_interval": "5m", "repeat_interval": "12h"}
    return {"receiver": ops, "group_by": ["site", "alertname"], **timing, "routes": routes}


def _audience(name: str) -> Config:
    return {"matchers": [f'audience="{name}"']}


def _watchdog(receiver: str) -> Config:
    """About one message a minute. A group is looked at every 30 s, and at the second look it is old enough to be repeated: with
    repeat_interval: 1m it would be some milliseconds too young, and be repeated every 90 s.
    """
    timing = {"group_wait": "0s", "group_interval": "30s", "repeat_interval": "50s"}
    return {"receiver": receiver, "matchers": ['alertname="Watchdog"'], **timing}


def _for_people(channel: Channel) -> bool:
    return bool(channel.telegram or channel.email)


# -- inhibition -------------------------------------------------------------------------------------------------------------------

SUMMARIES = ("SiteDown", "SitesDown", "IspDown", "SharedServiceDown")  # alerts that speak for others
# What may tell two alerts of one name and site apart: of these, all must be equal for a critical one to mute a lesser one.
IDENTITY = (
    "alertname",
    "site",
    "audience",
    "task",
    "target",
    "uplink",
    "isp",
    "service",
    "device",
    "interface",
    "mountpoint",
    "family",
    "sensor",
    "collector",
    "kind",
    "job",
    "integration",
    "reason",
    "exit",
    "unknown",
    "rule",
)


def inhibitions(inventory: Inventory) -> list[Config]:
    """One outage, one message. The CSIRT's alerts are muted by none but the same alert in critical."""
    return [
        # an office that is cut off: whatever else is wrong there is not known, or follows from it
        _mutes(['alertname="SiteDown"'], [f'alertname!~"{"|".join(SUMMARIES)}"', 'audience="ops"', 'site!=""'], "site"),
        # many offices of a district: one message for all of them
        # A hospital has paged before its district is known to be out: muted then, its end would never be told.
        _mutes(['alertname="SitesDown"', 'district!=""'], ['alertname="SiteDown"', 'district!=""', 'class!="24-jam"'], "district"),
        # a provider that many offices miss: one message for those that have no other, and for the others' uplinks
        *(rule for isp in inventory.isps for rule in _of_provider(inventory, isp)),
        # an application that many healthy offices miss is its owner's one incident
        _mutes(
            ['alertname="SharedServiceDown"', 'service!=""'], ['alertname="HttpServiceDown"', 'service!=""', 'class!="24-jam"'], "service"
        ),
        # the same thing in two severities
        _mutes(['severity="critical"', 'site!=""'], ['severity=~"warning|info"', 'site!=""'], *IDENTITY),
        # the same finding in two grades that are both critical
        _mutes(['hours="always"', 'site!=""'], ['severity="critical"', 'hours="office"', 'site!=""'], *IDENTITY),
    ]


def _of_provider(inventory: Inventory, isp: str) -> Iterator[Config]:
    """Who uses whom is the inventory's to say, so the offices are named: an alert's labels don't tell an office's provider."""
    source = ['alertname="IspDown"', f'isp="{isp}"']
    others = {slug: site for slug, site in inventory.active().items() if site.class_ != "24-jam"}  # that one has paged before
    only = [slug for slug, site in others.items() if {u.isp for u in site.uplinks} == {isp}]
    if only:
        yield _mutes(source, ['alertname="SiteDown"', 'class!="24-jam"', f'site=~"{"|".join(only)}"'])
    by_name: dict[str, list[str]] = {}
    for slug, uplink in ((slug, u) for slug, site in others.items() for u in site.uplinks if u.isp == isp):
        by_name.setdefault(uplink.name, []).append(slug)
    for name, slugs in by_name.items():
        yield _mutes(source, ['alertname="UplinkDown"', 'class!="24-jam"', f'uplink="{name}"', f'site=~"{"|".join(slugs)}"'])


def _mutes(source: list[str], target: list[str], *equal: str) -> Config:
    return {"source_matchers": source, "target_matchers": target, **({"equal": list(equal)} if equal else {})}


# -- receivers --------------------------------------------------------------------------------------------------------------------


def _receivers(inventory: Inventory, target: Target) -> Iterator[Config]:
    channels = inventory.channels
    yield {"name": NOWHERE}
    for name in ("ops", "csirt", "isp", "pimpinan"):
        if channel := channels.get(name):
            yield _receiver(name, channel, "ronda", name, target)
    if (ops := channels.get("ops")) and _for_people(ops):
        yield _receiver(NOTICE, Channel(telegram=ops.telegram, email=ops.email), "ronda.security", "ops", target)
    if channel := channels.get("csirt"):
        yield _receiver(CSIRT_DIGEST, channel, "ronda.digest", "csirt", target, send_resolved=False)
    if channel := channels.get("digest", channels.get("ops")):
        said_in = "digest" if "digest" in channels else "ops"
        yield _receiver("digest", channel, "ronda.digest", said_in, target, send_resolved=False)
    if channel := channels.get("deadman"):
        yield _receiver("deadman", channel, "ronda", "deadman", target, send_resolved=False)


def _receiver(name: str, channel: Channel, template: str, where: str, target: Target, *, send_resolved: bool = True) -> Config:
    """`template`: the family of message templates; `where`: the inventory's channel, for what is said of its secrets."""
    made: Config = {"name": name}
    if telegram := channel.telegram:
        made["telegram_configs"] = [
            {**_telegram(telegram, where, target), **_message(f"{template}.telegram"), "send_resolved": send_resolved}
        ]
    if email := channel.email:
        family = "ronda.email" if template == "ronda" else template
        texts_ = {"html": _call(f"{family}.html"), "text": _call(f"{family}.text")}
        headers = {"Subject": _call(f"{template}.subject")}
        made["email_configs"] = [{"to": ", ".join(email.to), "headers": headers, **texts_, "send_resolved": send_resolved}]
    if webhook := channel.webhook:
        made["webhook_configs"] = [{"url": webhook.url, "send_resolved": send_resolved}]
    return made


def _call(template: str) -> str:
    return f'{{{{ template "{template}" . }}}}'


def _message(template: str) -> Config:
    return {"parse_mode": "HTML", "message": _call(template)}


def _telegram(telegram: Telegram, where: str, target: Target) -> Config:
    made: Config = {"api_url": telegram.api_url, "chat_id": int(telegram.chat_id)}
    if target.alertmanager >= BOT_TOKEN_FILE:
        return {**made, "bot_token_file": str(telegram.token_file)}
    try:
        return {**made, "bot_token": target.secrets(str(telegram.token_file))}
    except SecretError as e:
        raise ConfigError([Problem("inventory", 0, f"channels.{where}.telegram.token_file", _HOW_TO.format(e))]) from None


_HOW_TO = (
    "{}. Alertmanager before 0.26 can't read a bot's token from a file, so it is needed for rendering: "
    "write the token that @BotFather gave you into that file, one line, and chmod 600 it"
)

# -- the inventory's words as templates -------------------------------------------------------------------------------------------

_IPV4 = r"\b\d{1,3}(\.\d{1,3}){3}\b"
_IPV6 = r"\b[0-9A-Fa-f]{1,4}(:[0-9A-Fa-f]{1,4})*::([0-9A-Fa-f]{1,4}(:[0-9A-Fa-f]{1,4})*)?|\b([0-9A-Fa-f]{1,4}:){4,7}[0-9A-Fa-f]{1,4}\b"
_MAC = r"\b[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\b|\b[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}\b"
_ADDRESS = f"{_MAC}|{_IPV4}|{_IPV6}"
_STEP = r" ([2-9]\))"
_CUT_LINE = "${1}\n…"
_SPACE = r"[\s\x{85}\x{2028}\x{2029}]+"
CLASSES = {"24-jam": "layanan 24 jam", "layanan": "layanan umum, jam kantor", "kantor": "jam kantor", "desa": "kantor desa"}
# For an application its owner, for a lost way out the provider or PLN, the office's people, and always the centre itself
_CONTACTS = '{{ template "ronda.owner" . }}{{ template "ronda.provider" . }}{{ template "ronda.people" . }}'
# Words of SiteDown's causes: those that PLN is called for, and those that the provider is; for all others the office itself
POWER, PROVIDER = "listrik", "penyedia|listrik, internet|belum diketahui"


def string(text: str) -> str:
    """A text as a quoted string of Go templates. JSON's escapes are Go's, whatever the text holds."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\ufeff", "\\ufeff")


def templates(inventory: Inventory, static: str) -> str:
    """inventory.tmpl: what the static templates call and only the inventory can say."""
    rooms = {slug: LINE - SEVERITY - len(_office(site)) - len(": ") for slug, site in inventory.sites.items()}
    unknown = LINE - SEVERITY - WORD - len(": ")
    parts = [
        f"{{{{/* {HEADER} */}}}}",
        _define("ronda.office", _choice(".Labels.site", _offices(inventory), '{{ template "ronda.cut.40" .Labels.site }}')),
        _define("ronda.summary", _summaries(rooms, unknown)),
        _define("ronda.summary.many", _summaries({slug: room - MORE for slug, room in rooms.items()}, unknown - MORE)),
        _define("ronda.class", _classes()),
        _define("ronda.begun", _times(inventory, ".StartsAt")),
        _define("ronda.ended", _times(inventory, ".EndsAt")),
        _define("ronda.owner", _choice(".Labels.service", _owners(inventory), "")),
        _define("ronda.provider", _choice(".Labels.isp", {isp: _quoted(_noc(inventory, isp, ())) for isp in inventory.isps}, "")),
        _define("ronda.people", _choice(".Labels.site", {slug: _people(inventory, site) for slug, site in inventory.sites.items()}, "")),
        _define("ronda.contacts", _CONTACTS + _quoted(_said(short(inventory.centre.name, WORD), inventory.centre.phone))),
    ]
    for family, made in (("cut", _cut), ("steps", _steps), ("lines", _cut_lines)):
        called = "\n".join((static, *parts))
        wanted = sorted({int(n) for n in re.findall(rf'"ronda\.{family}\.(\d+)"', called)})
        parts += [_define(f"ronda.{family}.{n}", made(n)) for n in wanted]
    return "\n".join(parts) + "\n"


def _define(name: str, body: str) -> str:
    return f'{{{{ define "{name}" -}}}}\n{body}\n{{{{- end }}}}'


def _choice(field: str, cases: Mapping[str, str], otherwise: str) -> str:
    """An if-chain: `cases` maps a value of `field` to template text."""
    if not cases:
        return otherwise
    arms = "\n{{- else if ".join(f"eq {field} {string(value)} }}}}{text}" for value, text in cases.items())
    return f"{{{{ if {arms}\n{{{{- else }}}}{otherwise}{{{{ end }}}}"


def short(text: str, longest: int) -> str:
    """A name on one line of at most `longest` characters, cut at a word where one ends late enough."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    cut = text[:longest].rpartition(" ")[0]
    cut = cut if len(cut) > longest // 2 else text[: longest - 1]
    return cut.rstrip(" ,;:·–-") + "…"


def _office(site: Site) -> str:
    return short(site.name, NAME)


def _offices(inventory: Inventory) -> dict[str, str]:
    names = {slug: f"{{{{ {string(_office(site))} }}}}" for slug, site in inventory.sites.items()}
    return {CENTRE: "Pusat", **names}


def _summaries(rooms: Mapping[str, int], otherwise: int) -> str:
    """The summary, cut to what the office's name leaves of the line. Offices whose names are as long share an arm."""
    by_room = groupby(sorted((room, slug) for slug, room in {**rooms, CENTRE: LINE - SEVERITY - len("Pusat: ")}.items()), lambda p: p[0])
    arms = [f'match "^({"|".join(slug for _, slug in some)})$" .Labels.site }}}}{_cut_call(room)}' for room, some in by_room]
    return "{{ if " + "\n{{- else if ".join(arms) + f"\n{{{{- else }}}}{_cut_call(otherwise)}{{{{ end }}}}"


def _cut_call(room: int) -> str:
    return f'{{{{ template "ronda.cut.{room}" .Annotations.summary }}}}'


def _cut(longest: int, after: str = "") -> str:
    """Data: a text. On one line, addresses masked, cut at a word where one ends late enough. `after`: more of the pipeline."""
    words = f"^(.{{{longest // 2},{longest - 2}}}[^\\s,;:·–-])[\\s,;:·–-].*$"
    letters = f"^(.{{{longest - 1}}}).{{2,}}$"
    return (
        f'{{{{ $s := . | reReplaceAll {string(_SPACE)} " " | reReplaceAll {string(_ADDRESS)} "(alamat)"{after} -}}}}\n'
        f'{{{{ if match "^.{{{longest + 1}}}" $s }}}}'
        f"{{{{ $s | reReplaceAll {string(words)} {string('${1}…')} | reReplaceAll {string(letters)} {string('${1}…')} }}}}"
        "{{ else }}{{ $s }}{{ end }}"
    )


def _steps(longest: int) -> str:
    """Data: `1) … 2) …`; as _cut, with the steps set apart."""
    return _cut(longest, f" | reReplaceAll {string(_STEP)} {string('  ${1}')}")


def _cut_lines(longest: int) -> str:
    """Data: a text of several lines, kept as they are but for addresses, cut at a line's end."""
    lines = f"(?s)^({_any('.', 1, longest - 2)})\\n.*$"
    cut = f"{{{{ $s | reReplaceAll {string(lines)} {string(_CUT_LINE)} }}}}"
    return (
        f'{{{{ $s := . | reReplaceAll {string(_ADDRESS)} "(alamat)" -}}}}\n'
        f"{{{{ if match {string('(?s)^' + _any('.', longest, longest))} $s }}}}{cut}{{{{ else }}}}{{{{ $s }}}}{{{{ end }}}}"
    )


def _any(what: str, least: int, most: int) -> str:
    """`what{least,most}` in pieces: RE2 takes no count above 1000."""
    pieces = []
    while most > 0:
        pieces.append(f"{what}{{{min(least, 1000)},{min(most, 1000)}}}")
        least, most = max(least - 1000, 0), most - 1000
    return "".join(pieces)


def _classes() -> str:
    """` · layanan 24 jam`; nothing for the centre, which has no class."""
    words = _choice(".Labels.class", {key: f" · {word}" for key, word in CLASSES.items()}, "")
    return f'{{{{ if eq .Labels.audience "csirt" }}}} · kejadian keamanan{{{{ else }}}}{words}{{{{ end }}}}'


def _times(inventory: Inventory, field: str) -> str:
    """`15.04 WIB` in the site's zone. Before 0.28 templates know no zones, but a time can be moved by a number of nanoseconds."""
    zones: dict[str, list[str]] = {}
    for slug, site in inventory.sites.items():
        if site.timezone != inventory.centre.timezone:
            zones.setdefault(site.timezone, []).append(slug)
    arms = [
        f'{{{{ if match "^({"|".join(slugs)})$" .Labels.site }}}}{_time(zone, field)}{{{{ else }}}}'
        for zone, slugs in sorted(zones.items())
    ]
    return "".join(arms) + _time(inventory.centre.timezone, field) + "{{ end }}" * len(arms)


def _time(zone: str, field: str) -> str:
    """A zone whose clocks change has no fixed distance to UTC: there the time is told in UTC."""
    tz = ZoneInfo(zone)
    winter, summer = (datetime(2026, month, 1, tzinfo=tz).utcoffset() or timedelta() for month in (1, 7))
    offset, name = (winter, texts.ZONES.get(zone) or datetime(2026, 1, 1, tzinfo=tz).tzname()) if winter == summer else (timedelta(), "UTC")
    return f'{{{{ ({field}.UTC.Add {int(offset.total_seconds()) * 10**9}).Format "15.04" }}}} {name}'


# -- whom to call -----------------------------------------------------------------------------------------------------------------


def _owners(inventory: Inventory) -> dict[str, str]:
    """Of an application: who answers for it."""
    said = {key: _said(f"{short(s.owner or s.name, WORD)} ({short(s.name, WORD)})", s.phone) for key, s in inventory.services.items()}
    return {key: _quoted(text + ", ") for key, text in said.items()}


def _people(inventory: Inventory, site: Site) -> str:
    csirt, ops = (
        "".join(_said(short(c.name, WORD), c.phone) + ", " for c in site.contacts if c.audience == who) for who in ("csirt", "ops")
    )
    if inventory.centre.csirt:
        csirt += short(inventory.centre.csirt, WORD) + ", "
    nocs = _nocs(inventory, site)
    return f'{{{{ if eq .Labels.audience "csirt" }}}}{_quoted(csirt)}{{{{ else }}}}{nocs}{_quoted(ops)}{{{{ end }}}}'


def _nocs(inventory: Inventory, site: Site) -> str:
    """Of one uplink's alert its provider; of a whole office that is down whoever its cause points at."""
    if not site.uplinks:
        return ""
    by_uplink = {u.name: _quoted(_noc(inventory, u.isp, [u.customer])) for u in site.uplinks}
    customers: dict[str, list[str]] = {}
    for uplink in site.uplinks:
        customers.setdefault(uplink.isp, []).append(uplink.customer)
    every = _quoted("".join(_noc(inventory, isp, numbers) for isp, numbers in customers.items()))
    power = f"{{{{ if match {string(POWER)} .Annotations.cause }}}}PLN 123, {{{{ end }}}}"
    provider = f"{{{{ if or (not .Annotations.cause) (match {string(PROVIDER)} .Annotations.cause) }}}}{every}{{{{ end }}}}"
    whole = f'{{{{ if eq .Labels.alertname "SiteDown" }}}}{power}{provider}{{{{ end }}}}'
    return _choice(".Labels.uplink", by_uplink, whole)


def _noc(inventory: Inventory, isp: str, customers: Iterable[str]) -> str:
    numbers = ", ".join(short(c, WORD) for c in customers if c)
    about = inventory.isps[isp]
    return _said(f"NOC {short(about.name, WORD)}", about.noc) + (f" (no. layanan {numbers})" if numbers else "") + ", "


def _said(name: str, phone: str) -> str:
    return f"{name} {short(phone, WORD)}".strip()


def _quoted(text: str) -> str:
    return f"{{{{ {string(text)} }}}}" if text else ""
