"""The transition table, whole: what may follow what, for one model."""

from collections.abc import Sequence

import pytest

from kt.deployments.events import (
    AnyEvent,
    Deployed,
    ExperimentEnded,
    ExperimentStarted,
    Promoted,
    RolledBack,
    TrafficChanged,
)
from kt.deployments.history import EMPTY, Impossible, Serving, State, fold

SHA = "0" * 64


def common(seq: int) -> dict[str, object]:
    return {"seq": seq, "at": f"2026-01-12T09:00:{seq:02}Z", "by": "ana", "model": "m", "prev": ""}


def deploy(seq: int, version: str, **more: object) -> AnyEvent:
    return Deployed.model_validate({**common(seq), "version": version, "sha256": SHA, **more})


def start(seq: int, name: str, version: str, traffic: float = 10.0) -> AnyEvent:
    more = {"experiment": name, "version": version, "sha256": SHA, "traffic": traffic}
    return ExperimentStarted.model_validate({**common(seq), **more})


def ramp(seq: int, name: str, traffic: float) -> AnyEvent:
    return TrafficChanged.model_validate({**common(seq), "experiment": name, "traffic": traffic})


def promote(seq: int, name: str, version: str) -> AnyEvent:
    more = {"experiment": name, "version": version, "label": f"ab-winner-{name}", "evidence": None}
    return Promoted.model_validate({**common(seq), **more})


def end(seq: int, name: str) -> AnyEvent:
    return ExperimentEnded.model_validate({**common(seq), "experiment": name})


def back(seq: int, version: str, ended: str = "", bad: bool = False) -> AnyEvent:
    return RolledBack.model_validate(
        {**common(seq), "version": version, "ended": ended, "bad": bad}
    )


NOTHING: Sequence[AnyEvent] = ()
SERVES_A = (deploy(1, "a"),)
SERVES_B = (deploy(1, "a"), deploy(2, "b"))
RUNS_X = (deploy(1, "a"), start(2, "x", "b"))


def serving(events: Sequence[AnyEvent]) -> Serving:
    return fold(events).serving("m")


def stack(of: Serving) -> list[str]:
    return [held.version for held in of.stack]


def runs(of: Serving) -> tuple[str, str, float] | None:
    x = of.experiment
    return x and (x.name, x.version, x.traffic)


@pytest.mark.parametrize(
    ("now", "then", "versions", "experiment"),
    [
        (NOTHING, deploy(1, "a"), ["a"], None),
        (SERVES_A, deploy(2, "b"), ["a", "b"], None),
        (SERVES_A, start(2, "x", "b"), ["a"], ("x", "b", 10.0)),
        (SERVES_B, back(3, "a"), ["a"], None),
        (RUNS_X, ramp(3, "x", 25.0), ["a"], ("x", "b", 25.0)),
        (RUNS_X, promote(3, "x", "b"), ["a", "b"], None),
        (RUNS_X, end(3, "x"), ["a"], None),
        (RUNS_X, back(3, "a", ended="x"), ["a"], None),
        ((*SERVES_B, start(3, "x", "c")), back(4, "a", ended="x"), ["a"], None),
        ((*SERVES_B, deploy(3, "a"), deploy(4, "c")), back(5, "a"), ["a", "b", "a"], None),
        ((*SERVES_B, back(3, "a")), back(4, "b"), ["a", "b"], None),
    ],
)
def test_what_may_follow(
    now: Sequence[AnyEvent],
    then: AnyEvent,
    versions: list[str],
    experiment: tuple[str, str, float] | None,
) -> None:
    after = serving((*now, then))
    assert stack(after) == versions
    assert runs(after) == experiment


@pytest.mark.parametrize(
    ("now", "then", "why"),
    [
        (NOTHING, start(1, "x", "a"), "needs a control"),
        (NOTHING, ramp(1, "x", 5.0), "no experiment x"),
        (NOTHING, promote(1, "x", "a"), "no experiment x"),
        (NOTHING, end(1, "x"), "no experiment x"),
        (NOTHING, back(1, "a"), "nothing is active"),
        (SERVES_A, deploy(2, "a"), "active already"),
        (SERVES_A, start(2, "x", "a"), "active already"),
        (SERVES_A, ramp(2, "x", 5.0), "no experiment x"),
        (SERVES_A, promote(2, "x", "a"), "no experiment x"),
        (SERVES_A, end(2, "x"), "no experiment x"),
        (SERVES_A, back(2, "a"), "active already"),
        (SERVES_A, back(2, "b"), "was never active"),
        (SERVES_A, back(2, "a", ended="x"), "no experiment x"),
        (RUNS_X, deploy(3, "c"), "experiment x is running"),
        (RUNS_X, start(3, "y", "c"), "experiment x is running"),
        (RUNS_X, ramp(3, "y", 5.0), "no experiment y"),
        (RUNS_X, promote(3, "y", "b"), "no experiment y"),
        (RUNS_X, promote(3, "x", "c"), "the treatment of x is b"),
        (RUNS_X, end(3, "y"), "no experiment y"),
        (RUNS_X, back(3, "a"), "experiment x is running"),
        (RUNS_X, back(3, "b", ended="x"), "was never active"),
    ],
)
def test_what_may_not_follow(now: Sequence[AnyEvent], then: AnyEvent, why: str) -> None:
    with pytest.raises(Impossible, match=why):
        fold((*now, then))


def test_a_fold_of_a_fold_is_the_fold() -> None:
    assert fold(RUNS_X[1:], fold(RUNS_X[:1])) == fold(RUNS_X)
    assert fold(()) == EMPTY
    assert fold(RUNS_X).seq == 2


def test_models_do_not_meet() -> None:
    other = deploy(2, "a").model_copy(update={"model": "n"})
    state = fold([*SERVES_A, other])
    assert sorted(state.models) == ["m", "n"]
    assert state.serving("none") == Serving()
    assert isinstance(state, State)


def test_a_promotion_labels_the_version() -> None:
    assert serving((*RUNS_X, promote(3, "x", "b"))).labels == {"b": ("ab-winner-x",)}


def test_a_ramp_begins_a_phase() -> None:
    x = serving((*RUNS_X, ramp(3, "x", 25.0))).experiment
    assert x is not None
    assert (x.phase, x.since) == (3, "2026-01-12T09:00:02Z")


def test_the_version_that_is_left_may_be_marked_bad_until_it_is_deployed_anew() -> None:
    marked = (*SERVES_B, back(3, "a", bad=True))
    assert serving(marked).bad == {"b"}
    assert serving((*marked, deploy(4, "b"))).bad == frozenset()
    assert serving((*RUNS_X, back(3, "a", ended="x", bad=True))).bad == {"b"}


def test_what_is_forced_stays_marked_until_it_is_deployed_unforced() -> None:
    forced = (*SERVES_A, deploy(2, "b", forced=True))
    assert serving(forced).forced == {"b"}
    assert serving((*forced, deploy(3, "a"), deploy(4, "b"))).forced == frozenset()
