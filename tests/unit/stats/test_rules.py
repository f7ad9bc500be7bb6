"""The rules by small simulations of our own: what names a winner, ends an experiment, or calls it drift.

The published judges ask more, and longer: bench/monitoring.py judges.
"""

import math
import random
from collections.abc import Iterator

import pytest
from rules import of_units

from kt.stats import drift, effect, guardrail, ratio, sequential, stratified
from kt.stats.adwin import Adwin
from kt.stats.bandit import best
from kt.stats.latency import Sketch
from kt.stats.moments import Moments
from kt.stats.page_hinkley import PageHinkley

Arms = tuple[dict[int, Moments], dict[int, Moments]]
RUNS = 60


def looks(
    draw: random.Random, phases: list[tuple[int, float, float, float]], units: int
) -> Iterator[list[Arms]]:
    """An experiment, looked at every 200 answers.

    phases: answers, the treatment's share, and how often the control and the treatment are right. units:
    that come back, or 0.
    """
    rates = [draw.betavariate(9 * 0.75, 9 * 0.25) - 0.75 for _ in range(units)]
    sides = [draw.random() < 0.5 for _ in range(units)]
    seen: list[Arms] = []
    for n, share, right, right_treated in phases:
        arms: Arms = {}, {}
        seen.append(arms)
        for at in range(1, n + 1):
            unit = draw.randrange(units) if units else draw.randrange(1 << 30)
            treated = sides[unit] if units else draw.random() < share
            p = (right_treated if treated else right) + (rates[unit] if units else 0)
            arms[treated].setdefault(unit % 128, Moments()).add(float(draw.random() < p))
            if at % 200 == 0:
                yield seen


def winners(phases: list[tuple[int, float, float, float]], units: int = 0) -> list[str | None]:
    found = []
    for run in range(RUNS):
        verdicts = (
            of_units(seen, binary=True).higher for seen in looks(random.Random(run), phases, units)
        )
        found.append(next((verdict for verdict in verdicts if verdict), None))
    return found


@pytest.mark.parametrize(
    ("phases", "units"),
    [
        pytest.param([(4_000, 0.5, 0.8, 0.8)], 0, id="equal"),
        pytest.param([(2_000, 0.1, 0.85, 0.85), (2_000, 0.5, 0.7, 0.7)], 0, id="traffic moves"),
        pytest.param([(4_000, 0.5, 0.75, 0.75)], 200, id="units come back"),
    ],
)
def test_equal_arms_have_no_winner(
    phases: list[tuple[int, float, float, float]], units: int
) -> None:
    named = sum(winner is not None for winner in winners(phases, units))
    assert named <= 7  # of 60 runs at alpha 0.05: more is one case in 50


def test_a_better_treatment_is_found() -> None:
    found = winners([(4_000, 0.5, 0.75, 0.82)])
    assert found.count("treatment") >= 0.9 * RUNS
    assert "control" not in found


def test_pooled_over_phases_the_worse_would_win() -> None:
    a = [Moments(900, 0.9, 81.0), Moments(100, 0.5, 25.0)]
    b = [Moments(100, 0.92, 7.36), Moments(900, 0.52, 224.64)]
    found = stratified.independent(list(zip(a, b, strict=True)))
    assert found is not None
    assert found.difference == pytest.approx(0.02)
    assert stratified.merged(b).mean < stratified.merged(a).mean


def test_units_that_come_back_are_fewer_than_their_answers() -> None:
    """Twenty units that always do the same, a hundred times each, are twenty observations."""
    draw = random.Random(3)
    arms: Arms = {}, {}
    for unit in range(40):
        value = draw.gauss(0, 1)
        arms[unit % 2][unit] = Moments(100, value, 0.0)
    found = stratified.clustered([arms])
    assert found is not None
    assert found.n == pytest.approx(40, rel=0.15)
    assert found.buckets == 40


def test_without_variance_nothing_is_decided() -> None:
    right, wrong = Moments(500, 1.0, 0.0), Moments(500, 0.0, 0.0)
    found = effect.judge(stratified.independent([(right, right)]), right, right, True, 0.05, 5_000)
    assert (found.evidence, found.higher) == (None, None)
    found = effect.judge(stratified.independent([(wrong, right)]), wrong, right, True, 0.05, 5_000)
    assert (found.evidence, found.higher) == (None, None)


def test_what_is_missing_is_said_in_numbers() -> None:
    a, b = Moments(4_000, 0.8, 640.0), Moments(60, 0.5, 15.0)
    found = effect.judge(stratified.independent([(a, b)]), a, b, True, 0.05, 5_000)
    assert found.missing == ("treatment: 60 of 100 outcomes",)
    assert found.higher is None
    b = Moments(200, 0.99, 1.98)
    found = effect.judge(stratified.independent([(a, b)]), a, b, True, 0.05, 5_000)
    assert found.missing == ("treatment: 2 of 5 wrong",)


def test_the_interval_and_the_e_value_say_the_same() -> None:
    found = sequential.difference(0.03, 0.0083, 10_000)
    assert found is not None
    edge = sequential.difference(found.difference - found.lower, found.error, 10_000)
    assert edge is not None
    assert edge.log_e == pytest.approx(math.log(20))
    assert found.p_value < 0.05


def failing(draw: random.Random, bad: float, bad_treated: float, share: float, most: int) -> int:
    """Answers of the treatment until the guardrail breaks; 0 where it does not in `most` answers."""
    counts, given = [0, 0], 0
    for _ in range(most):
        treated = draw.random() < share
        given += treated
        if draw.random() < (bad_treated if treated else bad):
            counts[treated] += 1
            if guardrail.log_e(*counts, share) >= math.log(20):
                return given
    return 0


def test_a_treatment_that_fails_is_found_within_a_few_answers() -> None:
    draw = random.Random(4)
    assert sorted(failing(draw, 0, 1, 0.1, 1_000) for _ in range(31))[15] <= 5
    assert sorted(failing(draw, 0.005, 0.2, 0.1, 5_000) for _ in range(31))[15] <= 40


def test_a_treatment_that_fails_as_often_is_left_alone() -> None:
    draw = random.Random(5)
    assert sum(failing(draw, 0.05, 0.05, 0.1, 4_000) > 0 for _ in range(60)) <= 7


def test_a_ratio_off_by_a_fifth_is_found_and_a_right_one_is_not() -> None:
    draw, off, right = random.Random(6), [0, 0], [0, 0]
    for _ in range(20_000):
        off[draw.random() < 0.12] += 1
        right[draw.random() < 0.1] += 1
        assert not ratio.mismatch(right, [90, 10])
    assert ratio.mismatch(off, [90, 10])
    assert ratio.mismatch([100, 1], [100, 0])
    assert ratio.chi_square([100, 1], [100, 0]) == (1.0, True)


def of(values: list[float]) -> list[tuple[float, int]]:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return list(sketch.bars())


def test_parts_hold_a_tenth_of_the_reference_each() -> None:
    draw = random.Random(7)
    reference = of([draw.lognormvariate(1, 1) for _ in range(5_000)])
    before, after = drift.parts(reference, of([draw.lognormvariate(1, 1) for _ in range(2_000)]))
    assert len(before) == 10
    assert all(count == pytest.approx(500, abs=60) for count in before)
    found = drift.psi(before, after)
    assert found is not None
    assert found < drift.chance(10, 5_000, 2_000)


@pytest.mark.parametrize("moved", [0.1, 0.5])
def test_what_comes_beside_a_constant_is_seen(moved: float) -> None:
    before, after = drift.parts(of([0.3] * 600), of([0.3] * 300 + [moved] * 300))
    assert before == [0, 600, 0]
    assert sorted(after) == [0, 300, 300]
    found = drift.psi(before, after)
    assert found is not None
    assert found > 1


def test_few_values_make_few_parts() -> None:
    assert drift.parts([(1.0, 10), (2.0, 90)], [(1.0, 50), (2.0, 50)]) == (
        [0, 10, 90, 0],
        [0, 50, 50, 0],
    )
    assert drift.psi([0, 0], [1, 2]) is None


def test_a_stream_whose_mean_falls_is_found_soon_and_a_steady_one_never() -> None:
    draw = random.Random(8)
    stream = [float(draw.random() < (0.9 if n < 600 else 0.6)) for n in range(1_000)]
    cut, page = Adwin(), PageHinkley(20)
    found = [n for n, value in enumerate(stream) if cut.add(value)]
    assert 600 < found[0] < 800
    assert cut.mean == pytest.approx(0.6, abs=0.1)
    assert len(cut.window) < 60
    assert 600 < next(n for n, value in enumerate(stream) if page.add(value)) < 800
    rising = PageHinkley(20, mode="up")
    assert not any(rising.add(value) for value in stream)
    steady = Adwin()
    assert not any(steady.add(value) for value in stream[:600])


def test_the_best_of_three_arms() -> None:
    found = best([(90, 10), (80, 20), (80, 20)])
    assert found[0] > 0.9
    assert found[1] == pytest.approx(found[2])
    assert sum(found) == pytest.approx(1)
