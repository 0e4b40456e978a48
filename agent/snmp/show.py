"""What people see of a device: the line of the admin's page, and all of `ronda once snmp`.

Law: pure; from the samples and the Picture of one look, so that nothing is shown that is not sent.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.detect.seen import DeviceIdentity
from agent.model import Event, Sample
from agent.show import sample_row
from agent.snmp import metrics

COMMON = frozenset({"system", "interfaces", "ether", "entity", "host-resources", "ucd", "arp", "bridge"})  # profiles of no make
ADVICE = {
    "timeout": "1) benar alamatnya?  2) SNMP menyala di perangkat?  3) perangkat mengizinkan alamat kotak ini?  ",
    "auth": "nama pengguna, auth atau privacy tidak sama dengan yang ada di perangkat",
    "refused": "tidak ada SNMP di port itu: nyalakan di perangkat, atau tulis :PORT",
    "unreachable": "tidak ada jalan ke alamat itu dari kotak ini",
    "resolve": "nama itu tidak dikenal DNS; coba alamatnya",
    "answer": "perangkat menjawab, tetapi tidak dengan isi yang bisa dibaca; coba version lain",
    "send": "kotak ini sendiri tidak bisa mengirim; jalankan: ronda doctor",
}

SILENT = {  # the last question to somebody whose device says nothing at all
    "2c": "4) community benar? (yang salah tidak dijawab sama sekali)",
    "3": "4) privacy dan privacy_password sama? (yang salah tidak dijawab sama sekali)",
}
OLD = "perangkat ini hanya mengenal SNMP versi 1: tambahkan --version 1, atau tulis version: 1 dalam credentials_file"


def advice(reason: str, detail: str, version: str) -> str:
    """What to look at; `version` is the one that was asked in."""
    if reason != "timeout":
        return ADVICE[reason]
    return OLD if "answers in version 1" in detail else ADVICE[reason] + SILENT.get(version, SILENT["2c"])


def glance(samples: Sequence[Sample]) -> str:
    """`RB750Gr3 · 5 dari 6 port hidup`; a UPS on its battery and a cap that bites are said too."""
    by: dict[str, list[Sample]] = {}
    for s in samples:
        by.setdefault(s.metric.name.removeprefix("ronda_snmp_"), []).append(s)
    who = by.get("device_info", [])
    parts = [next((text for s in who for text in (s.labels[1], s.labels[0]) if text), "")] if who else []
    if ports := by.get("interface_up", []):
        parts.append(f"{sum(s.value for s in ports):.0f} dari {len(ports)} port hidup")
    parts += ["memakai baterai" for s in by.get("ups_on_battery", []) if s.value]
    parts += [f"baterai {100 * s.value:.0f} %" for s in by.get("ups_charge_ratio", [])]
    parts += [f"{s.value:.0f} angka tidak muat" for s in by.get("series_capped", []) if s.value]
    return " · ".join(filter(None, parts))


def whole(picture: Any, seen: Iterable[Any]) -> dict[str, Any]:
    """One look in full: who it is, which profiles apply, its interfaces, and every sample."""
    every = list(seen)
    samples = [s for s in every if isinstance(s, Sample)]
    found: dict[str, Any] = {"device": _who(picture.identity, picture.description), "profiles": picture.profiles}
    if not set(picture.profiles) - COMMON:
        found["catatan"] = (
            f"belum ada profil khusus untuk {picture.identity.kind or 'perangkat ini'}: yang umum tetap terbaca; "
            "menambah profil: docs/operations.id.md, Perangkat (SNMP)"
        )
    found["interfaces"] = list(table(samples))
    if hidden := sum(int(s.value) for s in samples if s.metric is metrics.INTERFACES and s.labels == ("filtered",)):
        found["disembunyikan"] = f"{hidden} (maya, atau tidak pernah hidup); semua: interfaces='{{down: true, virtual: true}}'"
    found["events"] = [{"kind": e.kind, "message": e.message} for e in every if isinstance(e, Event)]
    found["samples"] = list(map(_row, samples))
    return found


def _who(who: DeviceIdentity, description: str) -> dict[str, str | None]:
    said = {
        "name": who.name, "model": who.model, "version": who.version, "serial": who.serial, "uptime": _age(who.uptime),
        "sysObjectID": who.kind, "sysDescr": description,
    }  # fmt: skip
    return {name: text or None for name, text in said.items()}


def _row(sample: Sample) -> dict[str, Any]:
    return sample_row(sample) | {"value": int(sample.value) if sample.value.is_integer() else sample.value}


def table(samples: Iterable[Sample]) -> Iterator[dict[str, Any]]:
    """A line an interface: name, description, up, speed, bytes, errors."""
    by: dict[str, dict[str, Any]] = {}
    for s in samples:
        name = s.metric.name.removeprefix("ronda_snmp_interface_")
        if name == s.metric.name or s.metric.labels[:1] != ("interface",):
            continue
        row = by.setdefault(s.labels[0], {})
        if name == "info":
            row["description"] = s.labels[1]
        elif name.endswith(("errors_total", "discards_total")) and "ether" not in name:
            row["errors"] = row.get("errors", 0) + int(s.value)
        else:
            row[name] = s.value
    for interface, row in by.items():
        yield {
            "interface": interface,
            "description": row.get("description", ""),
            "up": {1.0: "up", 0.0: "down"}.get(row.get("up", -1.0), "?") + ("" if row.get("enabled", 1.0) else " (off)"),
            "speed": _speed(row.get("speed_bytes")),
            "in_bytes": _whole(row.get("receive_bytes_total")),
            "out_bytes": _whole(row.get("transmit_bytes_total")),
            "errors": row.get("errors"),
        }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _speed(bytes_: float | None) -> str | None:
    """As it stands on a switch: 100 Mbit/s, 1 Gbit/s."""
    if bytes_ is None:
        return None
    bits = bytes_ * 8
    return f"{bits / 1e9:g} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:g} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:g} kbit/s"


def _age(seconds: float) -> str | None:
    """`12 d 3 h 20 min`."""
    if seconds < 0:
        return None
    minutes = int(seconds) // 60
    return f"{minutes // 1440} d {minutes // 60 % 24} h {minutes % 60} min"
