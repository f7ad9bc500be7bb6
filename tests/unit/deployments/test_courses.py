"""The course of an experiment: its phases and its end, as they stand in a history."""

import forge
import pytest

from kt.deployments import audit, courses, deploy
from kt.deployments.courses import Course, Phase
from kt.workspace import Workspace

AT = forge.STAMP.at


def of(place: Workspace, name: str) -> Course:
    found = courses.of(audit.read(place)[0].events, name)
    assert found is not None
    return found


@pytest.fixture
def running(place: Workspace) -> Workspace:
    forge.give(place, deploy.version_of(place, "m", "v1"))
    forge.give(place, deploy.version_of(place, "m", "v2"), 10, "x")
    return place


def test_each_change_of_traffic_opens_a_phase(running: Workspace) -> None:
    deploy.ramp(running, "x", 50, forge.STAMP)
    assert of(running, "x") == Course(
        "m", "x", "v1", "v2", 1, (Phase(2, AT, 10, False), Phase(3, AT, 50, False)), canary=False
    )


def test_only_phases_in_which_both_answer_are_compared(running: Workspace) -> None:
    for traffic in (0, 100, 20):
        deploy.ramp(running, "x", traffic, forge.STAMP)
    assert [phase.share for phase in of(running, "x").split] == [10, 20]


def test_a_shadow_is_no_phase_that_is_compared(place: Workspace) -> None:
    forge.give(place, deploy.version_of(place, "m", "v1"))
    deploy.deploy(
        place,
        deploy.version_of(place, "m", "v2"),
        forge.STAMP,
        traffic=None,
        experiment="x",
        shadow=True,
        dry_run=False,
    )
    assert of(place, "x").split == ()
    deploy.ramp(place, "x", 5, forge.STAMP)
    assert [phase.seq for phase in of(place, "x").split] == [3]


def test_it_says_how_it_ended(running: Workspace) -> None:
    assert of(running, "x").how == ""
    deploy.end(running, "x", forge.STAMP)
    assert of(running, "x").how == "ended"
    forge.give(running, deploy.version_of(running, "m", "v2"), 10, "y")
    deploy.abort(running, "y", 4, "errors", forge.STAMP, {})
    assert of(running, "y").how == "aborted"
    forge.give(running, deploy.version_of(running, "m", "v2"), 10, "z")
    deploy.promote(running, "z", forge.STAMP, evidence={"verdict": "better"}, force=False)
    assert (of(running, "z").how, of(running, "z").control) == ("promoted", "v1")
    forge.give(running, deploy.version_of(running, "m", "v3"), 10, "x")
    forge.back(running)
    assert (of(running, "x").how, of(running, "x").control) == ("rolled back", "v2")


def test_the_latest_of_a_name_is_meant(running: Workspace) -> None:
    deploy.end(running, "x", forge.STAMP)
    forge.give(running, deploy.version_of(running, "m", "v3"), 10, "x")
    assert (of(running, "x").treatment, of(running, "x").end) == ("v3", None)
    events = audit.read(running)[0].events
    assert [one.treatment for one in courses.courses(events)] == ["v2", "v3"]
    assert courses.of(events, "y") is None


def test_an_abort_is_of_the_phase_in_which_the_guardrail_broke(running: Workspace) -> None:
    deploy.ramp(running, "x", 50, forge.STAMP)
    assert deploy.abort(running, "x", 2, "errors", forge.STAMP, {}).event is None
    done = deploy.abort(running, "x", 3, "errors: 5 of 9", forge.STAMP, {"log_e": 4.0})
    assert done.event is not None
    assert (done.event["aborted"], done.event["evidence"]) == ("errors: 5 of 9", {"log_e": 4.0})
    assert deploy.abort(running, "x", 3, "errors", forge.STAMP, {}).event is None, "once"
    assert done.after.models["m"].experiment is None


def test_an_end_by_hand_is_written_as_it_always_was(running: Workspace) -> None:
    done = deploy.end(running, "x", forge.STAMP)
    assert done.event is not None
    assert not {"aborted", "evidence"} & done.event.keys()
