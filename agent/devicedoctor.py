"""The doctor on the office's devices: do they answer Ronda, do their logs and traps get here, are the files of passwords in order.

Law: agent/doctor.py's. A device is asked for its name and description as often as one look may be repeated, with the credentials that the
config names and no others; nothing of a file of credentials is shown. Nobody's port is taken for longer than a look takes.
"""

import asyncio
import errno
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from agent import texts
from agent.collector import Failure
from agent.config import AgentConfig, task_name
from agent.doctor import Case, Check, Finding, Words, bind_error, connectable
from agent.snmp import credentials
from agent.snmp.client import UdpClient
from agent.snmp.wire import Credentials, Device, Oid, Value, split
from agent.sockets import parse_address
from agent.structure import ConfigError

PATIENCE, PING = 3.2, 3.1  # seconds for one device, the search for its address included, and for its ping: together within a check's 8
AT_ONCE = 256  # devices; of more silent ones than that nothing could be said in time
ANSWER = 1.0  # seconds that one request waits; it is sent twice
DESCRIPTION: Oid = (1, 3, 6, 1, 2, 1, 1, 1, 0)
NAME: Oid = (1, 3, 6, 1, 2, 1, 1, 5, 0)
PUBLIC = Credentials("2c", "public")
READING, MOST = 3.0, 16 << 20  # seconds and bytes of the running agent's metrics
NAMED = 8  # devices in one line
NEEDS: Final = ("snmp", "syslog", "traps")


def _of(case: Case, kind: str) -> list[Any]:
    return [config for name, config in case.config.tasks() if name == kind] if case.config else []


# --- files of credentials --------------------------------------------------------------------------------------------------


async def _files(case: Case) -> list[Finding]:
    paths = dict.fromkeys(filter(None, _paths(case)))
    wrong = [finding for path in paths if (finding := _file(path))]
    if wrong or not paths:
        return wrong
    return [Finding("ok", Words("Berkas kata sandi perangkat benar", "The files of the devices' passwords are right"), f"{len(paths)}")]


def _paths(case: Case) -> Iterator[str | None]:
    yield from (config.credentials_file for config in _of(case, "snmp"))
    for config in _of(case, "traps"):
        yield from config.files().values()


def _file(path: str) -> Finding | None:
    """What is wrong with it."""
    try:
        credentials.load(Path(path))
    except ConfigError as e:
        title = Words("Berkas kata sandi perangkat salah isinya", "A file of a device's password is not right")
        return Finding("bad", title, f"{path}\n{e}", Words("Perbaiki baris yang disebut", "Correct the lines named"))
    except OSError as e:
        title = Words("Berkas kata sandi perangkat tidak bisa dipakai", "A file of a device's password can't be used")
        return Finding("bad", title, str(e), _mend(path))
    return None


def _mend(path: str) -> Words:
    if not os.path.lexists(path):
        guide = "docs/operations"
        return Words(f"Buat berkas itu ({guide}), atau perbaiki namanya di config", f"Make it ({guide}), or correct its name in the config")
    command = f"sudo chown root:ronda '{path}' && sudo chmod 640 '{path}'"
    return Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}")


# --- devices that are asked ------------------------------------------------------------------------------------------------


async def _devices(case: Case) -> list[Finding]:
    room, client = asyncio.Semaphore(AT_ONCE), UdpClient()

    async def one(config: Any) -> Finding:
        async with room:
            return await _device(case, client, config)

    try:
        return list(await asyncio.gather(*(one(config) for config in _of(case, "snmp"))))
    finally:
        await client.close()


async def _device(case: Case, client: UdpClient, config: Any) -> Finding:
    name, file = config.name or config.target, config.credentials_file
    try:
        who = credentials.load(Path(file)) if file else PUBLIC
    except (OSError, ConfigError):
        title = Words(
            f"Perangkat {name} tidak bisa ditanya: berkas kata sandinya salah", f"{name} can't be asked: its password's file is wrong"
        )
        return Finding("warn", title, file)
    asked = Asked(name, config.target, file or '"public"')
    try:
        async with asyncio.timeout(PATIENCE):
            host, port = split(config.target)
            asked = asked._replace(address=(await case.env.net.resolve(host))[0])
            device = Device(asked.address, port, who, timeout=ANSWER, retries=1, source=config.source)
            said = await client.get(device, (DESCRIPTION, NAME))
    except Failure as e:
        return await _unanswered(case, asked, e)
    except TimeoutError:
        return await _unanswered(case, asked, Failure("timeout", f"> {PATIENCE:g} s"))
    if not said:
        return await _unanswered(case, asked, Failure("answer", "it says neither name nor description"))
    detail = ", ".join(filter(None, (asked.address, *(_text(said.get(oid)) for oid in (NAME, DESCRIPTION)))))
    return Finding("ok", Words(f"Perangkat {name} menjawab", f"The device {name} answers"), detail)


def _text(value: Value | None) -> str:
    """A device's own words, of one line."""
    said = value.value.decode(errors="replace") if value and isinstance(value.value, bytes) else ""
    return "".join(c if c.isprintable() else " " for c in said)[:60].strip()


class Asked(NamedTuple):
    """`secret`: where its password stands."""

    name: str
    target: str
    secret: str
    address: str = ""


async def _unanswered(case: Case, asked: Asked, failure: Failure) -> Finding:
    detail = f"{asked.address or asked.target}: {failure.detail}"
    if failure.reason == "timeout":
        return await _silent(case, asked, detail)
    title, fix = _refusal(asked, failure.reason)
    return Finding("warn" if failure.reason in ("send", "answer") else "bad", title, detail, fix)


def _refusal(asked: Asked, reason: str) -> tuple[Words, Words]:
    name, secret = asked.name, asked.secret
    if reason == "auth":
        return (
            Words(f"Perangkat {name} menolak kata sandi Ronda", f"The device {name} refuses Ronda's password"),
            Words(f"Samakan {secret} dengan pengguna SNMP di perangkat itu", f"Make {secret} and the device's SNMP user alike"),
        )
    if reason == "refused":
        return (
            Words(f"Perangkat {name} menyala, tetapi SNMP-nya mati", f"The device {name} is on, but its SNMP is not"),
            Words("Minta admin menyalakan SNMP di perangkat itu", "Ask an admin to switch SNMP on there"),
        )
    if reason in ("resolve", "unreachable"):
        return (
            Words(f"Perangkat {name} tidak ditemukan di jaringan", f"The device {name} is not to be found on the network"),
            Words(f"Periksa alamatnya di config: {asked.target}", f"Check its address in the config: {asked.target}"),
        )
    return (
        Words(f"Perangkat {name} menjawab, tetapi tidak terbaca", f"The device {name} answers, but can't be read"),
        Words(f"Minta admin menjalankan: ronda once snmp {asked.target}", f"Ask an admin to run: ronda once snmp {asked.target}"),
    )


async def _silent(case: Case, asked: Asked, detail: str) -> Finding:
    """A device that is on, but doesn't let Ronda ask, is the admin's; one that is off anybody can see to."""
    name, me = asked.name, own_address(asked.address)
    admin = Words(
        f"Minta admin memeriksa di perangkat: SNMP menyala, alamat kotak ini ({me}) diizinkan, community sama dengan {asked.secret}",
        f"Ask an admin to check there: SNMP is on, this box ({me}) may ask, its community is that of {asked.secret}",
    )
    if not case.rights.can_ping:
        return Finding("bad", Words(f"Perangkat {name} tidak menjawab", f"The device {name} doesn't answer"), detail, admin)
    if await _is_on(case, asked.address):
        title = Words(f"Perangkat {name} menyala, tetapi tidak menjawab Ronda", f"The device {name} is on, but doesn't answer Ronda")
        return Finding("bad", title, detail, admin)
    title = Words(f"Perangkat {name} tidak menjawab sama sekali", f"The device {name} doesn't answer at all")
    fix = Words(
        f"Lihat perangkatnya: lampu menyala? kabel listrik dan jaringan tertancap? Bila ya, {case.call.id}",
        f"Look at it: lights on? power and network cables in? If so, {case.call.en}",
    )
    return Finding("bad", title, detail, fix)


async def _is_on(case: Case, address: str) -> bool:
    try:
        async with asyncio.timeout(PING):
            return await case.means.ping(address) is not None
    except TimeoutError:
        return False


def own_address(there: str) -> str:
    """The address that this box speaks to it from; no packet is sent."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((there, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return "?"


# --- ears: logs and traps --------------------------------------------------------------------------------------------------


class Ear(NamedTuple):
    """How a kind that listens is called, by what it listens, and its series of who was heard."""

    called: Words
    kinds: Sequence[socket.SocketKind]
    last: str
    refused: str
    try_: Words


EARS: Mapping[str, Ear] = {
    "syslog": Ear(
        Words("Catatan (log) perangkat", "Devices' logs"),
        (socket.SOCK_DGRAM, socket.SOCK_STREAM),
        "ronda_devicelog_last_timestamp_seconds",
        "ronda_devicelog_refused_total",
        Words("Di perangkat itu, kirim log (syslog) ke {}", "On that device, send its log (syslog) to {}"),
    ),
    "traps": Ear(
        Words("Laporan (trap) perangkat", "Devices' traps"),
        (socket.SOCK_DGRAM,),
        "ronda_traps_last_timestamp_seconds",
        "ronda_traps_refused_total",
        Words(
            "Tanpa kejadian memang tidak ada trap. Untuk mencoba: arahkan trap ke {}, lalu cabut dan pasang satu kabelnya",
            "Where nothing happens none is sent. To try: have it send traps to {}, then pull a cable and plug it in",
        ),
    ),
}


async def _ears(case: Case) -> list[Finding]:
    tasks = [(kind, config) for kind in EARS for config in _of(case, kind)]
    if not tasks:
        return []
    running = await _running(case)
    return [finding for kind, config in tasks for finding in _ear(case, kind, config, running)]


def _ear(case: Case, kind: str, config: Any, running: "Running | None") -> Iterator[Finding]:
    ear, place = EARS[kind], _place(case, kind, config)
    up = running.one("ronda_collector_up", task=task_name(kind, config)) if running else None
    if place.unit and up and place.port != int(config.listen.rpartition(":")[2]) and _bound(case.env.root, config.listen):
        command = f"sudo systemctl stop ronda; sudo systemctl start {place.unit} ronda"
        title = Words(
            f"{ear.called.id}: port {place.port} dijaga systemd, belum dipakai Ronda", f"{ear.called.en}: not on systemd's port yet"
        )
        yield Finding("warn", title, config.listen, Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}"))
    elif up:
        yield _deaf(ear, config, place) or Finding(
            "ok", Words(f"{ear.called.id} bisa didengar", f"{ear.called.en} can be heard"), str(place)
        )
    else:
        yield _port(case, ear, config, place, failed=up == 0.0)
    if up and running:
        yield _heard(case, ear, config, place, running)


class Place(NamedTuple):
    """Where it is listened. `unit`: of systemd, which hands it over."""

    listen: str
    unit: str = ""

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def __str__(self) -> str:
        return f"port {self.port}, {self.unit}" if self.unit else self.listen


def _place(case: Case, kind: str, config: Any) -> Place:
    """Where systemd's socket is enabled it is that one, whatever `listen` says."""
    unit, folder = f"ronda-{kind}.socket", case.env.root / "etc/systemd/system"
    if not os.path.lexists(folder / "sockets.target.wants" / unit):
        return Place(config.listen)
    for file in (folder / unit, case.env.root / "usr/lib/systemd/system" / unit, case.env.root / "lib/systemd/system" / unit):
        if file.is_file() and (found := re.findall(r"^ListenDatagram=(\S+)", file.read_text(), re.MULTILINE)):
            return Place(found[0] if ":" in found[0] else f":{found[0]}", unit)
    return Place(config.listen, unit)


def _deaf(ear: Ear, config: Any, place: Place) -> Finding | None:
    """Listens where no device of the config can send to."""
    own = parse_address(place.listen.rpartition(":")[0].strip("[]"))
    if own is None or not own.is_loopback:
        return None
    others = [name for name, address in config.senders.items() if not ((found := parse_address(address)) and found.is_loopback)]
    if not others:
        return None
    title = Words(
        f"{ear.called.id} tidak akan terdengar: hanya kotak ini yang didengar", f"{ear.called.en} won't be heard: only this box is"
    )
    fix = Words(f"Di config, ganti listen: 0.0.0.0:{place.port}", f"In the config, set listen: 0.0.0.0:{place.port}")
    return Finding("bad", title, f"listen: {place.listen}, senders: {_some(others)}", fix)


def _port(case: Case, ear: Ear, config: Any, place: Place, *, failed: bool) -> Finding:
    """The port while the agent doesn't say that it hears."""
    error = 0 if place.unit else _bind(place.listen, ear.kinds)
    owners = _owners(case.env.root, place.port) if error == errno.EADDRINUSE else []
    if "ronda" in owners or (not error and not failed):
        good = Words(f"Tempat untuk {_small(ear.called.id)} siap", f"The place for {_small(ear.called.en)} is ready")
        return _deaf(ear, config, place) or Finding("ok", good, f"{place}{', ronda' if owners else ''}")
    detail = f"{place}: {os.strerror(error) if error else 'ronda_collector_up 0'}" + (f" ({', '.join(owners)})" if owners else "")
    if error == errno.EADDRINUSE:
        title = Words(f"Tempat untuk {_small(ear.called.id)} dipakai program lain", f"The place for {_small(ear.called.en)} is taken")
        see = f"sudo ss -lunptn 'sport = :{place.port}'"
        return Finding("bad", title, detail, Words(f"Lihat siapa: {see}; atau ganti listen", f"See who: {see}; or change listen"))
    title = Words(f"{ear.called.id} tidak bisa didengar", f"{ear.called.en} can't be heard")
    return Finding("bad", title, detail, _port_fix(error, ear))


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _port_fix(error: int, ear: Ear) -> Words:
    if error == errno.EACCES:
        unit = next(f"ronda-{kind}.socket" for kind, one in EARS.items() if one is ear)
        command = f"sudo systemctl stop ronda; sudo systemctl enable --now {unit}; sudo systemctl start ronda"
        return Words(f"Minta admin menjalankan: {command}", f"Ask an admin to run: {command}")
    if error:
        return Words("Ganti listen di config, misalnya 0.0.0.0 dan port yang sama", "Change listen in the config, e.g. to 0.0.0.0")
    return Words("Minta admin melihat: sudo journalctl -u ronda", "Ask an admin to look at: sudo journalctl -u ronda")


def _bind(listen: str, kinds: Iterable[socket.SocketKind]) -> int:
    host, _, port = listen.rpartition(":")
    return next(filter(None, (bind_error(host.strip("[]"), int(port), kind) for kind in kinds)), 0)


def _heard(case: Case, ear: Ear, config: Any, place: Place, running: "Running") -> Finding:
    """Who was ever heard by the agent that runs now."""
    last = {labels["sender"]: value for labels, value in running.all(ear.last) if "sender" in labels}
    now = case.env.clock.now()
    heard = [f"{name} {texts.age(now - last[name], 'id')} lalu" for name in config.senders if name in last]
    never = [name for name in config.senders if name not in last]
    if not never:
        title = Words(f"{ear.called.id}: semua pengirim sudah terdengar", f"{ear.called.en}: all senders have been heard")
        return Finding("ok", title, _some(heard))
    title = Words(f"{ear.called.id}: belum ada dari {_some(never)}", f"{ear.called.en}: none yet from {_some(never)}")
    address = next((a for name in never if (a := config.senders[name]) != "gateway"), next(iter(case.env.net.gateways()), "192.0.2.1"))
    to = f"{own_address(address)}:{place.port}"
    refused = {labels.get("reason", "?"): int(value) for labels, value in running.all(ear.refused) if value}
    detail = [f"Ronda menyala (up) {texts.age(now - running.since, 'id')}"] if running.since else []
    detail += [f"terdengar (heard): {_some(heard)}"] if heard else []
    detail += [f"ditolak (refused): {', '.join(f'{reason} {n}' for reason, n in sorted(refused.items()))}"] if refused else []
    return Finding("warn", title, "; ".join(detail), Words(ear.try_.id.format(to), ear.try_.en.format(to)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" +{len(names) - NAMED}" if len(names) > NAMED else "")


# --- the agent that runs, and who has a port -------------------------------------------------------------------------------

_SERIES = re.compile(rb"^(ronda_[a-z_]+|process_start_time_seconds)(?:\{([^\n]*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')


class Running:
    """What the running agent tells of itself at /metrics."""

    def __init__(self, exposition: bytes) -> None:
        wanted = {"ronda_collector_up", "process_start_time_seconds", *(n for ear in EARS.values() for n in (ear.last, ear.refused))}
        self._series = [
            (name.decode(), dict(_LABEL.findall(labels.decode(errors="replace"))), float(value))
            for name, labels, value in _SERIES.findall(exposition)
            if name.decode() in wanted
        ]

    def all(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        return ((labels, value) for called, labels, value in self._series if called == name)

    def one(self, name: str, **labels: str) -> float | None:
        return next((value for have, value in self.all(name) if labels.items() <= have.items()), None)

    @property
    def since(self) -> float:
        return self.one("process_start_time_seconds") or 0.0


async def _running(case: Case) -> Running | None:
    """None: it doesn't run, or speaks TLS or asks for a password there."""
    host, _, port = (case.config or AgentConfig()).web.listen.rpartition(":")
    try:
        async with asyncio.timeout(READING):
            reader, writer = await case.env.net.connect(connectable(host.strip("[]")), int(port))
            try:
                writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                said = b""
                while (data := await reader.read(1 << 16)) and len(said) < MOST:
                    said += data
            finally:
                writer.close()
    except (TimeoutError, OSError, Failure):
        return None
    head, _, body = said.partition(b"\r\n\r\n")
    return Running(body) if head.startswith(b"HTTP/1.1 200") and b"ronda_" in body else None


def _inodes(root: Path, port: int) -> set[str]:
    """Of the sockets bound to a port: UDP ones, and TCP ones that listen (state 0A)."""
    found = set()
    for file in ("udp", "udp6", "tcp", "tcp6"):
        path = root / "proc/net" / file
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if len(fields) > 9 and fields[1].endswith(f":{port:04X}") and fields[3] in (("0A",) if "tcp" in file else ("07",)):
                found.add(fields[9])
    return found


def _bound(root: Path, listen: str) -> bool:
    return bool(_inodes(root, int(listen.rpartition(":")[2])))


def _owners(root: Path, port: int) -> list[str]:
    """Names of the programs that have it, as far as this user may see them."""
    inodes = {f"socket:[{inode}]" for inode in _inodes(root, port)}
    found = set()
    for process in (root / "proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                found.add((process / "comm").read_text().strip())
        except OSError:  # another user's, or it has just ended
            continue
    return sorted(found)


CHECKS: Sequence[tuple[Check, Words]] = (
    (_files, Words("berkas kata sandi perangkat", "the files of devices' passwords")),
    (_devices, Words("perangkat kantor", "the office's devices")),
    (_ears, Words("catatan dan laporan perangkat", "devices' logs and traps")),
)
