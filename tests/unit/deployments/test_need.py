"""What is needed: by a manifest, a predictor, a rollback, a label, a person."""

from kt.deployments import need
from kt.deployments.events import Deployed, ExperimentEnded, ExperimentStarted, Promoted, RolledBack
from kt.deployments.history import State, fold
from kt.deployments.manifest import Route, Treatment, Trial, Version, manifest
from kt.deployments.need import Stored

SHA = "a" * 64


def common(seq: int) -> dict[str, object]:
    return {"seq": seq, "at": "2026-01-01T00:00:00Z", "by": "ana", "model": "m", "prev": ""}


def deployed(*versions: str) -> State:
    return fold(
        Deployed(**common(seq), version=version, sha256=SHA)
        for seq, version in enumerate(versions, 1)
    )


def stored(*versions: str, size: int = 1) -> list[Stored]:
    return [Stored("m", version, "2026-01-01T00:00:00Z", size) for version in versions]


def of(state: State, keep: int = 1, **given: object) -> dict[str, str]:
    reasons = need.needed(state, given.pop("stored", ()), keep=keep, **given)  # type: ignore[arg-type]
    return {version: why for (_, version), why in reasons.items()}


def test_the_active_version_and_the_one_before_it_are_needed() -> None:
    assert of(deployed("v1", "v2", "v3")) == {"v3": "active", "v2": "previous"}


def test_keep_is_how_many_rollbacks_still_find_their_version() -> None:
    state = deployed("v1", "v2", "v3", "v4")
    assert set(of(state, keep=2)) == {"v4", "v3", "v2"}
    assert set(of(state, keep=3)) == {"v4", "v3", "v2", "v1"}


def test_a_version_that_was_rolled_back_from_may_be_wanted_again() -> None:
    state = fold([RolledBack(**common(4), version="v1")], deployed("v1", "v2", "v3"))
    assert of(state) == {"v1": "active", "v3": "previous"}


def test_a_version_marked_bad_is_no_target_of_a_plain_rollback() -> None:
    state = deployed("v1", "v2", "v3", "v4")
    state = fold([RolledBack(**common(5), version="v3", bad=True)], state)
    state = fold([Deployed(**common(6), version="v5", sha256=SHA)], state)
    assert need.reached(state.serving("m"), 2)[:2] == ["v3", "v2"]


def test_a_treatment_is_needed_while_its_experiment_runs() -> None:
    start = ExperimentStarted(**common(2), experiment="x", version="v9", sha256=SHA, traffic=10)
    state = fold([start], deployed("v1"))
    assert of(state)["v9"] == "experiment"
    assert "v9" not in of(fold([ExperimentEnded(**common(3), experiment="x")], state))


def test_a_label_is_a_reason() -> None:
    start = ExperimentStarted(**common(2), experiment="x", version="v2", sha256=SHA, traffic=10)
    won = Promoted(**common(3), experiment="x", version="v2", label="ab-winner-x", evidence=None)
    later = [Deployed(**common(seq), version=f"v{seq}", sha256=SHA) for seq in range(4, 9)]
    assert of(fold([start, won, *later], deployed("v1")))["v2"] == "label ab-winner-x"


def test_what_a_predictor_holds_is_needed() -> None:
    assert of(deployed("v1"), served={("m", "v7")})["v7"] == "a predictor serves it"


def test_the_newest_versions_are_needed_by_whoever_registered_them() -> None:
    found = [
        Stored("m", "zeta", "2026-01-01T00:00:00Z"),
        Stored("m", "alpha", "2026-01-02T00:00:00Z"),
        Stored("other", "v1", "2025-01-01T00:00:00Z"),
    ]
    reasons = need.needed(State(), found, keep=1)
    assert reasons == {("m", "alpha"): "new", ("other", "v1"): "new"}


def test_of_versions_registered_in_one_second_the_later_ones_are_newer() -> None:
    assert [one.version for one in need.newest(stored("v9", "v10", "v11"), 2)] == ["v11", "v10"]


def test_only_weights_that_are_here_can_go() -> None:
    found = [*stored("v1", "v2"), *stored("v3", size=0)]
    assert [one.version for one in need.unneeded(found, {("m", "v2"): "active"})] == ["v1"]


def test_every_version_in_a_manifest_is_named_wherever_it_stands() -> None:
    treatment = Treatment(version="v2", sha256=SHA, traffic=5)
    route = Route(
        active=Version(version="v1", sha256=SHA),
        since="2026-01-01T00:00:00Z",
        seq=1,
        previous=Version(version="v3", sha256=SHA),
        experiment=Trial(name="x", treatments=(treatment,), phase=2),
    )
    assert {one.version for one in need.versions_in(route)} == {"v1", "v2", "v3"}
    assert need.named(manifest(State())) == {}
