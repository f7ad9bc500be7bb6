"""The published set comes out response for response; learners who learn, learn."""

import json

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models import data, simulate
from kt.models.split import only_test


def test_the_published_set_has_the_published_counts():
    drawn = simulate.published()
    responses = [response for *_, response in drawn.rows(test=True)]
    assert np.bincount(responses).tolist() == [5194, 3062, 2941, 3898]
    assert len(drawn.students) == 500
    assert drawn.testing == 100


def test_the_same_seed_is_the_same_students():
    a, b, c = (
        simulate.learning(students=20, items=10, seed=seed).rows(test=False) for seed in (1, 1, 2)
    )
    assert a == b != c


def test_students_get_better():
    drawn = simulate.learning(students=400, items=10, categories=2, answers=(40, 40))
    responses = np.array([responses for _, responses in drawn.students])
    assert responses[:, -10:].mean() > responses[:, :10].mean() + 0.1


def test_probabilities_are_the_model_s():
    """K = 2 is the logistic function of alpha (theta - beta)."""
    p = simulate.probabilities(np.array([0.5]), np.array([2.0]), np.array([[1.0]]))
    assert p[0, 1] == pytest.approx(1 / (1 + np.exp(2 * 0.5)))


def test_what_is_written_is_what_is_read(tmp_path):
    drawn = simulate.learning(students=20, items=12, categories=3)
    counts = simulate.write(drawn, tmp_path)
    found = data.read(tmp_path)
    assert len(found.students) == 20
    assert found.events == sum(counts.values())
    assert len(only_test(found).students) == 4
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["items"].keys() == {str(n) for n in range(1, 13)}
    assert set(found.students) == truth["students"].keys()
    assert 0 < truth["test_nll_of_the_truth"] < np.log(3)


@pytest.mark.parametrize("wrong", [{"students": 2}, {"items": 0}, {"categories": 1}])
def test_too_few_of_anything_is_refused(wrong):
    with pytest.raises(Invalid, match="too few"):
        simulate.learning(**wrong)
