"""Asks devices by SNMP over UDP: some values, or columns of a table side by side. Implements wire.Client.

Law: each call has a socket of its own that is connected to the device: others' answers never arrive, a late one goes nowhere, and whatever
ends the call closes it. Answers are read one at a time and one a turn of the loop, whoever asked; who waits for a device holds no turn.
What a device can make us do is bounded: by requests (each brings a row or ends a column), by answers to one request, by values in one.

The codec is our own (messages, ber, usm): an answer of 250 values costs about 1.5 ms; it is held against net-snmp and pysnmp by tests.
Passwords become keys once for each credentials (a million bytes are hashed for it); they go when no device is asked with them any more.
"""

import asyncio
import collections
import random
import secrets
import socket
import time
from collections.abc import Callable, Container, Iterator, Sequence
from types import TracebackType

from agent import sockets
from agent.collector import Failure
from agent.snmp import messages, usm
from agent.snmp.ber import Malformed
from agent.snmp.messages import BULK, END, GET, NEXT, Ask, Reply, Report, Session
from agent.snmp.v3 import MAX_NUMBER
from agent.snmp.wire import Column, Credentials, Device, Oid, TooMuch, Value, text_of

MAX_DEVICES = 1024  # of which something is known; the longest unasked goes first
MAX_STRAY = 16  # answers to one request that are none
TOGETHER = {"1": 16, "2c": 40, "3": 40}  # values in one GET; columns side by side
IN_ONE = 300  # values that one GETBULK asks for
CHECK_AGAIN = 3600.0  # seconds until a silent device is tried in version 1 again
USM_STATS: Oid = (1, 3, 6, 1, 6, 3, 15, 1, 1)  # below it: what a v3 engine reports (RFC 3414 section 5)
LEVELS, WINDOWS, USERS, ENGINES, DIGESTS, DECIPHERING = range(1, 7)
UPTIME: Oid = (1, 3, 6, 1, 2, 1, 1, 3, 0)
_TOLD = {
    LEVELS: "it doesn't take this user with this authentication and privacy (unsupported security level)",
    WINDOWS: "it says that we are not within its time, even after we took its time",
    USERS: "it knows no such user",
    ENGINES: "its engine id is another each time",
    DIGESTS: "it says that the digest is wrong: auth_password or auth differs from what it has",
    DECIPHERING: "it can't decipher what we say: privacy_password or privacy differs from what it has",
}


class UdpClient:
    """One for all devices of an event loop. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._sessions: collections.OrderedDict[tuple[str, int, str], Session] = collections.OrderedDict()
        self._checked: collections.OrderedDict[tuple[str, int, str], float] = collections.OrderedDict()
        self.only_v1: set[tuple[str, int, str]] = set()  # those that answered so when they were last tried
        self._turn = asyncio.Lock()
        self._closed = False

    async def get(self, device: Device, oids: Sequence[Oid]) -> dict[Oid, Value]:
        """See wire.Client."""
        found: dict[Oid, Value] = {}
        wanted, most = list(dict.fromkeys(oids)), TOGETHER[device.credentials.version]
        todo = [wanted[at : at + most] for at in range(0, len(wanted), most)][::-1]
        async with self.call(device) as call:
            while todo:
                part = todo.pop()
                reply = await call.ask(lambda _, part=part: Ask(GET, part), len(part))  # type: ignore[misc]
                todo += _left(device, part, reply, found)
        return found

    async def walk(self, device: Device, columns: Sequence[Oid], most: int) -> dict[Oid, Column]:
        """See wire.Client."""
        table = _Table(device, columns, most)
        async with self.call(device) as call:
            while asked := table.next():
                if device.credentials.version == "1":
                    names = [table.last[c] for c in asked]
                    reply = await call.ask(lambda _, names=names: Ask(NEXT, names), len(asked))  # type: ignore[misc]
                else:
                    reply = await call.ask(table.bulk(asked), len(asked) * table.repetitions(asked))
                    table.slower(call.attempt)
                table.take(asked, reply)
        return table.whole()

    def forget(self, device: Device) -> None:
        """See wire.Client."""
        key = device.address, device.port, device.source
        self._sessions.pop(key, None)
        self._checked.pop(key, None)
        self.only_v1.discard(key)

    async def close(self) -> None:
        """Keys are forgotten; a call that is under way ends at its next answer."""
        self._closed = True
        self._sessions.clear()
        self._checked.clear()
        self.only_v1.clear()

    def call(self, device: Device) -> "_Call":
        return _Call(self, device)

    # -- for calls --------------------------------------------------------------------------------------------------------

    def session(self, device: Device) -> Session:
        """What is known of the device, from the beginning where its credentials changed. Raises Failure("auth")."""
        if self._closed:
            raise _closed()
        key = device.address, device.port, device.source
        session = self._sessions.get(key)
        if session is None or session.credentials != device.credentials:
            session = self._sessions[key] = Session(device.credentials, self._user(device.credentials), secrets.randbits(64))
        self._sessions.move_to_end(key)
        if len(self._sessions) > MAX_DEVICES:
            self._sessions.popitem(last=False)
        return session

    def _user(self, credentials: Credentials) -> usm.User | None:
        if credentials.version != "3":
            return None
        if known := next((s.user for s in self._sessions.values() if s.credentials == credentials), None):
            return known
        try:
            return usm.user(credentials)
        except usm.Unusable as e:
            raise Failure("auth", str(e)) from None

    async def read(self, session: Session, raw: bytes, most: int) -> Reply | Report:
        """Reads an answer when its turn has come: at most one in each turn of the loop. Raises Malformed."""
        async with self._turn:
            if self._closed:
                raise _closed()
            try:
                return session.read(raw, most, self.clock())
            finally:
                await asyncio.sleep(0)

    def may_check(self, device: Device) -> bool:
        """Whether a device that is silent in v2c should be asked in v1 now: at most once an hour."""
        key, at = (device.address, device.port, device.source), self.clock()
        if device.credentials.version != "2c" or at - self._checked.get(key, -CHECK_AGAIN) < CHECK_AGAIN:
            return False
        self._checked[key] = at
        if len(self._checked) > MAX_DEVICES:
            gone, _ = self._checked.popitem(last=False)
            self.only_v1.discard(gone)
        return True


class _Call:
    """One call on one device, and its socket."""

    def __init__(self, client: UdpClient, device: Device) -> None:
        self.client, self.device = client, device
        self.session = client.session(device)
        self.reports: collections.Counter[int] = collections.Counter()
        self.attempt = 0  # which one was answered last
        self._asked: set[int] = set()
        self._sock: socket.socket | None = None

    async def __aenter__(self) -> "_Call":
        _, address = sockets.sockaddr(self.device.address, self.device.port)
        self._sock = sockets.open_socket(self.device.address, socket.SOCK_DGRAM, self.device.source)
        try:
            self._sock.connect(address)
        except OSError as e:
            self._sock.close()
            raise sockets.failure_from(e) from None
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        assert self._sock
        self._sock.close()

    async def ask(self, ask: Callable[[int], Ask], most: int) -> Reply:
        """The answer to `ask(attempt)`. Raises Failure. What a v3 device reports is learnt from, once each."""
        while True:
            unknown = self.session.user is not None and not self.session.engine
            answer = await self._exchange(self._discovery if unknown else lambda *which: self._request(ask, *which), most)
            if isinstance(answer, Reply):
                return answer
            self._learn(answer)

    def _discovery(self, number: int, _: int) -> bytes:
        return self.session.discovery(number)

    def _request(self, ask: Callable[[int], Ask], number: int, attempt: int) -> bytes:
        return self.session.request(number, ask(attempt), self.client.clock())

    def _learn(self, report: Report) -> None:
        """Raises Failure where it tells of what doesn't mend itself. An engine that is new to us, or has been replaced, is one each."""
        about = report.about[len(USM_STATS)] if report.about[: len(USM_STATS)] == USM_STATS and len(report.about) > len(USM_STATS) else 0
        self.reports[about] += 1
        if about in (ENGINES, WINDOWS) and self.reports[about] <= 2 and report.engine:
            self.session.sync(report, self.client.clock())
            return
        who = f'user "{self.device.credentials.user}"'
        if about:
            raise Failure("auth", f"{who}: {_TOLD.get(about, f'it reports {text_of(report.about)}')}")
        raise Failure("answer", f"{who}: it reports {text_of(report.about)} instead of an answer (is the context right?)")

    async def _exchange(self, payload: Callable[[int, int], bytes], most: int) -> Reply | Report:
        """Sends, and again where nothing comes; an answer to any of these is one. Raises Failure."""
        numbers: dict[int, int] = {}
        strange: list[str] = []
        for attempt in range(self.device.retries + 1):
            number = random.randrange(1, MAX_NUMBER)
            numbers[number] = attempt
            self._asked.add(number)
            try:
                await self._send(payload(number, attempt))
                async with asyncio.timeout(self.device.timeout):
                    answer = await self._answer(numbers, strange, most)
                self.attempt = numbers[answer.number]
                return answer
            except TimeoutError:
                continue
            except OSError as e:
                raise sockets.failure_from(e, "UDP") from None
        raise await self._silent(strange)

    async def _send(self, raw: bytes) -> None:
        assert self._sock
        await asyncio.get_running_loop().sock_sendall(self._sock, raw)

    async def _answer(self, numbers: Container[int], strange: list[str], most: int) -> Reply | Report:
        assert self._sock
        for _ in range(MAX_STRAY + 1):
            raw = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 16)
            try:
                answer = await self.client.read(self.session, raw, most)
            except Malformed as e:
                strange.append(str(e))
                continue
            if answer.number in numbers:
                return answer
            if answer.number not in self._asked:  # else it is late, or came twice
                strange.append("to other requests than ours")
        raise _useless(strange or ["the same again and again"])

    async def _silent(self, strange: list[str]) -> Failure:
        device, version = self.device, self.device.credentials.version
        self.session.engine = b""  # what we know of a v3 device may be what keeps it silent: the next call asks who it is
        if strange:
            return _useless(strange)
        waited = f"no answer in {device.retries + 1} x {device.timeout:g} s"
        if version == "3":
            kept = {"privacy_password": device.credentials.privacy != "none", "context": device.credentials.context}
            differs = " or ".join(name for name, there in kept.items() if there)
            wrong = f", or {differs} differs from what it has" if differs else ""
            return Failure("timeout", f"{waited}: the device is off, or this box is not among those that may ask it{wrong}")
        key = device.address, device.port, device.source
        if self.client.may_check(device):
            self.client.only_v1.discard(key)
            if await self._answers_v1():
                self.client.only_v1.add(key)
        if key in self.client.only_v1 and version == "2c":
            return Failure("timeout", f"{waited} in version 2c, but it answers in version 1: set `version: 1` for it")
        return Failure("timeout", f"{waited}: the device is off, the community is wrong, or this box is not among those that may ask it")

    async def _answers_v1(self) -> bool:
        """Whether the device answers at all in v1: a community that is wrong it would not answer either."""
        asked = Session(self.device.credentials._replace(version="1"), None)
        other = _Call(self.client, self.device)
        other.session = asked
        try:
            async with other, asyncio.timeout(self.device.timeout):
                number = random.randrange(1, MAX_NUMBER)
                await other._send(asked.request(number, Ask(GET, [UPTIME]), 0.0))
                await other._answer({number}, [], 1)
        except (TimeoutError, OSError, Failure):
            return False
        return True


def _closed() -> Failure:
    return Failure("send", "this client is closed")


def _useless(strange: Sequence[str]) -> Failure:
    kinds = list(dict.fromkeys(strange))
    digest = any("digest" in kind for kind in kinds)
    return Failure(
        "auth" if digest else "answer", f"{len(strange)} answer{'s' * (len(strange) > 1)} that can't be used: {'; '.join(kinds[:3])}"
    )


def _refused(device: Device, reply: Reply, about: str) -> Failure:
    status = messages.STATUS[reply.status] if 0 <= reply.status < len(messages.STATUS) else f"error status {reply.status}"
    denied = reply.status in (messages.NO_ACCESS, messages.AUTHORIZATION)
    who = f'user "{device.credentials.user}"' if device.credentials.version == "3" else "this community"
    return Failure("auth", f"{who} may not read {about} ({status})") if denied else Failure("answer", f"it answers {status} for {about}")


def _left(device: Device, part: list[Oid], reply: Reply, found: dict[Oid, Value]) -> list[list[Oid]]:
    """Takes what a GET brought into `found`; what is still to be asked. Each part is smaller than the one that was asked."""
    if reply.status == 0:
        found.update((name, value) for name, value in reply.pairs if value is not None and value is not END and name in part)
        told = {name for name, _ in reply.pairs}
        if told.isdisjoint(part):
            raise Failure("answer", f"asked for {text_of(part[0])}, it tells of something else")
        return [rest] if (rest := [oid for oid in part if oid not in told]) else []
    about = text_of(part[reply.where - 1]) if 1 <= reply.where <= len(part) else text_of(part[0])
    if reply.status == messages.NO_SUCH_NAME and 1 <= reply.where <= len(part):
        return [rest] if (rest := part[: reply.where - 1] + part[reply.where :]) else []
    if reply.status == messages.NO_SUCH_NAME and len(part) == 1:
        return []
    if reply.status in (messages.TOO_BIG, messages.NO_SUCH_NAME) and len(part) > 1:
        half = len(part) // 2
        return [part[half:], part[:half]]
    raise _refused(device, reply, about)


class _Table:
    """What a walk has read so far, and what it asks for next."""

    def __init__(self, device: Device, columns: Sequence[Oid], most: int) -> None:
        self.device, self.most = device, most
        self.rows: dict[Oid, dict[Oid, Value]] = {column: {} for column in columns}
        self.last: dict[Oid, Oid] = {column: column for column in columns}  # the name after which each goes on
        self._counts = dict.fromkeys(columns, 0)
        self._open = list(dict.fromkeys(columns))
        self._side = TOGETHER[device.credentials.version]
        self._repetitions = max(1, min(device.repetitions, most + 1))
        self._longer = False

    def next(self) -> list[Oid]:
        """The columns to ask of next; none: all is read."""
        return self._open[: self._side]

    def repetitions(self, asked: list[Oid]) -> int:
        left = self.most + 1 - max(self._counts[c] for c in asked)  # one more than allowed shows that there are more
        return max(1, min(self._repetitions, left, IN_ONE // len(asked)))

    def bulk(self, asked: list[Oid]) -> Callable[[int], Ask]:
        """Less is asked for at each further attempt: large answers come in fragments, and some paths and devices lose these."""
        names, most = [self.last[c] for c in asked], self.repetitions(asked)
        return lambda attempt: Ask(BULK, names, max(1, most >> 2 * attempt))

    def slower(self, attempt: int) -> None:
        """What was answered at a further attempt only is asked so from now on."""
        self._repetitions = max(1, self._repetitions >> 2 * attempt)

    def take(self, asked: list[Oid], reply: Reply) -> None:
        """Raises Failure, TooMuch."""
        if reply.status or not reply.pairs:
            self._refused(asked, reply)
            return
        if self.device.credentials.version == "1" and len(reply.pairs) != len(asked):
            raise Failure("answer", f"asked for {len(asked)} values, it tells {len(reply.pairs)}")
        open_ = set(asked)
        for (name, value), column in zip(reply.pairs, _again(asked), strict=False):
            if column in open_ and not self._cell(column, name, value):
                open_.discard(column)
                self._open.remove(column)
        if self._longer:
            raise TooMuch(f"{text_of(asked[0])} and its neighbours have more than {self.most} rows", self.whole())

    def _cell(self, column: Oid, name: Oid, value: Value | None) -> bool:
        """Whether the column goes on."""
        if value is END or name[: len(column)] != column:
            return False
        if name <= self.last[column]:
            raise Failure("answer", f"OIDs don't increase: after {text_of(self.last[column])} comes {text_of(name)}")
        self.last[column] = name
        self._counts[column] += 1
        if self._counts[column] > self.most:
            self._longer = True
        elif value is not None:
            self.rows[column][name[len(column) :]] = value
        return True

    def _refused(self, asked: list[Oid], reply: Reply) -> None:
        if reply.status == messages.NO_SUCH_NAME and (1 <= reply.where <= len(asked) or len(asked) == 1):
            self._open.remove(asked[reply.where - 1 if 1 <= reply.where <= len(asked) else 0])
        elif reply.status not in (0, messages.TOO_BIG):
            raise _refused(self.device, reply, text_of(self.last[asked[max(0, min(reply.where, len(asked)) - 1)]]))
        elif self._repetitions > 1 and self.device.credentials.version != "1":
            self._repetitions = max(1, self.repetitions(asked) // 2)
        elif len(asked) > 1:
            self._side = (len(asked) + 1) // 2
        else:
            raise _refused(self.device, reply._replace(status=messages.TOO_BIG), text_of(asked[0]))

    def whole(self) -> dict[Oid, Column]:
        return dict(self.rows)


def _again(columns: Sequence[Oid]) -> Iterator[Oid]:
    while True:
        yield from columns
