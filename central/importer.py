"""`ronda central import FILE.csv`: a spreadsheet of offices, as it lies about in any Kominfo office, becomes an inventory.

Law: nothing that was written is lost or bent in silence. Whatever can't be read is a problem with its line and column, all at once;
a column that is not read is named in the result. The result loads; what it had to make up (slugs, codes, a class) is told in its head.

A row is an office. Headings are Indonesian or English, in any order, after any title lines; `;`, `,` or tabs; as Excel and LibreOffice
save it: byte order mark, CRLF, `="001"`, decimal commas, `Rp 2.500.000,00`, 31/12/2026, 31 Desember 2026, a
name over several lines, numbers kept as they are written (leading zeros).
"""

import argparse
import csv
import dataclasses
import difflib
import functools
import io
import itertools
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agent.structure import ConfigError, Problem, Slug, Source, parse, read_bytes
from central import inventory

# A column's name, and what it may be called. An uplink's columns may come again with a 2 or 3 behind them.
COLUMNS = {
    "name": "nama, nama kantor, kantor, opd, nama opd, perangkat daerah, instansi, unit kerja, office, office name, site name",
    "slug": "site, id, kunci",
    "code": "kode, kode kantor, singkatan",
    "district": "kecamatan, kec",
    "class": "kelas, jenis, jenis kantor, kategori",
    "status": "keadaan",
    "calendar": "kalender, hari kerja",
    "latitude": "lintang, lat",
    "longitude": "bujur, long, lon, lng",
    "location": "koordinat, lokasi, titik koordinat, coordinates, lat long",
    "power": "listrik",
    "timezone": "zona waktu, time zone, zona",
    "delivery": "pengiriman",
    "address": "alamat agen, agent address",
    "services": "aplikasi, layanan, applications",
    "contact": "kontak, nama kontak, pic, narahubung, penanggung jawab, contact name",
    "phone": "telepon, telp, no telepon, no telp, hp, no hp, nomor hp, wa, no wa, whatsapp, contact phone",
}
UPLINK = {
    "isp": "nama isp, penyedia, nama penyedia, provider, operator",
    "medium": "media, jenis koneksi, koneksi, jenis media, connection",
    "customer": "no pelanggan, nomor pelanggan, id pelanggan, nomor layanan, no layanan, sid, cid, customer number, customer id",
    "mbps": "kecepatan, bandwidth, kapasitas, speed",
    "price": "harga, biaya, biaya bulanan, tarif, harga bulanan, biaya per bulan, monthly price",
    "from": "mulai, mulai kontrak, kontrak mulai, tanggal mulai, start, contract start",
    "until": "selesai, akhir kontrak, kontrak selesai, berakhir, tanggal selesai, end, contract end",
    "source": "antarmuka, interface",
}
WORDS: Mapping[str, Mapping[str, str]] = {
    "class": {
        "24-jam": "24 jam, 24jam, 24/7, darurat",
        "layanan": "pelayanan, service",
        "kantor": "office, opd",
        "desa": "kelurahan, village",
    },
    "status": {
        "active": "aktif, ya, terpasang, beroperasi",
        "planned": "rencana, direncanakan, belum, belum dipasang, belum terpasang",
        "retired": "dicabut, tutup, nonaktif, tidak aktif, berhenti",
    },
    "delivery": {"push": "kirim", "pull": "ambil"},
    "medium": {
        "fibre": "fiber, fo, fiber optik, fibre optic, fiber optic, serat optik, optik, ftth",
        "4g": "lte, 4g lte, seluler, gsm, 5g, modem, mobile",
        "vsat": "satelit, starlink, satellite",
        "wireless": "radio, nirkabel, wifi, wireless radio, microwave",
        "cable": "kabel, dsl, adsl, tembaga, utp",
    },
    "power": {
        "always": "selalu, ya, 24 jam, terus",
        "off_after_hours": "mati setelah jam kerja, dimatikan, mati malam, tidak, off after hours",
    },
    "timezone": {"Asia/Jakarta": "wib", "Asia/Makassar": "wita", "Asia/Jayapura": "wit"},
    "calendar": {"lima-hari": "5 hari, 5, lima hari", "enam-hari": "6 hari, 6, enam hari", "24-jam": "24 jam, 7 hari, 7"},
}
BY_NAME = (  # what class an office has where the file doesn't say; the first that fits
    ("24-jam", r"\b(rsud|rs|rumah sakit|psc|damkar|pemadam|bpbd)\b"),
    ("desa", r"\b(desa|kelurahan|nagari|kampung|lurah)\b"),
    ("layanan", r"\b(puskesmas|camat|kecamatan|dukcapil|kependudukan|pelayanan|dpmptsp|samsat|klinik)\b"),
)
CALENDARS = {
    "lima-hari": {"mon-thu": "07:30-16:00", "fri": "07:30-16:30", "break_fri": "12:00-13:30"},
    "enam-hari": {"mon-thu": "07:30-14:00", "fri": "07:30-11:30", "sat": "07:30-13:00"},
}
MONTHS = "januari februari maret april mei juni juli agustus september oktober november desember".split()  # noqa: SIM905  (one line)
ENGLISH = "january february march april may june july august september october november december".split()  # noqa: SIM905
HEAD_WITHIN = 20  # lines that may stand before the headings
MAX_UPLINKS = 3


# -- the command ------------------------------------------------------------------------------------------------------------------


def import_command(args: argparse.Namespace) -> int:
    """Writes the inventory made of `args.file` to `args.out`, or prints it. ConfigError is the caller's to print."""
    text = convert(args.file)
    if args.out is None:
        print(text, end="")
        return 0
    try:
        with args.out.open("x", encoding="utf-8") as f:  # never over an inventory that somebody has tended
            f.write(text)
    except OSError as e:
        raise ConfigError([Problem(str(args.out), 0, "", f"can't be written: {e.strerror}")]) from None
    print("".join(line + "\n" for line in text.splitlines() if line.startswith("#")), end="", file=sys.stderr)
    print(f"{args.out}: written; see what it says: ronda central check --inventory {args.out}")
    return 0


def convert(path: Path) -> str:
    """CSV → the text of an inventory that loads. Raises ConfigError with all that can't be read, each with its line and column."""
    text, notes = _decoded(path)
    sheet = _Sheet(path.name, text, notes)
    made = _offices(sheet)
    if sheet.problems:
        raise ConfigError(sorted(sheet.problems, key=lambda p: p.line))
    return _written(path.name, made, sheet)


# -- the sheet: rows, columns, problems -------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    line: int
    heading: str
    text: str


class Row(NamedTuple):
    line: int
    cells: Mapping[str, Cell]  # by column: "name", "isp", "isp 2"; empty ones are left out

    def text(self, column: str) -> str:
        return self.cells[column].text if column in self.cells else ""


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The file's text, and what is to be told of how it was read."""
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), []
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ["The file is not UTF-8; it was read as Windows-1252. Look at names with accents."]


class _Sheet:
    """The file as rows of named cells; problems and notes gather here."""

    def __init__(self, file: str, text: str, notes: list[str]) -> None:
        self.file, self.notes = file, notes
        self.problems: list[Problem] = []
        lines = self._lines(text)
        head = next((i for i, (_, cells) in enumerate(lines[:HEAD_WITHIN]) if _is_head(cells)), None)
        if head is None:
            message = "has no line of headings with at least the office's name (nama) and one more (kecamatan, kode, penyedia, …)"
            raise ConfigError([Problem(file, 1, "", message)])
        self.columns = self._columns(*lines[head])
        self.rows = [row for line, cells in lines[head + 1 :] if (row := self._row(line, cells)).cells]

    def problem(self, cell: Cell, message: str) -> None:
        self.problems.append(Problem(self.file, cell.line, cell.heading, message))

    def _lines(self, text: str) -> list[tuple[int, list[str]]]:
        """(line where the row begins, its cells); empty rows are left out."""
        skip = 1 if re.match(r"sep=.\r?\n", text) else 0
        delimiter = text[4] if skip else _delimiter(text)
        body = text.split("\n", 1)[1] if skip else text
        reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
        found, begins = [], 1 + skip
        try:
            for cells in reader:
                if any(map(_clean, cells)):
                    found.append((begins, [_clean(c) for c in cells]))
                begins = reader.line_num + 1 + skip
        except csv.Error as e:
            raise ConfigError([Problem(self.file, begins, "", f"is not CSV: {e} (a quote that is not closed?)")]) from None
        return found

    def _columns(self, line: int, headings: list[str]) -> list[tuple[str, str]]:
        """(column, heading) for each heading; column "" is not read."""
        found: list[tuple[str, str]] = []
        for heading in headings:
            column = column_of(heading)
            cell = Cell(line, heading, "")
            if column and any(column == c for c, _ in found):
                self.problem(cell, f'is the second column for {column}, beside "{next(h for c, h in found if c == column)}"')
            elif not column and (near := _near(heading)):
                self.problem(cell, f"is not a column that is known (did you mean {near}?)")
            elif not column and heading:
                self.notes.append(f'Column "{heading}" was not read.')
            found.append((column, heading))
        return found

    def _row(self, line: int, cells: list[str]) -> Row:
        pairs = itertools.zip_longest(self.columns, cells, fillvalue="")
        if extra := [text for text in cells[len(self.columns) :] if text]:
            self.problem(
                Cell(line, "", ""), f'has more cells than there are headings: "{extra[0][:40]}" (a separator inside a text needs quotes)'
            )
        return Row(line, {c[0]: Cell(line, c[1], text) for c, text in pairs if c and c[0] and text and text not in ("-", "–")})


def _clean(text: str) -> str:
    """A cell without Excel's armour (`="001"`, a leading apostrophe) and with line breaks as spaces."""
    text = "".join(" " if unicodedata.category(c) in inventory.BREAKS | {"Zs"} else c for c in text)
    text = " ".join(text.replace("\ufeff", "").split())
    if m := re.fullmatch(r'="(.*)"', text):
        text = m[1]
    return text.removeprefix("'").strip()


def _delimiter(text: str) -> str:
    """What parts the cells: the one of `;`, `,` and tab under which the headings are found soonest and are most."""
    start = text.split("\n")[:HEAD_WITHIN]

    def known(delimiter: str) -> int:
        return max((sum(bool(column_of(_clean(c.strip('"')))) for c in line.split(delimiter)) for line in start), default=0)

    return max(";,\t", key=known)


def _is_head(cells: list[str]) -> bool:
    columns = {column_of(c) for c in cells} - {""}
    return "name" in columns and len(columns) > 1


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", _ascii(text).lower()))


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


HEADINGS = {_plain(alias): column for column, names in {**COLUMNS, **UPLINK}.items() for alias in (column, *names.split(", "))}


def column_of(heading: str) -> str:
    """`No. Pelanggan` → customer, `ISP 2` → isp 2, `Bandwidth (Mbps)` → mbps; what is not known → an empty text."""
    text = _plain(re.sub(r"\((mbps|rp|wib|mbit/s|rupiah)\)", "", heading.lower()))
    if text in HEADINGS:
        return HEADINGS[text]
    base, _, number = text.rpartition(" ")
    column = HEADINGS.get(base, "")
    if column in UPLINK and number.isdecimal() and 1 <= int(number[:3]) <= MAX_UPLINKS:
        return column if int(number) == 1 else f"{column} {int(number)}"
    return ""


def _near(heading: str) -> str:
    close = difflib.get_close_matches(_plain(heading), HEADINGS, 1, cutoff=0.8)
    return close[0] if close else ""


# -- rows to offices --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Made:
    """What the rows became: plain values, as they are written."""

    isps: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    services: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    sites: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def _key(table: dict[str, dict[str, Any]], name: str, otherwise: str) -> str:
    """The key of what is called `name`, however it is capitalised; made where it is new."""
    known = next((key for key, entry in table.items() if entry["name"].casefold() == name.casefold()), None)
    if known is None:
        known = _unique(_slug(name, otherwise), set(table), "-", 40)
        table[known] = {"name": name}
    return known


def _offices(sheet: _Sheet) -> _Made:
    made = _Made()
    slugs, codes = _given(sheet, "slug", Slug), _given(sheet, "code", inventory.Code, str.upper)
    _services(sheet, made)
    classless = 0
    for row in sheet.rows:
        name = _checked(sheet, row, "name", inventory.Name)
        if not row.text("name"):
            sheet.problem(Cell(row.line, "", ""), "has no name")
        classless += "class" not in row.cells
        slug = slugs.get(row.line) or _unique(_slug(name or ""), {*slugs.values(), *made.sites, inventory.CENTRE}, "-", 40)
        code = codes.get(row.line) or _unique(_code(name or ""), {*codes.values(), *(s["code"] for s in made.sites.values())}, "", 8)
        made.sites[slug] = {"name": name, "code": code, **_site(sheet, row, made)}
    if classless:
        sheet.notes.append(f"The class of {classless} offices was taken from their names: look at it, it decides who is woken.")
    return made


def _given(sheet: _Sheet, column: str, schema: Any, shape: Callable[[str], str] = str) -> dict[int, str]:
    """line → the slug or code that is written there; two alike are a problem that names both lines."""
    found: dict[int, str] = {}
    for row in sheet.rows:
        if column not in row.cells:
            continue
        cell = row.cells[column]
        text = shape(cell.text)
        if text in found.values():
            sheet.problem(cell, f'"{text}" stands twice (first on line {next(n for n, t in found.items() if t == text)})')
        elif column == "slug" and text == inventory.CENTRE:
            sheet.problem(cell, f"{text} stands for the centre itself; give the office another name")
        else:
            found[row.line] = _read(sheet, cell, functools.partial(parse, text, schema)) or ""
    return {line: text for line, text in found.items() if text}


def _site(sheet: _Sheet, row: Row, made: _Made) -> dict[str, Any]:
    """An office's keys but name and code; what is not written, or is as the default is, stays out."""
    class_ = _word(sheet, row, "class") or _class_by_name(row.text("name"))
    calendar = _word(sheet, row, "calendar") or ("" if class_ == "24-jam" else "lima-hari")
    uplinks = [u for n in range(1, MAX_UPLINKS + 1) if (u := _uplink(sheet, row, "" if n == 1 else f" {n}", made))]
    if len(uplinks) > 1:
        _tell_apart(sheet, row, uplinks)
    found = {
        "district": _checked(sheet, row, "district", inventory.Line),
        "class": class_,
        "status": _word(sheet, row, "status"),
        "delivery": _word(sheet, row, "delivery"),
        "address": _checked(sheet, row, "address", inventory.HostPort),
        "calendar": calendar,
        "location": _location(sheet, row),
        "power": _word(sheet, row, "power"),
        "timezone": _word(sheet, row, "timezone"),
        "uplinks": uplinks,
        "services": list(dict.fromkeys(_key(made.services, name, "layanan") for name, _ in _named_services(row))),
        "contacts": _contact(sheet, row),
    }
    if found["delivery"] == "pull" and "address" not in row.cells:
        sheet.problem(row.cells["delivery"], "needs the agent's address (host:port) in a column `alamat agen`")
    return {k: v for k, v in found.items() if v and (k, v) not in (("status", "active"), ("delivery", "push"), ("power", "always"))}


def _tell_apart(sheet: _Sheet, row: Row, uplinks: list[dict[str, Any]]) -> None:
    """Gives several uplinks of a site their sources, and names where one ISP has two of them."""
    sources = [uplink.get("source") for uplink in uplinks]
    given = [s for s in sources if s]
    if len(set(given)) < len(given):
        sheet.problem(Cell(row.line, "source", ""), f'"{given[0]}" is given for two uplinks of one office')
    free = (name for n in itertools.count(1) if (name := f"wan{n}") not in given)
    same = len({uplink["isp"] for uplink in uplinks}) < len(uplinks)
    for i, uplink in enumerate(uplinks):
        uplink.setdefault("source", next(free))
        uplink.update({"name": f"jalur-{i + 1}"} if same else {})
    sheet.notes.append(f"Line {row.line} has {len(uplinks)} uplinks: check each `source`, the box's interface on it.")


def _class_by_name(name: str) -> str:
    return next((class_ for class_, pattern in BY_NAME if re.search(pattern, _plain(name))), "kantor")


def _uplink(sheet: _Sheet, row: Row, suffix: str, made: _Made) -> dict[str, Any]:
    """One uplink's keys; nothing where its columns are empty."""
    given = [c for c in UPLINK if f"{c}{suffix}" in row.cells]
    if not given:
        return {}
    for needed in ("isp", "medium"):
        if needed not in given:
            sheet.problem(Cell(row.line, row.cells[given[0] + suffix].heading, ""), f"is given, but not the uplink's {needed}{suffix}")
    name = _checked(sheet, row, f"isp{suffix}", inventory.Name) or ""
    found = {
        "isp": _key(made.isps, name, "isp"),
        "medium": _word(sheet, row, "medium", suffix),
        "customer": _customer(sheet, row, f"customer{suffix}"),
        "mbps": _cell(sheet, row, f"mbps{suffix}", _mbps),
        "price": _cell(sheet, row, f"price{suffix}", _rupiah),
        "from": _cell(sheet, row, f"from{suffix}", _date),
        "until": _cell(sheet, row, f"until{suffix}", _date),
        "source": _checked(sheet, row, f"source{suffix}", Source),
    }
    if found["from"] and found["until"] and found["until"] < found["from"]:
        sheet.problem(row.cells[f"until{suffix}"], "is before the contract's beginning")
    return {k: v for k, v in found.items() if v not in (None, "")}


def _contact(sheet: _Sheet, row: Row) -> list[dict[str, Any]]:
    phone = _checked(sheet, row, "phone", inventory.Line)
    name = _checked(sheet, row, "contact", inventory.Name)
    if phone and (sheet_science := SCIENCE.fullmatch(phone)):
        sheet.problem(row.cells["phone"], SCIENCE_SAID.format(sheet_science[0]))
    return [{"name": name or "Piket", **({"phone": phone} if phone else {})}] if name or phone else []


def _named_services(row: Row) -> Iterator[tuple[str, str]]:
    """`SIAK https://siak.example.go.id/, SIPD` → (SIAK, https://…), (SIPD, "")."""
    for part in re.split(r"[,;]\s*", row.text("services")):
        name, scheme, rest = part.partition("http") if re.search(r"https?://", part) else (part, "", "")
        if name := name.strip(" =(:"):
            yield name, (scheme + rest).rstrip(" )")


def _services(sheet: _Sheet, made: _Made) -> None:
    """All services of all rows; each needs its URL in one of them."""
    first: dict[str, Cell] = {}
    for row in sheet.rows:
        for name, url in _named_services(row):
            cell = row.cells["services"]
            _read(sheet, cell, functools.partial(parse, name, inventory.Name))
            key = _key(made.services, name, "layanan")
            first.setdefault(key, cell)
            if url:
                made.services[key]["url"] = _read(sheet, cell, functools.partial(parse, url, inventory.Url))
    for key, entry in made.services.items():
        if "url" not in entry:
            sheet.problem(first[key], f'"{entry["name"]}" has no web address anywhere; write it once: {entry["name"]} https://…')


# -- cells ------------------------------------------------------------------------------------------------------------------------


def _read(sheet: _Sheet, cell: Cell, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except ValueError as e:
        sheet.problem(cell, str(e))
        return None


def _cell(sheet: _Sheet, row: Row, column: str, reader: Callable[[str], Any]) -> Any:
    """The cell's value, or None where there is none or it is no good."""
    cell = row.cells.get(column)
    return _read(sheet, cell, lambda: reader(cell.text)) if cell else None


def _checked(sheet: _Sheet, row: Row, column: str, schema: Any) -> Any:
    """The cell's text, where the inventory would take it."""
    return _cell(sheet, row, column, lambda text: parse(text, schema) and text)


def _word(sheet: _Sheet, row: Row, column: str, suffix: str = "") -> str:
    """One of the column's words, in any of their spellings."""
    known = {_plain(alias): word for word, names in WORDS[column].items() for alias in (word, *names.split(", "))}

    def reader(text: str) -> str:
        if _plain(text) not in known:
            raise ValueError(f'"{text[:40]}" is not one of {", ".join(WORDS[column])}')
        return known[_plain(text)]

    return _cell(sheet, row, f"{column}{suffix}", reader) or ""


SCIENCE = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
SCIENCE_SAID = '"{}" is a number that the spreadsheet has rounded: make the column text (Format, Cells, Text), type it again, save again'


def _customer(sheet: _Sheet, row: Row, column: str) -> str:
    def reader(text: str) -> str:
        if SCIENCE.fullmatch(text):
            raise ValueError(SCIENCE_SAID.format(text))
        return str(parse(text, inventory.Line))

    return _cell(sheet, row, column, reader) or ""


def _number(text: str) -> float | None:
    """`1.250,5`, `1,250.5`, `2,5`, `2.5`, `2.500.000` → a number; three digits behind a lone mark are thousands."""
    text = text.replace(" ", "")
    if re.fullmatch(r"\d{1,12}([.,]\d{1,2})?", text, re.ASCII):
        return float(text.replace(",", "."))
    for thousand, decimal in ((".", ","), (",", ".")):
        if re.fullmatch(rf"\d{{1,3}}(\{thousand}\d{{3}}){{1,4}}(\{decimal}\d{{1,2}})?", text, re.ASCII):
            return float(text.replace(thousand, "").replace(decimal, "."))
    return None


def _mbps(text: str) -> float | int:
    m = re.fullmatch(r"(?:up ?to\s+)?([\d.,]+)\s*(k|m|g)?(?:bps|b|bit/s|bit)?", text.lower())
    number = _number(m[1]) if m else None
    if not m or number is None:
        raise ValueError(f'"{text[:40]}" is not a speed (try 50, or 50 Mbps)')
    value = float(parse(f"{number * {'k': 0.001, 'g': 1000}.get(m[2], 1):.6f}", inventory.Mbps))
    return int(value) if value.is_integer() else value


def _rupiah(text: str) -> int:
    bare = re.sub(r"(,-|,–|/bulan|per bulan|/bln)$", "", re.sub(r"^(rp\.?|idr)\s*", "", text.lower())).strip()
    number = _number(bare)
    if number is None or not number.is_integer():
        raise ValueError(f'"{text[:40]}" is not an amount of rupiah (try 2500000, or Rp 2.500.000)')
    return int(number)


def _date(text: str) -> str:
    """The date as 2026-01-31. Day before month, as it is written in Indonesia."""
    year, month, day = 0, 0, 0
    if m := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})( 00:00(:00)?)?", text, re.ASCII):
        year, month, day = int(m[1]), int(m[2]), int(m[3])
    elif m := re.fullmatch(r"(\d{1,2})[-/. ](\d{1,2})[-/. ](\d{4})", text, re.ASCII):
        year, month, day = int(m[3]), int(m[2]), int(m[1])
    elif m := re.fullmatch(r"(\d{1,2})[- ]([a-z]{3,9})[- ](\d{4})", text.lower(), re.ASCII):
        year, month, day = int(m[3]), _month(m[2]), int(m[1])
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        raise ValueError(f'"{text[:40]}" is not a date (try 2026-01-31, 31/01/2026 or 31 Januari 2026)') from None


def _month(word: str) -> int:
    """1 to 12 for `mei`, `agustus`, `agt`, `Dec`; 0 for what is no month."""
    word = {"agt": "agu", "agust": "agu", "nop": "nov"}.get(word, word)
    return next((i + 1 for names in (MONTHS, ENGLISH) for i, name in enumerate(names) if name.startswith(word)), 0)


def _location(sheet: _Sheet, row: Row) -> list[float]:
    pair = row.cells.get("location")
    if pair:
        return _read(sheet, pair, lambda: _pair(pair.text)) or []
    found = [_cell(sheet, row, column, _degrees) for column in ("latitude", "longitude")]
    given = [row.cells[c] for c in ("latitude", "longitude") if c in row.cells]
    if len(given) == 1:
        sheet.problem(given[0], "is given without the other half of the place")
    if None in found:
        return []
    if abs(found[0]) > 90:
        sheet.problem(given[0], "is no latitude; are the two columns the wrong way round?")
    return found


def _degrees(text: str) -> float:
    value: float = parse(text.replace(",", ".").replace("°", "").strip(), inventory.Degrees)
    return value


def _pair(text: str) -> list[float]:
    """`2.1017, 99.8295`, `2,1017; 99,8295`, `2,1017 99,8295` → both in degrees."""
    m = re.fullmatch(r"(-?\d+\.\d+)[\s,;]+(-?\d+\.\d+)|(-?\d+,\d+)(?:;\s*|,\s+|\s+)(-?\d+,\d+)", text, re.ASCII)
    if not m or abs(latitude := _degrees(m[1] or m[3])) > 90:
        raise ValueError(f'"{text[:40]}" is not a place (try 2.1017, 99.8295: latitude, longitude)')
    return [latitude, _degrees(m[2] or m[4])]


# -- names that nobody gave -------------------------------------------------------------------------------------------------------


def _slug(name: str, otherwise: str = "kantor") -> str:
    """`Kantor Camat Bilah Hulu` → kantor-camat-bilah-hulu, cut between words where it is longer than 40."""
    found = ""
    for word in _plain(name).split():
        longer = f"{found}-{word}" if found else word[:40]
        if len(longer) > 40:
            break
        found = longer
    return found or otherwise


def _code(name: str) -> str:
    """Something short that can be said: RSUD Rantauprapat → RSUDRAN, Inspektorat → INS, Dinas Kependudukan dan … → DKPS."""
    words = [w.upper() for w in _plain(name).split() if w not in {"dan", "kantor", "dinas", "badan", "di", "the", "of", "and"}]
    words = words or _plain(name).upper().split() or ["XX"]
    if len(words) > 3:
        return "".join(w[0] for w in words)[:6]
    first = "".join(w if len(w) <= 4 and i == 0 and len(words) > 1 else w[0] for i, w in enumerate(words[:-1]))
    return (first + words[-1][:3]).ljust(2, "X")[:8]


def _unique(wanted: str, taken: set[str], joint: str, longest: int) -> str:
    """The name, or with 2, 3, … behind it."""
    tries = itertools.chain([""], (f"{joint}{n}" for n in itertools.count(2)))
    return next(found for end in tries if (found := wanted[: longest - len(end)] + end) not in taken)


# -- the result -------------------------------------------------------------------------------------------------------------------

HEAD = """\
# Made from {file} by `ronda central import`: {n} offices.
# Next: set centre (name, url, phone), look at calendars, then run: ronda central check --inventory FILE
# Berikutnya: isi centre (name, url, phone), periksa calendars, lalu jalankan: ronda central check --inventory BERKAS
"""


def _written(file: str, made: _Made, sheet: _Sheet) -> str:
    used = {site.get("calendar") for site in made.sites.values()}
    whole = {
        "centre": {
            "name": "Kominfo",
            "timezone": "Asia/Jakarta",
            "url": "https://pusat.example.go.id:17664",
            "token_file": "/etc/ronda/token",
            "phone": "",
        },
        "calendars": {name: hours for name, hours in CALENDARS.items() if name in used} or {"lima-hari": CALENDARS["lima-hari"]},
        "isps": made.isps,
        "services": made.services,
        "sites": made.sites,
    }
    notes = "".join(f"# {note}\n" for note in dict.fromkeys(sheet.notes))
    body = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=130, default_flow_style=None)
    shown = "".join(c if c.isprintable() else "?" for c in file)
    return HEAD.format(file=shown, n=len(made.sites)) + notes + "\n" + str(body)
