"""The rendered dashboards keep Grafana's conventions, name only series that exist, and hold no query that Prometheus refuses."""

import itertools
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import collector, delivery, ledger
from agent.catalogue import catalogue
from central import dashboards as rendered
from central.dashboards import monitoring, services
from central.dashboards.panels import Level, Panel, Query, Row, _placed
from central.inventory import load
from central.prometheus import files as prometheus_files
from central.target import Target
from collectors import KINDS
from tests.lab.netns import until
from tests.lab.panels import ALL, Place, dashboards, filled, panels, queries

ROOT = Path(__file__).parents[2]
INVENTORY = load(ROOT / "config/inventory.example.yaml")
FILES = rendered.files(INVENTORY, Target())
BOARDS = dashboards(FILES)
QUERIES = list(queries(FILES))
PANELS = [(uid, panel) for uid, board in BOARDS.items() for panel in panels(board)]
VARIABLES = {uid: {v["name"]: v for v in board["templating"]["list"]} for uid, board in BOARDS.items()}
# What the programs of the centre, and Python's own exporter, call their series.
FOREIGN = re.compile(r"prometheus_\w+|alertmanager_\w+|process_\w+|up|scrape_duration_seconds|ALERTS")
UNITS = {
    "none", "short", "s", "d", "percentunit", "bps", "pps", "cpm", "bytes", "decbytes", "celsius", "dateTimeAsLocal",
    "dBm",
}  # fmt: skip
each_panel = pytest.mark.parametrize(("uid", "panel"), [pytest.param(u, p, id=f"{u}/{p['title']}") for u, p in PANELS])
each_query = pytest.mark.parametrize(("place", "expr"), [pytest.param(p, e, id="/".join(p)) for p, e in QUERIES])


# -- the page as a whole ----------------------------------------------------------------------------------------------------------


def test_the_same_inventory_gives_the_same_bytes() -> None:
    assert rendered.files(load(ROOT / "config/inventory.example.yaml"), Target()) == FILES


@pytest.mark.parametrize("uid", BOARDS)
def test_a_dashboard_keeps_the_conventions(uid: str) -> None:
    board = BOARDS[uid]
    assert f"grafana/dashboards/{uid}.json" in FILES
    assert re.fullmatch(r"ronda-[a-z]{1,30}", uid)
    assert (board["tags"], board["editable"], board["timezone"]) == (["ronda"], False, INVENTORY.centre.timezone)
    assert "id" not in board, "Grafana numbers dashboards itself"
    assert board["title"].startswith("Ronda · ")
    assert "\n\nEN: " in board["description"]
    assert len(FILES[f"grafana/dashboards/{uid}.json"]) < 200_000


@pytest.mark.parametrize("uid", BOARDS)
def test_variables_have_a_datasource_and_follow_the_time(uid: str) -> None:
    source, *others = BOARDS[uid]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert others
    for variable in others:
        assert (variable["refresh"], variable["datasource"]["uid"]) == (2, "${datasource}")
        assert variable["label"]


def test_titles_and_uids_are_one_each() -> None:
    assert len({b["title"] for b in BOARDS.values()}) == len(BOARDS) == len(rendered.DASHBOARDS)
    for board in BOARDS.values():
        assert len({p["title"] for p in panels(board)}) == len(panels(board))
        ids = [p["id"] for p in board["panels"]]
        assert ids == sorted(set(ids))


@pytest.mark.parametrize("uid", BOARDS)
def test_no_panel_overlaps_another_or_leaves_the_grid(uid: str) -> None:
    places = [p["gridPos"] for p in BOARDS[uid]["panels"]]
    for p in places:
        assert 0 <= p["x"] < p["x"] + p["w"] <= 24
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)


def test_a_row_that_is_too_wide_is_refused() -> None:
    wide = Panel(
        title="x", says="x", english="x", type="stat", unit="none", width=13, queries=(Query(expr="up"),), levels=(Level(None, "red", ""),)
    )
    with pytest.raises(ValueError, match="wider than 24"):
        list(_placed([Row(panels=(wide, wide))]))


# -- each panel -------------------------------------------------------------------------------------------------------------------


@each_panel
def test_a_panel_says_what_it_shows(uid: str, panel: dict[str, Any]) -> None:
    indonesian, english = panel["description"].split("\n\nEN: ")
    assert panel["title"]
    assert len(indonesian) > 20
    assert len(english) > 20
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert [t["refId"] for t in panel["targets"]] == [chr(ord("A") + i) for i in range(len(panel["targets"]))]
    assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${datasource}"}


@each_panel
def test_thresholds_ascend_and_are_explained(uid: str, panel: dict[str, Any]) -> None:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    values = [s["value"] for s in steps]
    assert values[0] is None
    assert values[1:] == sorted(values[1:])
    explained = "Warna – " in panel["description"] or panel["fieldConfig"]["defaults"]["mappings"]
    assert len(steps) == 1 or explained


@each_panel
def test_a_table_shows_columns_that_its_queries_can_have(uid: str, panel: dict[str, Any]) -> None:
    if panel["type"] not in ("table", "geomap"):
        return
    several = len(panel["targets"]) > 1
    kept = next(t for t in panel["transformations"] if t["id"] == "filterFieldsByName")["options"]["include"]["names"]
    assert [t["id"] for t in panel["transformations"]].count("merge") == several
    for field in kept:
        if field.startswith("Value #"):
            assert several
            assert field[-1] in {t["refId"] for t in panel["targets"]}
        elif field != "Value":
            assert any(
                field in t["expr"] or "ronda_site_info{" in t["expr"] or "ronda_uplink_info{" in t["expr"] for t in panel["targets"]
            ), field
    links = re.findall(r"__data\.fields\.(\w+)", json.dumps(panel))
    assert set(links) <= set(kept)


def test_every_link_leads_to_a_dashboard_and_a_variable_of_it() -> None:
    for uid, variable in re.findall(r"/d/([\w-]+)\?var-(\w+)=", "".join(FILES.values())):
        assert variable in VARIABLES[uid]


# -- each query -------------------------------------------------------------------------------------------------------------------


def _names(expr: str) -> set[str]:
    """Metric names: words that are no function, keyword, label or text."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    bare = re.sub(r"\b(by|on|ignoring|group_left|group_right|without) ?\([^)]*\)", " ", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    words = re.findall(r"(?<![\w:$.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", bare)
    return {w for w in words if w not in {"and", "or", "unless", "offset", "bool"} and not re.fullmatch(r"\d*[smhd]|by|on", w)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The agent's metrics, and what the rendered rules record."""
    found = {f"{n}{s}" for n, m in catalogue(KINDS).items() for s in (("_sum", "_count", "_bucket") if m.type == "histogram" else ("",))}
    for path, text in prometheus_files(INVENTORY, Target()).items():
        if "/rules/" in path:
            found |= {r["record"] for g in yaml.safe_load(text)["groups"] for r in g["rules"] if "record" in r}
    return found


@each_query
def test_a_query_names_series_that_exist(place: Place, expr: str, known: set[str]) -> None:
    names = _names(filled(expr))
    assert names or "vector" in expr
    assert {n for n in names if n not in known and not FOREIGN.fullmatch(n)} == set()


@each_query
def test_a_query_uses_the_page_s_variables_only_and_sums_rates_not_counters(place: Place, expr: str) -> None:
    used = set(re.findall(r"\$(\w+)", re.sub(r'"\$\d"', "", expr))) - {"__rate_interval", "__range"}
    assert used <= set(VARIABLES[place.uid])
    assert used <= set(ALL)
    for counter in re.findall(r"\b((?:ronda|prometheus|alertmanager)_\w+_(?:total|sum|count|bucket))\b", expr):
        assert re.search(rf"(rate|increase|last_over_time)\({counter}\b", expr), f"{counter} is not a rate"


@each_query
def test_windows_suit_the_slowest_tier(place: Place, expr: str) -> None:
    """Two samples of a metered site, 300 s apart, fit in each window; a point of a curve leaves nothing out."""
    target = next(t for p in panels(BOARDS[place.uid]) if p["title"] == place.title for t in p["targets"] if t["refId"] == place.ref)
    for window in re.findall(r"\[([^\]:]+)(?::[^\]]+)?\]", expr.replace("[$__range] @ end()", "")):  # all of what is looked at: long enough
        assert window in {"11m", "1d", "$__rate_interval"}
    if "$__rate_interval" in expr:
        assert (target["range"], target["interval"]) == (True, "165s"), "4 x 165 s = 11 min"


def test_what_the_agent_says_by_a_word_has_a_name_for_admins() -> None:
    assert set(services.REASONS) == set(collector.REASONS)
    assert set(monitoring.OUTCOMES) == set(delivery.OUTCOMES)
    assert set(monitoring.LOST) == set(ledger.REASONS)


def test_a_series_gets_its_name_by_its_legend() -> None:
    panel = next(p for uid, p in PANELS if (uid, p["title"]) == ("ronda-monitoring", "Kiriman menurut hasil"))
    override = {"matcher": {"id": "byName", "options": "network"}, "properties": [{"id": "displayName", "value": "tidak sampai"}]}
    assert override in panel["fieldConfig"]["overrides"]


SECURITY = "ronda-security"  # the CSIRT's own page
DETAIL = re.compile(r"\b(ronda:finding\w*|ronda_detector_\w+|ronda_findings_\w+|ronda_condition_\w+)")


def test_security_stays_with_the_csirt() -> None:
    for place, expr in QUERIES:
        if place.uid == SECURITY:
            continue
        assert not DETAIL.search(expr), place
        for selector in re.findall(r"\b(?:ALERTS|ronda:condition(?:_since:timestamp)?)\b(\{[^}]*\})?", expr):
            assert 'audience!="csirt"' in selector, place


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus without data; its address."""
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "p.yml").write_text("{}")
    log = directory / "log"
    options = [f"--config.file={directory}/p.yml", f"--storage.tsdb.path={directory}/data", "--web.listen-address=127.0.0.1:19097"]
    with log.open("wb") as out, subprocess.Popen(["prometheus", *options], stdout=out, stderr=out) as process:
        try:
            until(lambda: _ask("http://127.0.0.1:19097/-/ready") == 200 or process.poll() is not None, 30, "Prometheus is ready")
            assert process.poll() is None, log.read_text()
            yield "http://127.0.0.1:19097"
        finally:
            process.terminate()


def _ask(url: str, body: bytes | None = None) -> int:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, body, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        e.close()
        return e.code
    except OSError:
        return 0


@pytest.mark.needs("prometheus")
def test_prometheus_takes_every_query(prometheus: str) -> None:
    wrong = []
    for place, expr in QUERIES:
        body = urllib.parse.urlencode({"query": filled(expr, site="rsud")}).encode()
        if _ask(f"{prometheus}/api/v1/query", body) != 200:
            wrong.append((place, expr))
    assert wrong == []


# -- provisioning -----------------------------------------------------------------------------------------------------------------


def test_provisioning_is_yaml_that_names_no_path_of_this_machine() -> None:
    (source,) = yaml.safe_load(FILES["grafana/provisioning/datasources/ronda.yaml"])["datasources"]
    (provider,) = yaml.safe_load(FILES["grafana/provisioning/dashboards/ronda.yaml"])["providers"]
    assert (source["uid"], source["type"], source["url"]) == ("ronda-prometheus", "prometheus", "$RONDA_PROMETHEUS")
    assert provider["options"] == {"path": "$RONDA_DASHBOARDS"}
    assert all(v["datasource"]["current"]["value"] == source["uid"] for v in VARIABLES.values())
    environment = dict(line.split("=", 1) for line in FILES["grafana/grafana.env"].splitlines() if not line.startswith("#"))
    assert environment["GF_USERS_DEFAULT_LANGUAGE"] == "id-ID"
    assert environment["RONDA_PROMETHEUS"] == f"http://{Target().prometheus_address}"


def test_an_office_is_chosen_by_its_name_whatever_it_is_called() -> None:
    """As Grafana reads an answer: labels between quotes, unescaped."""
    pattern = VARIABLES["ronda-site"]["site"]["regex"].strip("/").replace("(?<", "(?P<")
    for name in ("RSUD", 'Kantor "Baru"', "a\nb", '",site="x', "{{ x }} \\ <b>&"):
        found = re.match(pattern, f'{{name="{name}",site="rsud"}} 1 1795000000000')
        assert found
        assert (found["text"], found["value"]) == (name, "rsud")
