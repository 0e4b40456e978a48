"""The referee: was every sample that the collectors produced delivered with its own time and value, or counted as lost?

Law: it believes the record, the store and the ledger's file, and nothing that the agent says of itself. A row is *there* when the store
(or, at the end, the buffer) holds a sample of its series with its value, at its time: within EXACT, or, where the agent's clock was
wrong and the centre's Date (whole seconds) was all there was to go by, within PLACED. One sample of the store answers for one row.

    a kill      costs rows of its last WINDOW at most, and no more than "power_cut" grew by at the start after it
    the store   what it answered for with 2xx and has no longer is its own loss, told apart: nobody else can have kept it
    else        rows that are not there are no more than all other reasons of the ledger together
    states      what a collector saw is what step-filling the rows gives at that moment: left out as unchanged is delivered
    invented    nothing is in the store that was not produced
"""

import bisect
import dataclasses
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cramjam

from agent.buffer import Buffer
from agent.clock import SystemClock
from agent.delivery import Boot, from_record
from agent.wire import remote_write
from tests.receiver import Store

EXACT = 5  # ms
NEAR = 2600  # ms: what a Date leaves open when it came at once, or a wall clock that is trusted may be wrong by
PLACED = 20_000  # ms: what it leaves open when it came late
WINDOW = 60_000  # ms
SEEN = 2000  # ms of the hurried world between the record's look and the agent's: a tenth of a second of a busy machine's
GATHERED = 5000  # ms of it that a change is on its way to be told: a kill within costs it
_BITS, _LENGTH = struct.Struct("<d"), struct.Struct("<I")
Points = dict[bytes, list[tuple[int, bytes]]]  # head -> (ms, bits of the value)


class Row(NamedTuple):
    """at: when it was measured; told: when it was given to be delivered, from when on memory holds it (0: at once). True ms."""

    head: bytes
    at: int
    bits: bytes
    rank: int
    told: int = 0

    @property
    def since(self) -> int:
        return self.told or self.at


@dataclasses.dataclass
class Record:
    """What the agents produced, over all runs. `boots`: when each run began to produce."""

    rows: list[Row] = dataclasses.field(default_factory=list)
    seen: list[Row] = dataclasses.field(default_factory=list)
    begins: list[int] = dataclasses.field(default_factory=list)


def read_record(path: Path) -> Record:
    found, heads = Record(), {}
    for line in path.read_text().splitlines():
        what, *fields = line.split(" ")
        if what == "N":
            found.begins.append(int(fields[0]))
        elif what == "S":
            heads[fields[0]] = bytes.fromhex(fields[1])
        elif what == "R":
            found.rows.append(Row(heads[fields[0]], int(fields[1]), bytes.fromhex(fields[2]), *map(int, fields[3:])))
        elif what == "B":
            found.seen.append(Row(heads[fields[0]], int(fields[1]), bytes.fromhex(fields[2]), 0))
    return found


def synced(path: Path) -> dict[str, int]:
    """How much of each file of the buffer its disk has said to have."""
    if not path.exists():  # it was ended before it had begun
        return {}
    return {line.split(" ")[1]: int(line.split(" ")[2]) for line in path.read_text().splitlines() if line.startswith("W ")}


# -- what the store holds -----------------------------------------------------------------------------------------------------------


def _varfield(number: int, value: int) -> bytes:
    return bytes([number << 3]) + remote_write.varint(value)


def _blob(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + remote_write.varint(len(value)) + value


def from_prometheus(store: Store, site: str, start: float, end: float) -> Points:
    """Remote read: raw samples, stale markers too."""
    import urllib.request

    matcher = _blob(2, b"site") + _blob(3, site.encode())
    query = _varfield(1, int(start * 1000)) + _varfield(2, int(end * 1000)) + _blob(3, matcher)
    body = bytes(cramjam.snappy.compress_raw(_blob(1, query)))
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Read-Version": "0.1.0"}
    with urllib.request.urlopen(urllib.request.Request(f"{store.url}/api/v1/read", body, headers), timeout=120) as reply:
        data = bytes(cramjam.snappy.decompress_raw(reply.read()))
    found: Points = defaultdict(list)
    for number, result in remote_write._fields(data):
        if number == 1:
            for labels, points in remote_write.parse(result):
                found[remote_write.head(labels)] += [(at, _BITS.pack(value)) for at, value in points]
    return found


def from_victoria(store: Store, site: str, start: float, end: float) -> Points:
    """The export; stale markers and other NaN come as null, both: compare with `coarse`."""
    import urllib.parse

    ask = urllib.parse.urlencode({"match[]": f'{{site="{site}"}}', "start": f"{start:.3f}", "end": f"{end:.3f}"})
    found: Points = defaultdict(list)
    for line in store.get(f"/api/v1/export?{ask}").splitlines():
        held = json.loads(line)
        head = remote_write.head(tuple(sorted(held["metric"].items())))
        values = [remote_write.STALE if v is None else float(v) for v in held["values"]]
        found[head] += [(at, _BITS.pack(value)) for at, value in zip(held["timestamps"], values, strict=True)]
    return found


def coarse(bits: bytes) -> bytes:
    """A value as VictoriaMetrics keeps it: decimal, of fewer digits where its neighbours are large, and one NaN.

    Six digits, and nothing below a billionth: two samples of a series differ by far more.
    """
    value = _value(bits)
    return _BITS.pack(float(f"{round(value, 9):.5e}")) if value == value else _BITS.pack(remote_write.STALE)


def coarsely(record: Record, there: Points) -> None:
    record.rows = [row._replace(bits=coarse(row.bits)) for row in record.rows]
    record.seen = [row._replace(bits=coarse(row.bits)) for row in record.seen]
    for head, points in there.items():
        there[head] = [(at, coarse(bits)) for at, bits in points]


def from_buffer(directory: Path, site: str, boot: bytes) -> tuple[Points, dict[str, int]]:
    """What is still on the box at the end, and its ledger."""
    buffer = Buffer(directory, site, SystemClock())
    return from_buffer_of(buffer, Boot(boot, kept=False))


def from_buffer_of(buffer: Buffer, boot: Boot) -> tuple[Points, dict[str, int]]:
    """As above; closes it."""
    found: Points = defaultdict(list)
    for entry in buffer.oldest(1 << 30):
        request = from_record(entry.data, boot, 0.0)
        for labels, points in remote_write.parse(request or b""):
            found[remote_write.head(labels)] += [(at, _BITS.pack(value)) for at, value in points]
    counts = dict(buffer.ledger.counts)
    buffer.close()
    return found, counts


# -- who is where -------------------------------------------------------------------------------------------------------------------


class Matched(NamedTuple):
    exact: list[Row]
    placed: list[tuple[Row, int]]  # with how far off
    missing: list[Row]
    again: int  # samples of the store that a row has given twice: an answer that never came
    invented: list[tuple[bytes, int, bytes]]


def match(rows: Iterable[Row], store: Points) -> Matched:
    """One sample of the store for each row, the nearest in order, among those of its series and value."""
    groups: dict[tuple[bytes, bytes], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.head, row.bits].append(row)
    held: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for head, points in store.items():
        for at, bits in points:
            held[head, bits].append(at)
    found = Matched([], [], [], 0, [])
    again = 0
    for key, group in groups.items():
        group.sort(key=lambda row: row.at)
        times = sorted(held.pop(key, []))
        left, times = _take(group, times, EXACT, found)
        left, times = _take(left, times, NEAR, found)
        times, copies = _copies(times, {row.at for row in group} - {row.at for row in left})
        left, times = _take(left, times, PLACED, found)
        times += copies
        found.missing.extend(left)
        near = [row.at for row in group]
        for at in times:
            i = bisect.bisect_left(near, at - PLACED)
            if i < len(near) and near[i] <= at + PLACED:
                again += 1
            else:
                found.invented.append((key[0], at, key[1]))
    found.invented.extend((head, at, bits) for (head, bits), times in held.items() for at in times)
    return found._replace(again=again)


def _copies(times: list[int], matched: set[int]) -> tuple[list[int], list[int]]:
    """Apart: samples beside a row that is there already, which were sent twice, answer for no other row."""
    near = sorted(matched)
    alone, copies = [], []
    for at in times:
        i = bisect.bisect_left(near, at - NEAR)
        (copies if i < len(near) and near[i] <= at + NEAR else alone).append(at)
    return alone, copies


def _take(rows: list[Row], times: list[int], within: int, found: Matched) -> tuple[list[Row], list[int]]:
    """Pairs rows and times in order; returns what is left of both."""
    left, over, i = [], [], 0
    for row in rows:
        while i < len(times) and times[i] < row.at - within:
            over.append(times[i])
            i += 1
        if i < len(times) and times[i] <= row.at + within:
            off = times[i] - row.at
            if within == EXACT:
                found.exact.append(row)
            else:
                found.placed.append((row, off))
            i += 1
        else:
            left.append(row)
    return left, over + times[i:]


# -- the judgement ------------------------------------------------------------------------------------------------------------------


class Kill(NamedTuple):
    """An end without warning. counted: by how much "power_cut" grew after it; more: ms by which its window is longer (it stood still,
    or the disk refused)."""

    at: int
    counted: int
    more: int
    what: str


def read_taken(path: Path) -> Points:
    """All that the store has answered for with 2xx: the requests as they were passed on, each after its length."""
    found: Points = defaultdict(list)
    data, at = path.read_bytes() if path.exists() else b"", 0
    while at < len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        for labels, points in remote_write.parse(bytes(cramjam.snappy.decompress_raw(data[at : at + size]))):
            found[remote_write.head(labels)] += [(when, _BITS.pack(value)) for when, value in points]
        at += size
    return found


def taken_and_gone(missing: list[Row], taken: Points, there: Points) -> list[Row]:
    """Of the rows that are not there those that the store had taken, and has no longer."""
    gone: Points = {head: [p for p in points if p not in held] for head, points in taken.items() for held in [set(there.get(head, ()))]}
    found = match(missing, gone)
    return found.exact + [row for row, _ in found.placed]


def judge(record: Record, matched: Matched, kills: list[Kill], counts: dict[str, int], lost_by_store: Iterable[Row] = ()) -> dict:
    """The result as it is kept; `unexplained`, `untold` and `invented` are what must be 0."""
    by_store, store_lost = Counter(lost_by_store), 0
    kills = [kill for kill in kills if kill.counted]  # those that ended well cost nothing
    rest, per_kill, oldest = [], [0] * len(kills), 0
    ends = [kill.at for kill in kills]
    for row in matched.missing:
        if by_store[row]:
            by_store[row] -= 1
            store_lost += 1
            continue
        k = bisect.bisect_left(ends, row.since)
        if k < len(kills) and ends[k] - row.since <= WINDOW + kills[k].more:
            per_kill[k] += 1
            oldest = max(oldest, ends[k] - row.since if not kills[k].more else 0)
        else:
            rest.append(row)
    untold, gathered = _untold(record, ends)
    per_kill = [lost + gathered[kill.at] for kill, lost in zip(kills, per_kill, strict=True)]
    over = [(kill.what, lost, kill.counted) for kill, lost in zip(kills, per_kill, strict=True) if lost > kill.counted]
    others = sum(n for reason, n in counts.items() if reason != "power_cut")
    unexplained = max(0, len(rest) - others) + sum(lost - counted for _, lost, counted in over)
    return {
        "produced_rows": len(record.rows),
        "there_exactly": len(matched.exact),
        "there_placed_by_the_centres_time": len(matched.placed),
        "placed_off_by_more_than_2600_ms": sum(abs(off) > NEAR for _, off in matched.placed),
        "placed_off_ms_most": max((abs(off) for _, off in matched.placed), default=0),
        "sent_twice": matched.again,
        "taken_by_the_store_and_lost_by_it": store_lost,
        "lost_at_kills": sum(per_kill),
        "lost_at_kills_oldest_ms": oldest,
        "lost_otherwise": len(rest),
        "ledger": {reason: n for reason, n in counts.items() if n},
        "ledger_without_power_cut": others,
        "states_seen": len(record.seen),
        "untold": len(untold),
        "invented": len(matched.invented),
        "unexplained": unexplained,
        "_": {
            "far": [(_name(r.head), r.at, off) for r, off in matched.placed if abs(off) > NEAR][:20],
            "over": over[:20],
            "untold": [(_name(r.head), r.at, _value(r.bits)) for r in untold[:20]],
            "invented": [(_name(head), at, _value(bits)) for head, at, bits in matched.invented[:20]],
            "rest": [(_name(r.head), r.at, _value(r.bits), r.rank) for r in rest[:40]],
        },
    }


def _untold(record: Record, ends: list[int]) -> tuple[list[Row], Counter[int]]:
    """States seen that step-filling the rows does not give; apart, how many each kill met on their way."""
    told: dict[bytes, list[Row]] = defaultdict(list)
    for row in record.rows:
        told[row.head].append(row)
    for rows in told.values():
        rows.sort(key=lambda row: row.at)
    wrong, gathered = [], Counter[int]()
    for seen in record.seen:
        rows = told.get(seen.head, [])
        i = bisect.bisect_right(rows, seen.at + SEEN, key=lambda row: row.at) - 1
        near = rows[max(0, i - 3) : i + 1]
        if any(row.bits == seen.bits and (row.at >= seen.at - 2 or row is near[-1]) for row in near):
            continue
        k = bisect.bisect_left(ends, seen.at)
        if k < len(ends) and ends[k] - seen.at <= GATHERED:
            gathered[ends[k]] += 1
        else:
            wrong.append(seen)
    return wrong, gathered


def _name(head: bytes) -> str:
    [(labels, _)] = remote_write.parse(_blob(1, head))
    return ",".join(f"{k}={v}" for k, v in labels if k not in ("job", "instance", "site"))


def _value(bits: bytes) -> float:
    return _BITS.unpack(bits)[0]
