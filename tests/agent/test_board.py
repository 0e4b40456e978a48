"""The board: the newest of each task, whole; nothing of a task that ended; and no more than it holds."""

import pytest

from agent.board import MOST, Board
from agent.detect.seen import Bridge, RouterArp


def test_the_newest_of_a_task_stands_and_other_types_beside_it() -> None:
    board = Board()
    board.post("router", RouterArp("router", {"192.0.2.7": "4c:5e:0c:00:00:01"}), 1.0)
    board.post("router", Bridge("router", {}), 2.0)
    board.post("router", RouterArp("router", {}), 3.0)

    assert board.of(RouterArp) == {"router": (3.0, RouterArp("router", {}))}
    assert board.of(Bridge) == {"router": (2.0, Bridge("router", {}))}


def test_of_a_task_that_ended_nothing_is_left() -> None:
    board = Board()
    for task in ("router", "switch"):
        board.post(task, Bridge(task, {}), 1.0)
        board.post(task, RouterArp(task, {}), 1.0)
    board.forget("router")
    board.forget("nobody")

    assert (board.of(Bridge).keys(), board.of(RouterArp).keys()) == ({"switch"}, {"switch"})


def test_it_is_full_at_its_most_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    board = Board()
    for n in range(MOST + 3):
        board.post(f"switch-{n}", Bridge(f"switch-{n}", {}), 1.0)
    board.post("switch-0", Bridge("switch-0", {"4c:5e:0c:00:00:01": "1"}), 2.0)

    assert (len(board.of(Bridge)), board.refused) == (MOST, 3)
    assert board.of(Bridge)["switch-0"][0] == 2.0, "who stands there may say something new"
    assert [r.getMessage() for r in caplog.records] == [f"Bridge of switch-{MOST} finds no room: detectors hear of {MOST} rows only"]
