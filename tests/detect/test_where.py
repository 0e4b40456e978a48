"""Where it is plugged in: the port that is nobody else's, or nothing; said with a case, once it is known; a label without an address."""

import json

import pytest

from agent.board import Board
from agent.detect.seen import Bridge, RouterArp
from agent.detect.where import FRESH, Place, place_of, where
from agent.pseudonyms import Pseudonyms
from agent.wire.event import Entry
from tests.detect.lan import ATTACKER, OTHER, PC, ROUTER
from tests.detect.test_casebook import Book

UPLINK = {ROUTER.mac: "24", PC.mac: "24", OTHER.mac: "24"}


def board(*bridges: Bridge, at: float = 100.0, arp: dict[str, str] | None = None) -> Board:
    made = Board()
    for bridge in bridges:
        made.post(bridge.device, bridge, at)
    if arp is not None:
        made.post("router", RouterArp("router", arp), at)
    return made


def test_the_port_of_the_one_switch() -> None:
    one = board(Bridge("switch-1", {ATTACKER.mac: "11", PC.mac: "3"}))
    assert str(where(one, ATTACKER.mac, 200.0)) == "switch-1 port 11"
    assert where(one, OTHER.mac, 200.0) is None


def test_a_port_with_a_switch_behind_it_is_nobodys_place() -> None:
    first = Bridge("switch-1", UPLINK | {ATTACKER.mac: "24"}, frozenset({"24"}))
    assert where(board(first), ATTACKER.mac, 200.0) is None
    second = Bridge("switch-2", {ATTACKER.mac: "5"})
    assert where(board(first, second), ATTACKER.mac, 200.0) == Place("switch-2", "5")


def test_where_nobody_said_which_ports_are_shared_the_emptier_one_is_it() -> None:
    first, second = Bridge("switch-1", UPLINK | {ATTACKER.mac: "24"}), Bridge("switch-2", {ATTACKER.mac: "5", PC.mac: "1"})
    assert where(board(first, second), ATTACKER.mac, 200.0) == Place("switch-2", "5")
    twin = Bridge("switch-3", {ATTACKER.mac: "7"})
    assert where(board(second, twin), ATTACKER.mac, 200.0) is None, "two that are alike"


def test_an_old_table_says_nothing() -> None:
    one = board(Bridge("switch-1", {ATTACKER.mac: "11"}))
    assert where(one, ATTACKER.mac, 100.0 + FRESH) is not None
    assert where(one, ATTACKER.mac, 101.0 + FRESH) is None


def test_an_address_is_looked_up_in_the_routers_table() -> None:
    one = board(Bridge("switch-1", {ATTACKER.mac: "11"}), arp={ATTACKER.ip: ATTACKER.mac.upper()})
    assert place_of(one, {"source.ip": ATTACKER.ip}, 200.0) == Place("switch-1", "11")
    assert place_of(one, {"source.ip": PC.ip}, 200.0) is None
    assert place_of(one, {"source.mac": PC.mac, "source.ip": ATTACKER.ip}, 200.0) is None, "the MAC is the better word"
    assert place_of(one, {}, 200.0) is None
    one.post("switch-9", RouterArp("switch-9", {ATTACKER.ip: PC.mac}), 100.0)
    assert place_of(one, {"source.ip": ATTACKER.ip}, 200.0) is None, "two routers that differ"


@pytest.mark.parametrize(
    ("device", "port", "said"),
    [
        ("switch-1", "Port 11", "switch-1 port 11"), ("switch-1", "port11", "switch-1 port 11"),
        ("switch-1", "gi0/11", "switch-1 port gi0/11"),
        ("switch\n1", "ether\t3 ", "switch 1 port ether 3"), ("s" * 99, "p" * 99, "s" * 40 + " port " + "p" * 40),
        ("switch-1", "", "None"), ("", "3", "None"), ("10.1.2.3", "3", "None"), ("switch-1", "aa-bb-cc-dd-ee-ff", "None"),
        ("switch-1", "0011.2233.4455", "None"), ("switch-1", "Port", "switch-1 port Port"),
    ],
)  # fmt: skip
def test_names_are_fit_for_a_label_and_hold_no_address(device: str, port: str, said: str) -> None:
    assert str(where(board(Bridge(device, {PC.mac: port})), PC.mac, 200.0)) == said


# -- in a case -----------------------------------------------------------------------------------------------------------------------


def info(book: Book) -> list[tuple[str, ...]]:
    return [s.labels for s in book.book.samples() if s.metric.name == "ronda_condition_where_info"]


def test_a_case_says_where_as_soon_as_it_is_known_and_keeps_it() -> None:
    places: dict[str, Place] = {}
    book = Book(where=lambda fields: places.get(fields.get("source.mac", "")))
    book.see(fields={"source.mac": ATTACKER.mac})
    assert "ronda.where" not in book.events[0].fields
    assert info(book) == []
    places[ATTACKER.mac] = Place("switch-1", "11")
    assert book.tick(10) == []
    assert [state for state, *_ in book.tick(30)] == ["update"]
    assert book.events[0].fields["ronda.where"] == "switch-1 port 11"
    assert info(book) == [("port_scan", "switch-1", "11")]
    places.clear()
    assert book.tick(60) == [], "what was known stays"
    assert info(book) == [("port_scan", "switch-1", "11")]
    book.tick(400)
    assert book.events[0].fields["ronda.state"] == "closed"
    assert book.events[0].fields["ronda.where"] == "switch-1 port 11"
    assert info(book) == []


def test_one_place_a_rule_of_the_gravest_case() -> None:
    places = {"a": Place("switch-1", "1"), "b": Place("switch-1", "2"), "c": Place("switch-1", "3")}
    book = Book(where=lambda fields: places.get(fields.get("source.mac", "")))
    for key, grade in (("a", "medium"), ("b", "high"), ("c", "high")):
        book.see(key=key, grade=grade, fields={"source.mac": key})
    assert info(book) == [("port_scan", "switch-1", "2")]


def test_a_place_outlives_a_restart_and_is_not_told_again() -> None:
    book = Book(where=lambda _: Place("switch-1", "11"))
    book.see()
    said = json.loads(json.dumps(book.book.remember()))
    other = Book()
    other.book.recall(said, other.at, other.wall)
    assert other.tick(60) == []
    assert info(other) == [("port_scan", "switch-1", "11")]
    said["cases"][0]["place"] = ["x"]
    with pytest.raises(ValueError, match="not enough"):
        Book().book.recall(said, 1.0, 1.0)


def test_the_place_leaves_the_box_as_it_is() -> None:
    book = Book(where=lambda _: Place("switch-1", "11"))
    book.see(fields={"source.mac": ATTACKER.mac, "source.ip": ATTACKER.ip})
    fields = Pseudonyms(b"k" * 32).mask(Entry(1, book.events[0])).event.fields
    assert fields["ronda.where"] == "switch-1 port 11"
    assert fields["source.mac"].startswith("P-")


def test_an_incident_elsewhere_is_asked_for_by_its_own_fields() -> None:
    asked: list[dict[str, str]] = []
    book = Book(where=lambda fields: asked.append(dict(fields)))  # type: ignore[func-returns-value]
    book.see(fields={"source.mac": ATTACKER.mac})
    assert asked == [{"source.mac": ATTACKER.mac}]
