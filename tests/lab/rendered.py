"""The rendered centre of the lab: a real Prometheus and a real Alertmanager with what `ronda central render` makes of an inventory.

Law: the files are those that are rendered, and the programs start as `ronda central up` starts them. A test that can't wait says so with
`hurried`: it shortens how often is scraped and how long a group that has just spoken is silent; or, also, `impatient`: all that rules wait
for, in the same proportion, so that who comes before whom stays. The bench never does. Ports are the usual ones: the centre is a namespace
of its own.
"""

import functools
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from central import programs
from central.inventory import load
from central.programs import Child
from central.render import render as rendered
from central.render import write
from central.target import detect
from tests.lab.netns import Daemon, Lab, Namespace, until

PROMETHEUS, ALERTMANAGER = "127.0.0.1:9090", "127.0.0.1:9093"


def render(lab: Lab, inventory: Mapping[str, Any]) -> dict[str, str]:
    """What the centre's command makes of an inventory, for the versions on the PATH. Its calendar knows this year and the next two."""
    file = lab.directory / "inventory.yaml"
    this = datetime.now(UTC).year
    years = {year: {"holidays": {f"{year}-01-01": "Tahun Baru"}} for year in range(this, this + 3)}
    file.with_name("calendar.yaml").write_text(yaml.safe_dump(years))
    file.write_text(yaml.safe_dump(dict(inventory), sort_keys=False, allow_unicode=True))
    return rendered(load(file), detect())


def hurried(files: Mapping[str, str]) -> dict[str, str]:
    """For tests: a scrape every 5 s, and a group_interval of 5 s, since a resolved message waits for it."""
    changes = {
        "prometheus/prometheus.yml": ('scrape_interval: "15s"', "scrape_interval: 5s\n  scrape_timeout: 5s"),
        "alertmanager/alertmanager.yml": ('group_interval: "5m"', "group_interval: 5s"),
    }
    made = dict(files)
    for path, (slow, fast) in changes.items():
        assert slow in made[path], f"{path} no longer says {slow}"
        made[path] = made[path].replace(slow, fast)
    return made


PATIENCE = {  # what rules wait for: classes, IspDown, SharedServiceDown and `for: 1m`; SitesDown; a centre, and a site, just heard again
    r"(?<=time\(\) - )(300|120|60)(?=\))": 5,
    r"(?<=district_out:bool offset )(3m)(?= == 1)": 5,
    r"(?<=silence_limit_seconds, )(120)(?=\) > bool)": 5,
    r"(?<=:bool\[)(1m)(?=\])": 5,
    r"(?<=keep_firing_for: \")(1m)(?=\")": 5,
    r"(?<=interval: \")(30s)(?=\")": 6,
}


def impatient(files: Mapping[str, str]) -> dict[str, str]:
    """Hurried, and the rules wait a fifth as long. How long a silent office may be silent stays, and what agents wait for."""
    made = hurried(files)
    rules = [path for path in made if path.startswith("prometheus/rules/")]
    for pattern, divisor in PATIENCE.items():
        assert any(re.search(pattern, made[path]) for path in rules), f"no rule says {pattern} any longer"
        for path in rules:
            made[path] = re.sub(pattern, functools.partial(_divided, by=divisor), made[path])
    return made


def _divided(found: re.Match[str], by: int) -> str:
    """`300` → `60`, `3m` → `36s`."""
    duration = found[1]
    number, unit = int(duration.rstrip("ms")), duration.lstrip("0123456789")
    return f"{number // by}" if not unit else f"{number * (60 if unit == 'm' else 1) // by}s"


def prometheus(ns: Namespace, files: Mapping[str, str], listen: str = PROMETHEUS, name: str = "prometheus") -> Daemon:
    """Starts Prometheus with the part of `files` that is its; returns when it is ready."""
    directory = _written(ns, files, name)
    return _started(ns, programs.prometheus("prometheus", directory, directory / "data", listen), name)


def alertmanager(ns: Namespace, files: Mapping[str, str], listen: str = ALERTMANAGER, name: str = "alertmanager") -> Daemon:
    directory = _written(ns, files, name)
    return _started(ns, programs.alertmanager("prometheus-alertmanager", directory, directory / "data", listen), name)


def _written(ns: Namespace, files: Mapping[str, str], name: str) -> Path:
    directory = ns.lab.directory / name
    write(files, directory)
    return directory


def _started(ns: Namespace, child: Child, name: str) -> Daemon:
    daemon = ns.start(name, *child.command, env=dict(child.env))

    def ready() -> bool:
        assert daemon.alive, daemon.output()
        return ns.get(child.ready) is not None

    until(ready, 60, f"{child.title} is ready\n{daemon.output()}")
    return daemon


def query(ns: Namespace, promql: str, listen: str = PROMETHEUS) -> list[tuple[dict[str, str], float]]:
    """What the centre's Prometheus answers now: (labels, value) of each series."""
    text = ns.get(programs.url(listen, f"/api/v1/query?query={quote(promql)}"))
    assert text is not None, f"Prometheus refused {promql}"
    return [(r["metric"], float(r["value"][1])) for r in json.loads(text)["data"]["result"]]
