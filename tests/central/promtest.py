"""promtool as a test bench: rules, series and a clock in, alerts and values out.

Time starts on Thursday 1970-01-01 00:00 UTC, which is 07:00 in Jakarta (WIB).
"""

import dataclasses
import functools
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from central.inventory import Inventory, load

SITES = """
centre: {name: Kominfo, timezone: Asia/Jakarta, url: "https://pusat.example.go.id"}
calendars: {kantor: {mon-fri: "07:30-16:00"}}
isps: {isp-a: {name: ISP A}}
sites:
  rsud: {name: RSUD, code: RSU, district: Utara, class: 24-jam, uplinks: [{isp: isp-a, medium: fibre}]}
  camat: {name: Camat, code: CMT, district: Utara, class: kantor, calendar: kantor, uplinks: [{isp: isp-a, medium: fibre}]}
  dukcapil: {name: Dukcapil, code: DKC, district: Selatan, class: layanan, calendar: kantor, uplinks: [{isp: isp-a, medium: fibre}]}
  desa: {name: Desa, code: DSA, district: Selatan, class: desa, calendar: kantor, uplinks: [{isp: isp-a, medium: fibre}]}
  baru: {name: Baru, code: BRU, district: Selatan, class: 24-jam, status: planned, uplinks: [{isp: isp-a, medium: fibre}]}
"""


def inventory(tmp_path: Path, text: str = SITES, name: str = "inventory.yaml") -> Inventory:
    file = tmp_path / name
    file.write_text(text)
    return load(file)


def environment() -> dict[str, str]:
    """For promtool: it lives for seconds, so a fifth of its time is saved by collecting its garbage less often."""
    return {**os.environ, "GOGC": "400"}


class Alert(NamedTuple):
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclasses.dataclass
class Bench:
    """Rules by file name and in the order of evaluation, input series, and how often all of them are evaluated."""

    directory: Path
    rules: Mapping[str, str]
    series: Mapping[str, str]
    every: str = "5s"  # between evaluations
    sampled: str = "5s"  # between values of the series

    def alerts(self, name: str, *times: str) -> list[list[Alert]]:
        """The firing alerts of a name at each of the times. promtool tells them by refusing a wrong expectation."""
        wrong = [{"exp_labels": {"surely": "not"}}]
        out = self._run({"alert_rule_test": [{"eval_time": time, "alertname": name, "exp_alerts": wrong} for time in times]})
        cases = [case.partition("got:[")[2] for case in re.split(rf"\n\s+alertname: {name}, time: ", out)[1:]]
        assert len(cases) == len(times), out
        return [_alerts(case) for case in cases]

    def sites(self, name: str, *times: str) -> list[list[str]]:
        """The sites for which an alert fires, at each of the times."""
        return [sorted(alert.labels["site"] for alert in alerts) for alerts in self.alerts(name, *times)]

    def values(self, expr: str, *times: str) -> list[dict[str, float]]:
        """An expression's samples, {labels as promtool writes them: value}, at each of the times."""
        wrong = [{"labels": "surely_not", "value": 1}]
        out = self._run({"promql_expr_test": [{"eval_time": time, "expr": expr, "exp_samples": wrong} for time in times]})
        cases = re.findall(r"\n\s+got: (.*)", out)
        assert len(cases) == len(times), out
        return [{m[1]: float(m[2]) for m in re.finditer(r"(\S*\{.*?\}) (\S+?)(?:, |$)", case)} for case in cases]

    def errors(self) -> str:
        """What promtool says of rules that can't be evaluated; empty: nothing."""
        nothing = {"expr": "absent(absent_thing)", "eval_time": "3m", "exp_samples": [{"labels": "{}", "value": 1}]}
        out = self._run({"promql_expr_test": [nothing]})
        return "" if "SUCCESS" in out else out

    def _run(self, checks: Mapping[str, Any]) -> str:
        for path, text in self.rules.items():
            file = self.directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        series = [{"series": s, "values": v} for s, v in self.series.items()]
        test = {
            "rule_files": list(self.rules),
            "evaluation_interval": self.every,
            "group_eval_order": [name for text in self.rules.values() for name in _groups(text)],
            "tests": [{"interval": self.sampled, "input_series": series, **checks}],
        }
        (self.directory / "bench.test.yaml").write_text(yaml.safe_dump(test, allow_unicode=True))
        command = ["promtool", "test", "rules", "bench.test.yaml"]
        done = subprocess.run(command, cwd=self.directory, env=environment(), capture_output=True, text=True, check=False, timeout=120)
        assert ", err: " not in done.stdout + done.stderr, done.stderr  # a rule that can't be evaluated
        return done.stdout + done.stderr


@functools.lru_cache(64)
def _groups(text: str) -> list[str]:
    """The names of a rule file's groups: parsed once, for the same file is evaluated hundreds of times."""
    return [group["name"] for group in yaml.safe_load(text)["groups"]]


def _alerts(text: str) -> list[Alert]:
    pairs = re.findall(r"Labels:(\{.*?\})\n\s+Annotations:(\{.*?\})(?=,?\s*(?:\n|$))", text)
    return [Alert(_labels(labels), _labels(notes)) for labels, notes in pairs]


def _labels(text: str) -> dict[str, str]:
    """`{a="b", c="d"}`, quoted as Go does."""
    return {k: json.loads(f'"{v}"') for k, v in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)}
