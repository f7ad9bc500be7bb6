import random

import pytest

from kt.stats.calibration import Bin, brier, equal_mass, equal_width, errors, merged


def test_errors_by_hand() -> None:
    confidence = [0.1, 0.3, 0.8, 1.0]
    right = [False, True, True, True]
    bins = equal_width(confidence, right, 2)
    assert bins == (Bin(2, 0.4, 1), Bin(2, 1.8, 2))
    assert errors(bins) == pytest.approx((0.2, 0.3, 0.2))  # gaps 0.3 and 0.1, as many in each


def test_an_inner_edge_belongs_to_the_bin_above_it_and_one_to_the_last() -> None:
    assert [each.n for each in equal_width([0.0, 0.5, 1.0], [True] * 3, 2)] == [1, 2]


def test_bins_of_equal_mass_hold_as_many_wherever_the_confidences_lie() -> None:
    confidence = [0.9 + n / 1000 for n in range(60)]
    assert {each.n for each in equal_mass(confidence, [True] * 60, 6)} == {10}
    assert [each.n for each in equal_width(confidence, [True] * 60, 6)].count(0) == 5


def test_bins_of_two_parts_added_up_are_those_of_the_whole() -> None:
    rng = random.Random(0)
    confidence = [rng.random() for _ in range(200)]
    right = [rng.random() < p for p in confidence]
    halves = equal_width(confidence[:90], right[:90]), equal_width(confidence[90:], right[90:])
    merged = [Bin(*map(sum, zip(a, b, strict=True))) for a, b in zip(*halves, strict=True)]
    assert errors(merged) == pytest.approx(errors(equal_width(confidence, right)))


def test_a_hundred_bins_become_ten() -> None:
    rng = random.Random(1)
    confidence = [rng.random() for _ in range(300)]
    right = [rng.random() < p for p in confidence]
    fine, coarse = (equal_width(confidence, right, bins) for bins in (100, 10))
    assert errors(merged(fine, 10)) == pytest.approx(errors(coarse))


def test_the_brier_score_of_sums() -> None:
    assert brier(4, 0.01 + 0.09 + 0.64 + 1, 0.3 + 0.8 + 1, 3) == pytest.approx(
        (0.1**2 + 0.7**2 + 0.2**2) / 4
    )


def test_nothing_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="no answers"):
        errors(equal_width([], []))


def test_a_constant_confidence_has_no_error_and_says_nothing() -> None:
    """Which is why no calibration error stands without a score that a constant fails."""
    right = [n % 10 < 9 for n in range(1000)]
    assert errors(equal_width([0.9] * 1000, right)).ece == pytest.approx(0, abs=1e-9)
