import threading

from predictors import within

from kt.predictor import lanes
from kt.predictor.lanes import Lanes


def test_one_thread_does_all_the_work_while_it_keeps_up() -> None:
    work, seen = Lanes(), []
    for _ in range(50):
        work.put(lambda: seen.append(threading.get_ident()))
    within(lambda: len(seen) == 50)
    assert len(set(seen)) == 1


def test_another_lane_opens_where_one_is_held_up_and_one_stays(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "HELD_UP", 0.0)
    work, gate, done = Lanes(), threading.Event(), threading.Event()
    work.put(gate.wait)
    within(lambda: not work.waiting)
    work.put(done.set)
    within(lambda: work.watch() is not None and done.is_set())
    gate.set()
    within(lambda: len(work._since) == 1)
    again = threading.Event()
    work.put(again.set)
    assert again.wait(30)
