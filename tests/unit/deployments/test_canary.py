"""A canary's plan: the shares it takes one after the other, and when."""

import pytest

from kt.cli.deploy import canary_of
from kt.cli.options import seconds
from kt.deployments import history, plan
from kt.deployments.events import AnyEvent, Canary, body, one
from kt.deployments.history import State
from kt.deployments.plan import Candidate, Stamp
from kt.errors import Invalid, Refused

NINE, TEN, ELEVEN = (Stamp("ana", f"2026-01-12T{hour}:00:00Z") for hour in ("09", "10", "11"))
V1, V2 = (Candidate("sakt", name, digit * 64) for name, digit in (("v1", "a"), ("v2", "b")))
PLAN = Canary(steps=[10, 50, 100], every=3600)


def after(state: State, events: list[AnyEvent]) -> State:
    return history.fold(events, state)


def begun(what: Canary = PLAN) -> State:
    state = after(history.EMPTY, plan.deploy(history.EMPTY, V1, NINE))
    return after(state, plan.canary(state, V2, "x", what, NINE))


def test_it_begins_with_its_first_step():
    experiment = begun().serving("sakt").experiment
    assert experiment is not None
    assert (experiment.traffic, experiment.canary) == (10, PLAN)


def test_a_step_is_taken_once_the_one_before_has_lasted():
    state = begun()
    assert plan.step(state, "x", Stamp("cron", "2026-01-12T09:59:59Z")) == []
    state = after(state, plan.step(state, "x", TEN))
    experiment = state.serving("sakt").experiment
    assert experiment is not None
    assert experiment.traffic == 50
    assert plan.step(state, "x", TEN) == [], "the new step lasts as long as the first"


def test_the_step_to_100_percent_promotes():
    state = begun()
    for stamp in (TEN, ELEVEN):
        state = after(state, plan.step(state, "x", stamp))
    serving = state.serving("sakt")
    assert serving.active is not None
    assert serving.active.version == "v2"
    assert serving.experiment is None
    assert serving.labels["v2"] == ("canary-x",)


def test_early_is_at_once():
    assert plan.step(begun(), "x", NINE, early=True)


def test_a_ramp_by_hand_moves_the_plan_on():
    state = after(begun(), plan.ramp(begun(), "x", 30, TEN))
    (event,) = plan.step(state, "x", ELEVEN)
    assert event.model_dump()["traffic"] == 50


def test_a_plan_that_ends_below_100_leaves_the_promotion_to_a_person():
    state = begun(Canary(steps=[10, 20], every=0))
    state = after(state, plan.step(state, "x", NINE))
    assert plan.step(state, "x", ELEVEN) == []


def test_an_experiment_that_is_no_canary_has_no_steps():
    state = after(history.EMPTY, plan.deploy(history.EMPTY, V1, NINE))
    state = after(state, plan.experiment(state, V2, "x", 10, NINE))
    with pytest.raises(Refused, match="no canary"):
        plan.step(state, "x", TEN)


@pytest.mark.parametrize("steps", [[50, 10], [10, 10]])
def test_steps_that_do_not_rise_are_refused(steps: list[float]):
    state = after(history.EMPTY, plan.deploy(history.EMPTY, V1, NINE))
    with pytest.raises(Invalid, match="must rise"):
        plan.canary(state, V2, "x", Canary(steps=steps, every=0), NINE)


def test_the_plan_stands_in_the_event_and_only_there():
    state = after(history.EMPTY, plan.deploy(history.EMPTY, V1, NINE))
    (with_plan,) = plan.canary(state, V2, "x", PLAN, NINE)
    (without,) = plan.experiment(state, V2, "x", 10, NINE)
    assert body(with_plan)["canary"] == {"steps": [10, 50, 100], "every": 3600}
    assert "canary" not in body(without)
    assert one.validate_python(with_plan.model_dump(mode="json")) == with_plan


@pytest.mark.parametrize(
    ("text", "expected"), [("30s", 30), ("10m", 600), ("1h", 3600), ("2d", 172800)]
)
def test_a_duration_is_read_as_people_write_it(text: str, expected: int):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "1", "1.5h", "-1h", "1w", "٣h", "1h30m"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(Invalid, match="is no duration"):
        seconds(text)


def test_a_duration_ends_on_a_date_that_can_be_written():
    assert seconds("3650d") == 3_650 * 86_400
    with pytest.raises(Invalid, match="over ten years"):
        seconds("3651d")


def test_a_step_that_a_history_has_for_longer_is_not_due_and_can_be_told():
    endless = begun(Canary(steps=[10, 50], every=10**13))
    assert plan.step(endless, "x", TEN) == []


@pytest.mark.parametrize("text", ["10;20", "a", "10,,20", "0,101", "-1,5", "nan"])
def test_what_are_no_shares_is_refused(text: str):
    with pytest.raises(Invalid):
        canary_of(text, "1h", None)
