"""What a task's own page shows in red: open findings that are told as critical or high, and no others."""

from agent.detect.casebook import Casebook
from agent.detect.concerns import concerns
from agent.detect.model import Finding, Vouched
from agent.detect.table import HOST, LAN
from agent.model import Concern
from agent.rulewords import RULES

WALL = 1_795_000_000.0


def test_what_is_open_and_grave_is_a_concern_until_it_is_over() -> None:
    book = Casebook([make(Vouched()).rule for make in LAN], "DKC", "Asia/Jakarta", learning=False)
    for rule, grade, confirmed in (
        ("rogue_dhcp", "critical", True),
        ("flood", "high", True),
        ("port_scan", "high", False),
        ("tripwire", "medium", True),
    ):
        book.take(Finding(rule, "k", grade, "certain", "words", confirmed=confirmed), 10.0, WALL)  # type: ignore[arg-type]
    assert concerns(list(book.samples())) == (Concern("rogue_dhcp", "critical", WALL), Concern("flood", "high", WALL))
    book.take(Finding("rogue_dhcp", "k", "info", "certain", "over", "closed"), 20.0, WALL + 10)
    assert concerns(list(book.samples())) == (Concern("flood", "high", WALL),)


def test_every_rule_has_a_name_for_people() -> None:
    assert {make(Vouched()).rule.name for make in (*LAN, *HOST)} <= RULES.keys()
