"""The wrapper: every alert of alerts/rules gets its class, opening hours, maintenance and onset at render time.

Law: the static files say what is wrong, without class or clock; this file says who may be told of it, and when. It is all PromQL, so
promtool proves it, and Prometheus keeps it over a restart. For each alert X there are, in this order in one group:

    ronda:candidate              what X's expression says, of active sites (only where a lost way out makes things look dead)
    ronda:condition              what is wrong now
    ronda:condition_since:timestamp   since when; it survives a restart of Prometheus of up to five minutes
    X                            what pages: old enough for the site's class, while the site may be paged for; once it pages,
                                 until it is over: closing time never "resolves" an outage

`for` becomes part of the expression: an outage of the night is old enough at opening time, and pages then and not `for` later.

The CSIRT's alerts know no class and no maintenance: `hours: always` and those without the label are told at once, at any office's any hour;
`hours: office` waits for the office to open, and pages where nobody knows its hours.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.structure import parse_duration
from central import yamltext
from central.target import shipped

Rule = dict[str, Any]
FAST, SLOW = "5s", "30s"  # how often critical alerts are evaluated, and all others
CLASS_DELAY = 300.0  # seconds that an outage lasts before it pages anybody, but for offices of class 24-jam
HIDDEN_BY_LOST_WAY = frozenset({"icmp", "tcp", "http", "dns"})  # kinds whose targets look dead where the way out is
UNREACHED = "ronda:site_unreached:bool"
ACTIVE = 'topk by (site) (1, ronda_site_info{status="active"})'  # one a site, also in the moment in which a name changes
RUNBOOKS = "https://pusat.example.go.id/runbook"  # where the links of the shipped rules lead; each centre has its own
HEADER = "Rendered by `ronda central render`, from Ronda's own alerts. Changes here are lost at the next rendering."


def files(directory: Path | None = None, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """The rule files, wrapped, by their path below the rendered directory. `runbooks`: the page that alerts link to; empty: no links."""
    directory = directory or shipped("alerts") / "rules"
    sources = {p.stem: yaml.safe_load(p.read_text()) for p in sorted(directory.glob("*.yaml")) if not p.name.endswith(".test.yaml")}
    for rule in (rule for source in sources.values() for group in source["groups"] for rule in group["rules"]):
        _link(rule.get("annotations", {}), runbooks)
    unreached = _expression(sources, UNREACHED)
    return {f"prometheus/rules/{stem}.yaml": wrapped_file(source, stem, unreached) for stem, source in sources.items()}


def _link(annotations: dict[str, str], runbooks: str) -> None:
    """Leads the link to a runbook to this centre's page."""
    link = annotations.pop("runbook_url", "")
    if link and runbooks:
        annotations["runbook_url"] = link.replace(RUNBOOKS, runbooks, 1)


def _expression(sources: Mapping[str, Any], record: str) -> str:
    """What a recording rule of the sources computes; its own name where there is none."""
    rules = (rule for source in sources.values() for group in source["groups"] for rule in group["rules"])
    return next((str(rule["expr"]) for rule in rules if rule.get("record") == record), record)


def wrapped_file(source: Mapping[str, Any], kind: str, unreached: str = UNREACHED) -> str:
    """A rule file for Prometheus: recording rules and critical alerts every 5 s, the others in a second group every 30 s.

    Where a source asks for less, e.g. `interval: 4m` for what is reckoned of whole days, its records go by that.
    """
    rules: list[Rule] = [rule for group in source["groups"] for rule in group["rules"]]
    slowest = functools.reduce(_slower, (str(group.get("interval", FAST)) for group in source["groups"]), FAST)
    fast = [r for r in rules if "record" in r or r["labels"]["severity"] == "critical"]
    slow = [r for r in rules if r not in fast]
    groups = [
        {"name": name, "interval": interval, "rules": list(_group(of_group, kind, unreached, name))}
        for name, interval, of_group in ((kind, slowest, fast), (f"{kind}_slow", SLOW, slow))
        if of_group
    ]
    return yamltext.dump({"groups": groups}, header=HEADER)


def _slower(a: str, b: str) -> str:
    return max((a, b), key=parse_duration)


def _group(rules: list[Rule], kind: str, unreached: str, group: str) -> Iterator[Rule]:
    if any(_hidden(rule, kind) for rule in rules):
        # The same question as in site.yaml, asked in the same breath as the alerts: an answer 5 s old would page for what it explains.
        yield {"record": "ronda:unreached_now:bool", "labels": {"group": group}, "expr": unreached.strip()}
    for rule in rules:
        yield from wrap(rule, kind, group) if "alert" in rule and not of_centre(rule) else [_clean(rule)]


def of_centre(rule: Rule) -> bool:
    """Alerts of the centre itself have no site whose hours or class could be asked; they go as they are."""
    labels: Mapping[str, str] = rule["labels"]
    return labels.get("site") == "pusat" or labels.get("scope") == "centre"


def _hidden(rule: Rule, kind: str) -> bool:
    return "alert" in rule and not of_centre(rule) and kind in HIDDEN_BY_LOST_WAY and rule["labels"]["audience"] == "ops"


def wrap(rule: Rule, kind: str, group: str = "") -> list[Rule]:
    """The rules that one alert becomes."""
    who = {"alertname": rule["alert"], **{k: v for k, v in rule["labels"].items() if "{{" not in v}}
    of_sites = f"(\n{_indent(rule['expr'])}\n)\n* on (site) group_left (class, district) {ACTIVE}"
    rules = [{"record": "ronda:condition", "labels": who, "expr": of_sites}]
    if _hidden(rule, kind):
        rules[0]["record"] = "ronda:candidate"
        rules.append({"record": "ronda:condition", "labels": who, "expr": _reached(who, group)})
    rules.append({"record": "ronda:condition_since:timestamp", "labels": who, "expr": _since(who)})
    rules.append(_alert(rule, who))
    return rules


def _reached(who: Mapping[str, str], group: str) -> str:
    """A target that nobody can reach is not known to be dead; one that paged before that is not known to be well."""
    candidate = f"ronda:candidate{_selector(who)}"
    unreached = f"ronda:unreached_now:bool{_selector({'group': group})} == 1"
    return f"{candidate} unless on (site) ({unreached})\nor\n{candidate} and ignoring (alertstate) {_firing(who)}"


def _since(who: Mapping[str, str]) -> str:
    condition, since = f"ronda:condition{_selector(who)}", f"ronda:condition_since:timestamp{_selector(who)}"
    return f"{since} and {condition}\nor\n({condition} == bool 0) * 0 + time()"  # == bool: the value may be infinite or no number


def _alert(rule: Rule, who: Mapping[str, str]) -> Rule:
    lasting = parse_duration(str(rule["for"])) if "for" in rule else 0.0
    made = {k: v for k, v in _clean(rule).items() if k != "for"}
    made["expr"] = _expressed(who, lasting)
    onset = {"incident": INCIDENT, "since": SINCE, "lasted": LASTED} if FINDING not in rule["expr"] else OF_FINDINGS
    said = rule.get("annotations", {})
    made["annotations"] = {**onset, **said, **({"where": f"{_WHERE}{said.get('where', '')}{{{{ end }}}}"} if onset is OF_FINDINGS else {})}
    return made


def _expressed(who: Mapping[str, str], lasting: float) -> str:
    if who["audience"] != "csirt":
        return _by_class(who, lasting)
    return _in_hours(who, lasting) if who.get("hours") == "office" else _at_once(who, lasting)


def _in_hours(who: Mapping[str, str], lasting: float) -> str:
    condition = f"ronda:condition{_selector(who)}"
    return (
        f"(\n  {_at_once(who, lasting)}\n)\nunless on (site) (ronda_site_open == 0)\n"
        f"or\n{condition} and ignoring (alertstate) {_firing(who)}"
    )


def _at_once(who: Mapping[str, str], lasting: float) -> str:
    return _lasting(who, lasting) or f"ronda:condition{_selector(who)}"


def _by_class(who: Mapping[str, str], lasting: float) -> str:
    always, others = (_lasting(who, max(lasting, delay), term) for delay, term in ((0, 'class="24-jam"'), (CLASS_DELAY, 'class!="24-jam"')))
    condition = f"ronda:condition{_selector(who)}"
    return (
        f"(\n  {always}\n  or\n  {others}\n)\nand on (site) (ronda_site_pages == 1)\n"
        f"or\n{condition} and ignoring (alertstate) {_firing(who)}"
    )


def _lasting(who: Mapping[str, str], seconds: float, term: str = "") -> str:
    """The condition where it has gone on for so long."""
    selector = _selector(who, term)
    condition = f"ronda:condition{selector}"
    return f"{condition} and (ronda:condition_since:timestamp{selector} <= time() - {seconds:g})" if seconds else condition


def _firing(who: Mapping[str, str]) -> str:
    return "ALERTS" + _selector({**who, "alertstate": "firing"})


def _selector(labels: Mapping[str, str], term: str = "") -> str:
    return "{" + ",".join([*(f"{k}={quote(v)}" for k, v in labels.items()), *([term] if term else [])]) + "}"


def quote(text: str) -> str:
    """A PromQL string: escapes as in Go, for whatever is no printable character."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def _clean(rule: Rule) -> Rule:
    return {k: v.strip() if k == "expr" else v for k, v in rule.items()}


def _indent(expression: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in expression.strip().splitlines())


# -- what a message says of the onset ----------------------------------------------------------------------------------------------
# Templates of Prometheus, in functions that 2.42 has. The selector is made of the alert's own labels, quoted by %q as PromQL reads it.

_OWN = '{{ $own := "" }}{{ range $k, $v := $labels }}{{ if ne $k "__name__" }}{{ $own = printf "%s%s=%q," $own $k $v }}{{ end }}{{ end }}'
_JOINED = " + on (site) group_left (code, zone) ronda_site_utc_offset_seconds{site=%q}"
_ONSET = _OWN + '{{ with printf "ronda:condition_since:timestamp{%s}' + _JOINED + '" $own $labels.site | query }}{{ with first . }}'
_LOCAL = "(. | value | toTime)"
_NAME, _ENDS = '{{ label "code" . }}-{{ ' + _LOCAL + '.Format "0102-1504" }}', "{{ end }}{{ end }}"
_INCIDENT = _NAME + _ENDS
# An outage of another day says which: "23/11 22.14 WIB".
_SINCE = (
    "{{ $at := "
    + _LOCAL
    + ' }}{{ $zone := label "zone" . }}{{ with printf "ronda_site_utc_offset_seconds{site=%q} + time()" $labels.site | query }}'
    + '{{ $now := first . | value | toTime }}{{ if ne ($now.Format "0201") ($at.Format "0201") }}{{ $at.Format "2/1 " }}{{ end }}{{ end }}'
    + '{{ $at.Format "15.04" }} {{ $zone }}{{ end }}{{ end }}'
)
INCIDENT, SINCE = _ONSET + _INCIDENT, _ONSET + _SINCE
# How long it has gone on. The end is told with the annotations of the last evaluation in which it stood, so then it is how long it was.
LASTED = _OWN + '{{ range printf "time() - ronda:condition_since:timestamp{%s}" $own | query }}{{ . | value | humanizeDuration }}{{ end }}'

# A finding has its id and its beginning from the box that found it: the centre and `ronda events` there must name the same one. Of several
# of one minute the thousandths say which (agent/detect/casebook.py): ".002" is "-2".
FINDING = "ronda:finding:bool"
_OPENED = (
    '{{ with printf "(ronda:finding_opened:timestamp{site=%q,rule=%q,grade=%q} or on (site) floor(min by (site)'
    " (ronda:condition_since:timestamp{site=%q,rule=%q})))"
    + _JOINED
    + '" $labels.site $labels.rule $labels.grade $labels.site $labels.rule $labels.site | query }}{{ with first . }}'
)
_NUMBER = "{{ " + _LOCAL + '.Format ".000" | reReplaceAll "^[.]000$" "" | reReplaceAll "^[.]0*" "-" }}'
_AGO = (
    '{{ range printf "time() - ronda:finding_opened:timestamp{site=%q,rule=%q,grade=%q}" $labels.site $labels.rule $labels.grade | query }}'
)
# Where its cause is plugged in, as the box tells it (agent/detect/where.py); where no switch tells, what the rule itself says.
_WHERE = (
    '{{ with printf "last_over_time(ronda_condition_where_info{site=%q,rule=%q}[6m])" $labels.site $labels.rule | query }}'
    '{{ with first . }}{{ label "device" . }} port {{ label "port" . }}{{ end }}{{ else }}'
)
OF_FINDINGS = {
    "incident": _OPENED + _NAME + _NUMBER + _ENDS,
    "since": _OPENED + _SINCE,
    "lasted": _AGO + "{{ . | value | humanizeDuration }}{{ end }}",
}
