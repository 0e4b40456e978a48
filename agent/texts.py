"""Every word that the pages say, Indonesian first, and how numbers, times and ages are written in each language.

Law: a text is data here, never code elsewhere; both languages stand side by side, so neither can be forgotten. The clerk's texts
(CAUSES, HEADLINES) hold no jargon, no device's name, no address.
"""

import dataclasses
import zoneinfo
from datetime import datetime
from typing import Literal, NamedTuple

Lang = Literal["id", "en"]


class Text(NamedTuple):
    id: str
    en: str

    def of(self, lang: Lang) -> str:
        return self.id if lang == "id" else self.en


def language(asked: str, accept: str) -> Lang:
    """The language of ?lang=, else the first of Accept-Language that is ours, else Indonesian."""
    for wish in (asked, *accept.split(",")[:16]):
        code = wish.strip().lower()[:2]
        if code in ("id", "in", "ms", "jv", "su"):  # old code of Indonesian, and readers of it
            return "id"
        if code == "en":
            return "en"
    return "id"


# -- states and reasons of tasks ----------------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A state as people see it: a shape, a word, and the class that colours both."""

    shape: str
    word: Text
    rank: int  # the worse, the smaller


TASK_STATES = {
    "down": Mark("✕", Text("MATI", "DOWN"), 0),
    "blind": Mark("◇", Text("TIDAK TERPANTAU", "BLIND"), 1),
    "checking": Mark("△", Text("DIUJI ULANG", "RE-CHECKING"), 2),
    "unknown": Mark("…", Text("BELUM DIPERIKSA", "NOT LOOKED YET"), 3),
    "ok": Mark("✓", Text("BAIK", "OK"), 4),
}

REASONS = {
    "resolve": Text("nama tidak ditemukan (DNS)", "the name was not found (DNS)"),
    "timeout": Text("tidak ada jawaban pada waktunya", "no answer in time"),
    "refused": Text("sambungan ditolak: layanan tidak jalan di sana", "refused: nothing listens there"),
    "unreachable": Text("tidak ada jalan ke sana", "no way there (unreachable)"),
    "reset": Text("sambungan diputus dari sana", "the other side cut the connection"),
    "tls": Text("sambungan aman (TLS) gagal", "the secure connection (TLS) failed"),
    "certificate": Text("sertifikat tidak sah atau kedaluwarsa", "the certificate is invalid or expired"),
    "status": Text("layanan menjawab dengan kode galat", "the service answers with an error code"),
    "body": Text("isi halaman tidak seperti seharusnya", "the page's content is not as expected"),
    "rcode": Text("server DNS menjawab dengan galat", "the DNS server answers with an error"),
    "answer": Text("jawaban tidak seperti seharusnya", "the answer is not as expected"),
    "auth": Text("perangkat menolak nama atau kata sandi Ronda", "the device refuses Ronda's name or password"),
    "send": Text("kotak Ronda sendiri gagal mengirim", "this box itself failed to send"),
    "internal": Text("kesalahan di dalam Ronda", "an error inside Ronda"),
}

KINDS = {
    "icmp": Text("Sambungan (ping)", "Reachability (ping)"),
    "tcp": Text("Layanan (TCP)", "Services (TCP)"),
    "http": Text("Situs dan aplikasi (HTTP)", "Sites and applications (HTTP)"),
    "dns": Text("Penerjemah nama (DNS)", "Name resolution (DNS)"),
    "link": Text("Kabel, WiFi dan jalur", "Cables, WiFi and routes"),
    "host": Text("Kotak Ronda", "The Ronda box"),
    "lan": Text("Keamanan jaringan kantor", "The office network's security"),
    "guard": Text("Keamanan kotak Ronda", "The box's own security"),
    "snmp": Text("Perangkat (SNMP)", "Devices (SNMP)"),
    "syslog": Text("Catatan router dan switch", "Logs of routers and switches"),
    "traps": Text("Laporan perangkat (trap SNMP)", "What devices tell (SNMP traps)"),
}

# -- the verdict --------------------------------------------------------------------------------------------------------------

SITE_STATES = {
    "ok": Mark("✓", Text("baik", "fine"), 5),
    "degraded": Mark("△", Text("lambat atau terganggu", "slow or impaired"), 1),
    "down": Mark("✕", Text("putus", "cut off"), 0),
    "silent": Mark("◇", Text("tanpa kabar", "silent"), 2),
    "closed": Mark("–", Text("kantor tutup", "office closed"), 4),
    "maintenance": Mark("–", Text("pemeliharaan", "maintenance"), 3),
    "planned": Mark("–", Text("belum dipasang", "not installed yet"), 4),
    "retired": Mark("–", Text("dicabut", "retired"), 4),
}

CONFIDENCE = {
    "certain": Text("pasti", "certain"),
    "likely": Text("mungkin", "likely"),
    "unknown": Text("belum tahu", "not known yet"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """A cause: `short` for the admin (words.md's table), `plain` and the three `steps` for the clerk."""

    short: Text
    plain: Text
    steps: tuple[Text, Text, Text]


_TELL = Text(
    "Jika 15 menit kemudian belum pulih, hubungi Kominfo dan sebutkan nomor gangguan.",
    "If it is not back after 15 minutes, call Kominfo and say the incident number.",
)
_CALL = Text("Hubungi Kominfo dan sebutkan nomor gangguan.", "Call Kominfo and say the incident number.")
_WAIT = Text("Halaman ini memperbarui diri; tunggu sampai hijau.", "This page refreshes itself; wait until it is green.")

CAUSES = {
    "ok": Cause(
        Text("tidak ada gangguan", "no trouble"),
        Text("Tidak ada gangguan.", "There is no trouble."),
        (
            Text(
                "Coba situs lain. Jika satu saja yang tidak terbuka, situs itu yang bermasalah.",
                "Try another site. If just one does not open, the trouble is there.",
            ),
            Text(
                "Coba komputer atau HP lain. Jika satu saja yang bermasalah, hidupkan ulang yang itu.",
                "Try another computer or phone. If just one has trouble, restart that one.",
            ),
            Text(
                "Jika semuanya bermasalah, tekan Periksa sekarang, lalu hubungi Kominfo.",
                "If all have trouble, press Check now, then call Kominfo.",
            ),
        ),
    ),
    "power": Cause(
        Text("listrik padam", "power cut"),
        Text("Listrik di kantor padam.", "The office has no electricity."),
        (
            Text(
                "Periksa apakah lampu kantor menyala dan token listrik masih ada.",
                "See whether the lights work and the prepaid token is not used up.",
            ),
            Text(
                "Jika hanya kantor ini yang padam, periksa sekring (MCB) di meteran.",
                "If only this office is dark, check the breaker at the meter.",
            ),
            Text("Jika tetangga juga padam, telepon PLN 123 dan tunggu.", "If the neighbours are dark too, call PLN 123 and wait."),
        ),
    ),
    "host": Cause(
        Text("kotak Ronda rusak", "the Ronda box is broken"),
        Text(
            "Kotak pemantau (Ronda) bermasalah. Internet mungkin tetap baik.",
            "The monitoring box (Ronda) has trouble. The internet may be fine.",
        ),
        (
            Text("Coba buka sebuah situs. Jika terbuka, teruskan pekerjaan Anda.", "Open any site. If it opens, go on with your work."),
            Text(
                "Pastikan kotak Ronda menyala dan colokannya tidak longgar.", "Make sure the Ronda box has power and its plug sits firmly."
            ),
            _CALL,
        ),
    ),
    "link": Cause(
        Text("kabel/WiFi lepas", "cable or WiFi unplugged"),
        Text("Kabel jaringan lepas atau WiFi terputus.", "A network cable is unplugged, or the WiFi is lost."),
        (
            Text(
                "Tekan kedua ujung kabel jaringan dari kotak Ronda sampai berbunyi klik.",
                "Push both ends of the Ronda box's network cable in until they click.",
            ),
            Text("Pastikan kotak internet (router) dan colokannya menyala.", "Make sure the internet box (router) has power."),
            _TELL,
        ),
    ),
    "gateway": Cause(
        Text("router kantor bermasalah", "the office router has trouble"),
        Text("Kotak internet kantor (router) tidak menjawab.", "The office's internet box (router) does not answer."),
        (
            Text(
                "Lihat lampu kotak internet (router). Jika mati, periksa colokan listriknya.",
                "Look at the internet box's (router's) lights. If they are off, check its plug.",
            ),
            Text(
                "Cabut colokan listriknya, hitung sampai 30, pasang lagi, lalu tunggu 3 menit.",
                "Unplug its power, count to 30, plug it in again, and wait 3 minutes.",
            ),
            Text(
                "Jika belum pulih, hubungi Kominfo dan sebutkan nomor gangguan.",
                "If it is not back, call Kominfo and say the incident number.",
            ),
        ),
    ),
    "isp": Cause(
        Text("gangguan penyedia internet", "trouble at the internet provider"),
        Text(
            "Penyedia internet sedang terganggu. Alat di kantor baik.", "The internet provider has trouble. The office's equipment is fine."
        ),
        (
            Text("Jangan mencabut atau mengubah alat apa pun.", "Do not unplug or change anything."),
            Text("Catat nomor gangguan; Kominfo yang menghubungi penyedia.", "Note the incident number; Kominfo talks to the provider."),
            _TELL,
        ),
    ),
    "account": Cause(
        Text("diblokir penyedia (tagihan/kuota/kontrak)", "blocked by the provider (bill, quota, contract)"),
        Text(
            "Penyedia menghentikan layanan: tagihan, kuota, atau kontrak.",
            "The provider stopped the service: a bill, the quota, or the contract.",
        ),
        (
            Text("Jangan mencabut atau mengubah alat apa pun.", "Do not unplug or change anything."),
            Text(
                "Beri tahu bendahara atau kasubbag umum: tagihan atau kuota internet.",
                "Tell the treasurer or office manager: internet bill or quota.",
            ),
            _CALL,
        ),
    ),
    "saturated": Cause(
        Text("internet penuh dipakai", "the line is full"),
        Text("Internet lambat karena penuh dipakai. Tidak ada yang rusak.", "The internet is slow because it is full. Nothing is broken."),
        (
            Text("Hentikan dulu unduhan besar dan video.", "Stop large downloads and videos for now."),
            Text("Tunda pengiriman berkas besar sampai sore.", "Put off sending large files until late afternoon."),
            Text("Jika ini terjadi tiap hari, beri tahu Kominfo.", "If it happens every day, tell Kominfo."),
        ),
    ),
    "dns": Cause(
        Text("alamat situs tak terbaca (DNS)", "site names can't be read (DNS)"),
        Text(
            "Internet tersambung, tetapi nama situs tidak dikenali.",
            "The internet is connected, but the names of sites are not recognised.",
        ),
        (
            Text("Jangan mengubah setelan komputer.", "Do not change settings of the computer."),
            Text(
                "Cabut colokan listrik kotak internet (router), hitung sampai 30, pasang lagi.",
                "Unplug the internet box (router), count to 30, plug it in again.",
            ),
            _TELL,
        ),
    ),
    "portal": Cause(
        Text("tertahan halaman masuk", "held by a login page"),
        Text("Internet tertahan: ada halaman masuk (login) yang harus diisi.", "The internet is held back by a login page."),
        (
            Text(
                "Buka sebuah situs, misalnya di Chrome; biasanya halaman masuk muncul.",
                "Open any site, in Chrome for instance; usually the login page appears.",
            ),
            Text(
                "Isi nama dan sandi yang diberikan penyedia atau pengelola gedung.",
                "Enter the name and password given by the provider or the building.",
            ),
            _TELL,
        ),
    ),
    "centre": Cause(
        Text("server Kominfo tak terjangkau", "the Kominfo server can't be reached"),
        Text(
            "Internet kantor baik; server Kominfo yang sedang tidak terjangkau.",
            "The office's internet is fine; the Kominfo server can't be reached.",
        ),
        (
            Text("Teruskan pekerjaan Anda seperti biasa.", "Go on with your work."),
            Text(
                "Aplikasi milik kabupaten mungkin tidak terbuka; coba lagi nanti.",
                "Applications of the regency may not open; try again later.",
            ),
            _TELL,
        ),
    ),
    "service": Cause(
        Text("aplikasi mati, internet baik", "an application is down, the internet is fine"),
        Text(
            "Internet baik. Ada aplikasi atau situs yang sedang mati di tempatnya sendiri.",
            "The internet is fine. An application or site is down at its own place.",
        ),
        (
            Text(
                "Jangan mencabut atau mengubah alat apa pun: internet kantor baik.",
                "Do not unplug or change anything: the office's internet is fine.",
            ),
            Text("Teruskan pekerjaan lain dan coba aplikasi itu lagi nanti.", "Do other work and try the application again later."),
            _TELL,
        ),
    ),
    "unknown": Cause(
        Text("belum diketahui", "not known yet"),
        Text("Sebabnya belum diketahui. Ronda sedang memeriksa.", "The cause is not known yet. Ronda is looking."),
        (
            _WAIT,
            Text(
                "Pastikan kotak internet (router) dan kotak Ronda menyala.",
                "Make sure the internet box (router) and the Ronda box have power.",
            ),
            Text("Jika 15 menit kemudian masih begini, hubungi Kominfo.", "If it is still so after 15 minutes, call Kominfo."),
        ),
    ),
}


class Headline(NamedTuple):
    """The clerk's large line: `colour` is ok, warn, bad or none; `shape` says the same without colour; `but` stands below it."""

    colour: str
    shape: str
    subject: Text
    word: Text
    but: Text = Text("", "")


_INTERNET = Text("Internet", "Internet")
_OFFICE = Text("Kantor", "Office")
_FINE = Text("BAIK", "FINE")
FINE = Headline("ok", "✓", _INTERNET, _FINE)
SLOW = Headline("warn", "△", _INTERNET, Text("LAMBAT", "SLOW"))
IMPAIRED = Headline("warn", "△", _INTERNET, Text("TERGANGGU", "IMPAIRED"))
CUT = Headline("bad", "✕", _INTERNET, Text("PUTUS", "CUT OFF"))
NOT_KNOWN = Headline("none", "?", _INTERNET, Text("BELUM DIKETAHUI", "NOT KNOWN YET"))
APPLICATION = Headline("warn", "△", _INTERNET, _FINE, Text("tetapi ada aplikasi yang mati", "but an application is down"))
CENTRE = Headline("warn", "△", _INTERNET, _FINE, Text("tetapi server Kominfo tak terjangkau", "but the Kominfo server is out of reach"))
_OTHER = {
    "silent": Headline("none", "?", _OFFICE, Text("TANPA KABAR", "SILENT")),
    "closed": Headline("none", "–", _OFFICE, Text("TUTUP", "CLOSED")),
    "maintenance": Headline("warn", "△", _INTERNET, Text("PEMELIHARAAN", "MAINTENANCE")),
    "planned": Headline("none", "–", _OFFICE, Text("BELUM DIPASANG", "NOT INSTALLED YET")),
    "retired": Headline("none", "–", _OFFICE, Text("DICABUT", "RETIRED")),
}


def headline(state: str, cause: str) -> Headline:
    """What the clerk reads first. Slow is not dead, a dead application is not a slow internet, and nothing known is not `fine`."""
    if state == "ok":
        return FINE if cause == "ok" else NOT_KNOWN if cause == "unknown" else IMPAIRED
    if state == "degraded":
        return {"service": APPLICATION, "centre": CENTRE, "saturated": SLOW, "unknown": SLOW, "host": NOT_KNOWN}.get(cause, IMPAIRED)
    return CUT if state == "down" else _OTHER.get(state, NOT_KNOWN)


# -- the admin's page -----------------------------------------------------------------------------------------------------------

PAGE = {
    "now": Text("Keadaan sekarang", "State now"),
    "since": Text("sejak", "since"),
    "incident": Text("Nomor gangguan", "Incident"),
    "cause": Text("Sebab", "Cause"),
    "evidence": Text("Bukti", "Evidence"),
    "problems": Text("Perlu perhatian di kotak ini", "Needs attention on this box"),
    "tasks": Text("Yang dipantau", "What is watched"),
    "of": Text("dari", "of"),
    "good": Text("baik", "fine"),
    "links": Text("Tautan", "Links"),
    "metrics": Text("metrik untuk Prometheus", "metrics for Prometheus"),
    "config": Text("konfigurasi yang berlaku", "config in force"),
    "healthy": Text("kesehatan agen", "agent's health"),
    "ready": Text("kesiapan agen", "agent's readiness"),
    "none": Text("Belum ada yang dipantau.", "Nothing is watched yet."),
    "more": Text("lagi tidak ditampilkan; semuanya ada di /metrics", "more are not shown; /metrics has them all"),
    "looked": Text("dilihat", "looked at"),
    "ago": Text("lalu", "ago"),
    "never": Text("belum pernah dilihat", "never looked at"),
    "last": Text("terakhir", "last"),
    "late": Text("lewat waktunya", "overdue"),
    "stretched": Text("dijarangkan demi kuota: tiap", "stretched for its uplink: every"),
    "made": Text("Halaman dibuat", "Page made"),
    "refresh": Text("memperbarui diri tiap 15 detik", "refreshes itself every 15 seconds"),
    "hours": Text("6 jam terakhir", "last 6 hours"),
    "no_data": Text("tanpa data", "no data"),
    "highest": Text("tertinggi", "highest"),
    "drawn": Text("Garis: 6 jam terakhir, kanan adalah sekarang", "Strips: the last 6 hours, now is at the right"),
    "alarm": Text("KEJADIAN KEAMANAN", "SECURITY EVENT"),
    "alarms": Text("Kejadian keamanan yang terbuka di sini", "Open security events here"),
    "look": Text("lihat di kotak ini, lalu ikuti langkah di runbook-nya", "look on this box, then follow its runbook"),
    "gateway": Text("gateway (router kantor)", "gateway (office router)"),
    "unheard": Text("belum ada sejak Ronda dinyalakan", "none since Ronda was started"),
}

# Below the line of a device. `log`, `trap`: when it was last heard; on the line of the kind itself its name stands in their place.
FACTS = {
    "name": Text("Nama", "Name"),
    "model": Text("Model", "Model"),
    "version": Text("Versi", "Version"),
    "serial": Text("No. seri", "Serial"),
    "uptime": Text("Menyala", "Up for"),
    "profiles": Text("Dibaca dengan", "Read by"),
    "down": Text("Port mati", "Ports down"),
    "capped": Text("Angka tidak muat", "Series left out"),
    "log": Text("Log terakhir", "Last log"),
    "trap": Text("Trap terakhir", "Last trap"),
}

LAN = {
    "since": Text("Sejak", "Since"),
    "still": Text("Jika Anda tetap merasa ada masalah", "If you still have trouble"),
    "todo": Text("Yang perlu dilakukan", "What to do"),
    "incident": Text("Nomor gangguan", "Incident number"),
    "say_it": Text("sebutkan saat menelepon", "say it on the phone"),
    "call": Text("Hubungi Kominfo", "Call Kominfo"),
    "check": Text("Periksa sekarang", "Check now"),
    "checking": Text("Sedang diperiksa. Hasilnya muncul sebentar lagi.", "Checking. The result appears in a moment."),
    "wait": Text("Baru saja diperiksa, coba lagi dalam {} detik.", "Just checked, try again in {} seconds."),
    "updated": Text("Diperbarui", "Updated"),
    "sure": Text("Sebab ini belum pasti.", "This cause is not certain yet."),
}

# -- numbers and times --------------------------------------------------------------------------------------------------------

_MONTHS = {
    "id": ("Jan", "Feb", "Mar", "Apr", "Mei", "Jun", "Jul", "Agu", "Sep", "Okt", "Nov", "Des"),
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
}
ZONES = {
    "Asia/Jakarta": "WIB",
    "Asia/Pontianak": "WIB",
    "Asia/Makassar": "WITA",
    "Asia/Ujung_Pandang": "WITA",
    "Asia/Jayapura": "WIT",
}
SANE = 1_577_836_800.0  # 2020: earlier times come from a box whose clock was not set yet


def number(value: float, lang: Lang) -> str:
    """Three significant digits, with the language's decimal sign: 0,045 · 1,25 · 12,3 · 123."""
    size = abs(value)
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 or not size else 3
    shown = f"{value:.{digits}f}"
    return shown.replace(".", ",") if lang == "id" else shown


def seconds(value: float, lang: Lang) -> str:
    """A measured duration: `0,45 ms`, `12,3 ms`, `1,25 dtk`."""
    if abs(value) < 0.9995:
        return f"{number(value * 1000, lang)} ms"
    return f"{number(value, lang)} {'dtk' if lang == 'id' else 's'}"


_UNITS = (
    (86400, Text("hari", "d")),
    (3600, Text("jam", "h")),
    (60, Text("mnt", "min")),
    (1, Text("dtk", "s")),
)


def age(elapsed: float, lang: Lang) -> str:
    """`5 dtk`, `3 mnt`, `2 jam 5 mnt`, `4 hari`; what lies in the future (a clock that was set back) is `0 dtk`."""
    left = max(0, int(elapsed))
    for i, (size, unit) in enumerate(_UNITS):
        if left >= size or size == 1:
            shown = f"{left // size} {unit.of(lang)}"
            rest = left % size // 60 if size == 3600 else 0
            return f"{shown} {rest} {_UNITS[i + 1][1].of(lang)}" if rest else shown
    raise AssertionError


def clock_time(at: float, now: float, zone: str, lang: Lang) -> str:
    """`02.07 WIB` today, else `23 Nov 02.07 WIB`; empty for a time that a box without a set clock made up."""
    if at < SANE:
        return ""
    tz = zoneinfo.ZoneInfo(zone)
    then, today = datetime.fromtimestamp(at, tz), datetime.fromtimestamp(now, tz)
    shown = f"{then:%H.%M}" if lang == "id" else f"{then:%H:%M}"
    if then.date() != today.date():
        year = f" {then.year}" if then.year != today.year else ""
        shown = f"{then.day} {_MONTHS[lang][then.month - 1]}{year} {shown}"
    return f"{shown} {ZONES.get(zone) or then.tzname()}"
