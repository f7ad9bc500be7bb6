"""The dashboard's facts, of workspaces as they are."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from conftest import Kt

from kt import clock
from kt.deployments import audit
from kt.monitors.dashboard.facts import Case, Dashboard, Trend
from kt.monitors.dashboard.gather import gather
from kt.stats.latency import Sketch
from kt.store import connect, labels, traffic
from kt.store.batch import Batch, Stream, Traffic
from kt.store.labels import Labels
from kt.store.tally import Report, Tally
from kt.workspace import Workspace

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60


@pytest.fixture
def running(place: Workspace, kt: Kt, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """v1 for three days, v2 beside it at 20 % since a day."""

    def at(days: float, *arguments: str) -> None:
        monkeypatch.setattr(clock, "now", lambda: NOW - timedelta(days=days))
        assert kt(*arguments, at=place).code == 0

    at(3, "deploy", "m@v1", "--reason", "the <first> one")
    at(1, "deploy", "m@v2", "--traffic", "20", "--ab-test", "x")
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return place


def streams(workspace: Workspace) -> tuple[Stream, Stream, Stream]:
    """Before the experiment, its control, its treatment."""
    _, state = audit.read(workspace)
    serving = state.models["m"]
    active, trial = serving.active, serving.experiment
    assert active
    assert trial
    both = ("x", active.seq, trial.phase)
    return (
        Stream("m", "v1", "", "", active.seq, active.seq, 100, "probability", active.since),
        Stream("m", "v1", "control", *both, 80, "probability", trial.since),
        Stream("m", "v2", "treatment", *both, 20, "probability", trial.since),
    )


def feed(workspace: Workspace) -> None:
    """10 requests a minute, one in 50 fails; every other one comes true as 3 in 4 were said to."""
    store = connect.open(workspace.root, workspace.settings)
    before, control, treatment = streams(workspace)
    batch, outcomes = Batch(), {}
    for minute in range(MINUTE - 3 * 1_440, MINUTE, 10):
        live = [(before, 100)] if minute < MINUTE - 1_440 else [(control, 80), (treatment, 20)]
        for stream, n in live:
            seen = Traffic(assigned=n, served=n - n // 50, failed=n // 50)
            seen.features["answers"] = Sketch()
            told = Labels(n=n // 2, right=n // 2 * 3 // 4)
            for k in range(n):
                p = 0.7 + 0.01 * (k % 20)
                seen.latency.add(2.0 + k % 10)
                seen.scores.add(p)
                seen.features["answers"].add(k % 20)
                if k < told.n:
                    (told.positives if k < told.right else told.negatives).add(p)
                    told.error.add((p - (k < told.right)) ** 2)
            batch.streams[stream.id] = stream
            batch.traffic[stream.id, minute] = seen
            outcomes[stream.id, minute] = told
    batch.counts[MINUTE - 5, "refused_forged"] = 2
    traffic.append(store, "test", 1, batch, MINUTE)
    with store.write() as connection:
        labels.add(connection, outcomes)


def trend(facts: Dashboard, metric: str) -> Trend:
    return next(one for one in facts.models[0].trends if one.metric == metric)


def test_looking_at_an_empty_workspace_leaves_nothing_in_it(place: Workspace) -> None:
    before = set(place.root.rglob("*"))
    facts = gather(place, "7d", NOW)
    assert (facts.models, facts.health, facts.last) == ((), "unknown", None)
    assert set(place.root.rglob("*")) == before


def test_what_is_deployed_is_shown_before_anybody_asks(running: Workspace) -> None:
    facts = gather(running, "7d", NOW)
    (model,) = facts.models
    assert [(one.variant, one.version, one.traffic) for one in model.variants] == [
        ("control", "v1", 0.8),
        ("treatment", "v2", 0.2),
    ]
    assert [(mark.seq, mark.what, mark.reason) for mark in facts.marks] == [
        (1, "deploy v1", "the <first> one"),
        (2, "start x: v2 at 20 %", ""),
    ]
    assert [mark.seq for mark in gather(running, "24h", NOW).marks] == [2]


@pytest.mark.parametrize("window", ["24h", "7d", "30d"])
def test_every_request_is_in_one_point_of_each_window(running: Workspace, window: str) -> None:
    feed(running)
    facts = gather(running, window, NOW)
    asked = sum(point.n for line in trend(facts, "requests").lines for point in line.points)
    # the window begins where a step does
    minutes = {"24h": 1_440, "7d": 3 * 1_440, "30d": 3 * 1_440}[window]
    assert asked == minutes * 10
    assert facts.last == "2026-11-26T05:51:00Z"
    assert facts.counts == {"refused_forged": 2}


def test_metrics_are_those_of_what_was_fed(running: Workspace) -> None:
    feed(running)
    facts = gather(running, "7d", NOW)
    (model,) = facts.models
    active, treatment = trend(facts, "error_rate").lines
    assert (active.version, treatment.version) == ("v1", "v2")
    assert {point.value for point in active.points} == {0.02, 1 / 80}
    accuracy = trend(facts, "accuracy")
    assert accuracy.lines[0].points[-1].value == pytest.approx(0.75)
    assert accuracy.lines[0].points[-2].n == 144 * 40  # the last slot has only begun
    assert {now.role: now.value for now in accuracy.now} == {
        "active": pytest.approx(0.75),
        "treatment": pytest.approx(0.7),
    }
    assert trend(facts, "latency").lines[0].points[0].value == pytest.approx(11, rel=0.02)
    assert trend(facts, "latency").limit == 100
    assert trend(facts, "drift").lines[0].points[-1].value == pytest.approx(0, abs=0.01)
    assert [one.of for one in model.shapes] == ["score", "score", "answers"]
    assert {one.psi for one in model.shapes if one.role == "active"} != {None}
    (diagram, _) = model.reliability
    assert diagram.n == 2 * 144 * 50 + 144 * 40
    assert model.variants[0].requests == 5 * 80  # at ten past, twenty past and so on
    assert model.trial
    assert (model.trial.experiment, model.trial.traffic, model.trial.verdict) == (
        "x",
        0.2,
        "collecting",
    )


def test_a_shadow_is_told_of_by_what_was_compared(place: Workspace, kt: Kt) -> None:
    for words in (["deploy", "m@v1"], ["deploy", "m@v2", "--shadow", "--ab-test", "beside"]):
        assert kt(*words, at=place).code == 0
    (model,) = gather(place, "7d", clock.now()).models
    assert model.trial is None
    assert model.shadow
    assert (model.shadow.version, model.shadow.compared) == ("v2", 0)
    _, state = audit.read(place)
    trial = state.models["m"].experiment
    assert trial
    found = Tally(
        compared=4,
        predictions=8,
        agreed=6,
        numbers=8,
        difference=0.8,
        worst=0.4,
        cases=((0.4, "id"),),
    )
    reports = [
        Report("m", "beside", "v2", trial.phase, found),
        Report("m", "beside", "v2", trial.phase - 1, Tally(compared=99)),  # of an earlier one
    ]
    (model,) = gather(place, "7d", clock.now(), compared=reports).models
    assert model.shadow
    assert (model.shadow.compared, model.shadow.agreement) == (4, 0.75)
    assert model.shadow.mean_difference == pytest.approx(0.1)
    assert model.shadow.worst == (Case("id", 0.4),)


def test_tables_that_cannot_be_read_are_told_on_the_page(running: Workspace) -> None:
    (running.root / "kt.db").write_bytes(b"no database" * 1000)
    facts = gather(running, "7d", NOW)
    assert [one.version for one in facts.models[0].variants] == ["v1", "v2"]
    (told,) = facts.attention
    assert "kt.db" in told


def test_the_command_gives_every_number_as_json(running: Workspace, kt: Kt) -> None:
    feed(running)
    ran = kt("dashboard", "--json", at=running)
    (model,) = ran.result["models"]
    assert ran.result["page"] is None
    assert not (running.local / "dashboard.html").exists()
    requests = model["trends"][0]
    assert requests["metric"] == "requests"
    assert sum(point["n"] for line in requests["lines"] for point in line["points"]) == 43_200
    assert json.dumps(ran.result)
