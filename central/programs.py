"""The centre's programs: which there must be, where they listen, and how each is started.

Law: nothing is started here; a command is a value. `ronda central up` and the lab's tests start the same ones.
"""

import contextlib
import dataclasses
import errno
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.structure import parse_listen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that is looked for on the PATH under several names, and the Debian package it comes from."""

    names: tuple[str, ...]
    package: str
    why: str


TOOLS = {
    "prometheus": Tool(names=("prometheus",), package="prometheus", why="stores what agents see and evaluates the rules"),
    "promtool": Tool(names=("promtool",), package="prometheus", why="checks what is rendered before Prometheus reads it"),
    "alertmanager": Tool(names=("prometheus-alertmanager", "alertmanager"), package="prometheus-alertmanager", why="sends the messages"),
    "amtool": Tool(names=("amtool",), package="prometheus-alertmanager", why="checks what is rendered before Alertmanager reads it"),
}
GRAFANA = ("grafana", "grafana-server")
GRAFANA_HOMES = ("/usr/share/grafana", "/usr/local/share/grafana", "/opt/grafana")


class Refused(Exception):  # noqa: N818  (what a person can mend, not an error of ours)
    """Something that keeps the centre from running; the text says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listens:
    """Where the programs listen, as HOST:PORT."""

    prometheus: str = "127.0.0.1:9090"
    alertmanager: str = "127.0.0.1:9093"
    grafana: str = "127.0.0.1:3000"
    gateway: str = "127.0.0.1:17664"
    inbox: str = "127.0.0.1:17666"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child:
    """A program to run: `ready` is a URL that answers 2xx once it works, `page` what a person opens."""

    name: str
    title: str
    command: tuple[str, ...]
    ready: str
    page: str
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


# -- commands, shared with the lab ----------------------------------------------------------------------------------------------


def url(listen: str, path: str = "/") -> str:
    """How this machine reaches a listen address: `:9090` and `0.0.0.0:9090` are reached on loopback."""
    host, _, port = parse_listen(listen).rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104  (compared, not bound)
    return f"http://{host}:{port}{path}"


def prometheus(program: str, rendered: Path, data: Path, listen: str, retention: str = "30d") -> Child:
    """Receives what agents push; an open page of another site in the admin's browser may not read it (CORS)."""
    command = (
        program,
        f"--config.file={rendered}/prometheus/prometheus.yml",
        f"--storage.tsdb.path={data}",
        f"--storage.tsdb.retention.time={retention}",
        f"--web.listen-address={listen}",
        "--web.enable-remote-write-receiver",
        r"--web.cors.origin=https?://(127\.0\.0\.1|localhost)(:\d+)?",
    )
    return Child(name="prometheus", title="Prometheus", command=command, ready=url(listen, "/-/ready"), page=url(listen))


def alertmanager(program: str, rendered: Path, data: Path, listen: str) -> Child:
    """Alone: without an empty cluster address it would look for peers on port 9094."""
    command = (
        program,
        f"--config.file={rendered}/alertmanager/alertmanager.yml",
        f"--storage.path={data}",
        "--cluster.listen-address=",
        f"--web.listen-address={listen}",
    )
    return Child(name="alertmanager", title="Alertmanager", command=command, ready=url(listen, "/-/ready"), page=url(listen))


def grafana(program: str, home: str, rendered: Path, data: Path, listen: str, prometheus_url: str) -> Child:
    """Provisioned from the rendered files; reads without a login on this machine, and tells nobody outside that it runs."""
    host, _, port = listen.rpartition(":")
    settings = {
        "GF_PATHS_DATA": str(data),
        "GF_PATHS_LOGS": str(data / "log"),
        "GF_PATHS_PLUGINS": str(data / "plugins"),
        "GF_PATHS_PROVISIONING": str(rendered / "grafana/provisioning"),
        "GF_SERVER_HTTP_ADDR": host.strip("[]"),
        "GF_SERVER_HTTP_PORT": port,
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "RONDA_DASHBOARDS": str(rendered / "grafana/dashboards"),
        "RONDA_PROMETHEUS": prometheus_url,
    }
    command = (program, *(("server",) if Path(program).name == "grafana" else ()), "--homepath", home)
    return Child(name="grafana", title="Grafana", command=command, env=settings, ready=url(listen, "/api/health"), page=url(listen))


def gateway(data: Path, listen: str, store: str, tokens: Path | None = None) -> Child:
    """Where sites push to; samples go on to the store, events are kept in `data`."""
    command = (sys.executable, "-m", "agent", "central", "gateway", "--listen", listen, "--store", store, "--data-dir", str(data))
    more = ("--tokens", str(tokens)) if tokens else ()
    return Child(name="gateway", title="Gateway", command=(*command, *more), env=_ours(), ready=url(listen, "/-/healthy"), page=url(listen))


def inbox(listen: str, zone: str) -> Child:
    """A stand-in for a phone: takes what would go to Telegram and shows it, with times of `zone`."""
    command = (sys.executable, "-m", "central.inbox", "--listen", listen, "--zone", zone)
    return Child(name="inbox", title="Inbox", command=command, env=_ours(), ready=url(listen), page=url(listen))


def _ours() -> dict[str, str]:
    """What a program of our own packages needs to be found, also in a clone, and to say at once what it has to say."""
    return {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"}


# -- what must be there ---------------------------------------------------------------------------------------------------------

Which = Callable[[str], str | None]


def find(which: Which = shutil.which) -> dict[str, str]:
    """The programs' paths by our names for them. Raises Refused that names all that are missing and how to get them."""
    found = {key: next(filter(None, map(which, tool.names)), None) for key, tool in TOOLS.items()}
    missing = [key for key, path in found.items() if path is None]
    if missing:
        lines = [f"  {TOOLS[key].names[0]}: {TOOLS[key].why}" for key in missing]
        packages = " ".join(sorted({TOOLS[key].package for key in missing}))
        raise Refused(
            "these programs are not on the PATH:\n"
            + "\n".join(lines)
            + f"\nDebian has them:  apt install --no-install-recommends {packages}\n"
            "(and where they are only wanted for this:  systemctl disable --now prometheus prometheus-alertmanager)"
        )
    return {key: path for key, path in found.items() if path}


def find_grafana(which: Which = shutil.which, homes: Sequence[str] = GRAFANA_HOMES) -> tuple[str, str] | None:
    """Grafana's program and home, where both are there."""
    program = next(filter(None, map(which, GRAFANA)), None)
    if program is None:
        return None
    beside = str(Path(program).resolve().parents[1])  # as in Grafana's own tarball: bin/grafana beside conf/ and public/
    home = next((h for h in (beside, *homes) if Path(h, "conf/defaults.ini").is_file()), None)
    return (program, home) if home else None


def refuse_busy(listens: Mapping[str, str]) -> None:
    """Raises Refused that names every address that is taken, by whom where that can be known, and the option that chooses another."""
    problems = []
    for name, listen in listens.items():
        if why := _busy(listen):
            host, _, port = listen.rpartition(":")
            problems.append(f"{listen}: {why}; choose another:  --{name}.listen {host}:{int(port) + 10000 if int(port) < 55000 else 0}")
    if problems:
        raise Refused("\n".join(problems))


def _busy(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as e:
            return f"is in use{_owner(int(port))}" if e.errno == errno.EADDRINUSE else (e.strerror or str(e))
    return ""


def _owner(port: int) -> str:
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
