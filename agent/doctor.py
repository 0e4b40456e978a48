"""`ronda doctor`: is this box fit for its watch, in lines of a traffic light that a clerk can read aloud on the phone.

Law: it only looks. Nothing is changed but a file of a few bytes written to the data directory and removed again. Every check
has the same deadline, all run at once, so the whole ends in less than 10 s whatever is dead. What could not be looked at is
amber and says so; it is never green. Texts are Indonesian first, without the words of the trade; `detail` is for the technician.
"""

import asyncio
import dataclasses
import errno
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from agent import budget, delivery, eventlane, privileges, timesync
from agent.capture import reader as capture
from agent.collector import Env, Failure
from agent.config import ANCHORS, AgentConfig, PushConfig
from agent.sockets import parse_address
from agent.wire import dns, icmp

Level = Literal["ok", "warn", "bad"]
Language = Literal["id", "en", "both"]

DEADLINE = 8.0  # seconds for one check
TRY = 1.5  # seconds that one ping or one DNS question waits; each is tried three times
TRIES = 3
QUESTION = ("go.id", "NS")  # as the agent asks without a config; every resolver of the country can answer it
OLDEST = 1_793_491_200  # 2026-11-01: no Ronda is older, so a clock before it is wrong
NEWEST = 4_102_444_800  # 2100-01-01
LITTLE_DISK, NO_DISK = 200 << 20, 20 << 20
LITTLE_MEMORY = 64 << 20


class Words(NamedTuple):
    id: str
    en: str


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line. `detail` holds numbers and addresses for a technician; `fix` says what to do, in the imperative."""

    level: Level
    title: Words
    detail: str = ""
    fix: Words | None = None


Ping = Callable[[str], Awaitable[float | None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What the doctor looks with; tests give others. `ping`: address → seconds, None where there is no answer."""

    rights: privileges.Privileges
    ping: Ping
    kernel_clock: Callable[[], timesync.TimeState] = timesync.read
    anchors: Sequence[str] = ()  # empty: those of the config, else Ronda's own
    question: tuple[str, str] = QUESTION
    dns_port: int = 53
    deadline: float = DEADLINE
    eyes: Callable[[Path, str], Awaitable[capture.Handed]] = capture.ask


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is examined, and with what."""

    env: Env
    config: AgentConfig | None
    problems: Sequence[str]  # of a config that can't be used
    data_dir: Path
    means: Means

    @property
    def rights(self) -> privileges.Privileges:
        return self.means.rights

    @property
    def call(self) -> Words:
        """Whom to call."""
        phone = self.config.office.phone if self.config else ""
        return Words(f"hubungi Kominfo{f' {phone}' if phone else ''}", f"call Kominfo{f' {phone}' if phone else ''}")


Check = Callable[[Case], Awaitable[list[Finding]]]


async def examine(
    env: Env, config: AgentConfig | None, data_dir: Path, *, config_problems: Sequence[str] = (), means: Means | None = None
) -> list[Finding]:
    """Looks at everything at once. `config` is None without a file, or where the file is wrong: then `config_problems` says how.

    Raises OSError or ValueError only where proc/ is not there at all.
    """
    if means is None:
        rights = privileges.look(env.root)
        means = Means(rights, pinger(rights))
    case = Case(env, config, config_problems, data_dir, means)
    answers = await asyncio.gather(*(_bounded(check, what, case) for check, what in (*CHECKS, *_of_devices(config))))
    return [finding for findings in answers for finding in findings]


def _of_devices(config: AgentConfig | None) -> "Sequence[tuple[Check, Words]]":
    """Imported here: a box without devices needs none of it."""
    from agent import devicedoctor

    watched = {kind for kind, _ in config.tasks()} if config else set()
    return devicedoctor.CHECKS if watched & set(devicedoctor.NEEDS) else ()


async def _bounded(check: Check, what: Words, case: Case) -> list[Finding]:
    try:
        async with asyncio.timeout(case.means.deadline):
            return await check(case)
    except TimeoutError:
        why = f"> {case.means.deadline:g} s"
    except (OSError, ValueError, Failure, dns.DnsError) as e:
        why = f"{type(e).__name__}: {e}"
    title = Words(f"Tidak bisa diperiksa: {what.id}", f"Could not be examined: {what.en}")
    return [Finding("warn", title, why, Words(f"Catat baris ini dan {case.call.id}", f"Note this line and {case.call.en}"))]


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when something is red."""
    return int(any(f.level == "bad" for f in findings))


# --- the way out -----------------------------------------------------------------------------------------------------------


async def _gateway(case: Case) -> list[Finding]:
    gateways = case.env.net.gateways()
    if not gateways:
        title = Words("Kotak ini tidak punya jalan keluar (tidak ada gerbang)", "This box has no way out (no default gateway)")
        fix = Words(
            "Periksa kabel jaringan atau WiFi, lalu nyalakan ulang router kantor",
            "Check the network cable or WiFi, then restart the router",
        )
        return [Finding("bad", title, "", fix)]
    found = await asyncio.gather(*(_one_gateway(case, address) for address in gateways))
    if any(f.level == "ok" for f in found):  # a second uplink, or IPv6, being dead is not the office being cut off
        return [dataclasses.replace(f, level="warn") if f.level == "bad" else f for f in found]
    return list(found)


async def _one_gateway(case: Case, address: str) -> Finding:
    seconds = await case.means.ping(address) if case.rights.can_ping else None
    if seconds is not None:
        return Finding("ok", Words("Gerbang kantor menjawab", "The office's gateway answers"), f"{address}, {_ms(seconds)}")
    if in_arp(_arp(case.env.root), address):
        title = Words("Gerbang kantor terlihat, tetapi tidak menjawab ping", "The office's gateway is there, but answers no ping")
        return Finding("ok", title, f"{address}, ARP")
    if not case.rights.can_ping:
        title = Words("Gerbang kantor belum bisa diperiksa: ping belum boleh", "The gateway can't be examined: pings aren't allowed")
        return Finding("warn", title, address, PING_FIX)
    fix = Words(
        "Periksa router kantor: lampu menyala? kabel tertancap? Cabut listriknya 10 detik",
        "Check the router: lights, cables; unplug it for 10 s",
    )
    return Finding("bad", Words("Gerbang kantor tidak menjawab", "The office's gateway doesn't answer"), address, fix)


def _arp(root: Path) -> str:
    path = root / "proc/net/arp"
    return path.read_text() if path.exists() else ""  # a kernel without IPv4 has none


def in_arp(text: str, address: str) -> bool:
    """Whether proc/net/arp holds a complete entry (ATF_COM, 0x2) with a hardware address for it."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 6 and fields[0] == address:
            return bool(int(fields[2], 16) & 2) and fields[3] != "00:00:00:00:00:00"
    return False


async def _internet(case: Case) -> list[Finding]:
    if not case.rights.can_ping:
        title = Words("Internet belum bisa diperiksa: ping belum boleh", "The internet can't be examined: pings aren't allowed")
        return [Finding("warn", title, "", PING_FIX)]
    anchors = case.means.anchors or anchors_of(case.config)
    times = await asyncio.gather(*map(case.means.ping, anchors))
    answered = [t for t in times if t is not None]
    detail = ", ".join(f"{a} {'–' if t is None else _ms(t)}" for a, t in zip(anchors, times, strict=True))
    if len(answered) > 1 or len(answered) == len(anchors):
        return [Finding("ok", Words("Internet terjangkau", "The internet is reachable"), detail)]
    if answered:
        title = Words(
            "Internet tersendat: sebagian besar tujuan tidak menjawab", "The internet is patchy: most of the anchors don't answer"
        )
        return [
            Finding(
                "warn",
                title,
                detail,
                _capital(Words(f"Tunggu 5 menit, periksa lagi; bila tetap, {case.call.id}", f"Wait 5 min, try again; then {case.call.en}")),
            )
        ]
    title = Words("Internet tidak terjangkau", "The internet can't be reached")
    fix = Words(
        f"Bila gerbang kantor HIJAU: gangguan penyedia, {case.call.id}", f"If the gateway is GREEN it's the provider: {case.call.en}"
    )
    return [Finding("bad", title, detail, fix)]


def anchors_of(config: AgentConfig | None) -> Sequence[str]:
    """The addresses that are anchors to the diagnosis too (a ping without another role), else Ronda's own."""
    tasks = config.tasks() if config else ()
    found = [getattr(task, "target", "") for kind, task in tasks if kind == "icmp" and task.labels.get("role", "anchor") == "anchor"]
    return [target for target in dict.fromkeys(found) if parse_address(target)] or ANCHORS


async def _resolvers(case: Case) -> list[Finding]:
    servers = case.env.net.resolvers()
    fix = Words("Isi server DNS di /etc/resolv.conf atau di router (DHCP)", "Set a DNS server in /etc/resolv.conf or on the router (DHCP)")
    if not servers:
        return [Finding("bad", Words("Tidak ada server alamat (DNS) yang diatur", "No DNS server is set"), "", fix)]
    wrong = await asyncio.gather(*(_ask(case, server) for server in servers))
    detail = ", ".join(f"{s}{f' ({w})' if w else ''}" for s, w in zip(servers, wrong, strict=True))
    if not any(wrong):
        return [Finding("ok", Words("Alamat situs terbaca (DNS)", "Names are resolved (DNS)"), detail)]
    if not all(wrong):
        title = Words("Sebagian server alamat (DNS) tidak menjawab", "Some of the DNS servers don't answer")
        return [
            Finding(
                "warn", title, detail, Words(f"Internet tetap jalan, tetapi lambat: {case.call.id}", f"Works, but slowly: {case.call.en}")
            )
        ]
    title = Words("Alamat situs tidak terbaca: server DNS tidak menjawab", "Names can't be resolved: no DNS server answers")
    todo = Words(
        f"Bila internet HIJAU: {case.call.id}, sebutkan 'DNS mati'", f"If the internet is GREEN: {case.call.en}, say 'DNS is down'"
    )
    return [Finding("bad", title, detail, todo)]


async def _ask(case: Case, server: str) -> str:
    """Asks one resolver; what is wrong with its answer, or ""."""
    query = dns.Query(int.from_bytes(os.urandom(2), "big"), *case.means.question)
    wrong = "timeout"
    for _ in range(TRIES):
        try:
            async with asyncio.timeout(TRY):
                reply = await case.env.net.ask(server, query, port=case.means.dns_port)
            return "" if reply.message.rcode_name in ("NOERROR", "NXDOMAIN") else reply.message.rcode_name
        except TimeoutError:
            continue
        except (OSError, Failure) as e:
            wrong = str(e) or type(e).__name__
    return wrong


NEARLY_USED = 0.95
OUT_OF_ORDER = Words(
    "Di prometheus.yml pusat: storage: {tsdb: {out_of_order_time_window: 7d}}, agar data susulan diterima",
    "In the centre's prometheus.yml: storage: {tsdb: {out_of_order_time_window: 7d}}, so that late data is taken",
)
CENTRE_FIXES = {  # by delivery.OUTCOMES
    "credentials": Words("Periksa push.token_file atau basic_auth: pusat menolaknya", "Check push.token_file or basic_auth: it is refused"),
    "secret": Words("Pasang berkas rahasia yang disebut (chmod 640)", "Put the secret file that is named in place (chmod 640)"),
    "not_found": Words(
        "Periksa push.url; Prometheus pusat perlu --web.enable-remote-write-receiver",
        "Check push.url; the centre's Prometheus needs --web.enable-remote-write-receiver",
    ),
    "redirect": Words("Isi push.url dengan alamat tujuan pengalihan itu", "Set push.url to where the redirect leads"),
    "answer": Words("Periksa push.url: yang menjawab bukan penerima data", "Check push.url: what answers takes no data"),
    "tls": Words("Periksa jam kotak, push.tls.ca_file dan sertifikat pusat", "Check this box's clock, push.tls.ca_file, the certificate"),
    "refused": OUT_OF_ORDER,
}


async def _centre(case: Case) -> list[Finding]:
    """Sends an empty write: it tries the way, the certificate and the credentials, and writes nothing."""
    push = case.config.push if case.config else None
    if push is None:
        title = Words("Tidak ada pusat yang diatur: kotak ini bekerja sendiri", "No centre is set: this box works on its own")
        return [Finding("ok", title, "Prometheus: /metrics")]
    answer, offset = await delivery.probe(case.env, push, case.config.site if case.config else "")
    if answer.outcome == "ok":
        detail = str(push.receiver) + ("" if offset is None else f", {offset:+.0f} s")
        return [
            Finding("ok", Words("Pusat terjangkau dan menerima data", "The centre is reachable and takes data"), detail),
            *_late_data(case),
            *await _events(case, push),
            *_month(case, push),
        ]
    title = Words(
        "Pusat tidak menerima data kotak ini; data disimpan dulu", "The centre does not take this box's data; it is kept meanwhile"
    )
    fix = CENTRE_FIXES.get(answer.outcome) or _capital(
        Words(f"bila internet HIJAU, {case.call.id}", f"if the internet is GREEN, {case.call.en}")
    )
    return [Finding("bad", title, f"{push.receiver}: {answer.why}", fix), *_month(case, push)]


async def _events(case: Case, push: PushConfig) -> list[Finding]:
    """Asks whether events are taken there too; none is sent."""
    answer = await eventlane.probe(case.env, push)
    if answer.outcome == "ok":
        return []
    title = Words("Pusat tidak menerima catatan kejadian; disimpan di kotak ini", "The centre takes no events; they are kept on this box")
    fix = Words(
        "Di pusat, pasang ronda central gateway di depan Prometheus, atau isi events.syslog",
        "At the centre, put ronda central gateway before Prometheus, or set events.syslog",
    )
    return [Finding("warn", title, answer.why, fix)]


def _late_data(case: Case) -> list[Finding]:
    """What the ledger says that the centre has refused: only a file is read, since the agent has the buffer."""
    try:
        held = json.loads((case.data_dir / "buffer/ledger.json").read_text())
        refused = int(held["undelivered"].get("refused", 0))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return [Finding("warn", Words("Catatan kiriman tidak terbaca", "The ledger can't be read"), str(e))]
    if not refused:
        return []
    title = Words("Pusat pernah menolak sebagian data kotak ini", "The centre has refused some of this box's data")
    return [Finding("warn", title, f"{refused}", OUT_OF_ORDER)]


def _month(case: Case, push: PushConfig) -> list[Finding]:
    """How much of the month's budget is used, by the file that the agent keeps."""
    if push.budget is None:
        return []
    used = budget.Month(case.data_dir).used
    detail = ", ".join(f"{uplink} {spent / 1e6:.0f} MB" for uplink, spent in sorted(used.items())) or "0 MB"
    detail += f" / {push.budget / 1e6:.0f} MB"
    if max(used.values(), default=0.0) < NEARLY_USED * push.budget:
        return [Finding("ok", Words("Kuota bulan ini masih cukup", "This month's data budget lasts"), detail)]
    title = Words("Kuota bulan ini hampir habis; pemeriksaan dijarangkan", "This month's data budget is nearly used; probes are rarer")
    return [Finding("warn", title, detail, Words("Kurangi sasaran, atau naikkan push.budget", "Watch less, or raise push.budget"))]


# --- the box ---------------------------------------------------------------------------------------------------------------


async def _clock(case: Case) -> list[Finding]:
    now = case.env.clock.now()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if not OLDEST <= now < NEWEST:
        title = Words("Jam kotak salah", "The box's clock is wrong")
        fix = Words(
            "Pastikan internet jalan, lalu: sudo timedatectl set-ntp true",
            "See that the internet works, then: sudo timedatectl set-ntp true",
        )
        return [Finding("bad", title, shown, fix)]
    if case.means.kernel_clock().synchronised:
        return [Finding("ok", Words("Jam kotak benar dan dijaga", "The box's clock is right and kept so"), shown)]
    title = Words("Jam kotak wajar, tetapi tidak dicocokkan dengan waktu resmi", "The clock is sane, but nothing keeps it right")
    command = "sudo apt install systemd-timesyncd && sudo timedatectl set-ntp true"
    return [Finding("warn", title, shown, Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}"))]


async def _disk(case: Case) -> list[Finding]:
    directory = case.data_dir
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent  # the agent makes what is missing
    try:
        stat = os.statvfs(directory)
        _write(directory)
    except OSError as e:
        return [_unwritable(directory, e)]
    free = stat.f_bavail * stat.f_frsize
    detail = f"{directory}, {free >> 20} MiB"
    if free >= LITTLE_DISK:
        return [Finding("ok", Words("Penyimpanan cukup dan bisa ditulisi", "Storage has room and can be written to"), detail)]
    title = Words("Penyimpanan hampir penuh", "Storage is nearly full")
    fix = Words(
        "Hapus berkas lama (sudo journalctl --vacuum-size=50M; sudo apt clean)",
        "Remove old files (sudo journalctl --vacuum-size=50M; sudo apt clean)",
    )
    return [Finding("bad" if free < NO_DISK else "warn", title, detail, fix)]


def _write(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory, prefix=".ronda-doctor-") as f:
        f.write(b"ronda\n")
        f.flush()
        os.fsync(f.fileno())


def _unwritable(directory: Path, e: OSError) -> Finding:
    detail = f"{directory}: {e.strerror}"
    if e.errno == errno.EROFS:
        title = Words("Penyimpanan terkunci (hanya bisa dibaca): kartu SD mungkin rusak", "Storage is read-only: the SD card may be dying")
        return Finding(
            "bad",
            title,
            detail,
            Words("Nyalakan ulang kotak; bila tetap, ganti kartu SD", "Restart the box; if it stays so, replace the SD card"),
        )
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        title = Words("Penyimpanan penuh", "Storage is full")
        return Finding("bad", title, detail, Words("Hapus berkas lama: sudo apt clean", "Remove old files: sudo apt clean"))
    title = Words("Ronda tidak boleh menulis ke tempat datanya", "Ronda may not write to its data directory")
    command = f"sudo chown -R $(id -un) '{directory}'"
    return Finding("bad", title, detail, Words(f"Jalankan: {command}", f"Run: {command}"))


async def _memory(case: Case) -> list[Finding]:
    available = available_memory((case.env.root / "proc/meminfo").read_text())
    detail = f"{available >> 20} MiB"
    if available >= LITTLE_MEMORY:
        return [Finding("ok", Words("Memori cukup", "There is enough memory"), detail)]
    title = Words("Memori hampir habis", "Memory is nearly used up")
    return [Finding("warn", title, detail, Words("Nyalakan ulang kotak; tutup program lain", "Restart the box; close other programs"))]


def available_memory(text: str) -> int:
    """MemAvailable of proc/meminfo in bytes. Raises ValueError."""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise ValueError("proc/meminfo has no MemAvailable")


# --- the software ----------------------------------------------------------------------------------------------------------

SYSCTL = 'echo "net.ipv4.ping_group_range = 0 2147483647" | sudo tee /etc/sysctl.d/50-ronda.conf && sudo sysctl --system'
PING_FIX = Words(f"Minta admin menjalankan: {SYSCTL}", f"Ask an admin to run: {SYSCTL}")


async def _rights(case: Case) -> list[Finding]:
    rights = case.rights
    how = "ping socket" if rights.ping else "raw socket" if rights.raw else f"ping_group_range {rights.ping_groups}, no cap_net_raw"
    if rights.can_ping:
        found = [Finding("ok", Words("Ping diizinkan", "Pings are allowed"), how)]
    else:
        found = [Finding("bad", Words("Ping tidak diizinkan di kotak ini", "Pings aren't allowed on this box"), how, PING_FIX)]
    if rights.root:
        title = Words("Dijalankan sebagai root: tidak perlu, dan kurang aman", "Runs as root: there is no need, and it is less safe")
        command = "sudo -u ronda ronda doctor"
        found.append(
            Finding(
                "warn", title, "", Words(f"Periksa sebagai pengguna layanannya: {command}", f"Examine as the service's user: {command}")
            )
        )
    return found


CAPTURE = "sudo systemctl enable --now ronda-capture.socket"
EYES_FIXES = {  # by capture.Blind.kind
    "helper": Words(f"Minta admin menjalankan: {CAPTURE}", f"Ask an admin to run: {CAPTURE} (without systemd: ronda capture --help)"),
    "device": Words("Periksa kabel jaringan kotak ini", "Check this box's network cable"),
}


async def _eyes(case: Case) -> list[Finding]:
    """Whether the helper gives eyes on the LAN; what it gives is closed again unread. Nothing where config watches, but not the LAN."""
    kinds = {kind for kind, _ in case.config.tasks()} if case.config else set()
    device = _way_out(case.env.root)
    if not device or (kinds and "lan" not in kinds):
        return []
    try:
        (await case.means.eyes(case.env.root / capture.SOCKET, device)).close()
    except capture.Blind as e:
        title = Words(
            "Kejadian di jaringan kantor tidak terlihat (pemindaian, router palsu, penyadapan)",
            "What happens on the office's network can't be seen (scans, false routers, eavesdropping)",
        )
        return [Finding("warn", title, str(e), EYES_FIXES.get(e.kind))]
    return [Finding("ok", Words("Kejadian di jaringan kantor terlihat", "What happens on the office's network can be seen"), device)]


def _way_out(root: Path) -> str:
    """The device of the first default route in proc/net/route; "": there is none."""
    path = root / "proc/net/route"
    rows = [line.split() for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return next((row[0] for row in rows if len(row) >= 8 and row[1] == row[7] == "00000000"), "")


async def _kernel(case: Case) -> list[Finding]:
    """A strict reverse path filter drops answers on the second uplink (RFC 3704 2.2): 1 strict, 2 loose, 0 off."""
    uplinks = [g for g in case.env.net.gateways() if ":" not in g]
    path = case.env.root / "proc/sys/net/ipv4/conf/all/rp_filter"
    if len(uplinks) < 2 or not path.exists() or path.read_text().strip() != "1":
        return [Finding("ok", Words("Pengaturan jaringan kernel sesuai", "The kernel's network settings fit"))]
    title = Words(
        "Dua jalur internet, tetapi kernel membuang jawaban dari jalur kedua", "Two uplinks, but the kernel drops the second's answers"
    )
    command = "sudo sysctl -w net.ipv4.conf.all.rp_filter=2"
    return [Finding("warn", title, "rp_filter=1", Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}"))]


async def _certificates(case: Case) -> list[Finding]:
    paths = ssl.get_default_verify_paths()
    file = case.env.root / paths.openssl_cafile.lstrip("/")
    folder = case.env.root / paths.openssl_capath.lstrip("/")
    if (file.is_file() and file.stat().st_size) or (folder.is_dir() and any(folder.iterdir())):
        return [Finding("ok", Words("Daftar sertifikat tepercaya ada", "The store of trusted certificates is there"))]
    title = Words(
        "Daftar sertifikat tepercaya tidak ada: semua situs https akan tampak rusak",
        "No trusted certificates: every https site will look broken",
    )
    command = "sudo apt install ca-certificates"
    return [Finding("bad", title, f"{file}, {folder}", Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}"))]


async def _config(case: Case) -> list[Finding]:
    if case.problems:
        title = Words("Berkas pengaturan salah; Ronda tidak akan memakainya", "The config file is wrong; Ronda won't use it")
        fix = Words("Perbaiki baris yang disebut, lalu: ronda check", "Correct the lines named, then: ronda check")
        return [Finding("bad", title, "\n".join(case.problems), fix)]
    if case.config is None:
        title = Words("Tanpa berkas pengaturan: yang umum dipantau sendiri", "No config file: the usual things are watched")
        return [Finding("ok", title)]
    tasks = sum(1 for _ in case.config.tasks())
    return [Finding("ok", Words("Berkas pengaturan benar", "The config file is right"), f"site {case.config.site}, {tasks}")]


async def _ports(case: Case) -> list[Finding]:
    web = (case.config or AgentConfig()).web
    return [await _port(case, listen) for listen in (web.listen, web.lan_page) if listen]


async def _port(case: Case, listen: str) -> Finding:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    error = bind_error(host, int(port))
    if not error:
        return Finding("ok", Words("Alamat halaman Ronda bebas", "The address of Ronda's page is free"), listen)
    if error == errno.EADDRINUSE and await _is_ronda(case.env, connectable(host), int(port)):
        return Finding("ok", Words("Ronda sedang berjalan di alamatnya", "Ronda is running at its address"), listen)
    if error == errno.EADDRINUSE:
        title = Words("Alamat halaman Ronda dipakai program lain", "The address of Ronda's page is taken by another program")
        fix = Words(
            f"Lihat siapa: sudo ss -ltnp 'sport = :{port}'; atau ganti web.listen",
            f"See who: sudo ss -ltnp 'sport = :{port}'; or change web.listen",
        )
        return Finding("bad", title, listen, fix)
    title = Words("Alamat halaman Ronda tidak bisa dipakai", "The address of Ronda's page can't be used")
    return Finding(
        "bad",
        title,
        f"{listen}: {os.strerror(error)}",
        Words("Ganti web.listen, misalnya 127.0.0.1:17663", "Change web.listen, e.g. 127.0.0.1:17663"),
    )


def bind_error(host: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """The errno that listening there would give now; 0: none. A host that is no address is left to the agent (0)."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "0.0.0.0", port, type=kind, flags=socket.AI_NUMERICHOST)[0]  # noqa: S104
    except socket.gaierror:
        return 0
    try:
        with socket.socket(family, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the agent does: TIME_WAIT is no one's
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen(1)
    except OSError as e:
        return e.errno or errno.EINVAL
    return 0


def connectable(host: str) -> str:
    """Where to reach what listens there."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


async def _is_ronda(env: Env, host: str, port: int) -> bool:
    """Whether what listens there says so on its page. With TLS in front it can't be told: no."""
    try:
        async with asyncio.timeout(TRY):
            reader, writer = await env.net.connect(host, port)
            try:
                writer.write(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                return b"Ronda" in await reader.readexactly(2048)
            except asyncio.IncompleteReadError as e:
                return b"Ronda" in e.partial
            finally:
                writer.close()
    except (TimeoutError, OSError, Failure):
        return False


CHECKS: Sequence[tuple[Check, Words]] = (
    (_gateway, Words("gerbang kantor", "the gateway")),
    (_internet, Words("internet", "the internet")),
    (_resolvers, Words("server alamat (DNS)", "the DNS servers")),
    (_centre, Words("jalan ke pusat", "the way to the centre")),
    (_clock, Words("jam", "the clock")),
    (_disk, Words("penyimpanan", "storage")),
    (_memory, Words("memori", "memory")),
    (_rights, Words("izin ping", "the right to ping")),
    (_eyes, Words("penglihatan jaringan", "eyes on the network")),
    (_kernel, Words("pengaturan kernel", "the kernel's settings")),
    (_certificates, Words("sertifikat", "certificates")),
    (_config, Words("berkas pengaturan", "the config file")),
    (_ports, Words("alamat halaman", "the page's address")),
)


# --- ping ------------------------------------------------------------------------------------------------------------------


def pinger(rights: privileges.Privileges) -> Ping:
    """A ping for an examination: three tries, user-space time. (What the agent reports comes from the icmp kind, kernel-stamped.)"""
    kind = socket.SOCK_DGRAM if rights.ping else socket.SOCK_RAW

    async def ping(address: str) -> float | None:
        for seq in range(1, TRIES + 1):
            try:
                async with asyncio.timeout(TRY):
                    return await _echo(address, kind, seq)
            except TimeoutError:
                continue
            except OSError as e:
                if e.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ECONNREFUSED, errno.ENODEV):
                    raise
        return None

    return ping


async def _echo(address: str, kind: int, seq: int) -> float:
    """One echo. A token of 8 random bytes tells our answer from all others, whatever the socket."""
    version = 6 if ":" in address else 4
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if version == 6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]
    token = os.urandom(8)
    loop = asyncio.get_running_loop()
    with socket.socket(family, kind, protocol) as sock:
        sock.setblocking(False)
        started = loop.time()
        await loop.sock_sendto(sock, icmp.request(version, os.getpid() & 0xFFFF, seq, token), target)
        while True:
            data, _ = await loop.sock_recvfrom(sock, 2048)
            try:
                message = icmp.strip_ipv4(data).message if version == 4 and kind == socket.SOCK_RAW else data
                if icmp.parse_reply(version, message).payload == token:
                    return loop.time() - started
            except icmp.IcmpError:
                continue  # on loopback a raw socket hears its own request


# --- on screen -------------------------------------------------------------------------------------------------------------

LAMPS: dict[Level, tuple[Words, str]] = {
    "ok": (Words("HIJAU", "GREEN"), "\x1b[1;32m"),
    "warn": (Words("KUNING", "AMBER"), "\x1b[1;33m"),
    "bad": (Words("MERAH", "RED"), "\x1b[1;31m"),
}


def render(findings: Sequence[Finding], lang: Language = "id", colour: bool = False) -> str:
    """The lines, and one that sums them up. `both`: English under the Indonesian."""
    lines = [line for f in findings for line in _lines(f, lang, colour)]
    return "\n".join([*lines, "", *_summary(findings, lang)])


def _lines(finding: Finding, lang: Language, colour: bool) -> Iterable[str]:
    lamp, code = LAMPS[finding.level]
    word = f"{lamp.en if lang == 'en' else lamp.id:<7}"
    titles = _in(finding.title, lang)
    short = finding.level == "ok" and finding.detail
    yield (f"{code}{word}\x1b[0m" if colour else word) + titles[0] + (f" ({finding.detail})" if short else "")
    yield from (f"{'':7}{t}" for t in titles[1:])
    if finding.detail and not short:
        yield from (f"{'':7}{line}" for line in finding.detail.splitlines())
    if finding.fix:
        does = _in(Words("Lakukan", "Do"), lang)
        yield from (f"  {do + ':':<9}{text}" for do, text in zip(does, _in(finding.fix, lang), strict=True))


def _summary(findings: Sequence[Finding], lang: Language) -> list[str]:
    red, amber = (sum(f.level == level for f in findings) for level in ("bad", "warn"))
    if not red and not amber:
        words = Words("Kesimpulan: semua baik.", "In short: all is well.")
    elif not red:
        words = Words(
            f"Kesimpulan: {amber} KUNING. Ronda bekerja; perbaiki bila sempat.", f"In short: {amber} AMBER. Ronda works; see to it in time."
        )
    else:
        words = Words(
            f"Kesimpulan: {red} MERAH, {amber} KUNING. Kerjakan dari atas.", f"In short: {red} RED, {amber} AMBER. Begin at the top."
        )
    return _in(words, lang)


def _in(words: Words, lang: Language) -> list[str]:
    return {"id": [words.id], "en": [words.en], "both": [words.id, words.en]}[lang]


def _capital(words: Words) -> Words:
    return Words(words.id[:1].upper() + words.id[1:], words.en[:1].upper() + words.en[1:])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
