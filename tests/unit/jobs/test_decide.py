from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from kt.jobs.decide import Pace, decide
from kt.jobs.facts import Facts
from kt.jobs.triggers import age, alert, calibration, samples

NOW = datetime(2026, 1, 20, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
USUAL = [(one.__name__.rpartition(".")[2], one, one.Settings()) for one in (age, samples, alert)]


def due(**facts):
    facts = {"last_success": NOW - 3 * DAY, "last_attempt": NOW - 3 * DAY} | facts
    return decide(Facts(now=NOW, **facts), USUAL)


def test_nothing_new_is_nothing_to_do():
    assert not due().yes
    assert not due(last_success=NOW - 30 * DAY).reasons


def test_a_model_that_was_never_trained_is_due_as_soon_as_there_is_something_to_learn():
    assert not due(last_success=None, last_attempt=None).yes
    assert due(last_success=None, last_attempt=None, samples=1).reasons == {"age": "never trained"}


@pytest.mark.parametrize(("days", "yes"), [(6.99, False), (7, True), (7.01, True)])
def test_seven_days_are_old(days, yes):
    assert due(last_success=NOW - days * DAY, samples=1).yes is yes


@pytest.mark.parametrize(("count", "yes"), [(99, False), (100, True)])
def test_a_hundred_samples_are_enough(count, yes):
    assert due(samples=count).yes is yes


def test_an_alert_whose_cure_is_tried_already_calls_for_no_other():
    assert due(alerts=("accuracy",)).yes
    assert not due(alerts=("accuracy",), answered="v4").reasons


def test_all_reasons_are_named():
    found = due(last_success=NOW - 8 * DAY, samples=312, alerts=("accuracy",))
    assert found.reasons == {
        "age": "last trained 8.0 d ago (limit 7 d)",
        "samples": "312 new labelled samples (limit 100)",
        "alert": "critical alert: accuracy",
    }


def test_after_a_run_comes_a_pause():
    found = due(samples=500, last_attempt=NOW - HOUR)
    assert not found.yes
    assert found.blocked == {"cooldown": "24 h after the last run"}
    assert found.at == NOW + 23 * HOUR


@pytest.mark.parametrize(
    ("failures", "hours"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 24), (60, 24)]
)
def test_after_failures_the_pause_grows(failures, hours):
    just_before = due(
        samples=500, failures=failures, last_attempt=NOW - hours * HOUR + timedelta(1e-5)
    )
    assert list(just_before.blocked) == ["backoff"]
    assert due(samples=500, failures=failures, last_attempt=NOW - hours * HOUR).yes


def test_a_clock_that_was_set_back_is_no_time_gone_by():
    found = due(samples=500, last_attempt=NOW + DAY, last_success=NOW + DAY)
    assert list(found.blocked) == ["cooldown"]
    assert found.at == NOW + DAY


@pytest.mark.parametrize("failures", [0, 3])
@pytest.mark.parametrize("ahead", [2 * DAY, 3_650 * DAY])
def test_a_run_by_a_clock_that_was_far_ahead_is_not_waited_for(failures, ahead):
    assert due(samples=500, failures=failures, last_attempt=NOW + ahead).yes


def test_nor_is_an_age_that_only_ten_years_bring():
    assert not due(samples=1, last_success=NOW + 7 * DAY).yes
    found = due(samples=1, last_success=NOW + 3_650 * DAY)
    assert found.reasons == {"age": "last trained before the clock was set back"}


def test_force_stands_above_all_but_a_training():
    kept = {"last_attempt": NOW, "held": "by ana", "failures": 3}
    facts = Facts(now=NOW, **kept)
    assert decide(facts, USUAL, force=True).yes
    found = decide(Facts(now=NOW, running="process 7", **kept), USUAL, force=True)
    assert found.blocked == {"running": "process 7"}


def test_a_hold_and_a_pause_are_both_told():
    found = due(samples=500, held="by ana", last_attempt=NOW)
    assert list(found.blocked) == ["held", "cooldown"]


def test_a_job_may_have_another_pace():
    facts = Facts(now=NOW, last_attempt=NOW - HOUR, last_success=NOW - HOUR, samples=500)
    assert decide(facts, USUAL, Pace(cooldown=1)).yes


def test_a_trigger_of_ones_own_is_asked_like_the_others():
    class Exams:
        class Settings(BaseModel):
            pass

        @staticmethod
        def due(facts, settings):
            return "exam week"

    assert decide(Facts(now=NOW), [("exams", Exams, Exams.Settings())]).yes


@pytest.mark.parametrize(
    ("labelled", "ece", "baseline", "said"),
    [
        (999, 0.4, 0.03, ""),
        (1000, 0.131, 0.03, "calibration error 0.131 on 1,000 outcomes, 0.030 before"),
        (1000, 0.13, 0.03, ""),
        (5000, 0.16, None, "calibration error 0.160 on 5,000 outcomes"),
        (5000, None, None, ""),
    ],
)
def test_confidence_that_holds_no_more_is_a_reason_where_it_is_asked_for(
    labelled, ece, baseline, said
):
    facts = Facts(now=NOW, labelled=labelled, ece=ece, baseline_ece=baseline)
    assert calibration.due(facts, calibration.Settings()) == said
