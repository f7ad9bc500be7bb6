"""kt experiment, kt promote, kt canary step: what the tables say of an experiment decides."""

from datetime import UTC, datetime, timedelta

import forge
import pytest
from conftest import Kt
from learners import World

from kt import clock
from kt.deployments import audit, deploy
from kt.deployments.events import Canary
from kt.monitors.dashboard.gather import gather
from kt.workspace import Workspace

BEGIN = datetime(2026, 1, 12, 9, tzinfo=UTC)


@pytest.fixture
def running(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An experiment that began a day ago."""
    monkeypatch.setattr(clock, "now", lambda: BEGIN + timedelta(days=1))
    forge.give(place, deploy.version_of(place, "m", "v1"))
    forge.give(place, deploy.version_of(place, "m", "v2"), 40, "x")
    return place


def after(place: Workspace, **world: tuple[float, float]) -> None:
    World(place, **world).meet(BEGIN + timedelta(hours=20), 800)


def last(place: Workspace) -> dict[str, object]:
    return audit.read(place)[0].events[-1]


def test_a_winner_is_promoted_on_evidence_that_the_event_keeps(running: Workspace, kt: Kt) -> None:
    after(running, right=(0.6, 0.75))
    done = kt("promote", "x", at=running)
    assert done.code == 0, done.err
    assert "m: v1 → v2, 100 % of traffic; ab-winner-x." in done.out
    assert "v2 − v1 = +" in done.err
    event = last(running)
    assert (event["kind"], event["forced"]) == ("promoted", False)
    assert event["evidence"]["verdict"] == "better"  # type: ignore[index]
    assert event["evidence"]["guardrails"]  # type: ignore[index]


def test_an_undecided_one_is_not_and_says_what_is_missing_in_numbers(
    running: Workspace, kt: Kt
) -> None:
    after(running, right=(0.7, 0.72))
    done = kt("promote", "x", at=running)
    assert done.code == 7
    assert "more outcomes to a verdict" in done.err
    assert kt("promote", "x", "--force", at=running).code == 2
    assert kt("promote", "x", "--force", "--reason", "a hunch", at=running).code == 0
    event = last(running)
    assert (event["forced"], event["reason"]) == (True, "a hunch")
    assert event["evidence"]["verdict"] == "undecided"  # type: ignore[index]


@pytest.mark.parametrize(
    ("world", "words"),
    [
        ({"right": (0.75, 0.6)}, "x is not promoted: the treatment is worse: −"),
        ({"right": (0.6, 0.75), "bad": (0.0, 0.1)}, "a guardrail is broken, errors: "),
    ],
)
def test_a_worse_one_or_one_that_does_harm_is_refused(
    running: Workspace, kt: Kt, world: dict[str, tuple[float, float]], words: str
) -> None:
    after(running, **world)
    done = kt("promote", "x", at=running)
    assert done.code == 3
    assert words in done.err


def test_tables_that_do_not_answer_stop_a_promotion_that_needs_them(
    running: Workspace, kt: Kt
) -> None:
    (running.root / "kt.db").write_bytes(b"no database, whatever its name says " * 100)
    assert kt("promote", "x", at=running).code in (4, 5)
    forced = kt("promote", "x", "--force", "--reason", "it must", at=running)
    assert forced.code == 0
    assert "promoted without a report" in forced.err


def test_how_it_stands_is_told_by_status_and_in_full(running: Workspace, kt: Kt) -> None:
    after(running, right=(0.6, 0.75))
    line = "x on m: the treatment is better: +"
    assert f"experiment  {line}" in kt("status", at=running).out
    whole = kt("experiment", "x", at=running)
    assert f"experiment {line}" in whole.out
    assert "units are the treatment's, 40.0 % were planned" in whole.out
    (row,) = kt("status", "--json", at=running).result["experiments"]
    assert row["report"]["verdict"] == "better"
    report = kt("experiment", "x", "--json", at=running).result["report"]
    assert report["interval"][0] > 0
    (listed,) = kt("experiment", "list", "--json", at=running).result["experiments"]
    assert (listed["state"], listed["traffic"]) == ("treatment_better", 0.4)


def test_one_that_has_ended_tells_its_numbers_and_why(running: Workspace, kt: Kt) -> None:
    after(running, right=(0.75, 0.6))
    assert kt("end", "x", "--reason", "it is worse", at=running).code == 0
    told = kt("experiment", "x", at=running).out
    assert "ended 2026-01-13T09:00:00Z by ana: it is worse" in told
    assert "effect       −" in told


@pytest.mark.parametrize(
    ("right", "words"), [((0.6, 0.75), ("promote", "x")), ((0.75, 0.6), ("end", "x"))]
)
def test_the_dashboard_shows_how_one_that_has_ended_stood(
    running: Workspace, kt: Kt, right: tuple[float, float], words: tuple[str, str]
) -> None:
    after(running, right=right)
    assert f": kt {words[0]} x" in kt("status", at=running).out
    assert kt(*words, at=running).code == 0
    report = kt("experiment", "x", "--json", at=running).result["report"]
    (model,) = gather(running, "7d", clock.now() + timedelta(hours=1)).models
    assert model.trial
    assert "kt " not in model.trial.sentence
    shown = model.trial.looks[-1]
    assert shown.at == "2026-01-13T09:00:00Z"
    assert shown.estimate == pytest.approx(report["difference"])
    assert [shown.lower, shown.upper] == pytest.approx(report["interval"])


def test_a_canary_whose_guardrail_is_broken_ends(
    place: Workspace, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: BEGIN + timedelta(hours=2))
    forge.give(place, deploy.version_of(place, "m", "v1"))
    deploy.deploy(
        place,
        deploy.version_of(place, "m", "v2"),
        forge.STAMP,
        traffic=None,
        experiment="x",
        canary=Canary(steps=[10, 50, 100], every=3600),
        dry_run=False,
    )
    World(place, bad=(0.01, 0.01)).meet(BEGIN + timedelta(hours=1), 200)
    assert "experiment x: 50 % of traffic." in kt("canary", "step", at=place).out
    World(place, bad=(0.01, 0.4), number=9).meet(BEGIN + timedelta(hours=2), 100)
    would = kt("canary", "step", "--now", "--dry-run", at=place)
    assert "would: experiment x aborted, errors: " in would.out
    done = kt("canary", "step", "--now", at=place)
    assert "experiment x aborted, errors: " in done.out
    assert "m v1 takes 100 % of traffic." in done.out
    assert last(place)["kind"] == "experiment_ended"
    assert "abort x: errors: " in kt("history", at=place).out
    assert "aborted" in kt("experiment", "x", at=place).out
