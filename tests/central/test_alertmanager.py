"""Routes, inhibition and receivers: accepted by amtool, and doing in a real Alertmanager what they are for."""

import dataclasses
import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

from agent import texts
from agent.structure import ConfigError
from central import alertmanager
from central.inventory import load
from central.target import Target
from tests.central.alertbench import INVENTORY, TOKEN, Bench, alert, bench, inventory, write

ROOT = Path(__file__).parents[2]
NEWER = Target(alertmanager=(0, 28))
EMPTY = "centre: {name: Kominfo}\n"


def configured(folder: Path, text: str = INVENTORY, target: Target | None = None) -> dict:
    return yaml.safe_load(alertmanager.files(inventory(folder, text), target or Target())["alertmanager/alertmanager.yml"])


def accepted(files: dict[str, str], folder: Path) -> None:
    config = write(files, folder)
    done = subprocess.run(["amtool", "check-config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- accepted ---------------------------------------------------------------------------------------------------------------------


def many(n: int) -> str:
    sites = (
        f"  s{i}: {{name: Kantor {i}, code: S{i}, class: 24-jam, uplinks: [{{isp: isp-a, medium: 4g, customer: c{i}}}]}}\n"
        for i in range(n)
    )
    return INVENTORY + "".join(sites)


@pytest.mark.needs("amtool")
@pytest.mark.parametrize("text", [EMPTY, INVENTORY, many(500)], ids=["empty", "small", "500 sites"])
def test_amtool_accepts_it(tmp_path, text, each_version):
    accepted(alertmanager.files(inventory(tmp_path, text), each_version), tmp_path / "rendered")


@pytest.mark.needs("amtool")
def test_amtool_accepts_the_example_and_an_inventory_without_channels(tmp_path, each_version):
    accepted(alertmanager.files(load(ROOT / "config/inventory.example.yaml"), each_version), tmp_path / "example")
    bare = tmp_path / "inventory.yaml"
    bare.write_text(EMPTY)
    accepted(alertmanager.files(load(bare), each_version), tmp_path / "bare")


@pytest.mark.needs("amtool")
def test_amtool_accepts_every_subset_of_channels(tmp_path, each_version):
    whole = inventory(tmp_path)
    for left_out in whole.channels:
        channels = {name: c for name, c in whole.channels.items() if name != left_out}
        accepted(alertmanager.files(dataclasses.replace(whole, channels=channels), each_version), tmp_path / left_out)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert alertmanager.files(inventory(tmp_path), Target()) == alertmanager.files(inventory(tmp_path), Target())


@pytest.mark.parametrize("text", ["", "a", '"\\', "\x7f\ufeff\x00\n", "{{ . }}", "$1", "🏥", "`"])
def test_a_string_is_read_back_as_it_was(text):
    assert json.loads(alertmanager.string(text)) == text
    assert "\n" not in alertmanager.string(text)


@pytest.mark.parametrize(
    ("text", "longest", "shortened"),
    [
        ("Dinas Kesehatan", 20, "Dinas Kesehatan"),
        ("Dinas Kependudukan dan Pencatatan Sipil", 30, "Dinas Kependudukan dan…"),
        ("Dinas  \n Kesehatan", 20, "Dinas Kesehatan"),
        ("x" * 50, 10, "xxxxxxxxx…"),
        ("a " + "x" * 50, 10, "a xxxxxxx…"),
        ("satu dua, tiga", 11, "satu dua…"),
    ],
)
def test_a_name_is_cut_at_a_word(text, longest, shortened):
    assert alertmanager.short(text, longest) == shortened
    assert len(shortened) <= longest


# -- secrets ----------------------------------------------------------------------------------------------------------------------


def test_an_old_alertmanager_gets_the_token_and_a_current_one_its_file(tmp_path):
    old, new = (configured(tmp_path, target=t)["receivers"][1]["telegram_configs"][0] for t in (Target(), NEWER))

    assert (old["bot_token"], "bot_token_file" in old) == (TOKEN, False)
    assert (new["bot_token_file"], "bot_token" in new) == (str(tmp_path / "token"), False)


def test_a_missing_token_says_what_to_do(tmp_path):
    made = inventory(tmp_path)
    (tmp_path / "token").unlink()

    with pytest.raises(ConfigError) as told:
        alertmanager.files(made, Target())
    said = str(told.value)
    assert "channels.ops.telegram.token_file" in said
    assert f"{tmp_path / 'token'} can't be read" in said
    assert "@BotFather" in said
    assert alertmanager.files(made, NEWER)


# -- routes -----------------------------------------------------------------------------------------------------------------------

ROUTES = [
    ("alertname=SiteDown audience=ops site=rsud", "ops"),
    ("alertname=DhcpRogue audience=csirt site=rsud", "csirt,kejadian-keamanan"),
    ("alertname=SecurityNote audience=csirt severity=info site=rsud", "nowhere"),
    ("alertname=SecurityDigest audience=csirt severity=info site=pusat", "csirt-digest"),
    ("alertname=DetectorBlind audience=ops also=csirt severity=warning site=rsud", "csirt,ops"),
    ("alertname=SlaMissed audience=isp", "isp"),
    ("alertname=IspDown audience=ops site=pusat isp=isp-a", "isp,ops"),
    ("alertname=Monthly audience=pimpinan", "ops"),
    ("alertname=MorningDigest audience=digest", "digest"),
    ("alertname=Watchdog audience=ops site=pusat", "deadman"),
    ("alertname=FromElsewhere", "ops"),
]
WITHOUT_OPS = [("audience=ops", "nowhere"), ("audience=csirt", "csirt"), ("audience=isp", "isp"), ("audience=pimpinan", "nowhere")]
WITHOUT_CSIRT = [
    ("audience=csirt", "nowhere,kejadian-keamanan"),
    ("alertname=SecurityDigest audience=csirt", "nowhere"),
    ("audience=ops also=csirt", "ops"),
]


@pytest.mark.needs("amtool")
@pytest.mark.parametrize(
    ("missing", "expected"), [("", ROUTES), ("ops", WITHOUT_OPS), ("csirt", WITHOUT_CSIRT)], ids=["all", "ops", "csirt"]
)
def test_everybody_is_told_what_is_theirs(tmp_path, each_version, missing, expected):
    whole = inventory(tmp_path)
    channels = {name: c for name, c in whole.channels.items() if name != missing}
    config = write(alertmanager.files(dataclasses.replace(whole, channels=channels), each_version), tmp_path)
    for labels, receivers in expected:
        command = ["amtool", "config", "routes", "test", f"--config.file={config}", *labels.split()]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert (labels, told) == (labels, receivers)


def test_times(tmp_path):
    route = configured(tmp_path)["route"]

    assert route["group_by"] == ["site", "alertname"]
    assert (route["group_wait"], route["group_interval"], route["repeat_interval"]) == ("2s", "5m", "12h")
    assert {"receiver": "deadman", "group_interval": "30s", "repeat_interval": "50s"}.items() <= route["routes"][0].items()


def test_only_the_digest_and_the_deadmans_switch_do_not_tell_the_end(tmp_path):
    silent = {
        r["name"] for r in configured(tmp_path)["receivers"] for key, ways in r.items() if key != "name" if not ways[0]["send_resolved"]
    }

    assert silent == {"digest", "csirt-digest", "deadman"}


# -- inhibition -------------------------------------------------------------------------------------------------------------------


TWO_WAYS = """\
  berdua:
    {name: Berdua, code: BDA, class: kantor, calendar: lima-hari,
     uplinks: [{isp: isp-a, medium: fibre, source: wan1}, {isp: isp-b, medium: fibre, source: wan2}]}
  bertiga:
    {name: Bertiga, code: BTG, class: kantor, calendar: lima-hari,
     uplinks: [{name: utama, isp: isp-a, medium: fibre, source: wan1}, {name: cadangan, isp: isp-b, medium: fibre, source: wan2}]}
"""


@pytest.fixture(scope="module")
def centre(tmp_path_factory, each_version):
    with bench(tmp_path_factory.mktemp("inhibition"), INVENTORY + TWO_WAYS, target=each_version) as made:
        yield made


def inhibited(centre: Bench, *alerts: dict) -> set[tuple[str, ...]]:
    """Which of the alerts are muted once all of them stand, as (alertname, site, audience, severity).

    As of 0.28 Alertmanager takes alerts in one after the other, after it has answered: a pair that must mute is posted behind ours.
    """
    centre.post(*alerts)
    behind = [alert("SiteDown", f"behind-{len(known(centre))}"), alert("IcmpTargetDown", f"behind-{len(known(centre))}", task="x")]
    centre.post(*behind)
    centre.until(lambda: any(a["labels"] == behind[1]["labels"] and a["status"]["inhibitedBy"] for a in known(centre)), "the pair is muted")
    ours = [a["labels"] for a in alerts]
    return {
        (a["labels"]["alertname"], a["labels"]["site"], a["labels"]["audience"], a["labels"]["severity"])
        for a in known(centre)
        if a["labels"] in ours and a["status"]["inhibitedBy"]
    }


def known(centre: Bench) -> list[dict]:
    with urllib.request.urlopen(f"{centre.url}/api/v2/alerts", timeout=30) as answer:
        return json.load(answer)


def test_an_office_that_is_down_mutes_what_follows_from_it(centre):
    muted = inhibited(
        centre,
        alert("SiteDown", "a1", severity="warning", **{"class": "kantor"}, district="D1"),
        alert("IcmpTargetDown", "a1", task="x"),
        alert("UplinkDown", "a1", severity="warning", uplink="isp-a"),
        alert("IcmpTargetDown", "a2", task="x"),
        alert("DhcpRogue", "a1", audience="csirt"),
        alert("SlaMissed", "a1", audience="isp", severity="info"),
        alert("IcmpTargetDown", "", task="x"),
    )

    assert muted == {("IcmpTargetDown", "a1", "ops", "critical"), ("UplinkDown", "a1", "ops", "warning")}


def test_many_offices_mute_each_of_them_but_not_of_another_district(centre):
    muted = inhibited(
        centre,
        alert("SitesDown", "pusat", severity="warning", district="D2"),
        alert("SiteDown", "b1", district="D2"),
        alert("SiteDown", "b2", district="D3"),
        alert("SiteDown", "b3"),
        alert("HttpServiceDown", "b1", task="x"),
        alert("AlertmanagerFailing", "pusat"),
    )

    assert muted == {("SiteDown", "b1", "ops", "critical"), ("HttpServiceDown", "b1", "ops", "critical")}


def test_a_district_without_a_name_mutes_nobody(centre):
    assert inhibited(centre, alert("SitesDown", "pusat", severity="warning"), alert("SiteDown", "c1")) == set()
    hospital = alert("SiteDown", "c2", district="D4", **{"class": "24-jam"})
    assert inhibited(centre, alert("SitesDown", "pusat", severity="warning", district="D4"), hospital) == set()


def test_a_provider_mutes_who_has_no_other_and_the_others_uplinks(centre):
    muted = inhibited(
        centre,
        alert("IspDown", "pusat", isp="isp-a"),
        alert("SiteDown", "dukcapil", **{"class": "layanan"}, district="D5"),
        alert("SiteDown", "bunaken", severity="warning", **{"class": "kantor"}, district="D6"),  # of isp-b
        alert("SiteDown", "berdua", severity="warning", **{"class": "kantor"}, district="D5"),  # of both
        alert("UplinkDown", "bertiga", severity="warning", uplink="utama", **{"class": "kantor"}, district="D5"),
        alert("UplinkDown", "bertiga", severity="warning", uplink="cadangan", **{"class": "kantor"}, district="D5"),
        alert("UplinkDown", "rsud", severity="warning", uplink="isp-a", **{"class": "24-jam"}, district="D5"),
        alert("UplinkDown", "stranger", severity="warning", uplink="utama", **{"class": "kantor"}, district="D5"),
    )

    assert muted == {("SiteDown", "dukcapil", "ops", "critical"), ("UplinkDown", "bertiga", "ops", "warning")}
    uplinks = {a["labels"]["uplink"] for a in known(centre) if a["labels"].get("site") == "bertiga" and a["status"]["inhibitedBy"]}
    assert uplinks == {"utama"}


def test_an_application_that_many_miss(centre):
    muted = inhibited(
        centre,
        alert("SharedServiceDown", "pusat", severity="warning", service="siak"),
        alert("HttpServiceDown", "d1", task="siak", service="siak"),
        alert("HttpServiceDown", "d2", task="sipd", service="sipd"),
        alert("HttpServiceDown", "d3", task="portal"),
        alert("HttpServiceDown", "d4", task="siak", service="siak", **{"class": "24-jam"}),  # it has paged before: its end is told too
    )

    assert muted == {("HttpServiceDown", "d1", "ops", "critical")}


def test_the_same_thing_in_two_severities(centre):
    muted = inhibited(
        centre,
        alert("CertificateExpiresSoon", "e1", task="siak"),
        alert("CertificateExpiresSoon", "e1", task="siak", severity="warning"),
        alert("CertificateExpiresSoon", "e1", task="sipd", severity="warning"),
        alert("CertificateExpiresSoon", "e2", task="siak", severity="warning"),
        alert("HostDiskFull", "e1", mountpoint="/"),
        alert("HostDiskFull", "e1", mountpoint="/boot", severity="warning"),
        alert("CertificateExpiresSoon", "e1", task="siak", severity="warning", audience="csirt"),
    )

    assert muted == {("CertificateExpiresSoon", "e1", "ops", "warning")}


def test_what_tells_two_alerts_apart_is_known():
    """Labels that rules leave on alerts, but for what the house puts there, are among those that must be equal for a mute."""
    used: set[str] = set()
    for file in (ROOT / "alerts/rules").glob("*.test.yaml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test.get("alert_rule_test") or ():
                used |= {label for a in case["exp_alerts"] or () for label in a["exp_labels"]}

    assert used - set(alertmanager.IDENTITY) <= {"severity", "class", "district", "grade", "hours", "also"}


MUTED = [
    # the same finding, graver: told once
    ({"severity": "critical", "hours": "always", "grade": "critical"}, {"severity": "critical", "hours": "office", "grade": "high"}, True),
    ({"severity": "critical", "hours": "office", "grade": "high"}, {"severity": "warning", "hours": "office", "grade": "medium"}, True),
    ({"severity": "warning", "hours": "office", "grade": "medium"}, {"severity": "critical", "hours": "office", "grade": "high"}, False),
]


@pytest.mark.parametrize(("graver", "lesser", "muted"), MUTED)
def test_a_finding_in_two_grades_is_told_in_the_graver_one(tmp_path, graver, lesser, muted):
    """As Alertmanager reads a rule of inhibition: all matchers of either side, and every label of `equal`."""

    def matches(matchers: list[str], labels: dict[str, str]) -> bool:
        parts = [re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', m) for m in matchers]
        tests = {
            "=": lambda a, b: a == b, "!=": lambda a, b: a != b,
            "=~": lambda a, b: bool(re.fullmatch(b, a)), "!~": lambda a, b: not re.fullmatch(b, a),
        }  # fmt: skip
        return all(p and tests[p[2]](labels.get(p[1], ""), p[3]) for p in parts)

    about = {"alertname": "RogueDhcp", "site": "rsud", "audience": "csirt", "rule": "rogue_dhcp", "class": "24-jam"}
    rules = configured(tmp_path)["inhibit_rules"]
    found = any(matches(r["source_matchers"], about | graver) and matches(r["target_matchers"], about | lesser) for r in rules)
    assert found == muted
    elsewhere = [r for r in rules if matches(r["target_matchers"], about | lesser) and "site" not in r.get("equal", [])]
    assert elsewhere == []


def test_the_words_that_decide_who_is_called_are_those_of_the_causes():
    called = {
        cause: [
            who
            for who, words in (("pln", alertmanager.POWER), ("isp", alertmanager.PROVIDER))
            if any(w in c.short.id for w in words.split("|"))
        ]
        for cause, c in texts.CAUSES.items()
    }

    assert {cause: who for cause, who in called.items() if who} == {
        "power": ["pln"], "isp": ["isp"], "account": ["isp"], "unknown": ["isp"],
    }  # fmt: skip
