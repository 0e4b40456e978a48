"""The chain: whatever is changed, cut out, put in or swapped in a journal's lines shows, at the first line that it touches."""

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.wire import chain
from agent.wire.chain import ChainError, Walk
from tests.fuzz import fuzz

JOURNAL = "3f9a1c20"


def journal(n, start=None, first=1):
    """Lines as stored."""
    on, out = start or chain.genesis(JOURNAL), []
    for seq in range(first, first + n):
        line = chain.link(b'{"seq":%d,"kind":"k","message":"%d"}' % (seq, seq), on)
        out.append(line)
        on = chain.step(on, chain.digest(line))
    return out


def walked(lines, start=None):
    walk = Walk(start, JOURNAL)
    for line in lines:
        walk.take(line)
    return walk


def test_a_journal_as_written_is_whole_and_has_one_head():
    lines = journal(20)
    walk = walked(lines)
    assert (walk.broken, walk.lines, walk.loose, walk.anchor) == (None, 20, 0, chain.genesis(JOURNAL))
    assert walk.head == chain.behind(lines[-1], 20)
    assert list(chain.heads(chain.genesis(JOURNAL), walk.digests.items()))[-1] == walk.head


def test_without_its_oldest_lines_it_stands_on_what_the_first_says():
    assert walked(journal(20)[7:]).broken is None
    assert walked(journal(20)[7:]).head == walked(journal(20)).head


@fuzz
@given(st.integers(0, 29), st.data())
def test_any_edit_of_a_line_breaks_the_chain_behind_it(n, data):
    lines = journal(30)
    at = data.draw(st.integers(0, len(lines[n]) - 1))
    byte = data.draw(st.integers(0, 255))
    assume(byte != lines[n][at])
    edited = lines[n][:at] + bytes([byte]) + lines[n][at + 1 :]
    walk = walked([*lines[:n], edited, *lines[n + 1 :]])
    assert walk.head is None or walk.head.digest != walked(lines).head.digest or walk.broken
    if 0 < n < 29:
        assert walk.broken
        assert walk.broken.number in (0, n + 1, n + 2, chain.number(edited))


@pytest.mark.parametrize("gone", range(1, 19))
def test_a_line_that_is_cut_out_shows_at_the_next(gone):
    lines = journal(20)
    broken = walked(lines[:gone] + lines[gone + 1 :]).broken
    assert (broken.number, broken.after) == (gone + 2, gone)


def test_lines_that_are_put_in_swapped_or_begun_anew_show():
    lines = journal(20)
    assert walked([*lines[:5], lines[12], *lines[5:]]).broken.number == 13
    assert walked([*lines[:5], lines[6], lines[5], *lines[7:]]).broken.number == 7
    assert walked([*lines[:5], b'{"seq":6,"kind":"k","message":"6"}', *lines[6:]]).broken.number == 6
    assert walked([*lines[:5], *journal(15, first=6)]).broken.number == 6


def test_a_forger_who_makes_all_lines_anew_has_another_head():
    forged = journal(20)[:10] + journal(10, chain.step(walked(journal(10)).head.digest, b"x" * 32), 11)
    assert walked(forged[10:]).broken is None
    assert walked(forged[10:]).head.digest != walked(journal(20)).head.digest


def test_lines_of_an_older_version_are_counted_and_those_amid_the_chain_are_not_borne():
    old = [b'{"seq":%d,"kind":"k"}' % n for n in (1, 2)]
    walk = walked([*old, *journal(3, first=3)])
    assert (walk.broken, walk.loose, walk.lines) == (None, 2, 5)
    assert walked([*old, *journal(9)[2:]]).broken.number == 3  # their heads were taken off


def test_a_line_that_a_disk_has_twice_is_one():
    lines = journal(10)
    walk = walked([*lines[:6], *lines[3:]])
    assert (walk.broken, walk.lines) == (None, 10)


def test_a_told_head_is_short_and_comes_back():
    told = chain.tell(JOURNAL, walked(journal(20)).head)
    assert chain.parse(str(told)) == told
    assert len(f"{chain.HEADER}: {told}\r\n") <= 61


@fuzz
@given(st.text(max_size=80))
def test_a_header_that_is_none_is_passed_over(text):
    told = chain.parse(text)
    assert told is None or str(told).split(":")[0] == told.journal


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_are_walked(line):
    walk = walked([line, *journal(2), line])
    assert walk.lines <= 4
    assert chain.number(line) >= 0 or chain.number(line) < 0


# --- proofs ----------------------------------------------------------------------------------------------------------------------


def test_a_proof_leads_from_a_line_to_all_later_heads():
    lines = journal(20)
    proof = chain.prove(JOURNAL, iter(lines), 7)
    assert proof.covers([lines[6], lines[12]])
    assert not proof.covers([lines[5]])
    assert not proof.covers([lines[6].replace(b"7", b"8", 1)])
    found = list(chain.heads(proof.start, proof.digests))
    assert [head.number for head in found] == list(range(7, 21))
    assert found[-1] == walked(lines).head
    assert chain.load_proof(proof.dump()) == proof


def test_a_proof_of_what_is_not_there_or_broken_is_none():
    lines = journal(20)
    assert chain.prove(JOURNAL, lines[10:], 7) is None
    assert chain.prove(JOURNAL, lines[:8] + lines[9:], 7) is None
    assert chain.prove(JOURNAL, [], 7) is None
    assert chain.prove(JOURNAL, [b'{"seq":7}'], 7) is None


def test_a_kept_proof_grows_with_the_journal_and_never_over_a_gap():
    lines = journal(30)
    kept = chain.prove(JOURNAL, lines[:12], 5)
    assert chain.extend(kept, lines[9:]) == chain.prove(JOURNAL, lines, 5)
    assert chain.extend(kept, lines[15:]) == kept


@pytest.mark.parametrize(
    "said",
    [{}, {"journal": "x", "start": "", "digests": []}, {"journal": "x", "start": "A" * 43, "digests": [[1]]},
     {"journal": "x", "start": "A" * 43, "digests": [[2, "A" * 43], [2, "A" * 43]]}, {"journal": "x", "start": 1, "digests": 2}],
)  # fmt: skip
def test_what_is_no_proof_is_refused(said):
    with pytest.raises(ChainError):
        chain.load_proof(said)


def test_many_lines_are_walked_at_once():
    dice = random.Random(3)
    lines = journal(2000)
    n = dice.randrange(1, 1998)
    assert walked(lines[:n] + lines[n + 1 :]).broken.number == n + 2
