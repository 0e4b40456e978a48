"""The runbooks' page has a heading for every alert, shows their words, and lets nothing raw through."""

import re
from html import unescape
from pathlib import Path

import pytest
import yaml

from central.inventory import load
from central.render import render
from central.runbooks import page
from central.target import Target

ROOT = Path(__file__).parents[2]
SITE = "  rsud: {{name: RSUD, code: RSU, district: U, class: 24-jam, delivery: pull, address: '127.0.0.1:1', {}}}\n"
INVENTORY = "centre: {name: K%s}\nisps: {isp-a: {name: ISP A}}\nsites:\n" + SITE.format("uplinks: [{isp: isp-a, medium: fibre}]")


def links(folder: Path, url: str = "", **target: str) -> set[str]:
    """The links to runbooks in the rendered rules, without their anchors."""
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY % (f", url: '{url}'" if url else ""))
    files = render(load(file), Target(**target))
    text = "".join(text for path, text in files.items() if path.startswith("prometheus/rules/"))
    return set(re.findall(r"(https?://[^\s\"\']+)#", text))


def test_every_alert_that_is_rendered_has_its_heading(tmp_path):
    file = tmp_path / "inventory.yaml"
    file.write_text(INVENTORY % "")
    rules = [yaml.safe_load(t) for p, t in render(load(file), Target()).items() if p.startswith("prometheus/rules/")]
    alerts = {r["alert"] for f in rules for g in f["groups"] for r in g["rules"] if "alert" in r}
    assert "SiteDown" in alerts
    assert alerts <= set(re.findall(r'<h2 id="(\w+)">', page()))


def test_no_word_of_the_runbooks_is_lost():
    shown = re.sub(r"\s+", "", unescape(re.sub(r"<(?!style)[^>]*>", "", re.sub(r"<style>.*?</style>", "", page(), flags=re.DOTALL))))
    for file in (ROOT / "alerts/runbooks").glob("*.md"):
        for line in file.read_text().splitlines():
            words = re.sub(r"^(#+|\d+\.) |[`]|\*\*|\s+", "", line)
            assert words.replace(" ", "") in shown, line


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("## SiteDown", '<h2 id="SiteDown">SiteDown</h2>'),
        ("1. satu **dua**\n2. `a > b`\n\ntiga", "<ol><li>satu <b>dua</b></li><li><code>a &gt; b</code></li></ol><p>tiga</p>"),
        ("<script>x</script> & `**<b>**`", "<p>&lt;script&gt;x&lt;/script&gt; &amp; <code>**&lt;b&gt;**</code></p>"),
        ('## "><script>', '<h2 id="&quot;&gt;&lt;script&gt;">&quot;&gt;&lt;script&gt;</h2>'),
        ("2026 adalah", "<p>2026 adalah</p>"),
    ],
)
def test_what_is_written_is_what_is_shown(tmp_path, text, html):
    (tmp_path / "a.md").write_text(text)
    assert f"<body>{html}</body>" in page(tmp_path)


def test_links_lead_to_the_centre_that_the_inventory_names(tmp_path):
    assert links(tmp_path, "https://ronda.example.net:17664") == {"https://ronda.example.net:17664/runbook"}
    assert links(tmp_path, "https://ronda.example.net", runbooks="http://127.0.0.1:17666/runbook") == {"http://127.0.0.1:17666/runbook"}


def test_where_no_page_is_known_there_is_no_link(tmp_path):
    assert links(tmp_path) == set()
