"""The isotonic calibrator: what rounds differently before it is not told apart after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.models.calibrate import MANY, STEEPEST, Isotonic, Outcomes, composed, fit, isotonic, pooled

ANSWERS = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60)


def of(answers: list[tuple[float, bool]]) -> Isotonic:
    scores, labels = (np.array(column) for column in zip(*answers, strict=True))
    return isotonic(scores, labels.astype(int))


@given(ANSWERS, st.floats(0, 1))
def test_a_difference_in_the_score_is_never_more_than_so_much_larger(
    answers: list[tuple[float, bool]], score: float
) -> None:
    near = of(answers).of(np.array([score, score + 1e-6]))
    assert 0 <= near[1] - near[0] <= 1.001 * STEEPEST * 1e-6


@given(ANSWERS, ANSWERS)
def test_nor_through_two_of_them(
    first: list[tuple[float, bool]], then: list[tuple[float, bool]]
) -> None:
    both = composed(of(first), of(then))
    assert isinstance(both, Isotonic)
    assert (np.diff(both.values) <= STEEPEST * np.diff(both.scores) + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_other_answers_are_as_well_calibrated_as_by_levels(seed: int) -> None:
    """Brier score and calibration error of a model twice too sure, beside the truth of each answer."""
    rng = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-rng.normal(0, 1.4, (2, 4 * MANY))))
    said = truth**2 / (truth**2 + (1 - truth) ** 2)
    labels = (rng.random(truth.shape) < truth).astype(int)
    known = Outcomes(np.stack([1 - said[0], said[0]], 1), labels[0])
    by_line = fit(known, "isotonic", many=True)
    assert isinstance(by_line, Isotonic)
    ends = [(b.lowest, b.highest, b.value) for b in pooled(said[0], labels[0])]
    levels = np.interp(said[1], np.ravel([e[:2] for e in ends]), np.repeat([e[2] for e in ends], 2))
    line = by_line.of(said[1])
    assert np.mean((line - truth[1]) ** 2) < np.mean((levels - truth[1]) ** 2)
    assert np.mean((line - truth[1]) ** 2) < 0.02**2
