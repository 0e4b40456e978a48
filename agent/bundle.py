"""A bundle: one incident in one file, for whoever must decide about it: lines of the journal, packets, the state of the clock, and a proof.

Law: `make` and `check` are pure; a bundle is a tar (gzip) of a few named files, and `check` takes it as a stranger's: bounded, never put on
a disk. Every file's SHA-256 stands in manifest.json. chain.json has the digests of all lines from the incident's first to the head of the
chain (agent/wire/chain.py): with it, whoever keeps heads (the centre's anchors) can tell that these lines were there when one was told.

    README.txt  events.jsonl (lines as stored)  packets.pcap  chain.json  clock.json  manifest.json
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agent.wire import chain
from agent.wire.chain import Head, Proof

MAX_BYTES = 64 << 20
FILES = ("README.txt", "events.jsonl", "packets.pcap", "chain.json", "clock.json", "manifest.json")
README = """Kejadian {id} di {site}, diekspor dari kotak Ronda pada {at}.

{kind}
events.jsonl: baris jurnal. packets.pcap: paket bukti. chain.json: bukti rantai. clock.json: keadaan jam. manifest.json: SHA-256 berkas.
Periksa di pusat: ronda central verify BERKAS

Incident {id} at {site}, exported from the box on {at}. Check it at the centre: ronda central verify FILE
"""
RAW = "ISI MENTAH: ada alamat MAC, alamat IP dan mungkin nama orang. Data pribadi (UU 27/2022): simpan dan kirim hanya kepada yang berhak."
MASKED = (
    "Nama samaran (P-…) menggantikan alamat dan nama; paket tidak disertakan, dan rantai tidak dapat membuktikan baris yang disamarkan."
)


class BundleError(Exception):
    """Not a bundle of Ronda, or a damaged one; str() says why."""


# -- making one --------------------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What goes into one. about: id, site, journal, exported, versions, masked."""

    about: Mapping[str, Any]
    lines: Sequence[bytes]
    packets: bytes | None
    proof: Proof | None
    clock: Mapping[str, Any]


def make(parts: Parts) -> bytes:
    about = parts.about
    kind = MASKED if about["masked"] else RAW
    files = {
        "README.txt": README.format(id=about["id"], site=about["site"], at=about["exported"], kind=kind).encode(),
        "events.jsonl": b"".join(line + b"\n" for line in parts.lines),
        "clock.json": _json(parts.clock),
    }
    if parts.packets:
        files["packets.pcap"] = parts.packets
    if parts.proof:
        files["chain.json"] = _json(parts.proof.dump())
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return _tar(files | {"manifest.json": _json({**about, "files": sums})})


def _json(said: Any) -> bytes:
    return json.dumps(said, ensure_ascii=False, indent=1).encode() + b"\n"


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


# -- checking one ------------------------------------------------------------------------------------------------------------------


class Checked(NamedTuple):
    """What a bundle says, once it is whole. heads: those that its proof leads to, by number; covered: numbers of its lines in the proof."""

    manifest: Mapping[str, Any]
    lines: tuple[bytes, ...]
    proof: Proof | None
    heads: Mapping[int, Head]
    covered: tuple[int, ...]


def check(data: bytes) -> Checked:
    """Raises BundleError for what is none, or was changed after it was made."""
    files = _untar(data)
    if "manifest.json" not in files or "events.jsonl" not in files:
        raise BundleError("this is no bundle of `ronda events export`: it has no manifest.json or no events.jsonl")
    manifest = _said(files["manifest.json"], "manifest.json")
    sums = manifest.get("files")
    if not isinstance(sums, dict) or set(sums) != set(files) - {"manifest.json"}:
        raise BundleError("its files are not those that manifest.json names")
    for name, said in sums.items():
        if hashlib.sha256(files[name]).hexdigest() != said:
            raise BundleError(f"{name} was changed: its SHA-256 is not the one in manifest.json")
    lines = tuple(line for line in files["events.jsonl"].split(b"\n") if line)
    if "chain.json" not in files:
        return Checked(manifest, lines, None, {}, ())
    try:
        proof = chain.load_proof(_said(files["chain.json"], "chain.json"))
    except chain.ChainError as e:
        raise BundleError(f"chain.json: {e}") from None
    return Checked(manifest, lines, proof, {head.number: head for head in chain.heads(proof.start, proof.digests)}, _covered(lines, proof))


def _covered(lines: Sequence[bytes], proof: Proof) -> tuple[int, ...]:
    """Raises BundleError where a line is not the one that the chain has."""
    known, on = dict(proof.digests), proof.start
    before = {}
    for head in chain.heads(proof.start, proof.digests):
        before[head.number], on = on, head.digest
    covered = []
    for line in lines:
        n = chain.number(line)
        if n not in known:
            raise BundleError(f"line {n} is not in the chain")
        if chain.digest(line) != known[n] or chain.before(line) != before[n]:
            raise BundleError(f"line {n} was changed: it is not the one in the chain")
        covered.append(n)
    return tuple(covered)


def _said(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise BundleError(f"{name} can't be read") from None
    if not isinstance(said, dict):
        raise BundleError(f"{name} can't be read")
    return said


def _untar(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with gzip.open(io.BytesIO(data)) as f:
            unpacked = f.read(MAX_BYTES + 1)
        if len(unpacked) > MAX_BYTES:
            raise BundleError(f"larger than {MAX_BYTES >> 20} MiB")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for member in tar:
                if (
                    member.name not in FILES or not member.isreg() or member.issparse() or member.name in files
                ):  # a sparse one may say terabytes
                    raise BundleError(f"a file that does not belong there: {member.name[:60]!r}")
                found = tar.extractfile(member)
                files[member.name] = found.read() if found else b""
    except (OSError, EOFError, tarfile.TarError, ValueError) as e:
        raise BundleError(f"this can't be read as a bundle: {e!r:.80}") from None
    except Exception as e:  # zlib.error, struct.error and whatever else a stranger's bytes make of tarfile
        if isinstance(e, BundleError):
            raise
        raise BundleError(f"this can't be read as a bundle: {e!r:.80}") from None
    return files
