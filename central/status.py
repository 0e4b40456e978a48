"""`ronda central status`: each office's state in a terminal, worst first, for an admin who has no Grafana or is on ssh.

Law: it reads what the centre's Prometheus knows and judges nothing: states are those of ronda:site_state, as on the page
`Keadaan sekarang`. Exit 0: no office is cut off, silent or impaired; 1: one is, or what they share; 2: Prometheus doesn't answer.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from agent.texts import CAUSES, SITE_STATES, clock_time
from central.dashboards.promql import STATE_CODES

FINE, TROUBLE, UNKNOWN = 0, 1, 2
BAD = ("down", "silent", "degraded")
MAX_BYTES = 32 << 20

Series = list[tuple[Mapping[str, str], float]]


class UnreadableError(Exception):
    """Prometheus can't be asked; str() says why."""


class Office(NamedTuple):
    name: str
    zone: str
    state: str
    since: float  # Unix time; 0: not known
    cause: str  # empty where the box can't be asked for it now
    open: tuple[str, ...]  # what doesn't hold, by the alerts' names


def status_command(args: argparse.Namespace) -> int:
    try:
        found, shared = offices(args.prometheus), together(args.prometheus)
    except UnreadableError as e:
        print(f"ronda central status: {args.prometheus}: {e}", file=sys.stderr)
        print("Is the centre running? `ronda central up` says its addresses (--prometheus URL).", file=sys.stderr)
        return UNKNOWN
    print("\n".join(lines(found, time.time(), shared)))
    return TROUBLE if shared or any(o.state in BAD for o in found) else FINE


def offices(prometheus: str) -> list[Office]:
    """All of them, the worst first. Raises UnreadableError."""
    state = {labels["site"]: labels["state"] for labels, _ in ask(prometheus, "ronda:site_state == 1")}
    since = {labels["site"]: at for labels, at in ask(prometheus, "ronda:site_state_since:timestamp")}
    cause = {labels["site"]: labels["cause"] for labels, _ in ask(prometheus, "last_over_time(ronda_verdict[11m]) == 1")}
    wrong = Counter((labels["site"], labels["alertname"]) for labels, _ in ask(prometheus, 'ronda:condition{audience!="csirt"}'))
    made = []
    for labels, _ in ask(prometheus, "topk by (site) (1, ronda_site_info)"):
        site, now = labels["site"], state.get(labels["site"], "")
        said = cause.get(site, "") if now in ("ok", "degraded", "down") else ""
        names = tuple(alert for own, alert in sorted(wrong) if own == site)
        made.append(Office(labels["name"], labels["timezone"], now, since.get(site, 0.0), said, names))
    return sorted(made, key=lambda o: (-STATE_CODES.get(o.state, -1), o.name))


def together(prometheus: str) -> list[str]:
    """What is not one office's: a provider, a service, the centre itself."""
    firing = ask(prometheus, 'ALERTS{alertstate="firing",site="pusat",alertname!~"Watchdog|MorningDigest",audience!="csirt"}')
    about = ("service", "isp", "district", "uplink", "job")
    return sorted(" ".join([a["alertname"], *(a[k] for k in about if k in a)]) for a, _ in firing)


def lines(found: Sequence[Office], now: float, shared: Sequence[str] = ()) -> Iterator[str]:
    """The whole answer: how many offices are how, what is nobody's alone, and a line for each office."""
    if not found:
        yield "Prometheus belum mengenal satu kantor pun / knows no office yet"
        return
    counted = Counter(o.state for o in found)
    yield f"{len(found)} kantor: " + ", ".join(f"{n} {_word(state)}" for state, n in sorted(counted.items(), key=_rank))
    if shared:
        yield f"bersama: {'; '.join(shared)}"
    states, names = max(len(_word(o.state)) for o in found), max(len(o.name) for o in found)
    for o in found:
        since = f"sejak {at}" if (at := clock_time(o.since, now, o.zone, "id")) else ""
        why = CAUSES[o.cause].short.id if o.cause in CAUSES and o.cause != "ok" else ""
        what = "; ".join(filter(None, (why, *o.open)))
        yield f"{_word(o.state):{states}}  {o.name:{names}}  {since:16}  {what}".rstrip()


def _rank(counted: tuple[str, int]) -> int:
    return -STATE_CODES.get(counted[0], -1)


def _word(state: str) -> str:
    return SITE_STATES[state].word.id if state in SITE_STATES else "belum diketahui"


def ask(prometheus: str, promql: str) -> Series:
    """(labels, value) of each series. Raises UnreadableError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the centre's own Prometheus is not behind a proxy
    try:
        with opener.open(f"{prometheus.rstrip('/')}/api/v1/query?query={quote(promql)}", timeout=10) as answer:
            result: Any = json.loads(answer.read(MAX_BYTES))["data"]["result"]
        return [(r["metric"], float(r["value"][1])) for r in result]
    except urllib.error.HTTPError as e:
        e.close()
        raise UnreadableError(f"HTTP {e.code}") from None
    except urllib.error.URLError as e:
        raise UnreadableError(str(e.reason)) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as e:
        raise UnreadableError(f"no answer that Prometheus would give ({e})") from None
