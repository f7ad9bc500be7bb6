"""A plan refuses what the table does not allow, and names the way out; it never plans the impossible."""

from typing import Any

import pytest

from kt.deployments import plan
from kt.deployments.events import AnyEvent
from kt.deployments.history import EMPTY, State, fold
from kt.deployments.plan import Candidate, Stamp
from kt.errors import Invalid, Refused, Undecided

STAMP = Stamp("ana", "2026-01-12T09:00:00Z", "because")
SHA = "0" * 64
A, B, C = (Candidate("m", name, SHA) for name in "abc")


def then(state: State, events: list[AnyEvent]) -> State:
    return fold(events, state)


SERVES_A = then(EMPTY, plan.deploy(EMPTY, A, STAMP))
SERVES_B = then(SERVES_A, plan.deploy(SERVES_A, B, STAMP))
RUNS_X = then(SERVES_A, plan.experiment(SERVES_A, B, "x", 10.0, STAMP))


def active(state: State) -> str:
    held = state.serving("m").active
    assert held is not None
    return held.version


def test_what_is_so_already_is_nothing_to_do() -> None:
    assert plan.deploy(SERVES_A, A, STAMP) == []
    assert plan.ramp(RUNS_X, "x", 10.0, STAMP) == []
    assert plan.experiment(RUNS_X, B, "x", 10.0, STAMP) == []
    assert plan.roll_back(SERVES_B, "m", STAMP, version="b") == []


def test_the_same_experiment_changes_its_traffic() -> None:
    (event,) = plan.experiment(RUNS_X, B, "x", 30.0, STAMP)
    assert event.kind == "traffic_changed"


def test_a_share_below_nothing_by_its_sign_alone_is_nothing() -> None:
    (event,) = plan.experiment(SERVES_A, B, "x", -0.0, STAMP)
    assert str(event.model_dump()["traffic"]) == "0.0"


@pytest.mark.parametrize(
    ("call", "what", "do"),
    [
        (lambda: plan.experiment(EMPTY, A, "x", 10.0, STAMP), "serves nothing yet", "leave --traffic"),
        (lambda: plan.experiment(SERVES_A, A, "x", 10.0, STAMP), "is active already", "another version"),
        (lambda: plan.deploy(RUNS_X, C, STAMP), "experiment x is running on m", "kt promote x | kt end x"),
        (lambda: plan.experiment(RUNS_X, C, "y", 10.0, STAMP), "experiment x is running", "kt promote x"),
        (lambda: plan.experiment(RUNS_X, C, "x", 10.0, STAMP), "experiment x is running", "kt end x"),
        (lambda: plan.ramp(SERVES_A, "x", 10.0, STAMP), "no experiment x is running", "--ab-test NAME"),
        (lambda: plan.ramp(RUNS_X, "y", 10.0, STAMP), "no experiment y is running", "running: x"),
        (lambda: plan.end(SERVES_A, "x", STAMP), "no experiment x is running", ""),
        (lambda: plan.roll_back(EMPTY, "m", STAMP), "m serves nothing", "kt models"),
        (lambda: plan.roll_back(SERVES_A, "m", STAMP), "has no version before it", "kt rollback VERSION"),
        (lambda: plan.roll_back(SERVES_A, "m", STAMP, version="z"), "m@z was never active", "kt deploy m@z"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_way_out(call: Any, what: str, do: str) -> None:
    with pytest.raises(Refused) as error:
        call()
    assert what in error.value.what
    assert do in error.value.do


def test_an_experiments_name_is_taken_while_it_runs() -> None:
    state = then(RUNS_X, plan.deploy(RUNS_X, Candidate("n", "a", SHA), STAMP))
    with pytest.raises(Refused, match="an experiment x is running on m"):
        plan.experiment(state, Candidate("n", "b", SHA), "x", 10.0, STAMP)


@pytest.mark.parametrize("traffic", [-1.0, 100.1, float("nan"), float("inf")])
def test_traffic_lies_between_none_and_all(traffic: float) -> None:
    with pytest.raises(Invalid, match="between 0 and 100"):
        plan.ramp(RUNS_X, "x", traffic, STAMP)
    with pytest.raises(Invalid):
        plan.experiment(SERVES_A, B, "x", traffic, STAMP)


def test_a_promotion_needs_evidence_or_a_reason() -> None:
    def promote(evidence: dict[str, Any] | None, force: bool = False, stamp: Stamp = STAMP) -> Any:
        return plan.promote(RUNS_X, "x", stamp, evidence=evidence, force=force)

    assert promote({"verdict": "better"})[0].forced is False
    assert promote(None, force=True)[0].forced is True
    with pytest.raises(Undecided, match="no outcomes"):
        promote(None)
    with pytest.raises(Undecided, match="40 more outcomes"):
        promote({"verdict": "undecided", "missing": "40 more outcomes"})
    with pytest.raises(Refused, match="is worse than the control"):
        promote({"verdict": "worse"})
    with pytest.raises(Refused, match="guardrail"):
        promote({"verdict": "better", "against": "a guardrail is broken: errors"})
    with pytest.raises(Undecided, match="its traffic was changed"):
        promote({"verdict": "better", "phase": 1})
    with pytest.raises(Invalid, match="needs a reason"):
        promote(None, force=True, stamp=Stamp("ana", STAMP.at))


def test_the_first_rollback_ends_the_experiment_and_the_second_goes_back() -> None:
    state = then(SERVES_B, plan.experiment(SERVES_B, C, "x", 10.0, STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP))
    assert state.serving("m").experiment is None
    assert active(state) == "b"
    state = then(state, plan.roll_back(state, "m", STAMP))
    assert active(state) == "a"


def test_two_rollbacks_do_not_swing_back() -> None:
    state = then(SERVES_B, plan.deploy(SERVES_B, C, STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP))
    assert active(state) == "a"
    with pytest.raises(Refused):
        plan.roll_back(state, "m", STAMP)


def test_a_rollback_passes_over_what_is_marked_bad() -> None:
    state = then(SERVES_B, plan.roll_back(SERVES_B, "m", STAMP, bad=True))  # b is bad
    state = then(state, plan.deploy(state, C, STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP, version="b"))  # said by name, it goes
    state = then(state, plan.deploy(state, C, STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP, version="a", bad=True))
    with pytest.raises(Refused, match="c is marked bad"):
        plan.roll_back(state, "m", STAMP)


def test_a_rollback_can_be_undone_by_name() -> None:
    state = then(SERVES_B, plan.roll_back(SERVES_B, "m", STAMP))
    state = then(state, plan.roll_back(state, "m", STAMP, version="b"))
    assert active(state) == "b"


def test_an_event_carries_who_when_and_why() -> None:
    (event,) = plan.deploy(SERVES_A, B, STAMP)
    assert (event.by, event.at, event.reason, event.seq) == ("ana", STAMP.at, "because", 2)
