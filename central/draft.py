"""`ronda central draft ID`: the report of a security incident that the national CSIRT asks for, drafted from the stored events.

Law: the four contents that Perban BSSN 1/2024 article 15 asks for: contact, description, chronology, impact. Nothing of an event's fields
is told but its grade, state, confidence, count and the switch's port: no address, MAC or name, not even a pseudonym. The words are those
of the alerts (alerts/rules/lan.yaml, guard.yaml, syslog.yaml, traps.yaml). A person completes what stands in [brackets], decides, and
sends: Ronda sends nothing.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from central.eventstore import EventStore, Kept, StoreError
from central.inventory import Inventory, load
from central.prometheus import zone_name
from central.target import shipped

GRADES = {"critical": "kritis", "high": "tinggi", "medium": "sedang", "low": "rendah", "info": "catatan"}
SURE = {"certain": "pasti", "likely": "mungkin", "unknown": "belum tahu"}
STATES = {
    "open": "pertama kali terlihat",
    "update": "terlihat lagi",
    "closed": "tidak terlihat lagi",
    "learning": "dicatat (masih belajar)",
}
WHERE = "ronda.where"  # as the box writes it (agent/detect/where.py): names of the config and of interfaces
MOST = 40  # lines of the chronology; of more, the first and the last
SOON = 86400.0  # seconds: what else happened there a day before and after


def texts(directory: Path | None = None, grade: str = "") -> dict[str, Mapping[str, str]]:
    """By rule of a detector: what its alert says; of this grade, where that has words of its own."""
    found: dict[str, Mapping[str, str]] = {}
    for name in ("lan", "guard", "syslog", "traps"):
        source = yaml.safe_load(((directory or shipped("alerts") / "rules") / f"{name}.yaml").read_text(encoding="utf-8"))
        for rule in (rule for group in source["groups"] for rule in group["rules"]):
            about = rule["expr"].partition('rule="')[2].partition('"')[0]
            if about not in found or (grade and f'grade="{grade}"' in rule["expr"]):
                found[about] = rule["annotations"]
    return found


def draft(name: str, events: Sequence[Kept], others: Sequence[Kept], inventory: Inventory, now: float) -> str:
    """The whole text. events: of this incident, oldest first, at least one; others: of the same office about that time."""
    site = inventory.sites[events[0].site]
    zone = inventory.zone(events[0].site)
    said = texts(grade=_gravest(events)).get(events[0].entry.event.kind, {})
    parts = [
        f"RANCANGAN LAPORAN INSIDEN SIBER {name}",
        f"Dibuat {_time(now, zone)} {zone_name(site.timezone)} dari catatan Ronda. Lengkapi yang di dalam [kurung], periksa, lalu kirim.",
        _section("1. Kontak", _contact(inventory, events[0].site)),
        _section("2. Deskripsi", _description(events, said, site.name, site.district)),
        _section(f"3. Kronologi ({zone_name(site.timezone)})", _chronology(events, zone)),
        _section("4. Dampak", _impact(events, others, inventory)),
        _section("Kewajiban (bukan bagian laporan)", [duty.format(name) for duty in DUTIES]),
    ]
    return "\n\n".join(parts) + "\n"


DUTIES = (
    "Perban BSSN 1/2024: insiden berisiko tinggi dilaporkan ke TTIS sektor, tembusan ke TTIS nasional; pada IIV paling lambat 1x24 jam.",
    "UU PDP pasal 46: bila data pribadi bocor, beri tahu pemiliknya dan lembaga yang berwenang paling lambat 3x24 jam.",
    "Bukti: di kotaknya `ronda events hold {0}`, lalu `ronda events export {0}`; di pusat `ronda central verify {0}.tar.gz`.",
)


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join([title, *(f"- {line}" for line in lines)])


def _contact(inventory: Inventory, slug: str) -> Iterator[str]:
    site, centre = inventory.sites[slug], inventory.centre
    yield f"Instansi: {centre.name}{f', telepon {centre.phone}' if centre.phone else ''}"
    yield f"TTIS: {centre.csirt or '[nama dan telepon koordinator TTIS]'}"
    for contact in site.contacts:
        if contact.audience == "csirt":
            yield f"Narahubung: {contact.name} {contact.phone}".rstrip()
    yield "Pelapor: [nama, jabatan, surel]"


def _description(events: Sequence[Kept], said: Mapping[str, str], office: str, district: str) -> Iterator[str]:
    yield f"Kejadian: {said.get('summary', events[0].entry.event.kind)}, di {office}{f', {district}' if district else ''}"
    if said:
        yield f"Arti: {said['description'].splitlines()[0]}"
        yield f"Dugaan: {said['cause']}; wajar bila {said['innocent']}"
    fields = [kept.entry.event.fields for kept in events]
    gravest = GRADES.get(_gravest(events), "belum dinilai")
    sure = SURE.get(fields[-1].get("ronda.confidence", ""), "belum tahu")
    over = fields[-1].get("ronda.state") == "closed"
    yield f"Tingkat menurut Ronda: {gravest}; keyakinan: {sure}; keadaan: {'tidak terlihat lagi' if over else 'masih terbuka'}"
    place = next((f[WHERE] for f in reversed(fields) if WHERE in f), "")
    yield f"Tempat: {place or '[switch dan port, atau AP]'}"
    if technique := fields[-1].get("threat.technique.id"):
        yield f"Teknik: MITRE ATT&CK v{fields[-1].get('threat.version', '?')} {technique}"
    yield f"Diketahui lewat: kotak Ronda di kantor itu; paket bukti tersimpan: {fields[-1].get('ronda.evidence', '0')}"


def _gravest(events: Sequence[Kept]) -> str:
    told = {kept.entry.event.fields.get("ronda.grade", "") for kept in events}
    return next((grade for grade in GRADES if grade in told), "")


def _chronology(events: Sequence[Kept], zone: ZoneInfo) -> Iterator[str]:
    first = events[0].entry.event
    if _time(first.first_seen, zone) != _time(first.last_seen, zone):
        yield f"{_time(first.first_seen, zone)}: mulai terlihat"
    shown = list(events) if len(events) <= MOST else [*events[: MOST // 2], *events[-MOST // 2 :]]
    for kept in shown:
        event = kept.entry.event
        state = STATES.get(event.fields.get("ronda.state", ""), "dicatat")
        grade = GRADES.get(event.fields.get("ronda.grade", ""), "belum dinilai")
        late = "; sampai di pusat terlambat" if kept.late else ""
        yield f"{_time(event.last_seen, zone)}: {state}, {event.count} kali, tingkat {grade}{late}"
    if len(shown) < len(events):
        yield f"{len(events) - len(shown)} catatan di antaranya tidak ditulis di sini"
    yield "[waktu]: [tindakan yang diambil, oleh siapa]"


def _impact(events: Sequence[Kept], others: Sequence[Kept], inventory: Inventory) -> Iterator[str]:
    site = inventory.sites[events[0].site]
    services = ", ".join(inventory.services[key].name for key in site.services) or "[layanan]"
    yield f"Layanan kantor ini: {services}; [mana yang terganggu, berapa lama]"
    kinds = {kept.entry.event.kind for kept in others} - {events[0].entry.event.kind}
    also = sorted(str(texts()[kind]["summary"]) for kind in kinds & texts().keys())
    yield f"Temuan lain di kantor ini dalam sehari sebelum dan sesudahnya: {'; '.join(also) or 'tidak ada'}"
    outages = sum(kept.entry.event.kind == "incident_opened" for kept in others)
    yield f"Gangguan internet di kantor ini pada waktu itu: {outages or 'tidak ada'}"
    yield "Data pribadi: [terkena atau tidak; jenis dan jumlah orangnya]"
    yield "Apakah kantor ini bagian dari IIV (infrastruktur informasi vital): [ya atau tidak]"


def _time(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%d-%m-%Y %H.%M.%S")


# -- the command ------------------------------------------------------------------------------------------------------------------


def find(store: EventStore, name: str, sites: Sequence[str]) -> tuple[list[Kept], list[Kept]]:
    """What is kept of the incident, and of its office about that time. Raises StoreError."""
    events = [kept for site in sites for kept in store.find(site=site) if kept.entry.event.fields.get("event.id") == name]
    if not events:
        return [], []
    start, end = events[0].entry.event.first_seen - SOON, events[-1].entry.event.last_seen + SOON
    about = store.find(site=events[0].site, since=start)
    return events, [kept for kept in about if kept.entry.event.first_seen <= end and kept not in events]


def draft_command(args: argparse.Namespace) -> int:
    """`ronda central draft`."""
    import time

    from central.gateway import places

    inventory: Any = load(args.inventory, args.calendar)
    sites = [slug for slug, site in inventory.sites.items() if args.id.startswith(f"{site.code}-")]
    path = next((path for place in places(args.data_dir) if (path := place / "events.sqlite").exists()), None)
    if not sites or path is None:
        why = f"no office of the inventory has the code of {args.id}" if not sites else "there are no events here: name --data-dir"
        print(f"ronda central draft: {why}", file=sys.stderr)
        return 2
    try:
        events, others = find(EventStore(path, read_only=True), args.id, sites)
    except StoreError as e:
        print(f"ronda central draft: {e}", file=sys.stderr)
        return 2
    if not events:
        print(f"ronda central draft: no events of {args.id} have come to {path}", file=sys.stderr)
        return 1
    print(draft(args.id, events, others, inventory, time.time()), end="")
    return 0
