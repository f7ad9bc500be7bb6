"""Rows of the tables as points in time."""

import pytest

from kt.monitors import thresholds
from kt.monitors.dashboard import series
from kt.monitors.dashboard.facts import Point
from kt.monitors.dashboard.series import Grid, Seen, Who
from kt.store.batch import Stream, Traffic
from kt.store.labels import Labels

DAY = 1_440
BEGIN = 20_000 * DAY  # a midnight
V1 = Stream("m", "v1", "", "", 1, 1)
V1_CONTROL = Stream("m", "v1", "control", "x", 1, 2)
V2 = Stream("m", "v2", "treatment", "x", 1, 2)
KNOWN = {one.id: one for one in (V1, V1_CONTROL, V2)}


def test_slots_begin_at_whole_steps_and_the_last_one_may_be_shorter() -> None:
    grid = Grid.back(BEGIN + 130, 120, 60)
    assert (grid.start, list(grid.slots)) == (BEGIN, [0, 1, 2])
    assert grid.slot(BEGIN - 1) == -1
    longer = Grid.back(BEGIN + 140, 120, 60)
    assert [longer.ends(slot) - BEGIN for slot in longer.slots] == [60, 120, 140]


def test_a_version_keeps_its_line_as_it_becomes_the_control() -> None:
    grid = Grid.back(BEGIN + 120, 120, 60)
    rows = [
        (V1.id, BEGIN, 1, Traffic(assigned=3, served=3)),
        (V1.id, BEGIN + 59, 1, Traffic(assigned=2, failed=2)),
        (V1_CONTROL.id, BEGIN + 60, 60, Traffic(assigned=30)),
        (V2.id, BEGIN + 60, 60, Traffic(assigned=10, failed=1)),
    ]
    looks = series.whiles(grid, series.fill(grid, KNOWN, rows), 1)
    assert set(looks) == {Who("active", "v1"), Who("treatment", "v2")}
    active, treatment = series.lines(looks, series.requests)
    assert [point.value for point in active.points] == [5.0, 30.0]
    assert treatment.points == (Point(series.iso(BEGIN + 120), 10.0, 10),)
    active, treatment = series.lines(looks, series.errors)
    assert [point.value for point in active.points] == [0.4, 0.0]
    assert [point.value for point in treatment.points] == [0.1]


def test_a_point_looks_back_over_its_slots_and_over_those_before_the_window() -> None:
    grid = Grid.back(BEGIN + 3 * DAY, 2 * DAY, 12 * 60)
    rows = [
        (V1.id, BEGIN + 12 * 60 * slot, 60, Labels(n=100, right=right))
        for slot, right in enumerate((100, 80, 60, 40, 20, 0))
    ]
    looks = series.whiles(grid, series.fill(grid, KNOWN, [], rows), 2)
    (line,) = series.lines(looks, series.outcome(lambda seen: thresholds.share(seen.right, seen.n)))
    assert [point.value for point in line.points] == [0.7, 0.5, 0.3, 0.1]
    assert {point.n for point in line.points} == {200}
    assert all(point.lower < point.value < point.upper for point in line.points)  # type: ignore[operator]


def test_few_outcomes_are_no_value_and_what_is_between_is_a_hole() -> None:
    grid = Grid.back(BEGIN + DAY, DAY, 6 * 60)
    counts = (40, 29, 40, 0)
    rows = [
        (V1.id, BEGIN + 360 * slot, 60, Labels(n=n, right=n // 2)) for slot, n in enumerate(counts)
    ]
    looks = series.whiles(grid, series.fill(grid, KNOWN, [], rows), 1)
    (line,) = series.lines(looks, series.outcome(lambda seen: thresholds.share(seen.right, seen.n)))
    assert [(point.value, point.n) for point in line.points] == [(0.5, 40), (None, 29), (0.5, 40)]


def test_drift_needs_a_reference_and_enough_of_both() -> None:
    whose = Who("active", "v1")
    even = [(k / 10, 60) for k in range(10)]
    of = series.drifted({whose: even}, lambda seen: [(k / 10, seen.served) for k in range(10)], 500)
    assert of(whose, Seen(Traffic(served=60)), 60).value == pytest.approx(0, abs=1e-9)
    assert of(whose, Seen(Traffic(served=49)), 60).value is None
    assert of(Who("active", "v0"), Seen(Traffic(served=60)), 60).value is None


def test_a_reliability_diagram_counts_what_came_true() -> None:
    seen = Labels()
    for _ in range(30):
        seen.positives.add(0.75)
    for _ in range(10):
        seen.negatives.add(0.75)
    for _ in range(5):
        seen.negatives.add(0.05)
    found = series.reliability(Who("active", "v1"), seen, 1000)
    assert (found.n, found.ece) == (45, None)
    assert [(one.n, round(one.predicted, 6), one.observed) for one in found.bins] == [
        (5, 0.05, 0.0),
        (40, 0.75, 0.75),
    ]
    assert all(one.lower <= one.observed <= one.upper for one in found.bins)
    judged = series.reliability(Who("active", "v1"), seen, 45)
    assert judged.ece == pytest.approx(0.05 * 5 / 45)


def test_two_spreads_share_their_bars_and_the_farthest_values_are_in_the_last() -> None:
    before = [(float(k), 10) for k in range(1, 101)]
    now = [*before[:50], (1e9, 1)]
    found = series.shape("seconds", Who("active", "v1"), "its first", before, now, 0.2, "degraded")
    assert found.edges[0] == 1.0
    assert found.edges[-1] == pytest.approx(100.0, abs=1)
    assert sum(found.before) == pytest.approx(1)
    assert sum(found.now) == pytest.approx(1)
    assert found.now[-1] == pytest.approx(1 / 501)
    constant = series.shape("answers", Who("active", "v1"), "", [(3.0, 5)], [(3.0, 9)], 0.0, "ok")
    assert constant.edges[0] < 3.0 < constant.edges[-1]
    assert series.shape("score", Who("active", "v1"), "", before, now, None, "ok").edges[-1] == 1.0
