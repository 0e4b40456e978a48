"""The few forms of PromQL that panels are made of.

Law: a window suits the slowest way in which a sample comes. A metered site sends counters, histograms and gauges every 300 s, a fibre
site probes every 60 s and the rest every 300 s. `rate` needs two samples in its window and the five minutes of Prometheus' own
lookback are not enough for one at 300 s, so:

- WINDOW, 11 min, holds two samples of 300 s even when one is late, and is what a snapshot of now looks back on;
- RATE, for curves, is Grafana's `$__rate_interval` at a step of STEP = 165 s: never below 4 x 165 s = 11 min, and longer where a point
  stands for more than that, so a month's curve leaves nothing out;
- a gauge is its last value within WINDOW. What the centre itself records (ronda:*, ronda_site_info, …) is always fresh and needs none.

A mean round-trip time is sum by count: buckets of 100 to 200 ms would turn every quantile into a guess. What they do tell exactly is the
share of replies above a bound.
"""

from collections.abc import Iterable

from agent.texts import CAUSES, SITE_STATES
from central.dashboards.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, Level, Word

WINDOW = "11m"
STEP = "165s"
RATE = "$__rate_interval"
SLOW = "0.35"  # seconds; a bucket's bound. Above it people say "lemot"

ACTIVE = 'status="active"'
ANCHORS = 'role="anchor"'

# A state as a number, so that the map, timelines and "worst first" can sort and colour it. The worst has the largest.
STATE_CODES = {"ok": 0, "retired": 1, "planned": 2, "closed": 3, "maintenance": 4, "degraded": 5, "silent": 6, "down": 7}
STATE_COLORS = {
    "ok": GREEN, "retired": GREY, "planned": GREY, "closed": BLUE, "maintenance": PURPLE, "degraded": YELLOW, "silent": ORANGE, "down": RED,
}  # fmt: skip
STATE_WORDS = {str(code): Word(SITE_STATES[state].word.id, STATE_COLORS[state]) for state, code in STATE_CODES.items()}
STATE_LEVELS = tuple(Level(code or None, STATE_COLORS[state], "") for state, code in STATE_CODES.items())

CAUSE_CODES = {cause: i for i, cause in enumerate(CAUSES)}
_CAUSE_COLORS = {"ok": GREEN, "unknown": GREY, "saturated": YELLOW, "service": YELLOW, "dns": ORANGE}
CAUSE_WORDS = {str(i): Word(CAUSES[c].short.id, _CAUSE_COLORS.get(c, RED)) for c, i in CAUSE_CODES.items()}
CAUSE_NAMES = {c: Word(CAUSES[c].short.id, _CAUSE_COLORS.get(c, RED)) for c in CAUSES}

UP_DOWN = {"1": Word("baik", GREEN), "0": Word("mati", RED)}
UP_DOWN_LEVELS = (Level(None, RED, "mati"), Level(1, GREEN, "baik"))


def last(metric: str, matchers: str = "") -> str:
    """A gauge's value, also where it comes every 300 s."""
    return f"last_over_time({metric}{{{matchers}}}[{WINDOW}])"


def state_code(matchers: str = "", offset: str = "") -> str:
    """One number a site, of STATE_CODES. The agent's ronda_site_state is another thing: the centre's has the last word."""
    more, shift = f",{matchers}" if matchers else "", f" offset {offset}" if offset else ""
    terms = (f'{code} * ronda:site_state{{state="{state}"{more}}}{shift}' for state, code in STATE_CODES.items())
    return f"sum by (site) ({' or '.join(terms)})"


def cause_code(matchers: str) -> str:
    """One number a site, of CAUSE_CODES."""
    terms = (f"{code} * " + last("ronda_verdict", f'cause="{cause}",{matchers}') for cause, code in CAUSE_CODES.items())
    return f"sum by (site) ({' or '.join(terms)})"


def joined(labels: Iterable[str], matchers: str = "", info: str = "ronda_site_info", on: str = "site") -> str:
    """Puts labels of the inventory on: a factor of 1. What the matchers don't fit falls out.

    topk: one each, also in the minutes in which a renamed office has two info series
    """
    return f" * on ({on}) group_left ({', '.join(labels)}) topk by ({on}) (1, {info}{{{matchers}}})"


def mean_rtt(by: str, matchers: str, window: str = RATE) -> str:
    """Mean round-trip time in seconds; nothing where no reply came."""
    total, count = (f"sum by ({by}) (rate(ronda_icmp_rtt_seconds_{part}{{{matchers}}}[{window}]))" for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def slow_share(by: str, matchers: str, window: str = RATE) -> str:
    """Which part of the replies took longer than SLOW, 0 to 1."""
    fast = f'sum by ({by}) (rate(ronda_icmp_rtt_seconds_bucket{{le="{SLOW}",{matchers}}}[{window}]))'
    return f"1 - {fast} / (sum by ({by}) (rate(ronda_icmp_rtt_seconds_count{{{matchers}}}[{window}])) > 0)"


def loss_share(by: str, matchers: str, window: str = RATE) -> str:
    """Which part of the pings had no answer, 0 to 1; nothing where none was sent."""
    lost, sent = (f"sum by ({by}) (rate(ronda_icmp_packets_{what}_total{{{matchers}}}[{window}]))" for what in ("lost", "sent"))
    return f"{lost} / ({sent} > 0)"
