"""A spreadsheet becomes an inventory that loads; its quirks are understood, and what can't be read is told with line and column."""

import argparse
import contextlib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.structure import ConfigError
from central.importer import COLUMNS, UPLINK, column_of, convert, import_command
from central.inventory import Inventory, load
from tests.fuzz import fuzz

EXAMPLE = Path(__file__).parent.parent.parent / "config/sites.example.csv"


@pytest.fixture
def made(tmp_path):
    """Writes a CSV, imports it and loads the result."""

    def make(text: str | bytes) -> Inventory:
        (tmp_path / "kantor.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / "inventory.yaml").write_text(convert(tmp_path / "kantor.csv"))
        return load(tmp_path / "inventory.yaml", today=date(2026, 6, 1))

    return make


@pytest.fixture
def errors(tmp_path):
    def find(text: str) -> list[str]:
        (tmp_path / "kantor.csv").write_text(text)
        with pytest.raises(ConfigError) as e:
            convert(tmp_path / "kantor.csv")
        return str(e.value).splitlines()

    return find


def test_the_example_becomes_an_inventory(tmp_path):
    (tmp_path / "i.yaml").write_text(convert(EXAMPLE))
    found = load(tmp_path / "i.yaml", today=date(2026, 6, 1))
    dukcapil, rsud, camat, desa = found.sites.values()

    assert list(found.sites)[2:] == ["kantor-camat-panai-hilir", "kantor-desa-wonosari"]
    assert (dukcapil.name, dukcapil.code, dukcapil.district) == ("Dinas Kependudukan dan Pencatatan Sipil", "DKC", "Rantau Selatan")
    assert (dukcapil.location, dukcapil.services) == ([2.083, 99.831], ["siak"])
    [uplink] = dukcapil.uplinks
    assert (uplink.customer, uplink.mbps, uplink.price, uplink.from_) == ("001035", 50, 2_500_000, date(2026, 1, 1))
    assert (rsud.class_, rsud.calendar, [u.source for u in rsud.uplinks]) == ("24-jam", "24-jam", ["wan1", "wan2"])
    assert rsud.contacts[0].name == "Piket RSUD"
    assert (camat.name, camat.class_, camat.profile, camat.code) == ("Kantor Camat Panai Hilir", "layanan", "metered", "CPHIL")
    assert (desa.class_, desa.status, desa.uplinks) == ("desa", "planned", [])
    assert found.services["siak"].url == "https://siak.example.go.id/"


def test_english_headings_and_commas(made):
    text = (
        "Office,Code,District,Class,ISP,Medium,Customer number,Speed,Monthly price,Latitude,Longitude,Time zone\r\n"
        'Health office,HLT,"North, east",office,Telco,fiber optic,007,"2.5 Mbps","2,500,000",-1.5,119.9,WITA\r\n'
    )
    site = made(text).sites["health-office"]

    assert (site.district, site.class_, site.location, site.timezone) == ("North, east", "kantor", [-1.5, 119.9], "Asia/Makassar")
    assert (site.uplinks[0].customer, site.uplinks[0].mbps, site.uplinks[0].price) == ("007", 2.5, 2_500_000)


@pytest.mark.parametrize(
    "raw",
    [
        "nama;kecamatan\nPUPR;Kota\n".encode("utf-8-sig"),
        b"nama;kecamatan\r\nPUPR;Kota\r\n",
        "sep=;\r\nnama;kecamatan\r\nPUPR;Kota\r\n".encode("utf-8-sig"),
        "nama\tkecamatan\nPUPR\tKota\n".encode("utf-16"),
        b"nama;kecamatan\rPUPR;Kota\r",
        b"DAFTAR KANTOR\n;;\n;;\nNo;Nama;Kecamatan\n1;PUPR;Kota\n;;\n\n",
        b'"Nama";"Kecamatan"\n"PUPR";"Kota"\n',
        b'nama;kecamatan\n="PUPR";\'Kota\n',
        'nama,kecamatan\n" PUPR\u00a0 ","\nKota"\n'.encode(),
    ],
)
def test_however_it_was_saved(made, raw):
    assert [(s.name, s.district) for s in made(raw).sites.values()] == [("PUPR", "Kota")]


def test_an_old_windows_file_is_read_and_said_so(made, tmp_path):
    assert made("nama;kode\nCafé;CAF\n".encode("cp1252")).sites["cafe"].name == "Café"
    assert "it was read as Windows-1252" in convert(tmp_path / "kantor.csv")


def test_headings_are_known_in_many_spellings():
    assert [column_of(h) for h in ("No. Pelanggan", "Bandwidth (Mbps)", "ISP 2", "PENYEDIA  2", "isp1", "Alamat", "ISP 4", "")] == [
        "customer", "mbps", "isp 2", "isp 2", "", "", "", "",
    ]  # fmt: skip
    everything = [alias for column, names in {**COLUMNS, **UPLINK}.items() for alias in (column, *names.split(", "))]
    assert all(map(column_of, everything))
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("mbps", "50", 50),
        ("mbps", "2,5", 2.5),
        ("mbps", "1 Gbps", 1000),
        ("mbps", "up to 20Mbps", 20),
        ("mbps", "512 Kbps", 0.512),
        ("mbps", "1.000", 1000),
        ("price", "Rp 2.500.000,00", 2_500_000),
        ("price", "2500000", 2_500_000),
        ("price", "Rp.2.500.000,-", 2_500_000),
        ("price", "2,500,000.00", 2_500_000),
        ("from", "31/12/2026", date(2026, 12, 31)),
        ("from", "1-2-2026", date(2026, 2, 1)),
        ("from", "31 Desember 2026", date(2026, 12, 31)),
        ("from", "5 Agt 2026", date(2026, 8, 5)),
        ("from", "5-Mei-2026", date(2026, 5, 5)),
        ("from", "1 December 2026", date(2026, 12, 1)),
        ("from", "2026-02-28 00:00:00", date(2026, 2, 28)),
        ("customer", '="000123"', "000123"),
        ("customer", "'0012", "0012"),
        ("customer", "12E", "12E"),
        ("medium", "Starlink", "vsat"),
        ("medium", "FO", "fibre"),
        ("medium", "4G LTE", "4g"),
    ],
)
def test_cells_are_read_as_they_are_written(made, column, text, expected):
    heading, cell = ("", "") if column == "medium" else (";medium", ";fo")
    quoted = text.replace('"', '""')
    [site] = made(f'nama;isp{heading};{column}\nPUPR;ISP A{cell};"{quoted}"\n').sites.values()
    assert getattr(site.uplinks[0], "from_" if column == "from" else column) == expected


@pytest.mark.parametrize("text", ["2.1017, 99.8295", "2,1017; 99,8295", "2,1017 99,8295", "2.1017 99.8295", "2,1017, 99,8295"])
def test_places(made, text):
    [site] = made(f'nama;koordinat\nPUPR;"{text}"\n').sites.values()
    assert site.location == [2.1017, 99.8295]


def test_names_that_nobody_gave_are_made_and_differ(made):
    names = [
        "Inspektorat",
        "INSPEKTORAT",
        "RSUD Rantauprapat",
        "Pusat",
        "日本",
        "Dinas Perumahan dan Kawasan Permukiman Rakyat Kabupaten",
        "X",
    ]
    sites = made("nama;kode\n" + "".join(f"{n};\n" for n in names) + "Lain;INS\n").sites

    assert list(sites) == ["inspektorat", "inspektorat-2", "rsud-rantauprapat", "pusat-2", "kantor",
                           "dinas-perumahan-dan-kawasan-permukiman", "x", "lain"]  # fmt: skip
    assert [s.code for s in sites.values()] == ["INS2", "INS3", "RSUDRAN", "PUS", "XX", "PKPRK", "XX2", "INS"]
    assert [s.name for s in sites.values()] == [*names, "Lain"]


def test_isps_are_one_however_they_are_capitalised_and_two_where_they_differ(made):
    found = made("nama;isp;media\nA;Telco;fo\nB;TELCO;fo\nC;日本;fo\nD;中国;fo\n")

    assert {key: isp.name for key, isp in found.isps.items()} == {"telco": "Telco", "isp": "日本", "isp-2": "中国"}
    assert [s.uplinks[0].isp for s in found.sites.values()] == ["telco", "telco", "isp", "isp-2"]


def test_two_uplinks_of_one_isp_are_told_apart(made):
    [site] = made("nama;isp;media;isp 2;media 2;interface 2\nA;Telco;fo;Telco;4g;wan1\n").sites.values()
    assert [(u.name, u.source) for u in site.uplinks] == [("jalur-1", "wan2"), ("jalur-2", "wan1")]


def test_what_was_not_read_and_what_was_made_up_is_told(tmp_path):
    (tmp_path / "k.csv").write_text("No;Nama;Kode;Alamat;Keterangan\n1;PUPR;PU;Jl. A;x\n")
    text = convert(tmp_path / "k.csv")

    assert '# Column "No" was not read.\n# Column "Alamat" was not read.\n# Column "Keterangan" was not read.\n' in text
    assert "# The class of 1 offices was taken from their names" in text


@pytest.mark.parametrize(
    "name",
    ['Kantor "Lurah"', "{{ .Labels }}", "{a: b}", "a\\nb", "<b>&amp;", "😀 Dinas 🏥", "x" * 200, "a: b # c", "- x", "no", "~", "*a", "'a"],
)
def test_hostile_names_come_out_as_they_went_in(made, name):
    quoted = name.replace('"', '""')
    [site] = made(f'nama;kode\n"{quoted}";AA\n').sites.values()
    assert site.name == name.removeprefix("'")  # a leading apostrophe is Excel's mark for text


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("PUPR;X1;Kota;rumah;;;;", '2: Kelas: "rumah" is not one of 24-jam, layanan, kantor, desa'),
        (";X1;Kota;;;;;", "2: has no name"),
        ("PUPR;X!;Kota;;;;;", '2: Kode: "X!" is not a site code (two to eight capitals or digits, e.g. DKC)'),
        ("PUPR;X1;Kota;;ISP A;;;", "2: ISP: is given, but not the uplink's medium"),
        ("PUPR;X1;Kota;;;fo;;", "2: Media: is given, but not the uplink's isp"),
        ("PUPR;X1;Kota;;ISP A;tali;;", '2: Media: "tali" is not one of fibre, 4g, vsat, wireless, cable'),
        ("PUPR;X1;Kota;;ISP A;fo;cepat;", '2: Kecepatan: "cepat" is not a speed (try 50, or 50 Mbps)'),
        ("PUPR;X1;Kota;;ISP A;fo;;31/02/2026", '2: Mulai: "31/02/2026" is not a date (try 2026-01-31, 31/01/2026 or 31 Januari 2026)'),
        ("PUPR;X1;Kota;;ISP A;fo;;01/02/26", '2: Mulai: "01/02/26" is not a date (try 2026-01-31, 31/01/2026 or 31 Januari 2026)'),
        ("PUPR;X1;Kota;;;;;;lebih", '2: has more cells than there are headings: "lebih" (a separator inside a text needs quotes)'),
    ],
)
def test_each_mistake_has_its_line_and_column(errors, row, expected):
    assert errors(f"Nama;Kode;Kecamatan;Kelas;ISP;Media;Kecepatan;Mulai\n{row}\n") == [f"kantor.csv:{expected}"]


def test_other_mistakes(errors):
    science = "is a number that the spreadsheet has rounded: make the column text (Format, Cells, Text), type it again, save again"
    assert errors("nama;isp;media;no pelanggan\nA;I;fo;1,23457E+11\n") == [f'kantor.csv:2: no pelanggan: "1,23457E+11" {science}']
    assert errors("nama;hp\nA;6,28E+11\n") == [f'kantor.csv:2: hp: "6,28E+11" {science}']
    assert (
        errors("nama;Kecamtan\nA;B\n")[0]
        == "kantor.csv:1: has no line of headings with at least the office's name (nama) and one more (kecamatan, kode, penyedia, …)"
    )
    assert errors("nama;kode;Kecamtan\nA;AA;B\n") == ["kantor.csv:1: Kecamtan: is not a column that is known (did you mean kecamatan?)"]
    assert errors("nama;kode;singkatan\nA;AA;BB\n") == ['kantor.csv:1: singkatan: is the second column for code, beside "kode"']
    assert errors("nama;kode\nA;AA\nB;AA\n") == ['kantor.csv:3: kode: "AA" stands twice (first on line 2)']
    assert errors("nama;site\nA;pusat\n") == ["kantor.csv:2: site: pusat stands for the centre itself; give the office another name"]
    assert errors("nama;lintang\nA;2,1\n") == ["kantor.csv:2: lintang: is given without the other half of the place"]
    assert errors("nama;lintang;bujur\nA;99,8;2,1\n") == ["kantor.csv:2: lintang: is no latitude; are the two columns the wrong way round?"]
    assert errors("nama;koordinat\nA;2,1,99,8\n")[0].startswith('kantor.csv:2: koordinat: "2,1,99,8" is not a place')
    assert errors("nama;aplikasi\nA;SIAK\n") == [
        'kantor.csv:2: aplikasi: "SIAK" has no web address anywhere; write it once: SIAK https://…'
    ]
    assert errors("nama;pengiriman\nA;pull\n") == [
        "kantor.csv:2: pengiriman: needs the agent's address (host:port) in a column `alamat agen`"
    ]
    assert errors('nama;kode\nA;"AA\n') == ["kantor.csv:2: is not CSV: unexpected end of data (a quote that is not closed?)"]
    assert errors("") == errors("\n\n") == errors("a;b\nc;d\n")


def test_lines_are_counted_as_an_editor_counts_them(errors):
    assert errors('judul\n\nnama;kelas\n"A\nB";kantor\n\nC;x\n"D\nE";y\n') == [
        'kantor.csv:7: kelas: "x" is not one of 24-jam, layanan, kantor, desa',
        'kantor.csv:8: kelas: "y" is not one of 24-jam, layanan, kantor, desa',
    ]


def test_the_command_prints_or_writes_and_never_over_a_file(capsys, tmp_path):
    assert import_command(argparse.Namespace(file=EXAMPLE, out=None)) == 0
    assert capsys.readouterr().out == convert(EXAMPLE)
    out = tmp_path / "inventory.yaml"
    assert import_command(argparse.Namespace(file=EXAMPLE, out=out)) == 0
    assert out.read_text() == convert(EXAMPLE)
    assert "written; see what it says: ronda central check --inventory" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="can't be written: File exists"):
        import_command(argparse.Namespace(file=EXAMPLE, out=out))


FURTHER = (
    "nama|kode|site|kelas|isp|media|isp 2|media 2|interface|interface 2|aplikasi|kecepatan|harga|mulai|selesai|koordinat|lintang|bujur|hp"
)
HEADINGS = st.sampled_from([*FURTHER.split("|"), "hp", "pic", "kecamatan", "x"])
CELLS = st.one_of(
    st.sampled_from(
        ["", "A", "A b", "kantor", "fo", "4g", "1", "2,5", "2026-01-01", "1/1/2027", "2,1; 99,8", "S https://s.example.go.id/", "日"]
    ),
    st.text(max_size=8),
)


@fuzz
@given(st.lists(HEADINGS, min_size=1, max_size=8, unique=True), st.lists(st.lists(CELLS, max_size=8), max_size=5), st.sampled_from(";,\t"))
def test_whatever_is_imported_loads(tmp_path_factory, headings, rows, mark):
    where = tmp_path_factory.mktemp("fuzz")
    lines = [mark.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (["nama kantor", *headings], *rows)]
    (where / "k.csv").write_text("\r\n".join(lines), newline="")
    with contextlib.suppress(ConfigError):
        text = convert(where / "k.csv")
        (where / "inventory.yaml").write_text(text)
        assert isinstance(load(where / "inventory.yaml", today=date(2026, 6, 1)), Inventory), text


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_are_imported_or_refused(tmp_path_factory, data):
    where = tmp_path_factory.mktemp("fuzz")
    (where / "k.csv").write_bytes(b"nama;kode\n" + data)
    with contextlib.suppress(ConfigError):
        assert convert(where / "k.csv")


def test_an_address_that_cannot_be_read_is_not_also_missing(tmp_path):
    file = tmp_path / "kantor.csv"
    file.write_text("Nama;Kelas;Pengiriman;Alamat Agen\nDinas A;kantor;ambil;192.0.2.7\nDinas B;kantor;ambil;\n")

    with pytest.raises(ConfigError) as refused:
        convert(file)

    assert [(p.line, "is not host:port" in p.message, "needs the agent's address" in p.message) for p in refused.value.problems] == [
        (2, True, False),
        (3, False, True),
    ]
