"""A treatment that does harm is ended by the check of kt monitor, and people are told once."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import forge
import pytest
from learners import World, course

from kt import journal
from kt.deployments import audit, deploy
from kt.errors import Corrupt
from kt.monitors import check, enforce, memory, tripped
from kt.predictor import brake
from kt.store import connect
from kt.workspace import Workspace

BEGIN = datetime(2026, 1, 12, 9, tzinfo=UTC)
AN_HOUR_LATER = BEGIN + timedelta(hours=1)


@pytest.fixture
def running(place: Workspace) -> Workspace:
    (place.root / "kt.toml").write_text(
        'git = "off"\n[[sink]]\nname = "file"\npath = "alerts.jsonl"\n'
    )
    place = Workspace(place.root)
    forge.give(place, deploy.version_of(place, "m", "v1"))
    forge.give(place, deploy.version_of(place, "m", "v2"), 30, "x")
    return place


def trip(place: Workspace, phase: int, metric: Literal["errors", "slow"] = "errors") -> None:
    """As a predictor writes it down."""
    one = brake.Trip(
        model="m",
        experiment="x",
        version="v2",
        phase=phase,
        at=BEGIN,
        metric=metric,
        control=brake.Counts(requests=90, failed=0, calls=80, slow=1),
        treatment=brake.Counts(requests=10, failed=9, calls=80, slow=7),
        log_e=9.5,
    )
    place.local.mkdir(exist_ok=True)
    (place.local / brake.FILE).write_bytes(brake.Book(trips=(one,)).dump())


def told(place: Workspace) -> list[dict[str, Any]]:
    path = place.root / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def aborted(place: Workspace) -> list[str]:
    return [one["aborted"] for one in audit.read(place)[0].events if one.get("aborted")]


def test_it_ends_the_experiment_and_tells_of_it_once(running: Workspace) -> None:
    World(running, bad=(0.01, 0.3)).meet(AN_HOUR_LATER, 100)
    for minutes in range(4):
        check.check(running, AN_HOUR_LATER + timedelta(minutes=minutes))
    assert len(aborted(running)) == 1
    first, *later = told(running)
    assert first["title"].startswith("CRITICAL m@v2: guardrail ")
    assert "errors: " in first["text"]
    assert [one["alerts"][0]["kind"] for one in later] == ["superseded"]
    kinds = [one["kind"] for one in journal.read(running.root / "monitors/history.json").events]
    assert kinds == ["opened", "superseded"]


def test_an_abort_is_told_by_the_next_check_where_the_first_was_killed(
    running: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an alert is over as it opens, and must not end untold."""
    trip(running, 2)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(memory, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            check.check(running, AN_HOUR_LATER)
    assert (len(aborted(running)), told(running)) == (1, [])
    for minutes in (1, 2, 3):
        check.check(running, AN_HOUR_LATER + timedelta(minutes=minutes))
    assert [one["alerts"][0]["kind"] for one in told(running)] == ["opened", "superseded"]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("errors", "errors: 9 of 10 requests to the treatment, 0 of 90 to the control"),
        ("slow", "slow answers: in 7 of 80 calls of the treatment, 1 of 80 of the control"),
    ],
)
def test_what_a_predictors_brake_did_becomes_an_event_without_tables(
    running: Workspace, metric: Literal["errors", "slow"], words: str
) -> None:
    trip(running, 2, metric)
    check.check(running, AN_HOUR_LATER)
    assert aborted(running) == [words]
    (event,) = (one for one in audit.read(running)[0].events if one.get("aborted"))
    assert event["evidence"]["tripped"]["log_e"] == 9.5
    assert told(running)[0]["severity"] == "critical"


def test_a_brake_becomes_an_event_though_the_tables_are_damaged_and_is_told_when_there_are_new_ones(
    running: Workspace,
) -> None:
    trip(running, 2)
    tables = running.root / "kt.db"
    tables.write_bytes(b"no tables" * 1_000)
    with pytest.raises(Corrupt, match="the tables are damaged"):
        check.check(running, AN_HOUR_LATER)
    assert (len(aborted(running)), told(running)) == (1, [])
    tables.unlink()
    check.check(running, AN_HOUR_LATER + timedelta(minutes=1))
    assert (len(aborted(running)), len(told(running))) == (1, 1)


def test_a_brake_of_an_earlier_phase_is_over(running: Workspace) -> None:
    """Whoever changed the traffic since knew of it; predictors ask the treatment again, too."""
    trip(running, 2)
    deploy.ramp(running, "x", 10, forge.STAMP)
    check.check(running, AN_HOUR_LATER)
    assert aborted(running) == []


def test_a_file_that_cannot_be_read_says_nothing(running: Workspace) -> None:
    trip(running, 2)
    (running.local / tripped.FILE).write_text('{"trips": [{"model": ')
    assert tripped.of(running.local, course(running)) is None


def test_an_abort_by_another_hand_is_told_too(running: Workspace) -> None:
    """kt canary step, or another machine's monitor whose event was pulled."""
    World(running, bad=(0.01, 0.3)).meet(AN_HOUR_LATER, 100)
    store = connect.open(running.root, running.settings)
    assert enforce.guard(running, store, course(running), AN_HOUR_LATER)
    check.check(running, AN_HOUR_LATER + timedelta(minutes=5))
    assert len(told(running)) == 1
    assert course(running).how == "aborted"
