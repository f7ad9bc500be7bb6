"""What an outcome says about a prediction."""

import pytest

from kt.stats.scored import CATEGORIES, NOTHING, Scored, binary, error, likeliest, right


@pytest.mark.parametrize(
    ("scored", "outcome", "came_true", "off"),
    [
        (binary(0.8), 1, True, 0.04),
        (binary(0.8), 0, False, 0.64),
        (binary(0.5), 1, True, 0.25),
        (likeliest(3, 0.6), 3, True, 0.16),
        (likeliest(3, 0.6), 2, False, 0.36),
        (Scored("number", 70.0), 75, True, 5.0),
        (Scored("number", 70.0), 75.5, False, 5.5),
        (NOTHING, 1, True, 0.0),
        (NOTHING, 0, False, 1.0),
    ],
)
def test_an_outcome_says_whether_it_was_right_and_how_far_off(
    scored: Scored, outcome: float, came_true: bool, off: float
) -> None:
    assert right(scored, outcome, within=5.0) is came_true
    assert error(scored, outcome) == pytest.approx(off)


def test_of_too_many_categories_nothing_is_told() -> None:
    assert likeliest(CATEGORIES - 1, 0.9).kind == "category"
    assert likeliest(CATEGORIES, 0.9) == NOTHING
