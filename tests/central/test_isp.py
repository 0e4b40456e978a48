"""A provider's outage, from missing heartbeats to the one message: the rendered rules and the rendered inhibition.

Time starts at 07:00 WIB; the outage is from 07:05 to 07:15. Heartbeats come every 15 s.
"""

from pathlib import Path

import pytest

from central import prometheus, rules, yamltext
from tests.central import alertbench
from tests.central.promtest import Alert, Bench, inventory

pytestmark = [pytest.mark.needs("promtool", "prometheus-alertmanager"), pytest.mark.usefixtures("each_version")]

# site: district, providers. Three of Utara's four offices use ISP A, which is as many as make a district's own message.
OFFICES = {
    "a1": ("Utara", "a"), "a2": ("Utara", "a"), "a3": ("Utara", "a"), "b1": ("Utara", "b"),
    "a4": ("Selatan", "a"), "b2": ("Selatan", "b"), "berdua": ("Selatan", "ab"),
    "a5": ("Barat", "a"), "b3": ("Barat", "b"), "b4": ("Barat", "b"), "b5": ("Barat", "b"),
}  # fmt: skip
ISP_A = {"a1", "a2", "a3", "a4", "a5"}
GONE = "0+15x20 _x40 900+15x60"
UTARA = {"a1", "a2", "a3", "b1"}


def regency() -> str:
    """The offices as an inventory: ordinary ones, that are open at all hours."""

    def uplink(isp: str, n: int) -> str:
        return f"{{isp: isp-{isp}, medium: fibre, source: wan{n}}}"

    sites = (
        f"  {slug}: {{name: Kantor {slug}, code: K{slug.upper()[:6]}, district: {district}, class: kantor, calendar: 24-jam,"
        f" uplinks: [{', '.join(uplink(isp, n) for n, isp in enumerate(isps))}]}}"
        for slug, (district, isps) in OFFICES.items()
    )
    head = 'centre: {name: Kominfo, timezone: Asia/Jakarta, url: "https://pusat.example.go.id"}\n'
    return head + "isps: {isp-a: {name: ISP A, noc: '021-1'}, isp-b: {name: ISP B}}\nsites:\n" + "\n".join(sites) + "\n"


def outage(folder: Path, silent: set[str], *, uplink: bool = False) -> Bench:
    """The rendered rules of offices and providers, while `silent` are not heard; `uplink`: and `berdua` has lost ISP A."""
    facts = yamltext.dump({"groups": [prometheus.group(inventory(folder, regency()))]})
    made = rules.files()
    files = {"inventory.yaml": facts, **{kind: made[f"prometheus/rules/{kind}"] for kind in ("site.yaml", "isp.yaml")}}
    series = {
        f'ronda_heartbeat_timestamp_seconds{{job="ronda",instance="{s}",site="{s}"}}': GONE if s in silent else "0+15x120" for s in OFFICES
    }
    for isp in "ab":
        anchor = f'ronda_probe_success{{site="berdua",task="isp-{isp}-anchor-1",kind="icmp",role="anchor",uplink="isp-{isp}"}}'
        series[anchor] = "1x20 0x39 1x60" if uplink and isp == "a" else "1x120"
    return Bench(folder, files, series, sampled="15s")


@pytest.fixture(scope="module")
def of_provider(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return outage(tmp_path_factory.mktemp("provider"), ISP_A, uplink=True)


def test_it_is_told_before_its_offices_and_instead_of_a_district(of_provider: Bench) -> None:
    told = of_provider.alerts("IspDown", "7m30s", "8m", "12m", "17m")
    assert [[a.annotations["summary"] for a in at] for at in told] == [
        [], ["ISP A putus: 6 kantor di 3 kecamatan"], ["ISP A putus: 6 kantor di 3 kecamatan"], [],
    ]  # fmt: skip
    assert told[1][0].annotations["cause"] == "gangguan penyedia internet, ISP A (pasti)"
    assert of_provider.sites("SiteDown", "8m", "12m") == [[], sorted(ISP_A)]
    assert of_provider.sites("UplinkDown", "8m", "12m") == [[], ["berdua"]]
    assert of_provider.sites("SitesDown", "9m", "12m", "14m55s") == [[]] * 3


def test_a_district_without_mains_is_not_blamed_on_a_provider(tmp_path: Path) -> None:
    mains = outage(tmp_path, UTARA)
    assert mains.sites("IspDown", "8m", "12m") == [[], []]
    assert [[a.labels["district"] for a in at] for at in mains.alerts("SitesDown", "9m", "12m", "17m")] == [["Utara"], ["Utara"], []]


def test_six_alerts_are_one_message(of_provider: Bench, tmp_path: Path) -> None:
    standing = [a for name in ("IspDown", "SiteDown", "UplinkDown") for a in of_provider.alerts(name, "12m")[0]]
    assert len(standing) == 7
    with alertbench.bench(tmp_path, regency()) as centre:
        centre.post(*map(posted, standing[:1]))
        centre.message("ops", "ISP A putus: 6 kantor di 3 kecamatan")
        centre.post(*map(posted, standing[1:]))
        centre.post(alertbench.alert("HttpServiceDown", "b1", task="x", notes={"summary": "yang sesudahnya"}))
        centre.message("ops", "yang sesudahnya")

        assert [text.splitlines()[0] for text in centre.texts("ops")] == [
            "GAWAT · ISP A putus: 6 kantor di 3 kecamatan",
            "GAWAT · Kantor b1: yang sesudahnya",
        ]


def posted(found: Alert) -> dict[str, object]:
    return {"labels": found.labels, "annotations": found.annotations, "startsAt": alertbench.BEGAN}
