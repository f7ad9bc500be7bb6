import threading

import pytest
from predictors import within

from kt.predictor import aside
from kt.predictor.aside import Aside, Overrun


def test_it_returns_and_raises_what_the_function_does() -> None:
    runner = Aside()
    assert runner.call(lambda: 3, 10) == 3
    with pytest.raises(ZeroDivisionError):
        runner.call(lambda: 1 // 0, 10)
    assert runner.call(lambda: 4, 10) == 4


def test_a_call_that_overruns_is_left_alone_and_the_next_is_refused_at_once() -> None:
    runner, gate = Aside(), threading.Event()
    with pytest.raises(Overrun, match="no answer within"):
        runner.call(gate.wait, 0.01)
    with pytest.raises(Overrun, match="has not ended"):
        runner.call(lambda: 3, 60)
    gate.set()
    within(lambda: not runner._overrun)
    assert runner.call(lambda: 3, 10) == 3


def test_its_thread_ends_when_idle_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "IDLE", 0.01)
    runner = Aside()
    assert runner.call(lambda: 3, 10) == 3
    within(lambda: not runner._running)
    assert runner.call(lambda: 4, 10) == 4
