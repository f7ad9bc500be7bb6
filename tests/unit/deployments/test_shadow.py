"""A shadow is an experiment without traffic: planned, folded and written into the manifest as one."""

import pytest
from conftest import Kt

from kt.deployments import history, manifest, plan
from kt.deployments.events import AnyEvent, Canary, body, describe, one
from kt.deployments.history import EMPTY, State
from kt.deployments.plan import Candidate, Stamp
from kt.errors import Refused, Undecided
from kt.workspace import Workspace

STAMP = Stamp("ana", "2026-01-12T09:00:00Z", "because")
A, B, C = (Candidate("m", name, name * 64) for name in "abc")


def then(state: State, events: list[AnyEvent]) -> State:
    return history.fold(events, state)


SERVES_A = then(EMPTY, plan.deploy(EMPTY, A, STAMP))
SHADOWS = then(SERVES_A, plan.shadow(SERVES_A, B, "x", STAMP))
RUNS = then(SERVES_A, plan.experiment(SERVES_A, B, "x", 10.0, STAMP))


def shares(state: State) -> tuple[float, bool]:
    trial = state.serving("m").experiment
    assert trial is not None
    return trial.traffic, trial.shadow


def test_a_shadow_has_no_traffic_and_the_active_version_answers_all() -> None:
    assert shares(SHADOWS) == (0, True)
    route = manifest.manifest(SHADOWS).models["m"]
    assert route.experiment
    assert route.experiment.shadow
    assert (route.split, route.answering) == (None, ["a"])
    assert manifest.manifest(RUNS).models["m"].answering == ["a", "b"]
    assert manifest.parse(manifest.dump(manifest.manifest(SHADOWS))) == manifest.manifest(SHADOWS)


def test_what_is_no_shadow_is_written_as_it_always_was() -> None:
    """Digests of events, and manifests, that were written before there were shadows stay what they are."""
    (event,) = plan.experiment(SERVES_A, B, "x", 10.0, STAMP)
    assert list(body(event)) == [
        "at", "by", "model", "kind", "reason", "experiment", "version", "sha256", "traffic", "forced",
    ]  # fmt: skip
    assert "shadow" not in body(plan.ramp(RUNS, "x", 20.0, STAMP)[0])
    assert b"shadow" not in manifest.dump(manifest.manifest(RUNS))
    (event,) = plan.shadow(SERVES_A, B, "x", STAMP)
    written = body(event)
    assert written["shadow"] is True
    assert one.validate_python(written | {"seq": 2, "prev": "0" * 64}).shadow  # type: ignore[union-attr]
    assert describe(written) == "start x: b as a shadow"


def test_traffic_makes_it_an_ordinary_experiment_and_a_deployment_a_shadow_again() -> None:
    ramped = then(SHADOWS, plan.ramp(SHADOWS, "x", 10.0, STAMP))
    assert shares(ramped) == (10, False)
    assert shares(then(SHADOWS, plan.ramp(SHADOWS, "x", 0.0, STAMP))) == (0, False)
    events = plan.shadow(ramped, B, "x", STAMP)
    assert shares(then(ramped, events)) == (0, True)
    assert describe(body(events[0])) == "make x a shadow"
    assert plan.shadow(SHADOWS, B, "x", STAMP) == []


def test_what_is_refused_names_the_way_out() -> None:
    with pytest.raises(Refused, match="nothing to shadow") as error:
        plan.shadow(EMPTY, A, "x", STAMP)
    assert "leave --shadow out" in error.value.do
    for impossible in (
        lambda: plan.shadow(SERVES_A, A, "x", STAMP),
        lambda: plan.shadow(SHADOWS, C, "y", STAMP),
        lambda: plan.deploy(SHADOWS, C, STAMP),
        lambda: plan.experiment(SHADOWS, C, "y", 10.0, STAMP),
    ):
        with pytest.raises(Refused):
            impossible()
    steps = Canary(steps=[10, 100], every=60)
    canary = then(SERVES_A, plan.canary(SERVES_A, B, "x", steps, STAMP))
    with pytest.raises(Refused, match="experiment x is running"):
        plan.shadow(canary, B, "x", STAMP)


def test_it_ends_and_is_promoted_as_any_experiment() -> None:
    assert then(SHADOWS, plan.end(SHADOWS, "x", STAMP)).serving("m").experiment is None
    back = then(SHADOWS, plan.roll_back(SHADOWS, "m", STAMP)).serving("m")
    assert back.experiment is None
    assert back.active
    assert back.active.version == "a"
    with pytest.raises(Undecided, match="they have no outcomes") as error:
        plan.promote(SHADOWS, "x", STAMP, evidence=None, force=False)
    assert "kt ramp x 10" in error.value.do
    forced = plan.promote(SHADOWS, "x", STAMP, evidence=None, force=True)
    serving = then(SHADOWS, forced).serving("m")
    assert serving.active
    assert (serving.active.version, serving.labels["b"]) == ("b", ("shadow-x",))


@pytest.mark.parametrize("share", [("--traffic", "10"), ("--canary", "10,100")])
def test_a_shadow_with_traffic_is_no_shadow(place: Workspace, kt: Kt, share: tuple[str]) -> None:
    assert kt("deploy", "m@v1", at=place).code == 0
    ran = kt("deploy", "m@v2", "--shadow", *share, at=place)
    assert ran.code == 2
    assert "--shadow: a shadow gets a copy of the requests and no traffic" in ran.err
    assert (
        kt("deploy", "m@v2", "--shadow", "--json", at=place).result["event"]["experiment"] == "v2"
    )
