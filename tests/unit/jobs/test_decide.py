"""When a model is trained again: reasons, what stands in the way, and what a hold or a clock may not do."""

from dataclasses import replace

import pytest

from kt.jobs.decide import DAY, HOUR, Facts, retrain

NOW = 1_800_000_000.0
QUIET = Facts(
    now=NOW,
    last_success_at=NOW - 3 * DAY,
    last_attempt_at=NOW - 3 * DAY,
    failures=0,
    new_samples=0,
    quality_critical=False,
    running=False,
    held=False,
)


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({}, ()),
        ({"new_samples": 99}, ()),
        ({"new_samples": 100}, ("data",)),
        ({"quality_critical": True}, ("health",)),
        ({"last_success_at": NOW - 7 * DAY, "new_samples": 1}, ("time",)),
        ({"last_success_at": NOW - 7 * DAY + 1, "new_samples": 1}, ()),
        ({"last_success_at": NOW - 8 * DAY}, ()),
        ({"last_success_at": None, "last_attempt_at": None, "new_samples": 1}, ("time",)),
        ({"last_success_at": NOW + HOUR, "new_samples": 5}, ()),
        ({"new_samples": 500, "quality_critical": True}, ("data", "health")),
    ],
)
def test_when_it_is_due(changed: dict[str, float], reasons: tuple[str, ...]) -> None:
    found = retrain(replace(QUIET, **changed))
    assert found.reasons == reasons
    assert found.should == bool(reasons)


@pytest.mark.parametrize(
    ("changed", "blocked"),
    [
        ({"running": True, "held": True}, ("running", "held")),
        ({"last_attempt_at": NOW - DAY + 1}, ("cooldown",)),
        ({"last_attempt_at": NOW - DAY}, ()),
        ({"last_attempt_at": NOW - HOUR + 1, "failures": 1}, ("backoff",)),
        ({"last_attempt_at": NOW - HOUR, "failures": 1}, ()),
        ({"last_attempt_at": NOW - 7 * HOUR, "failures": 4}, ("backoff",)),
        ({"last_attempt_at": NOW - DAY, "failures": 5_000}, ()),
        ({"last_attempt_at": NOW + HOUR}, ("cooldown",)),
    ],
)
def test_what_stands_in_the_way(changed: dict[str, float], blocked: tuple[str, ...]) -> None:
    found = retrain(replace(QUIET, new_samples=100, **changed))
    assert found.blocked == blocked
    assert found.should == (not blocked)


def test_force_passes_everything_but_a_training_that_runs() -> None:
    forced = replace(QUIET, force=True, held=True, last_attempt_at=NOW, failures=3)
    assert retrain(forced).should
    assert not retrain(replace(forced, running=True)).should
