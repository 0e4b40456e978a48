"""Events to the centre, on the connection that samples go by (agent/delivery.py): after live rows, before the backlog, in order.

Law: the cursor moves only when the receiver says that it has stored them, up to which number of which journal. What it answers otherwise:
a refusal of events halves the letter until the poisoned one is found, which is counted and passed over; a receiver that takes no events
at all (a bare Prometheus, say) is asked again once an hour, and they stay in the journal; all else is tried again with growing pauses.
What leaves is masked (agent/pseudonyms.py), and says the head of the journal's chain (agent/wire/chain.py), where that has moved.
"""

import json
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agent.clock import Cancellable, Clock
from agent.collector import Env, Failure
from agent.config import PushConfig
from agent.delivery import CREDENTIALS, Answer, Letter, credentials, retry_after, way_to
from agent.httpclient import Client, Reply
from agent.journal import Journal
from agent.pseudonyms import Mask
from agent.wire import chain
from agent.wire import event as lines
from agent.wire.event import Entry

log = logging.getLogger("ronda.push")

EXIT = "centre"
PATH = "/api/v1/events"
LIMIT = 16 << 10  # bytes of events in a letter, before they are compressed: live rows never wait long for one
MOST = 128  # events likewise
PAUSE, PAUSE_MAX = 5.0, 3600.0  # seconds: the first pause after a failure, and the longest
SILENT, SILENT_MAX = (
    1.0,
    300.0,
)  # likewise where there was no answer: mostly it is the way that was cut, and samples find out when it is open
NOBODY = 3600.0  # seconds until a receiver that takes no events is asked again


class Sent(NamedTuple):
    """What is under way."""

    journal: str
    entries: Sequence[Entry]
    headers: Sequence[tuple[str, str]] = ()

    @property
    def last(self) -> int:
        return self.entries[-1].seq


def judge(reply: Reply, journal: str, last: int) -> Answer:
    """What an answer to events means. Only a gateway can refuse an event for good: others say as much of what they don't know."""
    said = f"{reply.status} {' '.join(reply.body.decode(errors='replace').split())[:200]}".rstrip()
    if 200 <= reply.status < 300:
        if _acknowledged(reply.body, journal) >= last:
            return Answer("ok", "done")
        return Answer("answer", "again", f"it answered {reply.status}, but not that it has stored them: is this a gateway of Ronda?")
    if reply.status in CREDENTIALS:
        return Answer("credentials", "again", f"it does not accept our credentials for events: {said}")
    if reply.status == 429 or reply.status in (408, 425) or (reply.status >= 500 and reply.status not in (501, 505)):
        return Answer("server", "again", f"it is in trouble with events: {said}")
    if reply.status == 413:
        return Answer("too_large", "refuse", f"they are too large for it: {said}")
    if reply.status in (400, 422) and _said(reply.body).get("refused") is True:
        return Answer("refused", "refuse", f"it refuses events: {said}")
    return Answer("not_found", "again", f"it takes no events ({said}); they stay in the journal of this box (ronda events)")


def _acknowledged(body: bytes, journal: str) -> int:
    """Up to which number the receiver has what there is of this journal; -1 where it says nothing of the kind."""
    said = _said(body)
    number = said.get("acknowledged")
    return number if isinstance(number, int) and said.get("journal") == journal else -1


def _said(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


class EventLane:
    """`learn` has the journal learn the true time; `wake` has Delivery look whether something is due; `mask` hides who is who."""

    def __init__(self, clock: Clock, journal: Journal, learn: Callable[[], object], wake: Callable[[], None], mask: Mask) -> None:
        self._clock, self._journal, self._learn, self._wake, self._mask = clock, journal, learn, wake, mask
        self._stamped = ""  # the head that the centre has
        self._sent: Sent | None = None
        self._retry_at = 0.0
        self._alarm: Cancellable | None = None
        self._failures = 0
        self._most = MOST
        self.problem = ""

    def due(self, now: float) -> bool:
        return now >= self._retry_at and self._journal.last > self._journal.cursor(EXIT)

    def letter(self) -> Letter | None:
        """The next request; None: there was nothing after all. May wait for the disk."""
        self._learn()
        journal = self._journal
        cursor, last = journal.cursor(EXIT), journal.last
        entries = journal.after(cursor, LIMIT)[: self._most]
        if not entries:  # what there was is damaged, or gone
            journal.delivered(EXIT, journal.id, last, 0)
            return None
        self._sent = Sent(journal.id, entries)
        body, encoding = lines.pack([lines.encode(self._mask(journal.placed(entry)), abroad=True) for entry in entries])
        headers = [
            ("Content-Type", "application/x-ndjson"),
            ("Ronda-Journal", journal.id),
            *(self.stamp() or [("Ronda-Site", journal.site)]),
        ]
        self._sent = self._sent._replace(headers=headers)
        return Letter(PATH, [*headers, *([("Content-Encoding", encoding)] if encoding else [])], body)

    def stamp(self) -> list[tuple[str, str]]:
        head = str(self._journal.head or "")
        return [] if head == self._stamped else [("Ronda-Site", self._journal.site), (chain.HEADER, head)]

    def stamped(self, headers: Sequence[tuple[str, str]]) -> None:
        self._stamped = dict(headers).get(chain.HEADER, self._stamped)

    def answered(self, reply: Reply) -> None:
        """What became of the last letter."""
        sent, self._sent = self._sent, None
        assert sent
        answer = judge(reply, sent.journal, sent.last)
        if answer.action == "done":
            self._journal.delivered(EXIT, sent.journal, sent.last, len(sent.entries))
            self.stamped(sent.headers)
            self._most = min(MOST, self._most * 2)
            self._well()
        elif answer.action == "refuse" and len(sent.entries) > 1:
            self._most = max(1, len(sent.entries) // 2)
        elif answer.outcome == "refused":
            self._journal.delivered(EXIT, sent.journal, sent.last, 0, refused=1)
            log.warning("the centre refuses event %d for good: %s", sent.last, answer.why)
            self._well()
        else:
            self._again(answer, retry_after(reply.header("retry-after")))

    def failed(self, why: str) -> None:
        """The last letter could not be made, or nothing came back."""
        self._sent = None
        self._again(Answer("network", "again", why), 0.0)

    def _well(self) -> None:
        if self.problem:
            log.warning("the centre takes events again")
        self._failures, self.problem = 0, ""

    def _again(self, answer: Answer, asked: float) -> None:
        if self.problem != answer.why:
            log.warning("the centre does not take events: %s", answer.why)
        self.problem = answer.why
        self._failures += 1
        if answer.outcome in ("not_found", "too_large"):
            seconds = NOBODY
        else:
            first, longest = (SILENT, SILENT_MAX) if answer.outcome == "network" else (PAUSE, PAUSE_MAX)
            seconds = min(longest, first * 2.0 ** min(self._failures - 1, 12))
        self._retry_at = self._clock.monotonic() + max(asked, seconds * random.uniform(1.0, 1.2))
        self.close()
        self._alarm = self._clock.call_at(self._retry_at, self._wake)

    def close(self) -> None:
        if self._alarm:
            self._alarm.cancel()


async def probe(env: Env, config: PushConfig) -> Answer:
    """Whether the receiver takes events: it is sent none. Raises Failure and OSError as a connection does."""
    client = Client(way_to(config, env.root), env.net)
    try:
        await client.connect()
        reply = await client.request("POST", [("Content-Type", "application/x-ndjson"), *credentials(config)], b"\n", PATH)
    except TimeoutError:
        raise Failure("timeout", "it did not answer in time") from None
    finally:
        client.close()
    return judge(reply, "", 0)
