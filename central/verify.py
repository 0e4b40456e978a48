"""`ronda central verify`: what a bundle of `ronda events export` proves, in a sentence.

Law: reads only. Three questions, in this order: is the bundle as it was made (manifest), are its lines in the chain that it brings
(proof), and does that chain lead to heads that the site had told the centre before (anchors). Exit 0: proven; 3: it is as it was made,
but nothing here proves since when (masked, no proof, no anchors); 1: it is not as it was made, and why; 2: it can't be read.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from agent import bundle
from agent.bundle import BundleError, Checked
from agent.wire import chain
from central.eventstore import EventStore, StoreError

PROVEN, FALSE, USAGE, INTACT = 0, 1, 2, 3
MAX_FILE = 64 << 20


class Verdict(NamedTuple):
    code: int
    said: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the file that `ronda events export` has written")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the gateway's, or that of `ronda central up`")


def verify_command(args: argparse.Namespace) -> int:
    from central.gateway import places

    try:
        with args.bundle.open("rb") as f:
            data = f.read(MAX_FILE + 1)
    except OSError as e:
        return _fail(f"{args.bundle}: {e.strerror}")
    if len(data) > MAX_FILE:
        return _fail(f"{args.bundle} is larger than {MAX_FILE >> 20} MiB")
    kept = [path for place in places(args.data_dir) if (path := place / "events.sqlite").exists()]
    try:
        store = EventStore(kept[0], read_only=True) if kept else None
        verdict = judge(data, store)
    except StoreError as e:
        return _fail(str(e))
    print(verdict.said)
    return verdict.code


def _fail(message: str) -> int:
    print(f"ronda central verify: {message}", file=sys.stderr)
    return USAGE


def judge(data: bytes, store: EventStore | None) -> Verdict:
    """Raises StoreError where the anchors can't be read."""
    try:
        found = bundle.check(data)
    except BundleError as e:
        return Verdict(FALSE, f"TIDAK SAH: {e}.")
    whose = f"kejadian {found.manifest.get('id')} dari {found.manifest.get('site')}"
    if found.manifest.get("masked"):
        return Verdict(
            INTACT,
            f"UTUH, BELUM TERBUKTI: {whose}, disamarkan. Yang disamarkan tidak dapat dibuktikan oleh rantai. "
            "(Intact; a masked one proves nothing.)",
        )
    if not found.proof or not found.covered:
        return Verdict(
            INTACT,
            f"UTUH, BELUM TERBUKTI: {whose}, tanpa bukti rantai. Isinya hanya sekuat pengirimnya. (Intact; only as good as who sent it.)",
        )
    if not store:
        return Verdict(
            INTACT,
            f"UTUH, BELUM TERBUKTI: {whose}, rantainya benar. Belum dibandingkan dengan pusat: tidak ada events.sqlite, sebut --data-dir. "
            "(Intact; not compared with the centre.)",
        )
    return _anchored(found, found.proof, store, whose)


def _anchored(found: Checked, proof: chain.Proof, store: EventStore, whose: str) -> Verdict:
    first, last = proof.digests[0][0], proof.digests[-1][0]
    anchors = [a for a in store.anchors(proof.journal, first, last) if a.site == found.manifest.get("site")]
    for anchor in anchors:
        head = found.heads.get(anchor.number)
        if head is None:
            return Verdict(FALSE, f"TIDAK SAH: {whose}. Pusat tahu baris nomor {anchor.number} pernah ada; di bundel ini baris itu hilang.")
        if chain.tell(proof.journal, head).digest != anchor.head:
            at = _utc(anchor.received)
            return Verdict(
                FALSE, f"TIDAK SAH: {whose}. Pada {at} kantor itu melaporkan kepala rantai lain untuk baris nomor {anchor.number}."
            )
    until = max(found.covered)
    if proving := [anchor for anchor in anchors if anchor.number >= until]:
        n, at = len(found.covered), _utc(proving[0].received)
        return Verdict(
            PROVEN,
            f"TERBUKTI: {n} baris {whose} tidak berubah sejak {at}, saat pusat menerima kepala rantai nomor {proving[0].number} dari "
            f"kantor itu; {len(anchors)} kepala rantai cocok. (Proven: these lines are as they were then.)",
        )
    return Verdict(
        INTACT,
        f"UTUH, BELUM TERBUKTI: {whose}, rantainya benar. Pusat belum menerima kepala rantai dari sesudah baris nomor {until}. "
        "(Intact; not anchored yet.)",
    )


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
