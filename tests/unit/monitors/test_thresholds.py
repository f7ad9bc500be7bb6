"""A metric is well, degraded, alerting, or there is no data: levels crossed strictly, alerts for sure."""

import importlib.util
import math
from pathlib import Path

import pytest
import rules
from hypothesis import given
from hypothesis import strategies as st

from kt.config import Threshold
from kt.errors import Invalid
from kt.monitors import thresholds
from kt.monitors.thresholds import DEFAULTS, Levels, Sample
from kt.stats.arms import ONE_SIDED, wilson


@pytest.mark.slow
def test_the_published_judge_of_alerts_is_content(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("judge", shared / "judges" / "judge_monitors.py")
    assert spec
    assert spec.loader
    judge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(judge)
    assert judge.judge_alert(rules.alert, 8, 30), capsys.readouterr().out


def test_a_level_is_crossed_strictly() -> None:
    accuracy = DEFAULTS["accuracy"]
    assert thresholds.status(accuracy, thresholds.share(800, 1000)) == "ok"
    assert thresholds.status(accuracy, thresholds.share(799, 1000)) == "degraded"
    latency = DEFAULTS["latency"]
    assert thresholds.status(latency, Sample(500, 100.0, 90.0)) == "ok"
    assert thresholds.status(latency, Sample(500, 100.1, 90.0)) == "degraded"
    assert thresholds.status(latency, Sample(500, 250.0, 200.0)) == "degraded"
    assert thresholds.status(latency, Sample(500, 250.0, 200.1)) == "alerting"


def test_few_failures_are_no_alert_however_large_their_share() -> None:
    few = thresholds.share(4, 100)
    errors = Levels("error_rate", limit=0.001, alert=0.002, min_n=100, failures=5)
    assert thresholds.status(errors, Sample(100, few.value, few.lower, few.upper, 4)) == "degraded"
    assert thresholds.status(errors, Sample(100, few.value, few.lower, few.upper, 5)) == "alerting"


def test_an_alert_ends_in_the_middle_between_its_levels() -> None:
    assert DEFAULTS["accuracy"].clear == pytest.approx(0.775)
    assert DEFAULTS["error_rate"].clear == pytest.approx(0.03)
    assert DEFAULTS["latency"].clear == 150
    assert DEFAULTS["drift"].clear == pytest.approx(0.08)
    assert thresholds.cleared(DEFAULTS["accuracy"], thresholds.share(775, 1000))
    assert not thresholds.cleared(DEFAULTS["accuracy"], thresholds.share(774, 1000))
    assert not thresholds.cleared(DEFAULTS["accuracy"], thresholds.share(199, 199))


def test_drift_within_chance_is_no_alert() -> None:
    drift = DEFAULTS["drift"]
    assert thresholds.status(drift, thresholds.drifted(500, 0.12, 0.13)) == "degraded"
    assert thresholds.status(drift, thresholds.drifted(500, 0.12, 0.11)) == "alerting"
    assert thresholds.status(drift, thresholds.drifted(499, 0.5, 0.1)) == "no_data"


NUMBERS = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(
    st.sampled_from(sorted(DEFAULTS)),
    NUMBERS,
    st.one_of(NUMBERS, st.floats()),
    st.one_of(NUMBERS, st.floats()),
)
def test_what_is_no_number_is_no_data_and_ends_no_alert(
    metric: str, value: float | None, lower: float | None, upper: float | None
) -> None:
    broken = Sample(10_000, value, lower, upper, 10_000)
    assert thresholds.status(DEFAULTS[metric], broken) == "no_data"
    assert not thresholds.cleared(DEFAULTS[metric], broken)


@given(st.sampled_from(sorted(DEFAULTS)), st.floats(0, 1000), NUMBERS, NUMBERS)
def test_a_bound_that_is_no_number_confirms_nothing(
    metric: str, value: float, lower: float | None, upper: float | None
) -> None:
    assert thresholds.status(DEFAULTS[metric], Sample(10**6, value, lower, upper, 9)) != "alerting"


@given(st.integers(1, 5_000))
def test_so_many_slow_answers_show_it_and_one_less_does_not(n: int) -> None:
    least = thresholds.slow_for_sure(n)
    assert least > n or wilson(least, n, ONE_SIDED)[0] > 0.05
    assert wilson(least - 1, n, ONE_SIDED)[0] <= 0.05


def test_levels_follow_the_evaluation_and_then_what_is_said() -> None:
    assert thresholds.levels("accuracy", [], 0.9).limit == pytest.approx(0.85)
    assert thresholds.levels("accuracy", [], 0.9).alert == pytest.approx(0.80)
    mine = [Threshold(metric="accuracy", limit=0.7, alert=0.6), Threshold(metric="ece", limit=0.2)]
    found = thresholds.levels("accuracy", mine, 0.9)
    assert (found.limit, found.alert, found.severity) == (0.7, 0.6, "critical")
    nearer = [*mine, Threshold(metric="accuracy", severity="warning", min_n=50)]
    found = thresholds.levels("accuracy", nearer, 0.9)
    assert (found.limit, found.severity, found.min_n) == (0.7, "warning", 50)
    assert thresholds.levels("drift_length", []).metric == "drift_length"


@pytest.mark.parametrize(
    ("metric", "limit", "alert"), [("accuracy", 0.7, 0.8), ("latency", 200.0, 100.0)]
)
def test_levels_the_wrong_way_round_are_refused(metric: str, limit: float, alert: float) -> None:
    with pytest.raises(Invalid, match=f"threshold {metric}: its limit is"):
        thresholds.levels(metric, [Threshold(metric=metric, limit=limit, alert=alert)])


def test_health_is_the_worst_there_is() -> None:
    assert thresholds.health([("ok", False, "critical")]) == "ok"
    assert thresholds.health([("degraded", False, "critical"), ("ok", False, "critical")]) == (
        "warning"
    )
    assert thresholds.health([("no_data", True, "critical")]) == "critical"
    assert thresholds.health([("alerting", True, "warning")]) == "warning"
    assert thresholds.health([("no_data", False, "critical"), ("ok", False, "warning")]) == "ok"
    assert thresholds.health([]) == "unknown"
