"""What a client of SNMP must do, whichever it is: against real net-snmp in every version, and against a device that lies.

Law: CLIENTS are those that are tested; a test asks for one by `make` and knows nothing of its inside. What is marked `every_client` all of
them do; the rest is what our own promises beyond, and pysnmp's doesn't: it takes an answer that holds one odd value, or is no answer, for
silence, and lets its exceptions into the loop. Nothing is asserted of time; who delays whom is told by who was ready first.
"""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collector import Failure
from agent.snmp import ber, messages, usm
from agent.snmp.ber import Malformed
from agent.snmp.client import UdpClient
from agent.snmp.library import PysnmpClient
from agent.snmp.messages import Ask, Reply, Report, Session
from agent.snmp.v3 import MAX_NUMBER
from agent.snmp.wire import Client, Credentials, Device, Oid, TooMuch, Value
from tests.fuzz import broken, fuzz
from tests.snmp.liar import END, NULL, Answer, Asked, Liar, honest, lying, report
from tests.snmp.snmpd import COMMUNITY, TABLE, USERS, Snmpd, free_udp_port, running

CLIENTS: dict[str, Callable[[], Client]] = {"udp": UdpClient, "pysnmp": PysnmpClient}
every_client = pytest.mark.parametrize("make", CLIENTS, indirect=True)
ROWS = 60
NAME: Oid = (1, 3, 6, 1, 2, 1, 1, 5, 0)
ABSENT: Oid = (1, 3, 6, 1, 2, 1, 1, 99, 0)
COLUMNS = [(*TABLE, n) for n in (1, 2, 3)]
EVERYBODY = {"v1": Credentials("1", COMMUNITY), "v2c": Credentials("2c", COMMUNITY), **USERS}

pytestmark = pytest.mark.needs("snmpd")


@pytest.fixture(scope="module")
def snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snmpd]:
    with running(tmp_path_factory.mktemp("snmpd"), rows=ROWS, lines=["sysName kantor"]) as made:
        yield made


@pytest.fixture(params=["udp"])
def make(request: pytest.FixtureRequest) -> Callable[[], Client]:
    return CLIENTS[request.param]


def run(make: Callable[[], Client], body: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async def whole() -> Any:
        client = make()
        try:
            return await body(client)
        finally:
            await client.close()

    return asyncio.run(whole())


def failure(make: Callable[[], Client], body: Callable[[Client], Coroutine[Any, Any, Any]]) -> Failure:
    with pytest.raises(Failure) as e:
        run(make, body)
    return e.value


def lied_to(make: Callable[[], Client], answer: Answer, body: Callable[[Client, Liar], Coroutine[Any, Any, Any]]) -> Any:
    async def whole(client: Client) -> Any:
        async with lying(answer) as liar:
            return await body(client, liar)

    return run(make, whole)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def _lied(client: Client, answer: Answer, body: Callable[[Liar], Coroutine[Any, Any, Any]]) -> Any:
    async with lying(answer) as liar:
        return await body(liar)


# -- what is right ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", EVERYBODY)
@every_client
def test_values_and_columns_of_a_real_device(make: Callable[[], Client], snmpd: Snmpd, who: str) -> None:
    async def body(client: Client) -> None:
        device = snmpd.device(EVERYBODY[who])
        assert await client.get(device, [NAME, ABSENT, NAME]) == {NAME: Value("string", b"kantor")}
        found = await client.walk(device, [*COLUMNS, ABSENT], ROWS)
        assert found[COLUMNS[0]] == {(n,): Value("integer", 1000 + n) for n in range(1, ROWS + 1)}
        assert found[COLUMNS[2]] == {(n,): Value("string", f"baris {n}".encode()) for n in range(1, ROWS + 1)}
        assert list(found[COLUMNS[1]]) == [(n,) for n in range(1, ROWS + 1)]
        assert found[ABSENT] == {}
        assert list(found) == [*COLUMNS, ABSENT]

    run(make, body)


@pytest.mark.parametrize("version", ["1", "2c"])
@every_client
def test_as_many_values_as_one_likes(make: Callable[[], Client], snmpd: Snmpd, version: Any) -> None:
    wanted = [(*column, n) for column in COLUMNS for n in range(1, ROWS + 4)]  # three of each column aren't there

    async def body(client: Client) -> dict[Oid, Value]:
        return await client.get(snmpd.device(Credentials(version, COMMUNITY)), wanted)

    assert set(run(make, body)) == {oid for oid in wanted if oid[-1] <= ROWS}


def test_every_type_as_it_is(make: Callable[[], Client]) -> None:
    table = {(1, 3, 6, 1, 9, n): raw for n, raw in enumerate([
        ber.integer(-5), ber.string(b"\xff\x00"), ber.oid((1, 3, 6, 1)), ber.element(0x40, b"\x0a\x00\x00\x01"),
        ber.element(0x41, b"\xff\xff\xff\xff"), ber.integer(7, 0x42), ber.integer(8, 0x43), ber.element(0x44, b"\x9f"),
        ber.integer((1 << 64) - 1, 0x46), NULL,
    ])}  # fmt: skip
    found = lied_to(make, honest(table), lambda client, liar: client.get(liar.device(), list(table)))
    assert list(found.values()) == [
        ("integer", -5), ("string", b"\xff\x00"), ("oid", (1, 3, 6, 1)), ("address", b"\x0a\x00\x00\x01"), ("counter32", 0xFFFFFFFF),
        ("gauge32", 7), ("timeticks", 8), ("opaque", b"\x9f"), ("counter64", (1 << 64) - 1),
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["1", "2c", "3"])
@every_client
def test_a_table_that_is_too_long_is_told_with_what_was_read(make: Callable[[], Client], snmpd: Snmpd, version: str) -> None:
    who = EVERYBODY[{"1": "v1", "2c": "v2c", "3": "aes"}[version]]
    with pytest.raises(TooMuch, match="more than 10 rows") as e:
        run(make, lambda client: client.walk(snmpd.device(who), COLUMNS, 10))
    assert {column: list(rows) for column, rows in e.value.partial.items()} == {column: [(n,) for n in range(1, 11)] for column in COLUMNS}
    assert e.value.reason == "answer"


@every_client
def test_columns_of_different_length(make: Callable[[], Client]) -> None:
    rows = {1: [1, 2, 3, 9], 2: [], 3: [2], 4: list(range(1, 90))}
    table = {(1, 3, 6, 1, 9, column, n): ber.integer(n) for column, there in rows.items() for n in there}
    columns = [(1, 3, 6, 1, 9, column) for column in rows]
    found = lied_to(make, honest(table), lambda client, liar: client.walk(liar.device(), columns, 100))
    assert {column[-1]: [index[0] for index in there] for column, there in found.items()} == rows


# -- devices that don't answer as one would wish ----------------------------------------------------------------------------------


@every_client
def test_a_wrong_community_is_silence_and_the_reason_says_what_to_check(make: Callable[[], Client], snmpd: Snmpd) -> None:
    device = snmpd.device(Credentials("2c", "salah"), timeout=0.1)
    found = failure(make, lambda client: client.get(device, [NAME]))
    assert found.reason == "timeout"
    assert found.detail == (
        "no answer in 2 x 0.1 s: the device is off, the community is wrong, or this box is not among those that may ask it"
    )


@pytest.mark.parametrize(
    ("who", "changes", "said"),
    [
        ("sha", {"user": "bukan"}, 'user "bukan": it knows no such user'),
        ("sha", {"auth_password": "kata-sandi-salah"}, "the digest is wrong"),
        ("sha", {"auth": "md5"}, "the digest is wrong"),
        ("md5", {"privacy": "des", "privacy_password": "kata-sandi-apa"}, "unsupported security level"),
        ("tamu", {"auth": "sha", "auth_password": "kata-sandi-apa"}, "unsupported security level"),
        ("tamu", {"user": "aes"}, "may not read 1.3.6.1.2.1.1.5.0 (authorizationError)"),
    ],
)
@every_client
def test_what_a_v3_device_refuses_is_told_in_its_words(
    make: Callable[[], Client], snmpd: Snmpd, who: str, changes: dict[str, Any], said: str
) -> None:
    device = snmpd.device(USERS[who]._replace(**changes))
    found = failure(make, lambda client: client.get(device, [NAME]))
    assert found.reason == "auth"
    assert said in found.detail
    assert "kata-sandi" not in found.detail


def test_a_wrong_privacy_password_is_silence_and_named(make: Callable[[], Client], snmpd: Snmpd) -> None:
    device = snmpd.device(USERS["aes"]._replace(privacy_password="kata-sandi-salah"), timeout=0.1)
    found = failure(make, lambda client: client.get(device, [NAME]))
    assert found.reason == "timeout"
    assert "privacy_password differs" in found.detail


def test_a_short_password_is_refused_before_anything_is_sent(make: Callable[[], Client]) -> None:
    async def body(client: Client, liar: Liar) -> None:
        with pytest.raises(Failure, match="eight characters") as e:
            await client.get(liar.device(USERS["sha"]._replace(auth_password="pendek")), [NAME])
        assert e.value.reason == "auth"
        assert liar.heard == []

    lied_to(make, lambda it: [], body)


@pytest.mark.parametrize("who", ["sha", "sha256aes"])
def test_a_device_that_was_restarted_or_replaced_is_found_again(make: Callable[[], Client], tmp_path: Path, who: str) -> None:
    with running(tmp_path) as snmpd:

        async def body(client: Client) -> None:
            device = snmpd.device(USERS[who])
            before = await client.get(device, [NAME])
            assert before
            for forget in (False, True):
                snmpd.stop()
                if forget:
                    snmpd.forget()
                await asyncio.to_thread(snmpd.start)
                assert await client.get(device, [NAME]) == before

        run(make, body)


@pytest.mark.parametrize(("about", "said"), [(4, "engine id is another each time"), (2, "not within its time"), (5, "digest is wrong")])
def test_a_v3_device_that_never_comes_to_rest_costs_one_error(make: Callable[[], Client], about: int, said: str) -> None:
    def answer(it: Asked) -> list[bytes]:
        heard.append(it)
        return [report(it, about if len(heard) > 1 else 4, b"\x80\0\0\0\5" + bytes([len(heard) % 250]) * 8)]

    heard: list[Asked] = []
    found = failure(lambda: make(), lambda client: _lied(client, answer, lambda liar: client.get(liar.device(USERS["sha"]), [NAME])))
    assert (found.reason, said in found.detail) == ("auth", True), found.detail
    assert len(heard) <= 4


def test_a_v3_device_that_fell_silent_is_asked_anew_who_it_is(make: Callable[[], Client]) -> None:
    engine = b"\x80\0\0\0\5kantor"

    async def body(client: Client, liar: Liar) -> list[bool]:
        for _ in range(2):
            with pytest.raises(Failure):
                await client.get(liar.device(USERS["sha"], timeout=0.3), [NAME])
        return [engine in it.raw for it in liar.heard]

    assert lied_to(make, lambda it: [] if engine in it.raw else [report(it, 4, engine)], body) == [False, True, False, True]


def test_nobody_at_the_port_is_refused(make: Callable[[], Client]) -> None:
    device = Device("127.0.0.1", free_udp_port(), EVERYBODY["v2c"])
    assert failure(make, lambda client: client.get(device, [NAME])).reason == "refused"


@every_client
def test_an_address_that_is_none_or_a_source_that_isnt_ours(make: Callable[[], Client]) -> None:
    for device in (Device("router", 161, EVERYBODY["v2c"]), Device("127.0.0.1", 161, EVERYBODY["v2c"], source="192.0.2.77")):
        assert failure(make, lambda client, device=device: client.get(device, [NAME])).reason == "send"  # type: ignore[misc]


def test_a_device_of_version_1_only_is_told(make: Callable[[], Client], tmp_path: Path) -> None:
    with running(tmp_path, versions=["1"]) as snmpd:
        found = failure(make, lambda client: client.get(snmpd.device(timeout=0.5, retries=0), [NAME]))
    assert found.reason == "timeout"
    assert "it answers in version 1: set `version: 1`" in found.detail


def test_version_1_is_tried_once_an_hour_only(make: Callable[[], Client]) -> None:
    async def body(client: Client, liar: Liar) -> list[int]:
        for _ in range(3):
            with pytest.raises(Failure):
                await client.get(liar.device(timeout=0.02), [NAME])
        return [it.version for it in liar.heard]

    assert lied_to(make, lambda it: [], body) == [1, 0, 1, 1]


# -- lies -------------------------------------------------------------------------------------------------------------------------

ONE = {(1, 3, 6, 1, 9, 1, n): ber.integer(n) for n in range(1, 30)}
COLUMN: Oid = (1, 3, 6, 1, 9, 1)


def _cell(n: int) -> Oid:
    return (*COLUMN, n)


def _truncated(it: Asked) -> list[bytes]:
    return [honest(ONE)(it)[0][:-7]]


def _backwards(it: Asked) -> list[bytes]:
    return [it.reply(*((_cell(9 - n), ber.integer(n)) for n in range(5)))]


def _standing(it: Asked) -> list[bytes]:
    return [it.reply((_cell(5), ber.integer(1)))]


def _too_many(it: Asked) -> list[bytes]:
    return [it.reply(*((_cell(n), ber.integer(n)) for n in range(1, 3000)))]


def _datagram(it: Asked) -> list[bytes]:
    return [it.reply((_cell(1), ber.string(bytes(65000))), (_cell(2), b"\x04\x84\xff\xff\xff\xff"))]


LIES: dict[str, tuple[Answer, str]] = {
    "truncated": (_truncated, "cut short"),
    "garbage": (lambda it: [os.urandom(3) + b"\xff" * 60], "can't be used"),
    "one byte": (lambda it: [b"\x30"], "cut short"),
    "nested": (lambda it: [b"\x30\x80" * 700], "a length that can't be"),
    "another number": (lambda it: [it.reply((_cell(1), ber.integer(1)), number=it.number ^ 1)], "to other requests than ours"),
    "another version": (lambda it: [it.reply((_cell(1), ber.integer(1)), version=0)], "another version of SNMP"),
    "a request": (lambda it: [it.raw], "type 0xa5 where another should be"),
    "backwards": (_backwards, "OIDs don't increase"),
    "standing": (_standing, "OIDs don't increase"),
    "too many": (_too_many, "more values than were asked for"),
    "a full datagram": (_datagram, "cut short"),
    "a number of 20 bytes": (lambda it: [it.reply((_cell(1), ber.element(2, bytes(20))))], "a number of so many bytes"),
    "an OID without end": (lambda it: [it.reply((_cell(1), ber.element(6, b"\x2b" + b"\xff" * 90)))], "an OID that"),
    "genErr": (lambda it: [it.reply(status=5, where=1)], "it answers genErr for 1.3.6.1.9.1"),
    "a status that there isn't": (lambda it: [it.reply(status=77, where=9)], "it answers error status 77"),
    "tooBig for ever": (lambda it: [it.reply(status=1)], "it answers tooBig"),
    "nothing in it for ever": (lambda it: [it.reply()], "it answers tooBig"),
    "many": (lambda it: [b"\x30\x00"] * 200, "17 answers that can't be used"),
}


UNREADABLE = frozenset(LIES) - {
    "backwards",
    "standing",
    "genErr",
    "a status that there isn't",
    "tooBig for ever",
    "nothing in it for ever",
    "many",
}
LARGE = frozenset({"too many", "a full datagram"})  # twenty of these fit in no buffer: such a lie is told when nothing more comes
UNREADABLE -= LARGE


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_one_clear_error_after_bounded_work(make: Callable[[], Client], lie: str) -> None:
    answer, said = LIES[lie]

    async def body(client: Client, liar: Liar) -> None:
        with pytest.raises(Failure) as e:
            await client.walk(liar.device(timeout=0.5 if lie in LARGE else 5.0), [COLUMN], 50)
        assert (e.value.reason, said in e.value.detail) == ("answer", True), e.value.detail
        assert len(liar.heard) <= 8
        liar.answer = honest(ONE)  # and it is forgotten
        assert len((await client.walk(liar.device(), [COLUMN], 50))[COLUMN]) == len(ONE)

    lied_to(make, (lambda it: [*answer(it)] * 20) if lie in UNREADABLE else answer, body)


def test_one_lie_does_not_keep_the_truth_from_being_heard(make: Callable[[], Client]) -> None:
    def answer(it: Asked) -> list[bytes]:
        return [*_truncated(it), it.reply((_cell(1), ber.integer(9)), number=it.number ^ 1), *honest(ONE)(it)]

    found = lied_to(make, answer, lambda client, liar: client.get(liar.device(), [_cell(1)]))
    assert found == {_cell(1): Value("integer", 1)}


def test_a_lie_and_then_silence_is_told_as_the_lie(make: Callable[[], Client]) -> None:
    found = failure(make, lambda client: _lied(client, _truncated, lambda liar: client.get(liar.device(timeout=0.3), [_cell(1)])))
    assert (found.reason, found.detail) == ("answer", "1 answer that can't be used: cut short")


@pytest.mark.parametrize("version", ["1", "2c"])
def test_an_endless_table_ends(make: Callable[[], Client], version: Any) -> None:
    def answer(it: Asked) -> list[bytes]:
        at = it.oids[0][-1] if len(it.oids[0]) > len(COLUMN) else 0
        return [it.reply(*((_cell(at + n), ber.integer(n)) for n in range(1, (it.second or 1) + 1)))]

    async def body(client: Client, liar: Liar) -> None:
        with pytest.raises(TooMuch) as e:
            await client.walk(liar.device(Credentials(version, "x")), [COLUMN], 100)
        assert len(e.value.partial[COLUMN]) == 100
        assert len(liar.heard) <= 101

    lied_to(make, answer, body)


@every_client
def test_a_device_that_can_say_little_at_a_time_is_asked_for_less(make: Callable[[], Client]) -> None:
    def answer(it: Asked) -> list[bytes]:
        much = len(it.oids) > 3 or it.second > 4
        return [it.reply(status=1)] if much else honest(ONE)(it)

    async def body(client: Client, liar: Liar) -> None:
        assert len((await client.walk(liar.device(), [COLUMN], 50))[COLUMN]) == len(ONE)
        assert await client.get(liar.device(), list(ONE)) == {oid: Value("integer", oid[-1]) for oid in ONE}

    lied_to(make, answer, body)


def test_large_answers_that_get_lost_are_asked_for_in_smaller_ones(make: Callable[[], Client]) -> None:
    async def body(client: Client, liar: Liar) -> None:
        assert len((await client.walk(liar.device(retries=1, timeout=0.5), [COLUMN], 50))[COLUMN]) == len(ONE)
        assert sum(it.second > 8 for it in liar.heard) == 1

    lied_to(make, lambda it: [] if it.second > 8 else honest(ONE)(it), body)


@pytest.mark.parametrize("where", [0, 3, 99])
@every_client
def test_no_such_name_is_absent(make: Callable[[], Client], where: int) -> None:
    def answer(it: Asked) -> list[bytes]:
        missing = [n for n, oid in enumerate(it.oids, 1) if oid not in ONE]
        return [it.reply(status=2, where=missing[0] if where == 3 else where)] if missing else honest(ONE)(it)

    wanted = [_cell(1), _cell(500), _cell(2), _cell(501), _cell(3)]
    found = lied_to(make, answer, lambda client, liar: client.get(liar.device(Credentials("1", "x")), wanted))
    assert set(found) == {_cell(1), _cell(2), _cell(3)}


def test_a_device_that_tells_less_than_was_asked_is_asked_for_the_rest(make: Callable[[], Client]) -> None:
    def answer(it: Asked) -> list[bytes]:
        return honest(ONE)(it._replace(oids=it.oids[:3]))

    found = lied_to(make, answer, lambda client, liar: client.get(liar.device(), list(ONE)))
    assert set(found) == set(ONE)


def test_a_device_that_tells_of_something_else_is_an_error(make: Callable[[], Client]) -> None:
    found = failure(
        make,
        lambda client: _lied(client, lambda it: [it.reply((_cell(7), ber.integer(7)))], lambda liar: client.get(liar.device(), [NAME])),
    )
    assert (found.reason, found.detail) == ("answer", "asked for 1.3.6.1.2.1.1.5.0, it tells of something else")


def test_an_answer_from_another_address_is_none(make: Callable[[], Client]) -> None:
    async def body(client: Client, liar: Liar) -> Failure:
        loop = asyncio.get_running_loop()
        other, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

        def elsewhere(it: Asked) -> list[bytes]:
            other.sendto(honest(ONE)(it)[0], liar.asker)
            return []

        liar.answer = elsewhere
        with contextlib.closing(other), pytest.raises(Failure) as e:
            await client.get(liar.device(timeout=0.1), [_cell(1)])
        return e.value

    found = lied_to(make, lambda it: [], body)
    assert found.reason == "timeout"


def test_a_late_answer_to_the_first_try_counts(make: Callable[[], Client]) -> None:
    async def body(client: Client, liar: Liar) -> dict[Oid, Value]:
        def late(it: Asked) -> list[bytes]:
            return honest(ONE)(liar.heard[0]) if len(liar.heard) > 1 else []

        liar.answer = late
        return await client.get(liar.device(retries=1, timeout=0.5), [_cell(1)])

    assert lied_to(make, lambda it: [], body) == {_cell(1): Value("integer", 1)}


# -- many at once -----------------------------------------------------------------------------------------------------------------


@every_client
def test_a_dead_device_delays_nobody(make: Callable[[], Client], snmpd: Snmpd) -> None:
    """Twenty dead ones are waited for; the living one is read meanwhile, whole, before any of them is given up."""

    async def body(client: Client, liar: Liar) -> None:
        dead = [asyncio.ensure_future(client.walk(liar.device(timeout=600.0), COLUMNS, ROWS)) for _ in range(20)]
        while len(liar.heard) < 20:
            await asyncio.sleep(0)
        for who in ("v1", "v2c", "sha256aes"):
            found = await client.walk(snmpd.device(EVERYBODY[who]), COLUMNS, ROWS)
            assert len(found[COLUMNS[2]]) == ROWS
        assert [task.done() for task in dead] == [False] * 20
        for task in dead:
            task.cancel()
        assert {type(e) for e in await asyncio.gather(*dead, return_exceptions=True)} == {asyncio.CancelledError}

    lied_to(make, lambda it: [], body)


def test_what_is_cancelled_or_fails_leaves_no_socket(make: Callable[[], Client], snmpd: Snmpd) -> None:
    async def body(client: Client, liar: Liar) -> None:
        before = open_files()
        for timeout in (600.0, 0.02):
            asked = [asyncio.ensure_future(client.get(liar.device(timeout=timeout), [NAME])) for _ in range(5)]
            while not liar.heard:
                await asyncio.sleep(0)
            if timeout > 1:
                assert open_files() > before
                for task in asked:
                    task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            liar.heard.clear()
        with contextlib.suppress(Failure):
            await client.walk(snmpd.device(), COLUMNS, 5)
        assert open_files() == before

    lied_to(make, lambda it: [], body)


@every_client
def test_changed_credentials_hold_at_once(make: Callable[[], Client], snmpd: Snmpd) -> None:
    async def body(client: Client) -> None:
        wrong = USERS["sha"]._replace(auth_password="kata-sandi-lama")
        for _ in range(2):
            with pytest.raises(Failure, match="digest"):
                await client.get(snmpd.device(wrong), [NAME])
            assert await client.get(snmpd.device(USERS["sha"]), [NAME])

    run(make, body)


def test_nothing_grows_over_many_polls_and_many_credentials(make: Callable[[], Client], snmpd: Snmpd) -> None:
    async def body(client: Client) -> int:
        async def poll(times: int) -> int:
            for n in range(times):
                await client.get(snmpd.device(), [NAME])
                with contextlib.suppress(Failure):
                    await client.get(snmpd.device(Credentials("3", user=f"tamu{n}" if n % 2 else "tamu")), [NAME])
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        await poll(20)
        before = await poll(20)
        return await poll(250) - before

    tracemalloc.start()
    try:
        assert run(make, body) < 32 << 10
    finally:
        tracemalloc.stop()


@every_client
def test_of_a_device_that_nobody_asks_any_more_nothing_is_kept(make: Callable[[], Client], snmpd: Snmpd) -> None:
    """Its keys least of all; another that is asked with the same ones is asked on."""
    who = USERS["sha"]._replace(privacy_password="of-this-test-alone")

    async def body(client: Client) -> None:
        mine, other = snmpd.device(who), snmpd.device(who, source="127.0.0.1")
        for device in (mine, other):
            assert await client.get(device, [NAME])
        client.forget(mine)
        assert await client.get(other, [NAME])
        client.forget(other)
        client.forget(other)
        gc.collect()
        assert not [s for s in gc.get_objects() if isinstance(s, Session) and s.credentials == who]
        assert await client.get(mine, [NAME])

    run(make, body)


@every_client
def test_a_closed_client_asks_nobody(make: Callable[[], Client], snmpd: Snmpd) -> None:
    async def body(client: Client) -> None:
        await client.get(snmpd.device(), [NAME])
        await client.close()
        with pytest.raises(Failure, match="closed"):
            await client.get(snmpd.device(), [NAME])

    run(make, body)


# -- of ours alone ----------------------------------------------------------------------------------------------------------------


def test_answers_are_read_one_in_a_turn_of_the_loop(snmpd: Snmpd, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    turn = 0
    real = Session.read

    def read(*args: Any) -> Reply | Report:
        turns.append(turn)
        return real(*args)

    async def ticking() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def body(client: Client) -> None:
        ticks = asyncio.ensure_future(ticking())
        await asyncio.gather(*(client.walk(snmpd.device(), COLUMNS, ROWS) for _ in range(20)))
        ticks.cancel()

    monkeypatch.setattr(Session, "read", read)
    run(UdpClient, body)
    assert len(turns) >= 60
    assert len(set(turns)) == len(turns)


ALONE = """
import asyncio, sys
from agent.snmp.client import UdpClient
from agent.snmp.wire import Credentials, Device
from agent.collector import Failure
sys.modules.update(dict.fromkeys(sys.argv[4:]))
async def main():
    for who in (Credentials("2c", "rahasia"), Credentials("3", user="sha", auth="sha", auth_password=sys.argv[2]),
                Credentials("3", user="aes", auth="sha", auth_password=sys.argv[2], privacy="aes", privacy_password=sys.argv[3])):
        try:
            found = await UdpClient().get(Device("127.0.0.1", int(sys.argv[1]), who), [(1, 3, 6, 1, 2, 1, 1, 5, 0)])
            print(len(found), *(m for m in ("cryptography", "pysnmp", "pyasn1") if sys.modules.get(m)))
        except Failure as e:
            print(e.reason, e.detail)
asyncio.run(main())
"""


def alone(snmpd: Snmpd, *without: str) -> list[str]:
    user = USERS["aes"]
    command = [sys.executable, "-c", ALONE, str(snmpd.port), user.auth_password, user.privacy_password, *without]
    root = Path(__file__).parent.parent.parent
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_cryptography_is_imported_for_privacy_only(snmpd: Snmpd) -> None:
    assert alone(snmpd) == ["1", "1", "1 cryptography"]


def test_without_cryptography_privacy_is_refused_in_plain_words(snmpd: Snmpd) -> None:
    said = alone(snmpd, "cryptography")
    assert said[:2] == ["1", "1"]
    assert said[2].startswith("auth SNMPv3 with privacy needs the package python3-cryptography")
    assert "ronda[snmpv3]" in said[2]


# -- the codec, against pysnmp's and against nonsense -----------------------------------------------------------------------------

OIDS = st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=20).map(lambda tail: (1, 3, *tail))
V2C = Session(Credentials("2c", "rahasia"), None)


@fuzz
@given(st.integers(1, MAX_NUMBER), st.lists(OIDS, max_size=8), st.integers(0, 1000))
def test_pysnmp_reads_our_requests(number: int, oids: list[Oid], repetitions: int) -> None:
    from pyasn1.codec.ber import decoder
    from pysnmp.proto.api import v2c

    for tag, pdu_class in (
        (messages.GET, v2c.GetRequestPDU),
        (messages.NEXT, v2c.GetNextRequestPDU),
        (messages.BULK, v2c.GetBulkRequestPDU),
    ):
        raw = V2C.request(number, Ask(tag, oids, repetitions if tag == messages.BULK else 0), 0.0)
        message, rest = decoder.decode(raw, asn1Spec=v2c.Message())
        pdu = v2c.apiMessage.get_pdu(message)
        assert (rest, type(pdu), int(pdu[0]), int(pdu[2])) == (b"", pdu_class, number, repetitions if tag == messages.BULK else 0)
        assert [tuple(name) for name, _ in v2c.apiPDU.get_varbinds(pdu)] == oids


VALUES = st.one_of(
    st.tuples(st.just("integer"), st.integers(-(1 << 31), (1 << 31) - 1)), st.tuples(st.just("string"), st.binary(max_size=300)),
    st.tuples(st.just("oid"), OIDS), st.tuples(st.just("address"), st.binary(min_size=4, max_size=4)),
    st.tuples(st.sampled_from(["counter32", "gauge32", "timeticks"]), st.integers(0, (1 << 32) - 1)),
    st.tuples(st.just("counter64"), st.integers(0, (1 << 64) - 1)), st.tuples(st.just("opaque"), st.binary(max_size=20)),
)  # fmt: skip


@fuzz
@given(st.integers(1, MAX_NUMBER), st.lists(st.tuples(OIDS, VALUES), min_size=1, max_size=8))
def test_we_read_what_pysnmp_answers(number: int, pairs: list[tuple[Oid, tuple[Any, Any]]]) -> None:
    from pyasn1.codec.ber import encoder
    from pysnmp.proto.api import v2c

    kinds = {
        "integer": v2c.Integer, "string": v2c.OctetString, "oid": v2c.ObjectIdentifier, "address": v2c.IpAddress,
        "counter32": v2c.Counter32, "gauge32": v2c.Gauge32, "timeticks": v2c.TimeTicks, "counter64": v2c.Counter64, "opaque": v2c.Opaque,
    }  # fmt: skip
    message, pdu = v2c.Message(), v2c.ResponsePDU()
    v2c.apiMessage.set_defaults(message)
    v2c.apiPDU.set_defaults(pdu)
    v2c.apiPDU.set_request_id(pdu, number)
    v2c.apiPDU.set_varbinds(pdu, [(name, kinds[kind](value)) for name, (kind, value) in pairs])
    v2c.apiMessage.set_pdu(message, pdu)
    raw = encoder.encode(message)
    assert V2C.read(raw, len(pairs), 0.0) == Reply(number, 0, 0, [(name, Value(*said)) for name, said in pairs])
    with pytest.raises(Malformed, match="more values"):
        V2C.read(raw, len(pairs) - 1, 0.0)


def samples() -> list[bytes]:
    """Answers of v2c and reports of v3, whole."""
    it = Asked(b"", 1, b"rahasia", messages.BULK, 77, 0, 25, [COLUMN])
    return [honest(ONE)(it)[0], it.reply((_cell(1), END)), it.reply(status=2, where=1), report(it, 4, b"\x80\0\0\0\5ronda")]


@fuzz
@given(st.one_of(st.binary(max_size=400), broken(samples())))
def test_whatever_comes_is_an_answer_or_malformed(raw: bytes) -> None:
    for session in (V2C, V3):
        with contextlib.suppress(Malformed):
            found = session.read(raw, 30, 0.0)
            assert isinstance(found, Reply | Report)
            assert isinstance(found, Report) or len(found.pairs) <= 30


V3 = Session(USERS["aes"], usm.user(USERS["aes"]))


@pytest.mark.parametrize("who", ["tamu", "sha", "des", "aes", "kuat256"])
def test_of_a_v3_answer_no_byte_can_be_changed(who: str) -> None:
    """Another device's session seals it: what is asked and what is answered is sealed alike. Without a digest nothing is promised."""
    user = usm.user(USERS[who])
    ours, theirs = Session(USERS[who], user), Session(USERS[who], user)
    for session in (ours, theirs):
        session.sync(Report(1, (), b"\x80\0\0\0\5ronda", 7, 1000), 0.0)
    pair = ber.element(0x30, ber.oid(NAME), ber.string(b"kantor"))
    pdu = ber.element(messages.RESPONSE, ber.integer(5), ber.integer(0), ber.integer(0), ber.element(0x30, pair))
    raw = theirs._sealed(user, 5, pdu, 0.0)
    assert ours.read(raw, 1, 0.0) == Reply(5, 0, 0, [(NAME, Value("string", b"kantor"))])
    for at in range(len(raw)) if user.level else ():
        with pytest.raises(Malformed):
            ours.read(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], 1, 0.0)
    if user.level:
        with pytest.raises(Malformed, match="old"):
            ours.read(raw, 1, 600.0)


@fuzz
@given(st.sampled_from([EVERYBODY["v2c"], USERS["sha"]]), st.lists(st.one_of(st.binary(max_size=200), broken(samples())), max_size=6))
def test_whatever_a_device_sends_is_an_answer_or_a_failure(who: Credentials, datagrams: list[bytes]) -> None:
    async def body(client: Client, liar: Liar) -> None:
        with contextlib.suppress(Failure):
            await client.walk(liar.device(who, timeout=0.001), [COLUMN], 50)

    lied_to(UdpClient, lambda it: datagrams, body)
