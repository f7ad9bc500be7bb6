import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from predictors import within

from kt.predictor import lanes
from kt.predictor.crowd import PATIENT
from kt.predictor.lanes import Lanes

SHORT = lanes.SHORT[False]


def call_all(work: list[Callable[[], object]]) -> None:
    for one in work:
        one()


def test_one_thread_does_all_the_work_while_it_keeps_up() -> None:
    seen: list[int] = []
    work = Lanes(call_all)
    for _ in range(50):
        work.put(lambda: seen.append(threading.get_ident()))
    within(lambda: len(seen) == 50)
    assert len(set(seen)) == 1


def test_what_waits_is_taken_together_up_to_a_bound() -> None:
    gate, taken = threading.Event(), list[int]()

    def take(work: list[int]) -> None:
        gate.wait()
        taken.append(len(work))

    work = Lanes(take)
    work.put(0)
    within(lambda: not work.waiting)
    for n in range(20):
        work.put(n)
    gate.set()
    within(lambda: sum(taken) == 21)
    assert taken == [1, 8, 8, 4]


def test_another_lane_opens_where_one_is_held_up_and_one_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "HELD_UP", 0.0)
    gate, done, again = threading.Event(), threading.Event(), threading.Event()
    work = Lanes(call_all)
    work.put(gate.wait)
    within(lambda: not work.waiting)
    work.put(done.set)
    within(lambda: work.watch() is not None and done.is_set())
    gate.set()
    within(lambda: len(work._since) == 1)
    work.put(again.set)
    assert again.wait(30)


def test_a_full_queue_is_cut_and_kept_short_until_nobody_was_turned_away_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: now))
    gate, given_up = threading.Event(), list[int]()
    work: Lanes[int] = Lanes(lambda _: bool(gate.wait()), given_up.append)
    work.put(-1)
    within(lambda: not work.waiting)
    for n in range(lanes.FULL - 1):
        work.put(n)
    assert not given_up
    assert not work.busy(0)
    work.put(lanes.FULL - 1)
    assert given_up == list(range(lanes.FULL - SHORT))
    assert work.busy(0)
    gate.set()
    within(lambda: not work.waiting)
    assert not work.busy(0)
    gate.clear()
    work.put(-1)
    within(lambda: not work.waiting)
    for n in range(SHORT):
        work.put(n)
    assert len(given_up) == lanes.FULL - SHORT
    assert work.busy(0)
    now += lanes.CALM
    assert not work.busy(0)
    gate.set()


def test_what_needs_no_thread_is_done_by_who_puts_it_together_with_what_came_until_its_next_turn() -> (
    None
):
    turns, taken = list[Callable[[], None]](), list[tuple[int, list[int]]]()
    work: Lanes[int] = Lanes(
        lambda work: taken.append((threading.get_ident(), work)), soon=turns.append
    )
    for n in range(10):
        work.put(n, here=True)
    assert work.waiting == 10
    while turns:
        turns.pop(0)()
    me = threading.get_ident()
    assert taken == [(me, [*range(8)]), (me, [8, 9])]
    assert not work.waiting


def test_what_needs_no_thread_waits_a_moment_for_the_next_that_is_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: now))
    turns, taken, coming = list[Callable[[], None]](), list[list[int]](), True
    work: Lanes[int] = Lanes(taken.append, soon=turns.append, coming=lambda: coming)
    work.put(1, here=True)
    turns.pop(0)()
    now += 0.75 * lanes.GATHER
    work.put(2, here=True)
    turns.pop(0)()
    now += 0.75 * lanes.GATHER
    turns.pop(0)()
    assert not taken
    now += 0.75 * lanes.GATHER
    turns.pop(0)()
    assert taken == [[1, 2]]
    work.most = 9
    for n in range(9):
        work.put(n, here=True)
    turns.pop(0)()
    assert taken[1:] == [[*range(9)]]  # as many as may be
    assert not turns


def test_what_comes_alone_waits_for_nobody_unless_it_follows_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, taken, gave_way = list[Callable[[], None]](), list[list[int]](), list[None]()
    monkeypatch.setattr(lanes.os, "sched_yield", lambda: gave_way.append(None))
    work: Lanes[int] = Lanes(taken.append, soon=turns.append)

    def put(*those: int) -> int:
        """How often others were given way for them."""
        gave_way.clear()
        for one in those:
            work.put(one, here=True)
        while turns:
            turns.pop(0)()
        return len(gave_way)

    assert [put(1), put(2), put(3, 4), put(5), put(6)] == [0, 0, 1, 1, 0]
    assert taken == [[1], [2], [3, 4], [5], [6]]


def test_what_waits_for_a_turn_fills_the_queue_too() -> None:
    turns, given_up, done = list[Callable[[], None]](), list[int](), list[int]()
    work: Lanes[int] = Lanes(done.extend, given_up.append, turns.append)
    for n in range(lanes.FULL):
        work.put(n, here=True)
    assert given_up == list(range(lanes.FULL - SHORT))
    assert work.busy(0)
    while turns:
        turns.pop(0)()
    assert done == list(range(lanes.FULL - SHORT, lanes.FULL))


def held() -> tuple[Lanes[tuple[str, int]], list[str], threading.Event]:
    """Lanes that are held up until the event, and what they give up. Work is a name and a pause."""
    gate, given_up = threading.Event(), list[str]()
    work: Lanes[tuple[str, int]] = Lanes(
        lambda _: bool(gate.wait()), lambda one: given_up.append(one[0]), pause=lambda one: one[1]
    )
    work.put(("first", 0))
    within(lambda: not work.waiting)
    return work, given_up, gate


def test_in_a_full_queue_those_give_way_who_did_not_wait_before_they_asked_again() -> None:
    work, given_up, gate = held()
    work.put(("polite", 1))
    work.put(("new", PATIENT))
    for n in range(lanes.FULL - 2):
        work.put((f"hasty {n}", 0))
    assert len(given_up) == lanes.FULL - 1 - SHORT
    assert work.busy(0)
    for name, pause in (("polite too", 1), ("new too", PATIENT)):
        assert not work.busy(pause)
        work.put((name, pause))
    assert len(given_up) == lanes.FULL - SHORT  # one more: there is room for the new one
    assert all(name.startswith("hasty") for name in given_up)
    gate.set()


def test_those_who_are_new_or_patient_have_more_room_and_of_them_too_the_newest_stay() -> None:
    work, given_up, gate = held()
    for n in range(lanes.FULL):
        work.put((f"new {n}", PATIENT))
    most = lanes.SHORT[True]
    assert given_up == [f"new {n}" for n in range(lanes.FULL - most)]
    assert work.busy(PATIENT)
    work.put(("hasty", 0))
    assert "hasty" not in given_up  # there is room for a few of them all the same
    gate.set()
    within(lambda: not work.waiting)
    assert not work.busy(PATIENT)


def test_what_was_given_up_leaves_nothing_behind_for_the_lanes() -> None:
    gate, done = threading.Event(), list[int]()
    work: Lanes[int] = Lanes(lambda those: bool(gate.wait()) and done.extend(those))  # type: ignore[func-returns-value]
    work.put(-1)
    within(lambda: not work.waiting)
    for n in range(lanes.FULL):
        work.put(n)
    gate.set()
    within(lambda: len(done) == 1 + SHORT)
    work.put(lanes.FULL)
    within(lambda: done[-1] == lanes.FULL)
    assert done == [-1, *range(lanes.FULL - SHORT, lanes.FULL + 1)]
