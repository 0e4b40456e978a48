"""What the wrapper makes of alerts: who is paged when, proven by promtool on rendered rules.

Time starts on Thursday 1970-01-01, 07:00 WIB; the calendar of the tests opens at 07:30 (30m) and closes at 16:00 (540m).
"""

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from agent.detect import table
from agent.detect.model import Vouched
from central import prometheus, rules, yamltext
from central.target import Target, shipped
from tests.central.promtest import SITES, Bench, inventory

pytestmark = [pytest.mark.needs("promtool"), pytest.mark.usefixtures("wrapped")]

ALERTS = """
groups:
  - name: NAME
    rules:
      - alert: Fault
        expr: fault == 1
        labels: {severity: critical, audience: ops}
        annotations: {summary: '{{ $labels.task }} rusak', description: '{{ $value }}'}
      - alert: Lasting
        expr: lasting > 0
        for: 1m
        labels: {severity: warning, audience: ops}
        annotations: {summary: lama}
      - alert: Intruder
        expr: intruder > 0
        labels: {severity: critical, audience: csirt}
        annotations: {summary: asing}
      - alert: Found
        expr: found > 0
        labels: {severity: critical, audience: csirt, hours: office}
        annotations: {summary: temuan}
      - alert: Found
        expr: found_worse > 0
        labels: {severity: critical, audience: csirt, hours: always}
        annotations: {summary: temuan gawat}
      - alert: CentreIll
        expr: ill > 0
        labels: {severity: critical, audience: ops, site: pusat}
        annotations: {summary: pusat}
"""
DOWN = "1x4000"


def bench(tmp_path: Path, series: dict[str, str], *, kind: str = "probe", sites: str = SITES, every: str = "30s") -> Bench:
    """The rules, evaluated and given values as often as `every` says."""
    found = inventory(tmp_path, sites)
    made = {
        "inventory.yaml": yamltext.dump({"groups": [prometheus.group(found)]}),
        "alerts.yaml": rules.wrapped_file(yaml.safe_load(ALERTS.replace("NAME", kind)), kind),
    }
    return Bench(tmp_path, made, series, every=every, sampled=every)


def fault(site: str, task: str = "t", metric: str = "fault") -> str:
    return f'{metric}{{site="{site}",task="{task}"}}'


# --- class and hours ---------------------------------------------------------------------------------------------------------


def test_an_office_of_24_hours_pages_at_once_also_at_night(tmp_path: Path) -> None:
    at_night = bench(tmp_path, {fault("rsud"): "0x9 1x100"})  # from 5m: 07:05
    assert at_night.sites("Fault", "4m30s", "5m") == [[], ["rsud"]]


def test_other_offices_page_after_five_minutes_in_their_hours(tmp_path: Path) -> None:
    faults = bench(tmp_path, {fault("camat"): "0x119 1x200", fault("dukcapil"): "0x119 1x200"})  # from 60m: 08:00
    assert faults.sites("Fault", "60m", "64m30s", "65m") == [[], [], ["camat", "dukcapil"]]


def test_an_outage_of_the_night_pages_at_opening_without_another_wait(tmp_path: Path) -> None:
    night = bench(tmp_path, {fault("camat"): DOWN, fault("camat", metric="lasting"): DOWN})
    assert night.sites("Fault", "29m30s", "30m") == [[], ["camat"]]
    assert night.sites("Lasting", "29m30s", "30m") == [[], ["camat"]]


def test_what_paged_does_not_end_with_the_office_hours_but_when_it_is_over(tmp_path: Path) -> None:
    evening = bench(tmp_path, {fault("camat"): "0x499 1x200 0x100"}, every="1m")  # 500m to 700m
    assert evening.sites("Fault", "505m", "539m", "540m", "541m", "700m", "702m") == [["camat"]] * 5 + [[]]


def test_what_began_and_ended_at_night_pages_nobody(tmp_path: Path) -> None:
    night = bench(tmp_path, {fault("camat"): "1x50 0x100"})
    assert night.sites("Fault", "10m", "25m", "30m", "40m") == [[], [], [], []]


def test_a_flutter_shorter_than_the_delay_pages_nobody(tmp_path: Path) -> None:
    flutter = bench(tmp_path, {fault("camat"): "0x119 1x8 0x2 1x8 0x100"})
    assert flutter.sites("Fault", "64m", "65m", "66m", "68m", "70m") == [[]] * 5


def test_a_village_office_pages_nobody_and_is_counted_all_the_same(tmp_path: Path) -> None:
    village = bench(tmp_path, {fault("desa"): DOWN})
    assert village.sites("Fault", "60m", "120m") == [[], []]
    assert len(village.values('ronda:condition{site="desa"}', "60m")[0]) == 1


def test_for_counts_from_the_onset(tmp_path: Path) -> None:
    lasting = bench(tmp_path, {fault("rsud", metric="lasting"): "0x9 1x100", fault("dukcapil", metric="lasting"): "0x99 1x100"})
    assert lasting.sites("Lasting", "5m", "5m30s", "6m") == [[], [], ["rsud"]]
    assert lasting.sites("Lasting", "54m30s", "55m") == [["rsud"], ["dukcapil", "rsud"]]


def test_planned_and_unknown_sites_page_nobody(tmp_path: Path) -> None:
    assert bench(tmp_path, {fault("baru"): DOWN, fault("entah"): DOWN}).sites("Fault", "60m") == [[]]


def test_the_csirt_is_told_at_once_at_any_hour_of_any_office(tmp_path: Path) -> None:
    at_night = bench(tmp_path, {fault(s, metric="intruder"): "0x9 1x100" for s in ("camat", "desa", "rsud")})
    assert at_night.sites("Intruder", "4m30s", "5m") == [[], ["camat", "desa", "rsud"]]


def test_what_may_wait_for_the_office_pages_the_csirt_when_it_opens_and_until_it_is_over(tmp_path: Path) -> None:
    """camat opens at 07:30 and closes at 16:00; rsud is always open; a village has hours too, and no class holds the CSIRT back."""
    night = bench(tmp_path, {fault(s, metric="found"): "1x600 0x100" for s in ("camat", "desa", "rsud")}, every="1m")
    assert night.sites("Found", "1m", "29m", "30m", "539m", "541m", "600m", "602m") == [["rsud"]] * 2 + [["camat", "desa", "rsud"]] * 4 + [
        []
    ]


def test_what_was_over_before_the_office_opened_pages_nobody(tmp_path: Path) -> None:
    assert bench(tmp_path, {fault("camat", metric="found"): "1x50 0x100"}).sites("Found", "20m", "30m", "40m") == [[]] * 3


def test_what_can_t_wait_is_told_at_night_and_is_not_the_same_as_what_can(tmp_path: Path) -> None:
    both = bench(tmp_path, {fault("camat", metric="found"): DOWN, fault("camat", metric="found_worse"): "0x9 1x100"})
    [before, after] = both.alerts("Found", "4m", "5m")
    assert (before, [a.labels["hours"] for a in after]) == ([], ["always"])


def test_where_nobody_knows_the_hours_a_finding_is_told(tmp_path: Path) -> None:
    found = bench(tmp_path, {fault("camat", metric="found"): DOWN})
    found.rules = {name: text.replace("record: ronda_site_open", "record: nobody_knows") for name, text in found.rules.items()}
    assert found.sites("Found", "5m") == [["camat"]]


def test_alerts_of_the_centre_pass_as_they_are(tmp_path: Path) -> None:
    ill = bench(tmp_path, {'ill{job="x"}': DOWN}).alerts("CentreIll", "1m")[0]
    assert ill[0].labels == {"alertname": "CentreIll", "severity": "critical", "audience": "ops", "site": "pusat", "job": "x"}


# --- maintenance --------------------------------------------------------------------------------------------------------------


WORK = 'maintenance: [{from: "1970-01-01T08:00", until: "1970-01-01T09:00"}]'
MAINTAINED = SITES.replace("class: 24-jam, uplinks", f"class: 24-jam, {WORK}, uplinks")


def test_maintenance_silences_and_its_end_tells_what_is_still_open(tmp_path: Path) -> None:
    work = bench(tmp_path, {fault("rsud"): "0x139 1x300"}, sites=MAINTAINED)  # from 70m: 08:10
    assert work.sites("Fault", "70m", "119m30s", "120m") == [[], [], ["rsud"]]


def test_what_paged_before_the_maintenance_stays_until_it_is_over(tmp_path: Path) -> None:
    work = bench(tmp_path, {fault("rsud"): "0x99 1x100 0x100"}, sites=MAINTAINED)  # 50m to 100m
    assert work.sites("Fault", "50m", "70m", "101m") == [["rsud"], ["rsud"], []]


def test_the_csirt_is_told_in_maintenance_too(tmp_path: Path) -> None:
    assert bench(tmp_path, {fault("rsud", metric="intruder"): DOWN}, sites=MAINTAINED).sites("Intruder", "70m") == [["rsud"]]


# --- labels, texts, onset -------------------------------------------------------------------------------------------------------


def test_an_alert_says_where_what_and_since_when(tmp_path: Path) -> None:
    alert = bench(tmp_path, {fault("rsud"): "0x9 1x100"}).alerts("Fault", "10m")[0][0]
    inherited = {"class": "24-jam", "district": "Utara"}
    assert alert.labels == {"alertname": "Fault", "site": "rsud", "task": "t", "severity": "critical", "audience": "ops", **inherited}
    onset = {"incident": "RSU-0101-0705", "since": "07.05 WIB", "lasted": "5m 0s"}
    assert alert.annotations == {"summary": "t rusak", "description": "1", **onset}


def test_how_long_it_lasts_is_counted_from_the_outage_not_from_the_page(tmp_path: Path) -> None:
    night = bench(tmp_path, {fault("camat"): DOWN}, every="4m").alerts("Fault", "32m", "1500m")
    assert [a.annotations["lasted"] for found in night for a in found] == ["32m 0s", "1d 1h 0m 0s"]


def test_an_outage_of_another_day_says_which(tmp_path: Path) -> None:
    # every 4 minutes: as of Prometheus 3.0 a sample that is just as old as the lookback of 5 minutes is not seen any more
    alert = bench(tmp_path, {fault("rsud"): DOWN}, every="4m").alerts("Fault", "1500m")[0][0]
    assert (alert.annotations["incident"], alert.annotations["since"]) == ("RSU-0101-0700", "1/1 07.00 WIB")


ELSEWHERE = [("Asia/Makassar", "08.05 WITA"), ("Asia/Jayapura", "09.05 WIT"), ("Asia/Kolkata", "05.35 +05:30")]


@pytest.mark.parametrize(("zone", "since"), ELSEWHERE)
def test_times_are_those_of_the_office(tmp_path: Path, zone: str, since: str) -> None:
    there = SITES.replace("code: RSU", f"code: RSU, timezone: {zone}")
    alert = bench(tmp_path, {fault("rsud"): "0x9 1x100"}, sites=there).alerts("Fault", "10m")[0][0]
    assert alert.annotations["since"] == since


def test_hostile_names_come_out_right(tmp_path: Path) -> None:
    task = r"a\"b\\c{}{{ $value }}<&>,=😀" + "é" * 60
    sites = SITES.replace("district: Utara", """district: '"}' """)
    hostile = bench(tmp_path, {f'fault{{site="rsud",task="{task}"}}': DOWN}, sites=sites)
    alert = hostile.alerts("Fault", "10m")[0][0]
    assert alert.labels["task"] == task.replace(r"\"", '"').replace("\\\\", "\\")
    assert (alert.annotations["incident"], alert.annotations["since"]) == ("RSU-0101-0700", "07.00 WIB")
    assert alert.labels["district"] == '"}'


def test_the_onset_is_new_after_a_recovery_and_each_task_has_its_own(tmp_path: Path) -> None:
    again = bench(tmp_path, {fault("rsud"): "1x10 0x10 1x100", fault("rsud", "u"): "0x3 1x100"})
    first, second = again.alerts("Fault", "5m", "20m")
    assert [a.annotations["since"] for a in first] == ["07.00 WIB", "07.02 WIB"]
    assert sorted(a.annotations["since"] for a in second) == ["07.02 WIB", "07.11 WIB"]


# --- a restart of Prometheus ----------------------------------------------------------------------------------------------------------


def test_a_gap_of_four_minutes_neither_ends_nor_renews_an_incident(tmp_path: Path) -> None:
    """Evaluated every four minutes only, as if Prometheus had been away in between each time."""
    series = {fault("camat"): "0x9 1x170", fault("rsud"): "0x9 1x170"}
    gaps = bench(tmp_path, series, every="4m")
    alerts = gaps.alerts("Fault", "48m", "100m", "536m", "544m", "600m")
    since = [{a.labels["site"]: a.annotations["since"] for a in found} for found in alerts]
    assert since == [{"camat": "07.40 WIB", "rsud": "07.40 WIB"}] * 5


# --- what a lost way out hides --------------------------------------------------------------------------------------------------------


def unreached(values: str, site: str = "rsud") -> dict[str, str]:
    return {f'ronda:site_unreached:bool{{site="{site}"}}': values}


def test_targets_behind_a_lost_way_out_page_nobody(tmp_path: Path) -> None:
    lost = bench(tmp_path, {fault("rsud"): "0x9 1x30 0x50", **unreached("0x9 1x32 0x50")}, kind="http")
    assert lost.sites("Fault", "5m", "10m", "21m", "30m") == [[]] * 4


def test_a_dead_service_that_paged_is_not_over_because_the_way_out_is_lost(tmp_path: Path) -> None:
    dead = bench(
        tmp_path, {fault("rsud"): "0x9 1x60 0x50", fault("rsud", "other"): "0x19 1x20 0x50", **unreached("0x19 1x20 0x50")}, kind="http"
    )
    alerts = dead.alerts("Fault", "6m", "12m", "25m", "36m")
    assert [[a.labels["task"] for a in found] for found in alerts] == [["t"], ["t"], ["t"], []]


def test_a_dead_service_pages_when_the_way_out_is_back(tmp_path: Path) -> None:
    dead = bench(tmp_path, {fault("rsud"): "0x9 1x100", **unreached("0x9 1x20 0x90")}, kind="http")
    assert dead.sites("Fault", "10m", "15m", "16m") == [[], [], ["rsud"]]


def test_what_is_on_the_box_itself_is_told_all_the_same(tmp_path: Path) -> None:
    assert bench(tmp_path, {fault("rsud"): DOWN, **unreached(DOWN)}, kind="host").sites("Fault", "10m") == [["rsud"]]


def test_the_question_is_asked_in_the_same_breath(tmp_path: Path) -> None:
    """The static rule's own expression stands before the alerts of each kind: a copy recorded elsewhere would be seconds old."""
    site = {"groups": [{"name": "site", "rules": [{"record": rules.UNREACHED, "expr": "lost == 1"}]}]}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    (tmp_path / "http.yaml").write_text(ALERTS.replace("NAME", "http"))
    made = yaml.safe_load(rules.files(tmp_path)["prometheus/rules/http.yaml"])
    assert [g["rules"][0]["expr"] for g in made["groups"]] == ["lost == 1", "lost == 1"]
    assert [g["rules"][0]["labels"]["group"] for g in made["groups"]] == ["http", "http_slow"]


def test_what_is_reckoned_of_whole_days_is_reckoned_seldom_and_told_as_all_else() -> None:
    groups = {g["name"]: g["interval"] for t in rules.files().values() for g in yaml.safe_load(t)["groups"]}
    assert (groups["uplink"], groups["uplink_slow"], groups["site"], groups["link_slow"]) == ("4m", "30s", "5s", "30s")


# --- findings of detectors ------------------------------------------------------------------------------------------------------------


SECURITY = {name: yaml.safe_load((shipped("alerts") / f"rules/{name}.yaml").read_text()) for name in ("lan", "guard", "syslog")}
NAMES = {
    m[1]: r["alert"] for f in SECURITY.values() for g in f["groups"] for r in g["rules"] if (m := re.search('rule="([a-z_]+)"', r["expr"]))
}
OPS = {r["alert"] for f in SECURITY.values() for g in f["groups"] for r in g["rules"] if r["labels"]["audience"] == "ops"}


def detected(tmp_path: Path, grade: str, values: str, site: str = "camat") -> Bench:
    """Every rule of every detector at one office, at one grade."""
    made = {"inventory.yaml": yamltext.dump({"groups": [prometheus.group(inventory(tmp_path))]})}
    made |= {f"{name}.yaml": rules.files()[f"prometheus/rules/{name}.yaml"] for name in ("detect", *SECURITY)}
    series = {f'ronda_condition_active{{job="ronda",site="{site}",rule="{rule}",severity="{grade}"}}': values for rule in NAMES}
    return Bench(tmp_path, made, series, every="1m", sampled="1m")


def told(bench: Bench, *times: str) -> list[set[tuple[str, str]]]:
    """Which alerts fire, with their severity."""
    found = bench.values('ALERTS{alertstate="firing"}', *times)
    return [{(_label(series, "alertname"), _label(series, "severity")) for series in at} for at in found]


def _label(series: str, name: str) -> str:
    return re.findall(rf'\b{name}="([^"]*)"', series)[0]


def test_every_detector_has_its_alert_at_every_grade_that_pages() -> None:
    graded = {
        (m[1], grade)
        for f in SECURITY.values() for g in f["groups"] for r in g["rules"]
        for m in re.finditer('rule="([a-z_]+)",grade=~?"([a-z|]+)"', r["expr"]) for grade in m[2].split("|")
    }  # fmt: skip
    detectors = {maker(Vouched()).rule.name for maker in (*table.LAN, *table.HOST, *table.SYSLOG)}
    assert {(rule, grade) for rule in detectors for grade in ("critical", "high", "medium")} - graded == set()


def test_a_critical_finding_is_told_at_night_at_once(tmp_path: Path) -> None:
    [now] = told(detected(tmp_path, "critical", "_x6 1x30"), "8m")  # after the morning's digest
    assert now == {(name, "critical") for name in set(NAMES.values()) - OPS}


def test_a_high_finding_of_the_night_is_told_when_the_office_opens(tmp_path: Path) -> None:
    night, opening, over = told(detected(tmp_path, "high", "1x40 0x20"), "29m", "30m", "43m")
    assert night == set()
    assert opening == {(name, "critical") for name in NAMES.values()}
    assert over == set()


def test_a_medium_finding_is_a_warning_of_the_day(tmp_path: Path) -> None:
    night, opening = told(detected(tmp_path, "medium", "1x40"), "29m", "30m")
    assert night == set()
    assert opening == {(name, "warning") for name in NAMES.values()}


@pytest.mark.parametrize("grade", ["low", "info"])
def test_a_light_finding_is_a_note_and_one_that_is_over_is_nothing(tmp_path: Path, grade: str) -> None:
    day, later = told(detected(tmp_path, grade, "1x40 0x20"), "35m", "43m")
    assert day == {("SecurityNote", "info")}
    assert later == set()


# --- all of Ronda's own alerts ----------------------------------------------------------------------------------------------------------


SOURCES = sorted(p for p in (shipped("alerts") / "rules").glob("*.yaml") if not p.name.endswith(".test.yaml"))


def test_promtool_accepts_every_wrapped_file_without_a_word(tmp_path: Path) -> None:
    made = rules.files()
    for path, text in made.items():
        (tmp_path / Path(path).name).write_text(text)
    command = ["promtool", "check", "rules", *sorted(p.name for p in tmp_path.iterdir())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "duplicate" not in done.stdout + done.stderr
    assert len(made) == len(SOURCES)


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_every_alert_is_wrapped_and_critical_ones_are_asked_every_five_seconds(source: Path) -> None:
    static = [r for g in yaml.safe_load(source.read_text())["groups"] for r in g["rules"]]
    groups = yaml.safe_load(rules.files()[f"prometheus/rules/{source.name}"])["groups"]
    made = [(g["interval"], r) for g in groups for r in g["rules"] if "alert" in r]
    assert sorted(r["alert"] for _, r in made) == sorted(r["alert"] for r in static if "alert" in r)
    assert all((interval == rules.FAST) == (r["labels"]["severity"] == "critical") for interval, r in made)
    assert all({"incident", "since", "lasted"} <= r["annotations"].keys() for _, r in made if not rules.of_centre(r))
    assert all("for" not in r for _, r in made if not rules.of_centre(r))


Trials = dict[Path, list[Future[str]]]


@pytest.fixture(scope="module")
def wrapped(request: pytest.FixtureRequest, each_version: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """What promtool says of each wrapped file with each of its own tests: asked on all cores from the beginning, beside other tests."""
    folder = tmp_path_factory.mktemp("wrapped")
    made = {Path(p).name: t for p, t in rules.files().items()}
    made["inventory.yaml"] = yamltext.dump({"groups": [prometheus.group(inventory(folder))]})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {source: [pool.submit(b.errors) for b in own_tests(folder, made, source)] for source in chosen(request)}
        pool.shutdown(cancel_futures=True)


def chosen(request: pytest.FixtureRequest) -> list[Path]:
    """The files whose own tests this run asks for."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module)
    asked = [item.callspec.params["source"] for item in items if "of_source" in item.fixturenames]
    return [source for source in SOURCES if source in asked]


@pytest.fixture
def of_source(wrapped: Trials, source: Path) -> list[Future[str]]:
    return wrapped[source]


def own_tests(folder: Path, made: dict[str, str], source: Path) -> Iterator[Bench]:
    """The series of a rule file's own tests, for sites of every class."""
    for number, test in enumerate(yaml.safe_load(source.with_suffix(".test.yaml").read_text())["tests"]):
        given = [(_at_site(s["series"], site), s["values"]) for s in test["input_series"] for site in ("rsud", "camat")]
        series = {name: values for name, values in reversed(given) if not name.startswith(MADE)}
        if series:
            yield Bench(folder / f"{source.stem}-{number}", made, series, every="30s", sampled=str(test["interval"]))


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_the_alerts_own_tests_evaluate_without_an_error_once_wrapped(source: Path, of_source: list[Future[str]]) -> None:
    """No duplicate, no many-to-many, nothing without a class."""
    assert [error for trial in of_source if (error := trial.result())] == [], source.name


MADE = ("ronda:", "ronda_site_", "ronda_calendar_", "ronda_uplink_", "ronda_service_", "ronda_isp_")  # by the rules themselves


def _at_site(series: str, site: str) -> str:
    return re.sub(r'site="(?!pusat)[^"]*"', f'site="{site}"', series)
