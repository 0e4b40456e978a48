"""`ronda events show|hold|export|accept|unmask|verify`: what a person does with an incident on this box.

Law: works beside a running agent and without one; what is decided is on the disk before anything else happens (agent/decisions.py), and the
agent journals it. Exit 0 fine, 1 a check failed, 2 usage: an unknown incident, a directory that can't be read.
"""

import argparse
import os
import platform
import stat
import sys
import time
import zoneinfo
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import __version__, bundle, decisions, packets, pseudonyms, rulewords, show, timesync
from agent.custody import decoded, of_incidents, proved
from agent.decisions import Decision, DecisionError
from agent.detect.suppressions import DAY, MAX_DAYS, end_of
from agent.detect.where import FIELD
from agent.evidence import ID, MAX_HELD, Evidence
from agent.journal import Reader
from agent.secret import SecretError
from agent.state import data_directory, uptime
from agent.structure import ConfigError
from agent.wire import chain
from agent.wire import event as lines
from agent.wire.event import Entry

FINE, FAILED, USAGE = 0, 1, 2
ETC = Path("/etc/ronda/agent.yaml")  # config/systemd/ronda.service
MAX_HOLD = 366.0  # days that evidence can be held; then somebody must look again
ACCEPT_DAYS = 7


def office_zone(args: argparse.Namespace, load: Callable[[Path], Any]) -> zoneinfo.ZoneInfo | None:
    """The office's, by the config that is named, or by the one that the service of this box has; None: not known. Raises ConfigError for
    a named one.
    """
    if args.config:
        return zoneinfo.ZoneInfo(load(args.config).office.timezone)
    if args.data_dir:  # another box's, maybe
        return None
    try:
        return zoneinfo.ZoneInfo(load(ETC).office.timezone)
    except (ConfigError, OSError):
        return None


class CommandError(Exception):
    """It can't be done; str() says why."""


def add_commands(parser: argparse.ArgumentParser, load: Callable[[Path], Any]) -> None:
    """`load`: reads a config with the kinds that are wired in."""
    parser.set_defaults(load=load)
    sub = parser.add_subparsers(metavar="COMMAND", help="show, hold, export, accept, unmask, verify (each has --help)")
    one = sub.add_parser("show", help="everything about one incident")
    one.add_argument("id", metavar="ID", help="e.g. DKC-1124-0915")
    one.add_argument("--packets", action="store_true", help="its packets too, decoded by scapy in a process of its own")
    _add(one, _show)
    hold = sub.add_parser("hold", help="keep an incident's evidence longer than 30 days; without ID: list what is held")
    hold.add_argument("id", metavar="ID", nargs="?")
    _add_answer(hold)
    hold.add_argument("--until", metavar="YYYY-MM-DD", help="the last day; a year ahead at most")
    hold.add_argument("--release", action="store_true", help="let it go again")
    _add(hold, _hold)
    export = sub.add_parser("export", help="one incident as one file: lines, packets, clock, proof; for `ronda central verify`")
    export.add_argument("id", metavar="ID")
    export.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: ID.tar.gz here")
    export.add_argument("--masked", action="store_true", help="with pseudonyms, without packets and proof; else it is raw")
    _add(export, _export)
    accept = sub.add_parser("accept", help="this finding is fine: it is told as info for a while, and counted")
    accept.add_argument("id", metavar="ID")
    _add_answer(accept)
    accept.add_argument("--days", type=float, default=ACCEPT_DAYS, metavar="N", help=f"default {ACCEPT_DAYS}, at most {MAX_DAYS}")
    _add(accept, _accept)
    unmask = sub.add_parser("unmask", help="who is behind P-…; that you asked is journalled")
    unmask.add_argument("pseudonym", metavar="P-…")
    _add_answer(unmask)
    _add(unmask, _unmask)
    verify = sub.add_parser("verify", help="check the chain of the whole journal; exit 1 where it is broken")
    _add(verify, _verify)


def _add(parser: argparse.ArgumentParser, command: Any) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="for the time zone and events.key_file")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", default=argparse.SUPPRESS)
    parser.set_defaults(command=lambda args: _run(command, args))


def _add_answer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; it is kept")
    parser.add_argument("--person", default="", metavar="NAME", help="who decides it; it is kept")


def _run(command: Any, args: argparse.Namespace) -> int:
    try:
        return int(command(args, Box(args)))
    except (CommandError, DecisionError, SecretError, packets.PacketsError) as e:  # SecretError is an OSError that says more
        return _fail(str(e))
    except FileNotFoundError as e:
        return _fail(f"tidak ada {e.filename}: sebutkan direktori data agen dengan --data-dir (no such file: name the agent's --data-dir)")
    except PermissionError as e:
        return _fail(f"{e.filename}: {e.strerror}; coba sebagai root (try it as root)")
    except OSError as e:
        return _fail(f"{e.filename or args.data_dir or data_directory()}: {e.strerror or e}")


def _fail(message: str) -> int:
    print(f"ronda events: {message}", file=sys.stderr)
    return USAGE


class Box:
    """What the commands look at: one agent's data directory, and its config where it is named."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.data: Path = args.data_dir or data_directory()
        self.config: Any = None
        if args.config:
            self.config = args.load(args.config)
        self.zone = office_zone(args, args.load)
        self.evidence = Evidence(self.data)
        self.decisions = decisions.read(self.data)

    def reader(self) -> Reader:
        return Reader(self.data / "journal")

    def pseudonyms(self) -> pseudonyms.Pseudonyms:
        given = self.config.events.key_file if self.config and self.config.events else None
        return pseudonyms.load(self.data, Path(given) if given else None)

    def lines(self, name: str) -> list[bytes]:
        """The lines of an incident, held ones first. Raises CommandError where there are none."""
        if not ID.fullmatch(name):
            raise CommandError(f'"{name[:40]}" bukan nomor kejadian (not the id of an incident), e.g. DKC-1124-0915')
        held = self.evidence.lines(name)
        found = list(dict.fromkeys([*held, *of_incidents(self.reader(), [name])[name]]))
        if not found:
            raise CommandError(f"tidak ada kejadian {name} di jurnal kotak ini (no such incident here); lihat: ronda events")
        return sorted(found, key=chain.number)

    def security(self, name: str) -> list[Entry]:
        return [entry for entry in decoded(self.lines(name)) if entry.event.fields.get("event.id") == name]

    def decide(self, what: str, name: str, args: argparse.Namespace, **more: Any) -> Decision:
        taken = Decision(0, time.time(), what, name, args.person.strip(), args.reason.strip(), **more)
        return decisions.add(self.data, taken)


# -- one incident ------------------------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, box: Box) -> int:
    found = decoded(box.lines(args.id))
    print(f"Kejadian {args.id}")
    if mine := [entry for entry in found if entry.event.fields.get("event.id") == args.id]:
        for line in _about(mine, box.zone):
            print(line)
    for line in _custody(args.id, box):
        print(line)
    print(f"\nKejadian di jurnal, {show.event_head(box.zone)}:")
    for entry in found:
        print(show.event_text(entry, box.zone))
    if args.packets:
        data = box.evidence.packets(args.id)
        print("\nPaket:" if data else "\nTidak ada paket (no packets are kept).")
        print(packets.run(data) if data else "", end="")
    return FINE


def _about(mine: Sequence[Entry], zone: Any) -> list[str]:
    last = mine[-1].event
    said = last.fields
    times = [datetime.fromtimestamp(at, UTC).astimezone(zone) for at in (min(e.event.first_seen for e in mine), last.last_seen)]
    technique = f"MITRE ATT&CK v{said['threat.version']}: {said['threat.technique.id']}" if "threat.technique.id" in said else ""
    name = said.get("rule.name", last.kind)
    rule = f"{rulewords.rule(name, 'id')}: {name} ({said.get('rule.id', '')}, v{said.get('rule.version', '')})"
    grade, sure, state = (rulewords.value(f, said.get(f, ""), "id") for f in ("ronda.grade", "ronda.confidence", "ronda.state"))
    place = next((e.event.fields[FIELD] for e in reversed(mine) if FIELD in e.event.fields), "switch port/AP belum diketahui (not known)")
    return [
        f"  apa         {rule}  {technique}".rstrip(),
        f"  tingkat     {grade}  keyakinan {sure}  keadaan {state}",
        f"  waktu       {times[0]:%Y-%m-%d %H:%M:%S} … {times[1]:%Y-%m-%d %H:%M:%S}  {max(e.event.count for e in mine)} kali",
        f"  tempat      {show.printable(place)}",
    ]


def _custody(name: str, box: Box) -> list[str]:
    data = box.evidence.packets(name)
    out = [f"  bukti       {box.evidence.path(name, '.pcap')} ({len(data)} byte)" if data else "  bukti       tidak ada paket"]
    words = {"accept": "diterima", "hold": "ditahan", "release": "dilepas", "unmask": "dibuka"}
    for d in box.decisions:
        if d.id == name:
            until = f" sampai {datetime.fromtimestamp(d.until, UTC).astimezone(box.zone):%Y-%m-%d}" if d.until else ""
            out.append(f"  {words[d.what]:11} oleh {show.printable(d.person)}{until}: {show.printable(d.reason)}")
    return out


def _accept(args: argparse.Namespace, box: Box) -> int:
    mine = box.security(args.id)
    rule, _, key = mine[-1].event.fields.get("ronda.dedup_key", "").partition(" ") if mine else ("", "", "")
    if not key:
        raise CommandError(f"{args.id} bukan temuan detektor (not a detector's finding): only those can be accepted")
    if not 0 < args.days <= MAX_DAYS:
        raise CommandError(f"--days: 1 sampai {MAX_DAYS}; setelah itu harus dilihat lagi (then it must be looked at again)")
    until = time.time() + args.days * DAY
    box.decide("accept", args.id, args, until=until, rule=rule, key=key)
    print(f"{args.id} diterima sampai {_day(until, box)}: temuan yang sama hanya dicatat (info). Berlaku dalam satu menit.")
    return FINE


def _day(at: float, box: Box) -> str:
    return f"{datetime.fromtimestamp(at, UTC).astimezone(box.zone):%Y-%m-%d %H:%M}"


def _unmask(args: argparse.Namespace, box: Box) -> int:
    wanted = args.pseudonym.strip().upper()
    if not pseudonyms.FORM.fullmatch(wanted):
        raise CommandError(f'"{args.pseudonym[:40]}" bukan nama samaran (not a pseudonym), e.g. P-7F3A09C1B2D4')
    known = box.pseudonyms()
    box.decide("unmask", wanted, args)
    found = pseudonyms.unmask(known, wanted, _entries(box))
    if found is None:
        print(f"{wanted}: tidak ada di jurnal kotak ini (nobody of that name in this box's journal); dicatat", file=sys.stderr)
        return FAILED
    print(show.printable(found))
    print("dicatat di jurnal: siapa, kapan, mengapa (journalled)", file=sys.stderr)
    return FINE


def _entries(box: Box) -> Any:
    yield from box.reader().entries()
    for name in box.evidence.names():
        yield from decoded(box.evidence.lines(name))


# -- what is held ------------------------------------------------------------------------------------------------------------------


def _hold(args: argparse.Namespace, box: Box) -> int:
    held = decisions.holds(box.decisions, time.time())
    if not args.id:
        for name, d in held.items():
            print(f"{name}  sampai {_day(d.until, box)}  {show.printable(d.person)}: {show.printable(d.reason)}")
        print(f"{len(held)} kejadian ditahan" if held else "tidak ada yang ditahan (nothing is held)", file=sys.stderr)
        return FINE
    if args.release:
        if args.id not in held:
            raise CommandError(f"{args.id} tidak ditahan (is not held)")
        box.decide("release", args.id, args)
        print(f"{args.id} dilepas: bukti yang lebih tua dari 30 hari dihapus dalam satu jam")
        return FINE
    return _take_hold(args, box, sorted(held))


def _take_hold(args: argparse.Namespace, box: Box, held: Sequence[str]) -> int:
    found = box.lines(args.id)
    until = _until(args, box)
    if box.evidence.held_bytes(held) > MAX_HELD:
        raise CommandError("terlalu banyak yang ditahan: ekspor dan lepaskan dahulu (too much is held: export and release some first)")
    taken = box.decide("hold", args.id, args, until=until)
    n = box.evidence.hold(args.id, found)
    if proof := proved(box.reader(), found, box.evidence.proof(args.id)):
        box.evidence.keep_proof(args.id, proof)
    print(f"{args.id} ditahan sampai {_day(taken.until, box)}: {n} baris dan paketnya. Daftar: ronda events hold")
    return FINE


def _until(args: argparse.Namespace, box: Box) -> float:
    if not args.until:
        raise CommandError("--until YYYY-MM-DD: hari terakhir (the last day)")
    try:
        until = end_of(args.until, box.zone or datetime.now(UTC).astimezone().tzinfo or UTC)
    except ValueError:
        raise CommandError(f'--until: "{args.until[:20]}" bukan tanggal (not a date), e.g. 2026-12-31') from None
    if not time.time() < until <= time.time() + (MAX_HOLD + 1) * DAY:
        raise CommandError("--until: dari hari ini sampai setahun ke depan (from today to a year ahead)")
    return until


# -- a bundle ----------------------------------------------------------------------------------------------------------------------


def _export(args: argparse.Namespace, box: Box) -> int:
    found = box.lines(args.id)
    reader = box.reader()
    proof = proved(reader, found, box.evidence.proof(args.id))
    about = {
        "id": args.id, "site": reader.site, "journal": reader.journal, "masked": args.masked, "exported": _utc(time.time()),
        "versions": {"ronda": __version__, "python": platform.python_version(), "bundle": 1, **_rules(found)},
    }  # fmt: skip
    if args.masked:
        mask = box.pseudonyms().mask
        found = [lines.encode(mask(entry), abroad=True) for entry in decoded(found)]
    packed = (None, None) if args.masked else (box.evidence.packets(args.id), proof)
    parts = bundle.Parts(about, found, *packed, _clock(box, decoded(found)))
    out = args.out or Path(f"{args.id}.tar.gz")
    _write(out, bundle.make(parts))
    print(f"{out}: {len(found)} baris" + (f", {len(parts.packets)} byte paket" if parts.packets else ""))
    print(bundle.MASKED if args.masked else bundle.RAW, file=sys.stderr)
    if not proof and not args.masked:
        print("tanpa bukti rantai: jurnal putus, atau baris ini dari versi lama (ronda events verify)", file=sys.stderr)
    return FINE


def _write(path: Path, data: bytes) -> None:
    """For its owner only. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as f:
        if stat.S_ISREG(os.fstat(fd).st_mode):  # one that was there keeps its mode: others could read it
            os.fchmod(fd, 0o600)
        f.write(data)


def _rules(found: Sequence[bytes]) -> dict[str, str]:
    fields = [entry.event.fields for entry in decoded(found)]
    return {f"rule {f['rule.id']}": f["rule.version"] for f in fields if "rule.id" in f and "rule.version" in f}


def _clock(box: Box, found: Sequence[Entry]) -> dict[str, Any]:
    """What is known of the time that the lines tell, and of the clock now."""
    try:
        state: dict[str, Any] = timesync.read()._asdict()
    except OSError as e:
        state = {"unknown": str(e)}
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return {
        "now": _utc(time.time()), "boot": boot, "uptime_seconds": uptime(Path("/")), "kernel": state, "timezone": str(box.zone or ""),
        "lines_of_unsure_time": [entry.seq for entry in found if entry.unsure],
    }  # fmt: skip


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- the chain ---------------------------------------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace, box: Box) -> int:  # noqa: ARG001  (as all commands)
    reader = box.reader()
    next(reader.lines(), b"")  # so that its name is known
    walk = chain.Walk(journal=reader.journal)
    first = 0
    for line in reader.lines():
        first = first or chain.number(line)
        walk.take(line)
        if (saved := reader.saved) and walk.head and walk.head.number == saved.number and walk.head.digest != saved.digest:
            walk.broken = walk.broken or chain.Broken(saved.number, saved.number - 1, "it is not the line that the agent has stored")
    broken = walk.broken or _cut(reader, walk, first)
    old = f"; {walk.loose} baris dari versi lama tanpa rantai" if walk.loose else ""
    if broken:
        print(f"jurnal {reader.journal}: PUTUS di baris nomor {broken.number}, setelah nomor {broken.after}: {broken.why}{old}")
        return FAILED
    head = str(chain.tell(reader.journal, walk.head)) if walk.head else "-"
    print(f"jurnal {reader.journal}: utuh, {walk.lines} baris, dari nomor {first}; kepala rantai {head}{old}")
    return FINE


def _cut(reader: Reader, walk: chain.Walk, first: int) -> chain.Broken | None:
    """A beginning that was cut off, though the file's name or its number 1 remains; or an end that journal.json knows of."""
    if first and first != reader.first:
        return chain.Broken(first, 0, f"number {reader.first} is missing, with which this file begins")
    if first == 1 and walk.anchor not in (None, chain.genesis(reader.journal)):
        return chain.Broken(1, 0, "it does not stand on the journal's beginning")
    last = walk.head.number if walk.head else 0
    if reader.saved and reader.saved.number > last:
        return chain.Broken(last + 1, last, f"lines up to number {reader.saved.number} are missing at the end")
    return None
