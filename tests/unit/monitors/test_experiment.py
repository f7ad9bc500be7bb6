"""The report on an experiment, from the tables: a verdict, or what is missing to one, in numbers."""

from datetime import UTC, datetime, timedelta

import forge
import pytest
from learners import World, course

from kt import config
from kt.deployments import audit, deploy
from kt.monitors import enforce, experiment, told
from kt.monitors.verdict import Report
from kt.workspace import Workspace

BEGIN = datetime(2026, 1, 12, 9, tzinfo=UTC)


@pytest.fixture
def running(place: Workspace) -> Workspace:
    forge.give(place, deploy.version_of(place, "m", "v1"))
    forge.give(place, deploy.version_of(place, "m", "v2"), 30, "x")
    return place


def report(place: Workspace, now: datetime) -> Report:
    world = World(place)
    return experiment.report(world.store, place.settings, course(place), now)


def days(place: Workspace, count: int, world: World, learners: int = 400) -> datetime:
    """The time after so many days of learners, who come twice a day."""
    for half in range(2 * count):
        world.meet(BEGIN + timedelta(hours=12 * half + 11), learners)
    return BEGIN + timedelta(days=count)


def test_without_tables_there_is_nothing_to_tell(running: Workspace) -> None:
    found = experiment.report(None, running.settings, course(running), BEGIN)
    assert (found.state, found.verdict) == ("collecting", "undecided")
    assert told.missing(found) == "no outcomes are recorded yet"


def test_a_better_treatment_is_named_after_a_day(running: Workspace) -> None:
    world = World(running, right=(0.6, 0.75))
    world.meet(BEGIN + timedelta(hours=5), 800)
    early = report(running, BEGIN + timedelta(hours=6))
    assert early.verdict == "undecided"
    assert "it has run 6 of 24 hours" in told.missing(early)
    found = report(running, BEGIN + timedelta(days=1))
    assert (found.state, found.verdict) == ("treatment_better", "better")
    assert found.interval is not None
    assert 0 < found.interval.lower < 0.15 < found.interval.upper
    assert (told.missing(found), told.against(found)) == ("", "")


def test_a_worse_one_too(running: Workspace) -> None:
    now = days(running, 1, World(running, right=(0.75, 0.6)))
    found = report(running, now)
    assert found.verdict == "worse"
    assert told.against(found).startswith("the treatment is worse: −")


def test_an_error_is_better_where_it_is_smaller(running: Workspace) -> None:
    now = days(running, 1, World(running, right=(0.75, 0.6)))
    settings = running.settings.model_copy(update={"experiment": config.Experiment(metric="error")})
    found = experiment.report(World(running).store, settings, course(running), now)
    assert told.missing(found) == "no outcomes are recorded yet", "of that metric"


def test_what_is_missing_is_said_in_numbers(running: Workspace) -> None:
    world = World(running, right=(0.8, 0.82))
    world.meet(BEGIN + timedelta(hours=23), 20)
    now = BEGIN + timedelta(days=1)
    assert "of 100" in told.missing(report(running, now))
    now = days(running, 1, world)
    text = told.missing(report(running, now))
    assert "more outcomes to a verdict" in text
    assert "a day" in text


def test_equal_variants_end_without_a_winner(running: Workspace) -> None:
    """No difference where kt.toml calls a wide one none; expired where its time is over."""
    now = days(running, 2, World(running))
    indifferent = running.settings.model_copy(
        update={"experiment": config.Experiment(indifference=0.2)}
    )
    store = World(running).store
    found = experiment.report(store, indifferent, course(running), now)
    assert (found.state, found.verdict) == ("no_difference", "undecided")
    assert "do not differ by more than 20.0 pp" in told.missing(found)
    late = report(running, BEGIN + timedelta(days=28))
    assert late.state == "expired"
    assert told.missing(late).startswith("it has had its 28 days")


def test_more_traffic_in_a_bad_hour_is_no_effect(running: Workspace) -> None:
    """The share grows while everybody gets worse: pooled, the treatment would look much worse."""
    world = World(running, right=(0.9, 0.9))
    world.meet(BEGIN + timedelta(hours=5), 1500)
    deploy.ramp(running, "x", 70, forge.STAMP)
    world.right = (0.6, 0.6)
    world.meet(BEGIN + timedelta(hours=23), 1500)
    found = report(running, BEGIN + timedelta(days=1))
    assert found.state == "collecting"
    assert found.treatment.mean is not None
    assert found.control.mean is not None
    assert found.control.mean - found.treatment.mean > 0.08, "pooled"
    assert found.effect is not None
    assert abs(found.effect.difference) < 0.03


def test_lost_units_make_it_invalid(running: Workspace) -> None:
    world = World(running, right=(0.5, 0.9), lost=0.95)
    now = days(running, 1, world, 900)
    found = report(running, now)
    assert (found.state, found.verdict) == ("invalid", "undecided")
    assert "something loses some" in told.against(found)


def test_days_that_are_too_young_for_all_outcomes_do_not_count(running: Workspace) -> None:
    (running.root / "kt.toml").write_text('git = "off"\n[monitor]\nmature = 10.0\n')
    place = Workspace(running.root)
    world = World(place)
    world.meet(BEGIN + timedelta(hours=2), 100)
    world.meet(BEGIN + timedelta(days=1, hours=2), 200)
    for hours, counted in ((24, 0), (25, 500), (48, 500), (49, 1500)):
        found = report(place, BEGIN + timedelta(hours=hours))
        assert found.control.outcomes + found.treatment.outcomes == counted


def test_a_look_is_kept_and_narrows_the_next(running: Workspace) -> None:
    world = World(running, right=(0.8, 0.84))
    now = days(running, 1, world)
    enforce.enforce(running, world.store, now)
    first = report(running, now)
    assert first.effect is not None
    world.right = (0.8, 0.8)
    world.meet(now + timedelta(hours=1), 300)
    second = report(running, now + timedelta(hours=1))
    assert second.effect is not None
    assert second.interval is not None
    assert second.interval.lower >= first.effect.interval.lower
    assert second.interval.upper <= first.effect.interval.upper


def test_a_guardrail_ends_it_once_from_the_rows_alone(running: Workspace) -> None:
    world = World(running, bad=(0.01, 0.3))
    world.meet(BEGIN + timedelta(hours=1), 100)
    now = BEGIN + timedelta(hours=1)
    (done,) = enforce.enforce(running, world.store, now)
    assert done.event is not None
    assert done.event["aborted"].startswith("errors: ")
    assert done.event["reason"] == "a guardrail is broken"
    assert done.event["evidence"]["guardrails"][0]["broken"] is True
    assert enforce.enforce(running, world.store, now) == []
    _, state = audit.read(running)
    assert state.serving("m").experiment is None
    again = report(running, now)
    assert again.broken is not None


def test_a_guardrail_is_left_to_people_where_kt_toml_says_so(running: Workspace) -> None:
    (running.root / "kt.toml").write_text('git = "off"\n[experiment]\nabort = false\n')
    place = Workspace(running.root)
    world = World(place, bad=(0.0, 1.0))
    world.meet(BEGIN + timedelta(hours=1), 100)
    assert enforce.enforce(place, world.store, BEGIN + timedelta(hours=1)) == []
    assert report(place, BEGIN + timedelta(hours=1)).broken is not None


def test_a_spell_of_slow_answers_counts_once(running: Workspace) -> None:
    """A machine that stalls for a minute has not ten slow versions in it."""
    world = World(running)
    world.meet(BEGIN + timedelta(hours=1), 200)
    stalled = BEGIN + timedelta(hours=2)
    world.slow = (0.0, 1.0)
    world.meet(stalled, 10, within=timedelta(0))
    slow = report(running, stalled).guardrails[1]
    assert slow.treatment > 10
    assert not slow.broken
    for minutes in range(1, 9):
        world.meet(stalled + timedelta(minutes=minutes), 10, within=timedelta(0))
    assert report(running, stalled + timedelta(minutes=9)).guardrails[1].broken


def test_units_without_a_name_are_counted_as_requests(running: Workspace) -> None:
    world = World(running, named=False)
    found = report(running, days(running, 1, world))
    assert (found.ratio.of, found.ratio.broken) == ("requests", False)


def test_a_bandit_follows_who_is_probably_better(running: Workspace) -> None:
    (running.root / "kt.toml").write_text('git = "off"\n[experiment]\nbandit = true\nleast = 2.0\n')
    place = Workspace(running.root)
    world = World(place, right=(0.7, 0.76))
    now = days(place, 1, world)
    (done,) = enforce.enforce(place, world.store, now)
    assert done.event is not None
    assert done.event["kind"] == "traffic_changed"
    assert 80 <= done.event["traffic"] <= 95, "the floor is 5 %"
    assert "bandit: the treatment is better with probability" in done.event["reason"]
    assert enforce.enforce(place, world.store, now + timedelta(hours=1)) == [], "once a day"
