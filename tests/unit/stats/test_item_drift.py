"""Drift is found where it is, not where the population moves, and too few answers are said to be too few."""

from statistics import NormalDist

import numpy as np
import pytest

from kt.stats import item_drift
from kt.stats.item_drift import drifts, false_discovery, false_discovery_of_looks, shifts


def drawn(rng, each, items, difficulty, mean):
    """What a model expects that knows abilities and the items as they were, and what is answered."""
    item = np.repeat(np.arange(items), each)
    theta = rng.normal(mean, 1, len(item))
    known = difficulty["known"][item]
    now = difficulty["now"][item]
    right = (rng.random(len(item)) < 1 / (1 + np.exp(now - theta))).astype(int)
    p = 1 / (1 + np.exp(known - theta))
    return np.stack([1 - p, p], 1), right, item, np.arange(len(item))


def periods(each, *, items=500, drifting=25, size=0.6, seed=0):
    rng = np.random.default_rng(seed)
    b = rng.normal(0, 1, items)
    moved = b.copy()
    moved[:drifting] += size * rng.choice([-1, 1], drifting)
    before = shifts(*drawn(rng, each, items, {"known": b, "now": b}, 0.0), items)
    after = shifts(*drawn(rng, each, items, {"known": b, "now": moved}, 0.3), items)
    return drifts(before, after)


def test_eight_hundred_answers_find_every_drift_of_0_6_and_no_other():
    found = periods(800)
    assert all(drift.verdict == "drifted" for drift in found[:25])
    assert sum(drift.verdict == "drifted" for drift in found[25:]) <= 1
    assert sum(drift.verdict == "unknown" for drift in found) < 0.2 * len(
        found
    )  # the extreme items
    assert 0.5 < np.mean([drift.smallest for drift in found]) < 0.6


def test_an_item_that_has_not_moved_is_as_far_off_as_its_error_says():
    """So that of what is flagged one in twenty is false, no more and no fewer."""
    z = [drift.z for drift in periods(800)[25:]]
    assert np.mean(z) == pytest.approx(0, abs=0.15)
    assert np.std(z) == pytest.approx(1, abs=0.1)


def test_two_hundred_find_few_and_call_none_stable():
    found = periods(200)
    assert sum(drift.verdict == "drifted" for drift in found[:25]) < 13
    assert not any(drift.verdict == "stable" for drift in found)
    assert all(drift.smallest > 0.6 for drift in found)


def test_under_thirty_nothing_is_said():
    found = periods(29)
    assert all(drift.verdict == "unknown" and drift.shift is None for drift in found)
    assert found[0].answers == (29, 29)


def test_of_fewer_than_ten_students_nothing_is_said_however_much_they_answer():
    rng = np.random.default_rng(3)
    expected, right, item = np.full((2000, 2), 0.5), rng.integers(2, size=2000), np.arange(2000) % 5
    few, many = (shifts(expected, right, item, np.arange(2000) % who, 5) for who in (9, 11))
    assert few.students.tolist() == [9] * 5
    assert not [one for one in drifts(few, many) if one.q is not None]
    assert len([one for one in drifts(many, many) if one.q is not None]) == 5


def test_looks_at_answers_as_they_come_in_find_nothing_by_chance():
    """A month of daily looks at eight items that stay as they are. The ordinary rate of one of them is below 5 %
    on some day in more than one month of twenty."""
    months, days, n, error = 150, 30, 8, 0.1
    rng = np.random.default_rng(0)
    enough = np.full(n, 500)
    once = again = 0
    for _ in range(months):
        before = item_drift.Shifts(rng.normal(0, error, n), np.full(n, error), enough, enough)
        came = rng.normal(0, 5 * error, (days, n)).cumsum(0)
        looks = [
            drifts(
                before, item_drift.Shifts(sums / t, np.full(n, 5 * error / t**0.5), enough, enough)
            )
            for t, sums in enumerate(came, 1)
        ]
        once += any(one.q <= 0.05 for found in looks for one in found)
        again += any(min(false_discovery_of_looks(found)) <= 0.05 for found in looks)
    assert once > 0.1 * months
    assert again <= 0.05 * months


def test_a_drift_is_found_by_looks_too():
    found = periods(800)
    rates = false_discovery_of_looks(found)
    assert sum(rate <= 0.05 for rate in rates[:25]) >= 20
    assert sum(rate <= 0.05 for rate in rates[25:]) <= 1
    assert all(many >= one.q for many, one in zip(rates, found, strict=True))


def test_a_population_that_moves_is_no_drift_though_the_model_does_not_know_it():
    """Expectations of the same abilities, answers of students who are abler by one."""
    rng = np.random.default_rng(4)
    item = np.repeat(np.arange(100), 400)
    p = 1 / (1 + np.exp(-rng.normal(0, 1, len(item))))
    expected = np.stack([1 - p, p], 1)
    abler = 1 / (1 + np.exp(-np.log(p / (1 - p)) - 1))
    before, after = (
        shifts(expected, (rng.random(len(item)) < q).astype(int), item, np.arange(len(item)), 100)
        for q in (p, abler)
    )
    assert np.median(after.shift) == pytest.approx(-1, abs=0.05)
    assert not any(drift.verdict == "drifted" for drift in drifts(before, after))


def test_a_shift_is_the_logit_of_what_was_right_against_what_was_expected():
    expected = np.full((100, 2), 0.5)
    responses = np.repeat([1, 0], [73, 27])
    found = shifts(expected, responses, np.zeros(100, int), np.arange(100), 1)
    assert found.shift[0] == pytest.approx(-np.log(73 / 27), abs=0.01)
    assert found.error[0] == pytest.approx(1 / np.sqrt(100 * 0.73 * 0.27), abs=0.005)


def test_all_steps_of_a_graded_item_move_alike():
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 1, 20_000)

    def p(moved):
        z = np.cumsum(
            np.stack([0 * theta, theta + 1, theta, theta - 1], 1) - moved * (np.arange(4) > 0), 1
        )
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    responses = (rng.random((len(theta), 1)) > p(0.4).cumsum(1)).sum(1)
    found = shifts(p(0.0), responses, np.zeros(len(theta), int), np.arange(len(theta)), 1)
    assert found.shift[0] == pytest.approx(0.4, abs=4 * found.error[0])


def test_answers_of_one_student_count_for_less():
    rng = np.random.default_rng(1)
    expected = np.full((2000, 2), 0.5)
    alike = np.repeat(rng.integers(2, size=100), 20)
    one, many = (
        shifts(expected, alike, np.zeros(2000, int), who, 1)
        for who in (np.repeat(np.arange(100), 20), np.arange(2000))
    )
    assert one.error[0] == pytest.approx(np.sqrt(20) * many.error[0], rel=0.1)


def test_an_item_that_all_answered_alike_stays_finite():
    expected = np.full((50, 2), 0.5)
    found = shifts(expected, np.ones(50, int), np.zeros(50, int), np.arange(50), 2)
    assert np.isfinite(found.shift).all()
    assert np.isfinite(found.error).all()
    assert found.answers.tolist() == [50, 0]


def test_false_discovery_is_benjamini_and_hochberg_s():
    """Of the 15 p-values of their paper four are discoveries at 5 %."""
    p = np.array(
        [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0]
    )  # fmt: skip
    q = false_discovery(p)
    assert (q <= 0.05).sum() == 4
    assert q[3] == pytest.approx(0.0095 * 15 / 4)
    assert (np.diff(q) >= 0).all()
    shuffled = np.random.default_rng(0).permutation(15)
    assert np.allclose(false_discovery(p[shuffled]), q[shuffled])


def test_the_smallest_drift_is_found_four_times_in_five():
    """Of an item alone among stable ones, at its bound."""
    error = 0.1
    needed = NormalDist().inv_cdf(1 - 0.025 / 200) + NormalDist().inv_cdf(0.8)
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        shift = rng.normal(0, error, 200)
        shift[0] += needed * error
        still = item_drift.Shifts(np.zeros(200), np.zeros(200), *[np.full(200, 500)] * 2)
        moved = item_drift.Shifts(shift, np.full(200, error), *[np.full(200, 500)] * 2)
        first = drifts(still, moved)[0]
        hits += first.verdict == "drifted"
        assert first.smallest == pytest.approx(needed * error)
    assert 0.72 < hits / 200 < 0.9
