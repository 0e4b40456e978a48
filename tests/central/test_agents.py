"""An office's file as it is rendered: the agent takes it, and it listens no wider than its centre needs."""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from agent.config import load_config
from agent.structure import ConfigError
from central import agents
from central.inventory import load
from central.target import Target
from collectors import KINDS
from tests.central.alertbench import free_port
from tests.lab.netns import until
from tests.snmp.snmpd import COMMUNITY, running

ROOT = Path(__file__).parents[2]
PULLED = """
centre: {name: Pusat, timezone: Asia/Jakarta, url: "https://pusat.example.go.id:17664", phone: "0624-000000"}
isps: {isp-a: {name: ISP A}}
sites:
  s: {name: S, code: SSS, district: X, class: 24-jam, delivery: pull, address: "ADDRESS", uplinks: [{isp: isp-a, medium: fibre}]}
"""


def test_the_agent_takes_every_file_of_the_example(tmp_path):
    files = agents.files(load(ROOT / "config/inventory.example.yaml"), Target())

    assert len(files) > 60
    for path, text in files.items():
        file = tmp_path / Path(path).name
        file.write_text(text)
        assert load_config(file, KINDS).site == file.stem


@pytest.mark.parametrize(
    ("address", "listen"),
    [
        ("127.0.0.1:17663", "127.0.0.1:17663"),
        ("localhost:17663", "localhost:17663"),
        ("[::1]:17663", "[::1]:17663"),
        ("192.0.2.7:17663", ":17663"),
        ("kotak.example.go.id:9000", ":9000"),
    ],
)
def test_a_box_that_is_its_own_centre_is_open_to_nobody_else(tmp_path, address, listen):
    (tmp_path / "inventory.yaml").write_text(PULLED.replace("ADDRESS", address))
    text = agents.files(load(tmp_path / "inventory.yaml"), Target())["agents/s.yaml"]

    assert yaml.safe_load(text)["web"]["listen"] == listen


PUSHED = PULLED.replace('delivery: pull, address: "ADDRESS"', "BUDGET")


def test_a_months_budget_goes_to_the_agent(tmp_path):
    (tmp_path / "inventory.yaml").write_text(PUSHED.replace("BUDGET", "budget: 3GB"))
    text = agents.files(load(tmp_path / "inventory.yaml"), Target())["agents/s.yaml"]
    (tmp_path / "agent.yaml").write_text(text)

    assert load_config(tmp_path / "agent.yaml", KINDS).push.budget == 3_000_000_000


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("budget: 100MB", "signs of life of fibre take .at least 250MB."),
        ("budget: 3GB, delivery: pull, address: '192.0.2.7:17663'", "by an agent that pushes"),
    ],
)
def test_a_budget_that_can_not_be_kept_is_an_error(tmp_path, said, wrong):
    (tmp_path / "inventory.yaml").write_text(PUSHED.replace("BUDGET", said))
    with pytest.raises(ConfigError, match=wrong):
        load(tmp_path / "inventory.yaml")


def test_a_box_that_pushes_is_told_where_its_token_is(tmp_path):
    url = "https://pusat.example.go.id:17664"
    pushed = PULLED.replace(f'"{url}"', f'"{url}", token_file: /etc/ronda/token').replace('delivery: pull, address: "ADDRESS", ', "")
    file = tmp_path / "inventory.yaml"
    file.write_text(pushed)

    (tmp_path / "agent.yaml").write_text(agents.agent_file(load(file), "s"))

    assert str(load_config(tmp_path / "agent.yaml", KINDS).push.token_file) == "/etc/ronda/token"


DEVICES = """
    uplinks:
      - {isp: isp-a, medium: 4g, source: a, device: router, interface: "pppoe-out1"}
      - {isp: isp-a, name: b, medium: 4g, source: b, device: router, interface: "ether2 (WAN)"}
    devices:
      router: {address: gateway, kind: router, credentials_file: /etc/ronda/r.yaml, logs: true, traps: true, drop: [vlan]}
      ups: {address: "192.0.2.9:1161", kind: ups, credentials_file: /etc/ronda/u.yaml, profiles: [system, ups], traps: true, watch: [eth0]}
      cctv: {address: 192.0.2.11, logs: true}
    admins: [192.0.2.50]
"""


def test_devices_become_tasks_that_ask_them_and_hear_them(tmp_path):
    site = "  s:\n    name: S\n    code: SSS\n    class: 24-jam" + DEVICES
    (tmp_path / "inventory.yaml").write_text(PULLED[: PULLED.index("  s:")] + site)
    (tmp_path / "s.yaml").write_text(agents.agent_file(load(tmp_path / "inventory.yaml"), "s"))
    made = load_config(tmp_path / "s.yaml", KINDS).collectors

    router, ups = made.snmp
    assert (router.name, router.target, router.credentials_file, router.profiles) == ("router", "gateway", "/etc/ronda/r.yaml", ["auto"])
    assert router.labels == {"role": "device", "uplinks": "ether2 (WAN),pppoe-out1"}
    for pattern, name in zip(router.interfaces.keep, ("ether2 (WAN)", "pppoe-out1"), strict=True):
        assert (bool(re.search(pattern, name)), re.search(pattern, name + "0")) == (True, None)
    assert router.interval == 60.0, "in the office, so never stretched"
    assert (ups.target, ups.profiles, ups.labels, ups.interfaces.keep) == (
        "192.0.2.9:1161",
        ["system", "ups"],
        {"role": "device", "watch": "eth0"},
        ["^eth0$"],
    )
    (traps,), (syslog,) = made.traps, made.syslog
    assert (traps.listen, traps.senders) == ("0.0.0.0:162", {"router": "gateway", "ups": "192.0.2.9"})
    assert traps.credentials_files == {"router": "/etc/ronda/r.yaml", "ups": "/etc/ronda/u.yaml"}
    assert (syslog.listen, syslog.senders) == ("0.0.0.0:514", {"router": "gateway", "cctv": "192.0.2.11"})
    assert syslog.admins == ["192.0.2.50"], "whose logins are told to nobody"


def test_admins_of_an_office_that_hears_no_log_are_a_mistake(tmp_path):
    file = tmp_path / "inventory.yaml"
    file.write_text(PULLED[: PULLED.index("  s:")] + "  s: {name: S, code: SSS, class: 24-jam, admins: [192.0.2.50]}\n")
    with pytest.raises(ConfigError, match="no device of this office has `logs: true`"):
        load(file)


ASKED = """
centre: {name: Pusat, url: "https://pusat.example.go.id:17664"}
isps: {isp-a: {name: ISP A}}
sites:
  s:
    {name: S, code: SSS, class: 24-jam, delivery: pull, address: "127.0.0.1:PORT",
     uplinks: [{isp: isp-a, medium: fibre, mbps: 10, device: router, interface: lo}],
     devices: {router: {address: "DEVICE", kind: router, credentials_file: CREDENTIALS}}}
"""


@pytest.mark.needs("snmpd")
def test_a_device_of_the_inventory_is_asked_and_its_series_are_those_that_the_rules_join(tmp_path):
    """A real agent with what is rendered, and a real snmpd whose loopback is an uplink: though virtual, it is shown."""
    credentials = tmp_path / "snmp.yaml"
    credentials.write_text(f'version: "2c"\ncommunity: {COMMUNITY}\n')
    credentials.chmod(0o600)
    with running(tmp_path / "snmpd") as device:
        port = free_port()
        said = {"PORT": str(port), "DEVICE": f"{device.address}:{device.port}", "CREDENTIALS": str(credentials)}
        text = re.sub("|".join(said), lambda m: said[m[0]], ASKED)
        (tmp_path / "inventory.yaml").write_text(text)
        config = yaml.safe_load(agents.agent_file(load(tmp_path / "inventory.yaml"), "s"))
        config["collectors"] = {"snmp": config["collectors"]["snmp"]}  # nothing else: no packet leaves this machine
        (tmp_path / "agent.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "agent", "run", "--config", str(tmp_path / "agent.yaml"), "--data-dir", str(tmp_path / "data")]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as agent:
            try:
                until(lambda: _page(port) or agent.poll() is not None, 60, "the device's series are on the agent's page")
                page = _page(port)
            finally:
                agent.terminate()
    assert page["ronda_probe_success", "router", ""] == 1.0
    assert page["ronda_snmp_interface_up", "router", "lo"] == page["ronda_snmp_interface_enabled", "router", "lo"] == 1.0
    assert page["ronda_snmp_interface_receive_bytes_total", "router", "lo"] > 0


def _page(port: int) -> dict[tuple[str, str, str], float]:
    """The agent's series by name, task and interface, once the device has been asked."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    if "ronda_snmp_interface_up{" not in text:
        return {}
    found = re.findall(r'^(\w+)\{([^}]*task="router"[^}]*)\} (\S+)$', text, re.MULTILINE)
    return {(name, "router", (re.findall(r'interface="([^"]*)"', labels) or [""])[0]): float(value) for name, labels, value in found}
