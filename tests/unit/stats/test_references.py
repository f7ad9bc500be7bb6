"""Our distributions and distances against scipy's and scikit-learn's, on numbers drawn at random."""

import math
import random

import pytest

from kt.stats import drift
from kt.stats.ranking import auc
from kt.stats.scores import Histogram
from kt.stats.special import chi2_above, chi2_level, log_beta_above, t_level, t_tails

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
DRAW = random.Random(5)


def test_the_tails_of_beta() -> None:
    for _ in range(200):
        a, b = (10 ** DRAW.uniform(-1, 5) for _ in range(2))
        x = min(max(DRAW.betavariate(a, b) * DRAW.uniform(0.7, 1.3), 1e-9), 1 - 1e-9)
        want = stats.beta.logsf(x, a, b)
        if want > -500:
            assert log_beta_above(x, a, b) == pytest.approx(want, rel=1e-6, abs=1e-9)


def test_the_tails_of_chi_square_and_students_t() -> None:
    for _ in range(200):
        dof, x = DRAW.randint(1, 60), 10 ** DRAW.uniform(-2, 2.5)
        assert chi2_above(x, dof) == pytest.approx(stats.chi2.sf(x, dof), rel=1e-9)
        assert t_tails(x, dof) == pytest.approx(2 * stats.t.sf(x, dof), rel=1e-8)
    for dof in (1, 9, 99):
        assert chi2_level(0.001, dof) == pytest.approx(stats.chi2.ppf(0.999, dof), rel=1e-9)
        assert t_level(0.05, dof) == pytest.approx(stats.t.ppf(0.975, dof), rel=1e-9)


def test_distances_of_samples() -> None:
    one = sorted(round(DRAW.gauss(0, 1), 1) for _ in range(80))
    other = sorted(round(DRAW.gauss(0.3, 1.2), 1) for _ in range(60))
    bars = [
        [(value, values.count(value)) for value in sorted(set(values))] for values in (one, other)
    ]
    assert drift.kolmogorov_smirnov(*bars) == pytest.approx(stats.ks_2samp(one, other).statistic)
    assert drift.wasserstein(*bars) == pytest.approx(stats.wasserstein_distance(one, other))


def test_the_auc_of_a_histogram_is_that_of_the_scores() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    sides = Histogram(), Histogram()
    scores, labels = [], []
    for _ in range(5_000):
        label = DRAW.random() < 0.4
        score = 1 / (1 + math.exp(-DRAW.gauss(1.0 if label else -0.5, 1.5)))
        sides[label].add(score)
        scores.append(score)
        labels.append(label)
    exact = metrics.roc_auc_score(labels, scores)
    assert auc(sides[True].counts, sides[False].counts) == pytest.approx(exact, abs=5e-4)
