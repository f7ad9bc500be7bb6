"""Scores against values worked out by hand, or by the definition written out."""

import itertools
import math

import numpy as np
import pytest

from kt.config import Compute
from kt.models import chains, labelled, metrics
from kt.models.metrics import Events


def events(responses, probabilities, student=None):
    """Events of one student each, or of those given."""
    n = len(responses)
    student = np.arange(n) if student is None else np.asarray(student)
    p = np.asarray(probabilities, float)
    if p.ndim == 1:
        p = np.stack([1 - p, p], 1)
    return Events(
        tuple(f"s{i}" for i in range(student.max(initial=-1) + 1)),
        student,
        np.ones(n, int),
        np.full(n, 2),
        np.asarray(responses),
        p,
    )


def drawn(n=200, K=2, students=20, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(K), n).round(2)
    p[:, -1] = 1 - p[:, :-1].sum(1)
    responses = np.array(
        [rng.choice(K, p=np.clip(row, 0, 1) / np.clip(row, 0, 1).sum()) for row in p]
    )
    return events(responses, p, rng.integers(students, size=n))


BINARY = events([1, 0, 1, 0], [0.9, 0.2, 0.4, 0.6])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auc", 3 / 4),
        ("nll", -math.log(0.9 * 0.8 * 0.4 * 0.4) / 4),
        ("accuracy", 0.5),
        ("brier", (0.01 + 0.04 + 0.36 + 0.36) / 4),
        ("ece", (0.1 + 0.2 + 0.6 + 0.6) / 4),
    ],
)
def test_binary_scores(name, value):
    assert metrics.score(name, BINARY) == pytest.approx(value)


GRADED = events([0, 1, 2, 2], [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.6, 0.1, 0.3], [0.0, 0.2, 0.8]])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nll", -math.log(0.7 * 0.3 * 0.3 * 0.8) / 4),
        ("accuracy", 0.5),
        ("within_one", 0.75),
        ("rps", ((0.09 + 0.01) + (0.01 + 0.36) + (0.36 + 0.49) + (0.0 + 0.04)) / 2 / 4),
        ("qwk_argmax", 1 - 5 / 7),
        ("auc", 4 / 5),
    ],
)
def test_polytomous_scores(name, value):
    assert metrics.score(name, GRADED) == pytest.approx(value)


def test_qwk_names_its_rule():
    """Argmax 2, 0 and rounded mean 1, 1 are different decisions."""
    p = [[0.35, 0.25, 0.4], [0.4, 0.25, 0.35]]
    seen = events([2, 0], p)
    assert metrics.score("qwk_argmax", seen) == pytest.approx(1)
    assert metrics.score("qwk_mean", seen) == pytest.approx(0)


@pytest.mark.parametrize("K", [2, 4])
def test_auc_is_the_share_of_pairs_in_order(K):
    seen = drawn(K=K)
    expected = seen.expected
    won = pairs = 0.0
    for i, j in itertools.permutations(range(len(expected)), 2):
        if seen.responses[i] > seen.responses[j]:
            pairs += 1
            won += 0.5 if expected[i] == expected[j] else float(expected[i] > expected[j])
    assert metrics.score("auc", seen) == pytest.approx(won / pairs)


def test_a_weight_is_that_many_copies_of_the_student():
    seen = drawn(K=3)
    counts = np.random.default_rng(3).integers(0, 3, len(seen.students))
    copies = np.concatenate(
        [np.flatnonzero(seen.student == s) for s in np.repeat(np.arange(20), counts)]
    )
    for name in metrics.POLYTOMOUS:
        weighted = seen.prepare(name)(counts[None].astype(float))[0]
        assert weighted == pytest.approx(metrics.score(name, seen.take(copies))), name


def test_auc_of_one_category_is_undefined():
    assert math.isnan(metrics.score("auc", events([1, 1], [0.3, 0.4])))


def test_a_score_of_nothing_is_undefined():
    nothing = BINARY.take(np.array([], int))
    for name in metrics.BINARY:
        assert math.isnan(metrics.score(name, nothing)), name


def test_an_interval_holds_the_score_and_narrows_with_students():
    def width(n):
        seen = drawn(n=n * 10, students=n)
        low, high = metrics.interval("nll", seen)
        assert low < metrics.score("nll", seen) < high
        return high - low

    assert width(400) < width(25) / 2


def test_intervals_of_many_are_the_same_side_by_side(monkeypatch):
    seen = drawn(n=400, students=40)
    alone = {name: metrics.interval(name, seen) for name in metrics.BINARY}
    assert metrics.intervals(metrics.BINARY, seen) == alone
    monkeypatch.setattr(metrics, "MANY", 100)
    here = metrics.intervals(metrics.BINARY, seen)
    assert metrics.intervals(metrics.BINARY, seen, how=Compute(n_jobs=2)) == here
    for name, ends in alone.items():
        assert here[name] == pytest.approx(ends, abs=1e-12)


def test_a_version_does_not_differ_from_itself():
    seen = drawn()
    same = metrics.difference("auc", seen, seen)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_paired_difference_is_narrower_than_the_two_intervals():
    a = drawn(n=2000, students=100)
    sharper = np.clip(a.probabilities * 0.98 + 0.02 * np.eye(2)[a.responses], 0, 1)
    b = Events(a.students, a.student, a.place, a.items, a.responses, sharper)
    found = metrics.difference("nll", a, b)
    low, high = metrics.interval("nll", a)
    assert found.high < 0
    assert found.low < found.value < found.high
    assert found.high - found.low < (high - low) / 2


def test_a_difference_needs_the_same_answers():
    with pytest.raises(ValueError, match="not asked about the same"):
        metrics.difference("nll", drawn(seed=0), drawn(seed=1))


def test_every_score_says_which_way_is_better():
    for name in (*metrics.SCORES, *labelled.SCORES, *chains.SCORES):
        assert metrics.higher_is_better(name) in (True, False)
