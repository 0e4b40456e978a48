"""Every rule file keeps the promises of the house: promtool is silent, its tests pass, labels, texts, runbook, metrics that exist."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.catalogue import catalogue
from collectors import KINDS
from tests.central.promtest import environment
from tests.conftest import NEWER
from tests.lab.centre import ROOT, rule_files

FILES = rule_files()
RULES = [(f, rule) for f in FILES for group in yaml.safe_load(f.read_text())["groups"] for rule in group["rules"]]
ALERTS = [pytest.param(f, rule, id=rule["alert"]) for f, rule in RULES if "alert" in rule]
OURS = re.compile(r"\bronda_\w+")
RECORDED = re.compile(r"\bronda:\w+(?::\w+)*")
# What `ronda central render` makes: of the inventory (central/prometheus.py), and around each alert (central/rules.py).
FROM_INVENTORY = {
    "ronda_site_info", "ronda_site_utc_offset_seconds", "ronda_uplink_info", "ronda_service_info", "ronda_isp_info",
    "ronda_site_expected", "ronda_site_maintenance", "ronda_site_open", "ronda_site_pages", "ronda_site_silence_limit_seconds",
    "ronda_calendar_covered_until_timestamp_seconds", "ronda_uplink_contract_bits_per_second", "ronda_uplink_contract_month_rupiah",
    "ronda_uplink_interface_info", "ronda_device_info", "ronda_device_watched_info",
}  # fmt: skip
FROM_GATEWAY = {"ronda_gateway_chain_mismatches_total"}  # central/gateway.py
AUDIENCES = {"ops", "csirt", "isp", "pimpinan"}
FROM_WRAPPER = {"ronda:condition", "ronda:condition_since:timestamp"}


def test_there_are_rules() -> None:
    assert ALERTS


PROMTOOL = {"installed": shutil.which("promtool") or "promtool", "newer": str(NEWER / "bin/promtool")}  # whatever the PATH is by then
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, Path], Future[Done]]]:
    """What promtool says of each rule file's own tests, by version: those that were chosen, on all cores, in their order."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module)
    params = [item.callspec.params for item in items if "trials" in item.fixturenames]
    chosen: list[tuple[str, Path]] = [(p["each_version"], p["file"]) for p in params]  # type: ignore[misc]  # a param may be anything
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {(version, file): pool.submit(_tried, version, file.with_suffix(".test.yaml")) for version, file in chosen}


def _tried(version: str, test: Path) -> Done:
    command = [PROMTOOL[version], "test", "rules", test.name]
    return subprocess.run(command, cwd=test.parent, env=environment(), capture_output=True, text=True, check=False)


@functools.cache
def own_tests(file: Path) -> list[dict[str, Any]]:
    """Those of a rule file; every alert of it asks for them."""
    tests: list[dict[str, Any]] = yaml.safe_load(file.with_suffix(".test.yaml").read_text())["tests"]
    return tests


@pytest.mark.needs("promtool")
@pytest.mark.usefixtures("each_version")
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_promtool_accepts_and_the_rules_do_what_their_tests_say(
    file: Path, request: pytest.FixtureRequest, trials: dict[tuple[str, Path], Future[Done]]
) -> None:
    checked = subprocess.run(["promtool", "check", "rules", file.name], cwd=file.parent, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not re.search("(?i)error|warn|duplicate", checked.stdout + checked.stderr)
    tested = trials[request.node.callspec.params["each_version"], file].result()
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_the_group_is_the_kind(file: Path) -> None:
    assert [g["name"] for g in yaml.safe_load(file.read_text())["groups"]] == [file.stem]


@pytest.mark.parametrize(("file", "rule"), ALERTS)
def test_an_alert_is_complete(file: Path, rule: dict[str, Any]) -> None:
    name, labels, notes = rule["alert"], rule["labels"], rule["annotations"]
    assert re.fullmatch(r"([A-Z][a-z0-9]+)+", name)
    assert labels["severity"] in {"critical", "warning", "info"}
    assert labels["audience"] in AUDIENCES | ({"digest", "deadman"} if labels.get("site") == "pusat" else set())
    assert "\n" not in notes["summary"].strip()
    assert notes["action"].strip()
    assert len(notes["description"].strip().splitlines()) >= 2  # Indonesian, then English
    assert notes["runbook_url"] == f"https://pusat.example.go.id/runbook#{name}"
    assert f"## {name}" in (ROOT / f"alerts/runbooks/{file.stem}.md").read_text().splitlines()


@pytest.mark.parametrize(("file", "rule"), ALERTS)
def test_an_alert_keeps_its_site_and_is_tested_in_three_ways(file: Path, rule: dict[str, Any]) -> None:
    aggregated = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", rule["expr"])
    of_centre = rule["labels"].get("site") == "pusat"  # it speaks for many sites, or for the centre itself
    assert of_centre or all("site" in re.split(r"[\s,]+", labels) for labels in aggregated)
    cases = [c for t in own_tests(file) for c in t.get("alert_rule_test") or []]
    cases = [c["exp_alerts"] or [] for c in cases if c["alertname"] == rule["alert"]]
    assert any(cases), "no test in which it fires"
    assert not all(cases) or rule["expr"] == "vector(1)", "no test in which it is silent"
    assert all("site" in a["exp_labels"] for c in cases for a in c)


def test_metrics_in_rules_exist() -> None:
    """In expressions, and in what annotations ask for."""
    known = set(catalogue(KINDS)) | FROM_INVENTORY | FROM_GATEWAY
    recorded = {rule["record"] for _, rule in RULES if "record" in rule} | FROM_WRAPPER
    for file, rule in RULES:
        for text in (rule["expr"], *rule.get("annotations", {}).values()):
            unknown = {used for used in OURS.findall(text) if not {used, re.sub(r"_(bucket|sum|count)$", "", used)} & known}
            unknown |= set(RECORDED.findall(text)) - recorded
            assert not unknown, f"{file.name}: no metric of Ronda: {unknown}"
