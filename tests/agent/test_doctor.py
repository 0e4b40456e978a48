"""The doctor on fixture trees, on real sockets of this machine, and in an office of the lab."""

import asyncio
import dataclasses
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import doctor, privileges
from agent.capture import reader
from agent.collector import Env, ProbeConfig
from agent.config import ANCHORS, AgentConfig, OfficeConfig, PushConfig, WebConfig
from agent.net import Net
from agent.timesync import TimeState
from tests.lab.netns import Lab
from tests.lab.office import Office

ROUTE = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
ARP = "IP address       HW type     Flags       HW address            Mask     Device\n"
FREE = AgentConfig(site="dukcapil", web=WebConfig(listen="127.0.0.1:0"))
RIGHTS = privileges.Privileges(1000, frozenset({1000}), frozenset(), (0, 2147483647), True, True, False)
NOW = 1_795_000_000.0


class StoppedClock:
    def __init__(self, now: float = NOW) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the doctor doesn't sleep")


def route(*gateways: str) -> str:
    lines = [
        f"eth{i}\t00000000\t{socket.inet_aton(g)[::-1].hex().upper()}\t0003\t0\t0\t{i}\t00000000\t0\t0\t0\n" for i, g in enumerate(gateways)
    ]
    return ROUTE + "".join(lines)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A healthy box."""
    files = {
        "proc/net/route": route("192.0.2.1"),
        "proc/net/arp": ARP,
        "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n",
        "proc/sys/net/ipv4/conf/all/rp_filter": "1\n",
        "etc/resolv.conf": "nameserver 127.0.0.1\n",
        ssl.get_default_verify_paths().openssl_cafile.lstrip("/"): "a certificate",
    }
    return tree(tmp_path / "box", files)


def ping_of(*alive: str) -> doctor.Ping:
    async def ping(address: str) -> float | None:
        return 0.0123 if address in alive else None

    return ping


async def sees(path: Path, device: str) -> reader.Handed:
    return reader.Handed(*(socket.socket(socket.AF_UNIX) for _ in range(3)))


HEALTHY = doctor.Means(
    RIGHTS,
    ping_of("192.0.2.1", "198.51.100.1", "198.51.100.2", "198.51.100.3"),
    kernel_clock=lambda: TimeState(True, 0.0, 0.0, 0.0, 0),
    anchors=("198.51.100.1", "198.51.100.2", "198.51.100.3"),
    eyes=sees,
)


@contextmanager
def resolver(rcode: int = 0) -> Iterator[int]:
    """A DNS server on a port of its own that answers every question with `rcode` and no records."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, client = sock.recvfrom(2048)
                if not data:
                    return
                sock.sendto(data[:2] + bytes((0x81, 0x80 | rcode)) + data[4:6] + bytes(6) + data[12:-11], client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def examine(
    box: Path, config: AgentConfig | None = FREE, *, now: float = NOW, rcode: int = 0, problems: tuple[str, ...] = (), **means: object
) -> dict[str, doctor.Finding]:
    """The findings by their Indonesian title."""
    with resolver(rcode) as port:
        with_what = dataclasses.replace(HEALTHY, dns_port=port, **means)  # type: ignore[arg-type]
        env = Env(StoppedClock(now), Net(box), box)
        found = asyncio.run(doctor.examine(env, config, box / "var/lib/ronda", config_problems=problems, means=with_what))
    return {f.title.id: f for f in found}


def levels(found: dict[str, doctor.Finding], level: str) -> list[str]:
    return [title for title, f in found.items() if f.level == level]


def test_a_healthy_box_is_all_green(box: Path) -> None:
    found = examine(box)
    assert levels(found, "ok") == [
        "Gerbang kantor menjawab",
        "Internet terjangkau",
        "Alamat situs terbaca (DNS)",
        "Tidak ada pusat yang diatur: kotak ini bekerja sendiri",
        "Jam kotak benar dan dijaga",
        "Penyimpanan cukup dan bisa ditulisi",
        "Memori cukup",
        "Ping diizinkan",
        "Kejadian di jaringan kantor terlihat",
        "Pengaturan jaringan kernel sesuai",
        "Daftar sertifikat tepercaya ada",
        "Berkas pengaturan benar",
        "Alamat halaman Ronda bebas",
    ]
    assert len(found) == len(levels(found, "ok"))
    assert doctor.exit_code(found.values()) == 0


def test_the_examination_leaves_nothing_behind(box: Path) -> None:
    before = sorted(box.rglob("*"))
    examine(box)
    assert sorted(box.rglob("*")) == before


BLIND = "Kejadian di jaringan kantor tidak terlihat (pemindaian, router palsu, penyadapan)"


def test_without_the_capture_helper_it_says_what_cant_be_seen_and_what_to_do(box: Path) -> None:
    found = examine(box, eyes=reader.ask)  # the box has no helper
    assert levels(found, "warn") == [BLIND]
    assert "sudo systemctl enable --now ronda-capture.socket" in found[BLIND].fix.id
    assert "can't see scans" in found[BLIND].detail


def test_a_device_that_cant_be_captured_on_is_amber(box: Path) -> None:
    async def down(path: Path, device: str) -> reader.Handed:
        raise reader.Blind("device", f"{device} is down")

    found = examine(box, eyes=down)
    assert (found[BLIND].level, found[BLIND].detail) == ("warn", "eth0 is down")


def test_no_gateway(box: Path) -> None:
    (box / "proc/net/route").write_text(ROUTE)
    found = examine(box)
    assert levels(found, "bad") == ["Kotak ini tidak punya jalan keluar (tidak ada gerbang)"]
    assert doctor.exit_code(found.values()) == 1


def test_a_dead_gateway_is_red_and_a_silent_one_that_is_there_is_green(box: Path) -> None:
    ping = ping_of(*HEALTHY.anchors)
    assert levels(examine(box, ping=ping), "bad") == ["Gerbang kantor tidak menjawab"]
    (box / "proc/net/arp").write_text(ARP + "192.0.2.1 0x1 0x0 00:00:00:00:00:00 * eth0\n")  # asked, no answer
    assert levels(examine(box, ping=ping), "bad") == ["Gerbang kantor tidak menjawab"]
    (box / "proc/net/arp").write_text(ARP + "192.0.2.1 0x1 0x2 02:00:00:00:00:01 * eth0\n")
    assert "Gerbang kantor terlihat, tetapi tidak menjawab ping" in levels(examine(box, ping=ping), "ok")


def test_a_second_gateway_that_is_dead_is_amber(box: Path) -> None:
    (box / "proc/net/route").write_text(route("192.0.2.1", "192.0.2.129"))
    (box / "proc/sys/net/ipv4/conf/all/rp_filter").write_text("2\n")
    assert levels(examine(box), "warn") == ["Gerbang kantor tidak menjawab"]


def test_two_uplinks_and_a_strict_reverse_path_filter(box: Path) -> None:
    (box / "proc/net/route").write_text(route("192.0.2.1", "192.0.2.129"))
    found = examine(box, ping=ping_of("192.0.2.1", "192.0.2.129", *HEALTHY.anchors))
    [title] = levels(found, "warn")
    assert found[title].fix == doctor.Words(
        "Minta admin menjalankan: sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
        "Ask an admin to run: sudo sysctl -w net.ipv4.conf.all.rp_filter=2",
    )


@pytest.mark.parametrize(
    ("alive", "level", "title"),
    [
        (2, "ok", "Internet terjangkau"),
        (1, "warn", "Internet tersendat: sebagian besar tujuan tidak menjawab"),
        (0, "bad", "Internet tidak terjangkau"),
    ],
)
def test_anchors(box: Path, alive: int, level: str, title: str) -> None:
    found = examine(box, ping=ping_of("192.0.2.1", *HEALTHY.anchors[:alive]))
    assert found[title].level == level


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pings:
    icmp: tuple[ProbeConfig, ...] = ()


def test_the_configs_anchors_come_before_rondas_own() -> None:
    targets = {"gateway": {}, "192.0.2.9": {"role": "anchor"}, "www.lab.test": {}, "192.0.2.8": {"role": "service"}}
    pings = Pings(icmp=tuple(ProbeConfig(target=target, labels=labels) for target, labels in targets.items()))
    assert doctor.anchors_of(AgentConfig(collectors=pings)) == ["192.0.2.9"]
    assert doctor.anchors_of(AgentConfig(collectors=Pings())) == doctor.anchors_of(None) == ANCHORS


def test_kominfos_number_is_in_what_to_do(box: Path) -> None:
    config = dataclasses.replace(FREE, office=OfficeConfig(phone="0624-21000"))
    fix = examine(box, config, ping=ping_of("192.0.2.1"))["Internet tidak terjangkau"].fix
    assert fix is not None
    assert "hubungi Kominfo 0624-21000" in fix.id


def test_without_the_right_to_ping_nothing_that_pings_is_green(box: Path) -> None:
    rights = dataclasses.replace(RIGHTS, ping=False, ping_groups=(1, 0))
    found = examine(box, rights=rights, ping=ping_of())
    assert levels(found, "bad") == ["Ping tidak diizinkan di kotak ini"]
    assert levels(found, "warn") == [
        "Gerbang kantor belum bisa diperiksa: ping belum boleh",
        "Internet belum bisa diperiksa: ping belum boleh",
    ]
    fix = found["Ping tidak diizinkan di kotak ini"].fix
    assert fix is not None
    assert "net.ipv4.ping_group_range = 0 2147483647" in fix.en


def test_root_is_amber(box: Path) -> None:
    assert levels(examine(box, rights=dataclasses.replace(RIGHTS, uid=0)), "warn") == [
        "Dijalankan sebagai root: tidak perlu, dan kurang aman"
    ]


def test_resolvers(box: Path) -> None:
    assert levels(examine(box, rcode=2), "bad") == ["Alamat situs tidak terbaca: server DNS tidak menjawab"]
    (box / "etc/resolv.conf").write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")
    found = examine(box)  # nobody listens at .2 on that port
    [title] = levels(found, "warn")
    assert title == "Sebagian server alamat (DNS) tidak menjawab"
    assert "127.0.0.2 (" in found[title].detail


@pytest.mark.parametrize("now", [0.0, 1_700_000_000.0, 5_000_000_000.0])
def test_an_insane_clock_is_red_whatever_the_kernel_says(box: Path, now: float) -> None:
    assert levels(examine(box, now=now), "bad") == ["Jam kotak salah"]


def test_a_clock_that_nobody_keeps_is_amber(box: Path) -> None:
    found = examine(box, kernel_clock=lambda: TimeState(False, 0.0, 0.0, 16.0, 64))
    assert levels(found, "warn") == ["Jam kotak wajar, tetapi tidak dicocokkan dengan waktu resmi"]


def test_what_could_not_be_looked_at_is_amber_and_says_so(box: Path) -> None:
    def forbidden() -> TimeState:
        raise PermissionError(1, "adjtimex: Operation not permitted")

    (box / "proc/meminfo").write_text("MemTotal: 1000000 kB\n")
    found = examine(box, kernel_clock=forbidden)
    assert levels(found, "warn") == ["Tidak bisa diperiksa: jam", "Tidak bisa diperiksa: memori"]
    assert "adjtimex" in found["Tidak bisa diperiksa: jam"].detail


def test_a_check_that_hangs_ends_and_the_others_go_on(box: Path) -> None:
    async def hang(address: str) -> float | None:
        await asyncio.get_running_loop().create_future()
        return None

    found = examine(box, ping=hang, deadline=0.2)
    assert levels(found, "warn") == ["Tidak bisa diperiksa: gerbang kantor", "Tidak bisa diperiksa: internet"]


def test_little_memory(box: Path) -> None:
    (box / "proc/meminfo").write_text("MemAvailable: 20000 kB\n")
    assert levels(examine(box), "warn") == ["Memori hampir habis"]


def test_no_certificates(box: Path) -> None:
    (box / ssl.get_default_verify_paths().openssl_cafile.lstrip("/")).unlink()
    assert levels(examine(box), "bad") == ["Daftar sertifikat tepercaya tidak ada: semua situs https akan tampak rusak"]


def test_a_wrong_config_names_its_lines(box: Path) -> None:
    found = examine(box, FREE, problems=("agent.yaml:3: web.listen: x", "agent.yaml:9: site: y"))
    assert found["Berkas pengaturan salah; Ronda tidak akan memakainya"].detail == "agent.yaml:3: web.listen: x\nagent.yaml:9: site: y"


def test_a_port_taken_by_another_program_is_red(box: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert levels(examine(box, AgentConfig(web=WebConfig(listen=listen))), "bad") == ["Alamat halaman Ronda dipakai program lain"]


def test_a_port_taken_by_ronda_itself_is_green(box: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def serve() -> None:
            client, _ = taken.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n<title>Ronda</title>")

        thread = threading.Thread(target=serve)
        thread.start()
        found = examine(box, AgentConfig(web=WebConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}")))
        thread.join()
    assert "Ronda sedang berjalan di alamatnya" in levels(found, "ok")


def test_an_address_that_is_not_this_boxs(box: Path) -> None:
    found = examine(box, AgentConfig(web=WebConfig(listen="198.51.100.7:17663")))
    assert levels(found, "bad") == ["Alamat halaman Ronda tidak bisa dipakai"]


def test_a_data_directory_that_is_a_file(box: Path) -> None:
    tree(box, {"var/lib/ronda": "not a directory"})
    assert levels(examine(box), "bad") == ["Ronda tidak boleh menulis ke tempat datanya"]


@pytest.mark.lab
def test_full_and_read_only_disks_are_told_apart(box: Path) -> None:
    """A small tmpfs in a mount namespace of its own: first read-only, then full."""
    code = """
import sys, json, pathlib
from agent import doctor
def look():
    import asyncio
    case = doctor.Case(None, None, (), pathlib.Path("/mnt"), None)
    [f] = asyncio.run(doctor._disk(case))
    return [f.level, f.title.id]
import subprocess as s
s.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"], check=True)
little = look()
s.run(["dd", "if=/dev/zero", "of=/mnt/x", "bs=64k", "count=32"], stderr=s.DEVNULL)
full = look()
s.run(["mount", "-o", "remount,ro", "/mnt"], check=True)
print(json.dumps([little, full, look()]))
"""
    run = subprocess.run(["unshare", "--mount", sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(run.stdout) == [
        ["bad", "Penyimpanan hampir penuh"],
        ["bad", "Penyimpanan penuh"],
        ["bad", "Penyimpanan terkunci (hanya bisa dibaca): kartu SD mungkin rusak"],
    ]


PING = """
import asyncio, dataclasses, sys
from agent import doctor, privileges
from agent.capture import reader
rights = privileges.look()
assert rights.ping and rights.raw
for ping in (True, False):
    for address in ("127.0.0.1", "::1"):
        assert asyncio.run(doctor.pinger(dataclasses.replace(rights, ping=ping))(address)) > 0, (ping, address)
"""


@pytest.mark.lab
def test_pings_through_either_socket_and_both_families(lab: Lab) -> None:
    box = lab.namespace("box", ipv6=True)
    box.run(sys.executable, "-c", PING)


OFFICE = """
import asyncio, json, pathlib, sys
from agent import doctor, privileges
from agent.capture import reader
from agent.clock import SystemClock
from agent.collector import Env
from agent.net import Net
rights = privileges.look()
means = doctor.Means(rights, doctor.pinger(rights), anchors=("10.77.3.11", "10.77.3.12", "10.77.3.13"), question=("www.lab.test", "A"))
found = asyncio.run(doctor.examine(Env(SystemClock(), Net()), None, pathlib.Path(sys.argv[1]), means=means))
print(json.dumps({f.title.id: [f.level, f.detail] for f in found}))
"""


@pytest.mark.lab
@pytest.mark.needs("dnsmasq")
def test_an_office_whose_internet_dies(office: Office, tmp_path: Path) -> None:
    office.dnsmasq()

    def look() -> dict[str, list[str]]:
        run = office.office.run(sys.executable, "-c", OFFICE, str(tmp_path))
        found: dict[str, list[str]] = json.loads(run.stdout)
        return found

    well = look()
    assert {t: d for t, (level, d) in well.items() if level == "bad"} == {}
    assert well["Gerbang kantor menjawab"][1].startswith("10.77.1.1, ")
    assert well["Alamat situs terbaca (DNS)"][0] == "ok"
    assert well["Internet terjangkau"][0] == "ok"

    office.cut("wan")
    cut = look()
    assert cut["Gerbang kantor menjawab"][0] == "ok"
    assert cut["Internet tidak terjangkau"][0] == "bad"
    assert cut["Alamat situs tidak terbaca: server DNS tidak menjawab"][0] == "bad"


FINDINGS = [
    doctor.Finding("ok", doctor.Words("Gerbang kantor menjawab", "The office's gateway answers"), "192.0.2.1, 1.2 ms"),
    doctor.Finding("bad", doctor.Words("Internet mati", "No internet"), "a\nb", doctor.Words("Telepon", "Call")),
]


def test_read_aloud_in_indonesian() -> None:
    assert doctor.render(FINDINGS, "id") == (
        "HIJAU  Gerbang kantor menjawab (192.0.2.1, 1.2 ms)\n"
        "MERAH  Internet mati\n"
        "       a\n"
        "       b\n"
        "  Lakukan: Telepon\n"
        "\n"
        "Kesimpulan: 1 MERAH, 0 KUNING. Kerjakan dari atas."
    )


def test_english_alone_and_under_the_indonesian() -> None:
    assert doctor.render(FINDINGS[:1], "en") == "GREEN  The office's gateway answers (192.0.2.1, 1.2 ms)\n\nIn short: all is well."
    both = doctor.render(FINDINGS, "both").splitlines()
    assert both[1] == "       The office's gateway answers"
    assert both[6:8] == ["  Lakukan: Telepon", "  Do:      Call"]


def test_colour_is_on_the_lamp_only() -> None:
    text = doctor.render(FINDINGS, "id", colour=True)
    assert text.startswith("\x1b[1;32mHIJAU  \x1b[0mGerbang")
    assert "\x1b" not in doctor.render(FINDINGS, "id")


def test_a_clerk_never_meets_these_words() -> None:
    source = Path(doctor.__file__).read_text().lower()
    indonesian = [line for line in source.splitlines() if 'words("' in line or 'words(f"' in line]
    shown = " ".join(line.split('", ')[0].split("words(")[-1] for line in indonesian)
    for word in ("target", "endpoint", "latency", "packet loss", "inhibit", "scrape"):
        assert word not in shown


def test_this_machine_without_a_config(tmp_path: Path) -> None:
    """The real thing end to end, but for the internet: whatever this machine is like, every check answers."""
    rights = privileges.look()
    means = doctor.Means(rights, ping_of(), anchors=("127.0.0.1",))
    env = Env(StoppedClock(), Net(Path("/nowhere")), Path("/"))
    found = asyncio.run(doctor.examine(env, FREE, tmp_path, means=means))
    assert len(found) >= len(doctor.CHECKS)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("used", "level"), [(None, "ok"), ({"isp-a": 2.0e9}, "ok"), ({"isp-a": 1e9, "isp-b": 2.9e9}, "warn")])
def test_how_much_of_the_months_data_is_used(tmp_path: Path, used: dict[str, float] | None, level: str) -> None:
    if used:
        (tmp_path / "budget.json").write_text(json.dumps({"month": "2026-11", "used": used}))
    case = doctor.Case(None, None, (), tmp_path, None)

    [found] = doctor._month(case, PushConfig(url="https://pusat.example.go.id", budget=3_000_000_000))
    assert found.level == level
    assert "3000 MB" in found.detail
    assert all(f"{uplink} {spent / 1e6:.0f} MB" in found.detail for uplink, spent in (used or {}).items())
    assert doctor._month(case, PushConfig(url="https://pusat.example.go.id")) == []
