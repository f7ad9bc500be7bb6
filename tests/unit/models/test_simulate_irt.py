"""Drifting items drift by what the truth says, and the population moves apart from it."""

from statistics import NormalDist

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models import simulate_irt


def test_the_answers_show_the_drift_and_the_shift_of_the_truth():
    drawn = simulate_irt.simulate(students=4000, items=20, seed=3)
    truth = drawn.truth["items"].values()
    assert sum(item["drift"] != 0 for item in truth) == 1
    usual = np.array([NormalDist().inv_cdf((n + 0.5) / 200) for n in range(200)])
    for part, shift, moves in ((drawn.before, 0.0, 0), (drawn.after, 0.3, 1)):
        item, response = part["item"], part["response"]
        share = (np.bincount(item, response)[1:] / np.bincount(item)[1:]).tolist()
        for found, of in zip(share, truth, strict=True):
            b = of["difficulty"] + moves * of["drift"]
            p = 1 / (1 + np.exp(-of["discrimination"] * (usual + shift - b)))
            assert found == pytest.approx(p.mean(), abs=0.025)


def test_each_period_has_its_own_students_in_the_order_of_their_days():
    drawn = simulate_irt.simulate(students=10, items=5)
    for part in (drawn.before, drawn.after):
        for student in set(part["student_id"].tolist()):
            days = part["time"][part["student_id"] == student]
            assert (np.diff(days) >= 0).all()
    assert not set(drawn.before["student_id"].tolist()) & set(drawn.after["student_id"].tolist())
    assert drawn.before["time"].max() <= drawn.after["time"].min()
    assert len(drawn.truth["students"]) == 20


def test_the_same_seed_is_the_same_answers():
    a, b, c = (
        simulate_irt.simulate(students=5, items=3, seed=s).before["response"] for s in (1, 1, 2)
    )
    assert a.tolist() == b.tolist() != c.tolist()


@pytest.mark.parametrize("wrong", [{"students": 2, "items": 5}, {"students": 9, "items": 0}])
def test_too_few_of_anything_is_refused(wrong):
    with pytest.raises(Invalid, match="too few"):
        simulate_irt.simulate(**wrong)
