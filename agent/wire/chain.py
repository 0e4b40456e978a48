"""The chain of a journal's lines: each line holds the head before it, so that what is edited, cut out or put in shows.

Law: pure. A line as stored is `{"seq": n, …, "prev": "<head before it>"}`, in base64 (RFC 4648 5, without padding: 43 characters, for the
card's sake); head_n = SHA256(head_before || SHA256(line_n)). A journal's first line stands on `genesis`; where older lines are gone for
their age, the first that is left names the head that it stands on.

What leaves the box carries the head: `Ronda-Chain: <journal>:<number>:<the head's first 16 bytes>`. 16 bytes are enough: to make another
line for a head that is known takes 2**128 tries.
"""

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

HEADER = "Ronda-Chain"
TOLD_BYTES = 16
PREV_BYTES = len(',"prev":""') + 43  # that the chain adds to a line
_HEADER = re.compile(r"([0-9a-f]{8}):(\d{1,16}):([0-9a-f]{32})", re.ASCII)
_PREV = re.compile(rb',"prev":"([A-Za-z0-9_-]{43})"\}')
_SEQ = re.compile(rb'\{"seq":(\d{1,16}),')


class Head(NamedTuple):
    """number: of the line that it stands behind; 0: none."""

    number: int
    digest: bytes


class Told(NamedTuple):
    """A head as it was told to others."""

    journal: str
    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.journal}:{self.number}:{self.digest}"


def genesis(journal: str) -> bytes:
    return hashlib.sha256(f"ronda journal {journal}".encode()).digest()


def digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()


def step(before: bytes, line_digest: bytes) -> bytes:
    return hashlib.sha256(before + line_digest).digest()


def text(head: bytes) -> str:
    return base64.urlsafe_b64encode(head).decode().rstrip("=")


def link(line: bytes, before: bytes) -> bytes:
    """The line as it is stored: a JSON object, with the head that it stands on."""
    return line[:-1] + b',"prev":"' + text(before).encode() + b'"}'


def before(line: bytes) -> bytes | None:
    """The head that a stored line says it stands on; None: it is of no chain (an older version wrote it)."""
    found = _PREV.search(line, max(0, len(line) - PREV_BYTES - 1))
    return base64.urlsafe_b64decode(found[1] + b"=") if found and found.end() == len(line) else None


def number(line: bytes) -> int:
    """The line's number; 0 where it is none of ours."""
    if found := _SEQ.match(line):
        return int(found[1])
    try:
        said = json.loads(line)
        return said["seq"] if isinstance(said, dict) and type(said.get("seq")) is int else 0
    except (ValueError, RecursionError):
        return 0


def behind(line: bytes, number_: int) -> Head | None:
    """The head behind a stored line, as it says itself; None: it is of no chain."""
    on = before(line)
    return None if on is None else Head(number_, step(on, digest(line)))


def tell(journal: str, head: Head) -> Told:
    return Told(journal, head.number, head.digest[:TOLD_BYTES].hex())


def parse(text: str) -> Told | None:
    """The header's value; None: there is none, or it is none."""
    found = _HEADER.fullmatch(text.strip())
    return Told(found[1], int(found[2]), found[3]) if found and int(found[2]) else None


class Broken(NamedTuple):
    """Where a chain breaks. number: of the first line that does not stand on the one before it."""

    number: int
    after: int
    why: str


class Walk:
    """Goes through lines in order: `head` behind the last, `broken` the first breach, `loose` how many lines were of no chain.

    A line that comes again as it was is passed over: a disk that refused to sync may have kept it all the same, and it was stored again.
    """

    def __init__(self, start: bytes | None = None, journal: str = "") -> None:
        """`start`: what the first must stand on; None: whatever it says. With the journal's name lines of no chain are borne at its begin:
        those of an older version, behind which the first of the chain stands on the journal's beginning.
        """
        self._on = start
        self._origin = genesis(journal)
        self.anchor = start
        self.head: Head | None = None
        self.broken: Broken | None = None
        self.lines = self.loose = 0
        self.digests: dict[int, bytes] = {}  # of those that are of the chain, by number

    def take(self, line: bytes) -> None:
        n, found, on = number(line), digest(line), before(line)
        last = self.head.number if self.head else 0
        if self.digests.get(n) == found:
            return
        self.lines += 1
        if on is None:
            self.loose += 1
            if self._on is not None and not self.broken:
                self.broken = Broken(n, last, "it names no head that it stands on")
            return
        if self._on is None and self.anchor is None:
            self.anchor = on
            if self.loose and on != self._origin:
                self.broken = self.broken or Broken(n, last, "the line before it names no head that it stands on")
        elif on != self._on and not self.broken:
            self.broken = Broken(n, last, "a line before it was changed, or is missing")
        elif n <= last and not self.broken:
            self.broken = Broken(n, last, "its number does not come after the one before")
        self._on = step(on, found)
        self.digests[n] = found
        self.head = Head(n, self._on)


def heads(start: bytes, digests: Iterable[tuple[int, bytes]]) -> Iterator[Head]:
    """The heads behind lines of which only the digests are known."""
    on = start
    for n, found in digests:
        on = step(on, found)
        yield Head(n, on)


# -- a proof -----------------------------------------------------------------------------------------------------------------------


class ChainError(ValueError):
    """Not a proof; str() says why."""


class Proof(NamedTuple):
    """start: the head that the first line stands on; digests: of all lines from there to the chain's head, by number."""

    journal: str
    start: bytes
    digests: tuple[tuple[int, bytes], ...]

    def dump(self) -> dict[str, Any]:
        return {"journal": self.journal, "start": text(self.start), "digests": [[n, text(d)] for n, d in self.digests]}

    def covers(self, lines: Iterable[bytes]) -> bool:
        known = dict(self.digests)
        return all(known.get(number(line)) == digest(line) for line in lines)


def prove(journal: str, lines: Iterable[bytes], first: int) -> Proof | None:
    """The proof from this number on, of the whole journal's lines; None: it is not there, is of no chain, or the chain is broken."""
    rest = itertools.dropwhile(lambda line: number(line) < first, lines)
    head = next(rest, b"")
    start = before(head)
    if start is None or number(head) != first:
        return None
    return _walked(Proof(journal, start, ()), itertools.chain((head,), rest))


def extend(proof: Proof, lines: Iterable[bytes]) -> Proof:
    """The proof with the journal's lines that have come since; itself where they do not go on from it."""
    last = proof.digests[-1][0] if proof.digests else 0
    return _walked(proof, (line for line in lines if number(line) > last)) or proof


def _walked(proof: Proof, lines: Iterable[bytes]) -> Proof | None:
    end = [*heads(proof.start, proof.digests)]
    walk = Walk(end[-1].digest if end else proof.start)
    for line in lines:
        walk.take(line)
    return None if walk.broken else proof._replace(digests=(*proof.digests, *walk.digests.items()))


def load_proof(said: Mapping[str, Any]) -> Proof:
    """Raises ChainError."""
    try:
        digests = tuple((int(n), _hash(found)) for n, found in said["digests"])
        proof = Proof(str(said["journal"]), _hash(said["start"]), digests)
    except (KeyError, TypeError, ValueError) as e:
        raise ChainError(f"not a proof: {e!r:.80}") from None
    if any(after <= n for (n, _), (after, _) in itertools.pairwise(digests)):
        raise ChainError("its numbers do not ascend")
    return proof


def _hash(said: str) -> bytes:
    found = base64.urlsafe_b64decode(said + "=")
    if len(found) != 32:
        raise ValueError("not a SHA-256")
    return found
