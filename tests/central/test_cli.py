"""`ronda central …` as a person types it: exit codes, everything that is wrong at once, nothing written that is not asked for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config/inventory.example.yaml"
SMALL = """\
centre: {name: Kominfo, url: "https://pusat.example.go.id:17664"}
isps: {isp-a: {name: ISP A}}
sites:
  rsud: {name: RSUD, code: RSU, district: Utara, class: 24-jam, uplinks: [{isp: isp-a, medium: fibre}]}
  lama: {name: Lama, code: LMA, district: Utara, class: 24-jam, uplinks: [{isp: isp-a, medium: fibre}]}
"""
WRONG = """\
centre: {name: Kominfo, timezone: Mars/Olympus}
isps: {isp-a: {name: ISP A}}
sites:
  rsud: {name: RSUD, code: RSU, class: rumah}
  dua: {name: Dua, code: DUA, class: 24-jam, uplinks: [{isp: isp-z, medium: fibre}]}
  tiga: {name: Tiga, code: DUA, class: 24-jam, uplinks: [{isp: isp-a, medium: kabel}]}
situs: {}
"""
CSV = "Nama,Kode,Kecamatan,Kelas\nRSUD Rantauprapat,RSU,Rantau Selatan,24 jam\n"
TOKEN = "123456:AAExample-Token-Of-The-Tests"


def central(where: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [f"{sys.prefix}/bin/ronda", "central", *words]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with an inventory, as an admin has one."""
    (tmp_path / "inventory.yaml").write_text(SMALL)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- usage ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "COMMAND"),
        ("rendre", "invalid choice: 'rendre'"),
        ("render --inventory inventory.yaml", "--out"),
        ("render --out o --prometheus kaya", '"kaya" is not a version (try 2.42)'),
        ("render --out o --alertmanager 3", '"3" is not a version'),
        ("import", "FILE.csv"),
        ("up --prometheus.listen here", '"here" is not an address to listen on (try 127.0.0.1:9090)'),
        ("up --retention long", '"long" is not a time to keep (try 30d)'),
        ("check --inventory nowhere.yaml", "nowhere.yaml: can't be read: No such file or directory"),
        ("render --out o --inventory nowhere.yaml", "nowhere.yaml: can't be read: No such file or directory"),
        ("up --inventory nowhere.yaml --data-dir d", "nowhere.yaml: can't be read: No such file or directory"),
        ("import nowhere.csv", "nowhere.csv: can't be read: No such file or directory"),
        ("check --calendar nowhere.yaml", "nowhere.yaml: can't be read: No such file or directory"),
    ],
)
def test_what_can_not_be_done_is_said_and_is_two(home: Path, words: str, said: str) -> None:
    before = tree(home)
    done = central(home, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert {p: b for p, b in tree(home).items() if not p.startswith("d/")} == before


@pytest.mark.parametrize("words", ["check", "render --out o"])
def test_without_an_inventory_it_says_how_to_get_one(tmp_path: Path, words: str) -> None:
    done = central(tmp_path, *words.split())
    assert done.returncode == 2
    assert "there is no inventory.yaml here" in done.stderr
    assert "ronda central import FILE.csv" in done.stderr


# -- check, import, schema --------------------------------------------------------------------------------------------------------


def test_check_says_what_it_read(home: Path) -> None:
    done = central(home, "check")
    assert done.returncode == 0
    assert done.stdout.startswith("inventory.yaml: fine\n  centre    Kominfo, Asia/Jakarta\n  sites     2: active 2\n")
    assert "channels.ops: is missing: nobody is told of an outage" in done.stdout


@pytest.mark.parametrize("words", ["check", "render --out o", "up --data-dir d"])
def test_all_that_is_wrong_is_said_at_once_with_file_and_line(home: Path, words: str) -> None:
    (home / "inventory.yaml").write_text(WRONG)
    done = central(home, *words.split())
    assert done.returncode == 2
    lines = [line.partition(": ")[0] for line in done.stderr.splitlines()]
    assert {f"inventory.yaml:{n}" for n in (1, 4, 6, 7)} <= set(lines)
    assert not (home / "o").exists()
    assert not (home / "d/rendered").exists()


def test_import_makes_an_inventory_that_check_takes_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text(CSV)
    made = central(tmp_path, "import", "sites.csv", "--out", "inventory.yaml")
    assert (made.returncode, "inventory.yaml: written" in made.stdout) == (0, True)
    assert central(tmp_path, "check").returncode == 0
    assert central(tmp_path, "import", "sites.csv").stdout == (tmp_path / "inventory.yaml").read_text()

    (tmp_path / "inventory.yaml").write_text("tended\n")
    again = central(tmp_path, "import", "sites.csv", "--out", "inventory.yaml")
    assert again.returncode == 2
    assert "inventory.yaml: can't be written: File exists" in again.stderr
    assert (tmp_path / "inventory.yaml").read_text() == "tended\n"


@pytest.mark.parametrize(("words", "title"), [("schema", "Ronda inventory"), ("schema --calendar", "Ronda calendar")])
def test_schema_is_json_and_nothing_else(home: Path, words: str, title: str) -> None:
    done = central(home, *words.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["title"] == title


# -- render and its diff ----------------------------------------------------------------------------------------------------------


def test_render_twice_is_the_same_bytes(home: Path) -> None:
    words = ("render", "--inventory", str(EXAMPLE), "--out")
    first, second = (central(home, *words, out) for out in ("a", "b"))
    assert (first.returncode, second.returncode) == (0, 0)
    assert tree(home / "a") == tree(home / "b")
    again = central(home, *words, "a")
    assert "0 of them changed" in again.stdout
    assert tree(home / "a") == tree(home / "b")


def test_a_diff_is_one_where_something_would_change_and_writes_nothing(home: Path) -> None:
    new = central(home, "render", "--out", "o", "--diff")
    assert (new.returncode, (home / "o").exists()) == (1, False)
    assert central(home, "render", "--out", "o").returncode == 0
    nothing = central(home, "render", "--out", "o", "--diff")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing would change in o\n")

    before = tree(home / "o")
    (home / "inventory.yaml").write_text(SMALL.replace("name: RSUD", "name: RSUD Baru").replace("  lama:", "  baru:"))
    changed = central(home, "render", "--out", "o", "--diff")
    assert changed.returncode == 1
    assert "1 new site: baru" in changed.stdout
    assert "1 removed site: lama" in changed.stdout
    assert any(line.startswith("+") and "RSUD Baru" in line for line in changed.stdout.splitlines())
    assert tree(home / "o") == before


def test_what_is_no_more_goes_and_what_was_beside_it_stays(home: Path) -> None:
    central(home, "render", "--out", "o")
    (home / "o/agents/catatan.txt").write_text("of the admin")
    (home / "inventory.yaml").write_text(SMALL.replace("  lama:", "  baru:"))
    assert central(home, "render", "--out", "o").returncode == 0
    assert sorted(p.name for p in (home / "o/agents").iterdir()) == ["baru.yaml", "catatan.txt", "rsud.yaml"]


def test_a_strangers_file_is_refused(home: Path) -> None:
    foreign = home / "o/prometheus/prometheus.yml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine\n")
    done = central(home, "render", "--out", "o")
    assert done.returncode == 2
    assert "o holds files that `ronda central render` did not write, under names that it needs: prometheus/prometheus.yml" in done.stderr
    assert tree(home / "o") == {"prometheus/prometheus.yml": b"mine\n"}


def with_telegram(home: Path) -> Path:
    (home / "token").write_text(TOKEN + "\n")
    (home / "token").chmod(0o600)
    channel = f'channels: {{ops: {{telegram: {{chat_id: "-1", token_file: {home}/token}}}}}}\n'
    (home / "inventory.yaml").write_text(SMALL + channel)
    return home


def test_the_version_that_is_told_decides_how_the_token_is_given(home: Path) -> None:
    with_telegram(home)
    old = central(home, "render", "--out", "old", "--alertmanager", "0.25", "--prometheus", "2.42")
    new = central(home, "render", "--out", "new", "--alertmanager", "0.28.1", "--prometheus", "v3.5.0")
    assert old.stdout.endswith("for Prometheus 2.42, Alertmanager 0.25\n")
    assert new.stdout.endswith("for Prometheus 3.5, Alertmanager 0.28\n")
    old_text, new_text = ((home / d / "alertmanager/alertmanager.yml").read_text() for d in ("old", "new"))
    assert TOKEN in old_text
    assert TOKEN not in new_text
    assert f"{home}/token" in new_text


def test_a_token_is_for_nobody_elses_eyes_and_in_no_diff(home: Path) -> None:
    with_telegram(home)
    words = ("render", "--alertmanager", "0.25", "--out", "o")
    new = central(home, *words, "--diff")
    central(home, *words)
    assert (home / "o/alertmanager/alertmanager.yml").stat().st_mode & 0o007 == 0
    (home / "token").write_text("654321:another-token-of-the-tests\n")
    changed = central(home, *words, "--diff")
    assert [d.returncode for d in (new, changed)] == [1, 1]
    assert "<secret>" in new.stdout
    assert "<secret>" in changed.stdout
    for told in (new.stdout + new.stderr, changed.stdout + changed.stderr):
        assert TOKEN not in told
        assert "another-token" not in told


def test_a_missing_token_says_what_to_do(home: Path) -> None:
    (with_telegram(home) / "token").unlink()
    done = central(home, "render", "--alertmanager", "0.25", "--out", "o")
    assert done.returncode == 2
    assert "@BotFather" in done.stderr
    assert not (home / "o").exists()


def test_a_place_that_can_not_be_written_is_said(home: Path) -> None:
    (home / "file").write_text("")
    done = central(home, "render", "--out", "file")
    assert (done.returncode, "file is no directory" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
