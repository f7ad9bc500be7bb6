"""What stands beside a model: the references' scores, and the gain over the best of them."""

import dataclasses

import numpy as np
import pytest

from kt.models import best_lr, fitting, gain, gpcm, references, simulate
from kt.models.data import Data
from kt.models.evaluate import evaluate
from kt.models.gain import Gain
from kt.models.run import Options
from kt.models.train import configure, train


def learners(count, seed):
    """Students who learn, 20 answers each to 6 items of two categories."""
    drawn = simulate.learning(
        students=count, items=6, categories=2, seed=seed, answers=(20, 20)
    ).students
    return Data(
        students=tuple(f"s{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * 20,
        items=np.concatenate([items for items, _ in drawn]),
        responses=np.concatenate([given for _, given in drawn]),
        folds=np.full(count, -2),
        names=tuple("abcdef"),
        source="simulated",
    )


@pytest.fixture(scope="module")
def trained():
    settings = gpcm.SIZES["small"]
    return train(
        gpcm, "gpcm", learners(40, 1), learners(20, 2), settings=settings, options=Options(epochs=1)
    )


def test_a_model_trained_in_steps_has_all_references_beside_it(trained):
    summary = trained.summary()
    assert list(summary["references"]) == ["marginal", "irt", "pfa", "best_lr"]
    for scores in summary["references"].values():
        assert list(scores) == ["auc", "nll", "accuracy", "brier", "ece"]
    least = min(summary["references"], key=lambda name: summary["references"][name]["nll"])
    found = gain.of(summary)
    assert (found.metric, found.over) == ("nll", least)
    assert found.value == pytest.approx(summary["references"][least]["nll"] - summary["nll"])
    assert found.low < found.value < found.high


def test_a_family_that_is_fitted_has_none():
    done = train(best_lr, "best_lr", learners(40, 1), learners(20, 2))
    assert done.references is None
    assert len(done.history) == 1
    assert gain.of(done.summary()) is None


def test_over_itself_the_gain_is_nothing():
    data, held_out = learners(40, 1), learners(20, 2)
    config, signature = configure(best_lr, data, {})
    model = fitting.fit(best_lr, config, signature, data)
    scores = evaluate(best_lr, model, signature, held_out)
    answered = {"best_lr": references.answer(best_lr, signature, data, held_out)}
    found = references.gain_over(answered, scores)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.is_sure


def test_of_a_score_where_less_is_better_less_is_a_gain(trained):
    held_out = learners(20, 2)
    good = references.answer(best_lr, trained.signature, learners(40, 1), held_out)
    half = np.full_like(good.probabilities, 0.5)
    coin = dataclasses.replace(good, probabilities=half)
    better = dataclasses.replace(trained.scores, metric="nll", predicted=good)
    assert references.gain_over({"coin": coin}, better).is_sure
    worse = dataclasses.replace(trained.scores, metric="nll", predicted=coin)
    assert references.gain_over({"best_lr": good}, worse).high < 0


def test_what_is_said_of_a_gain():
    up = Gain(metric="auc", over="best_lr", value=0.031, low=0.024, high=0.038)
    down = Gain(metric="nll", over="irt", value=-0.02, low=-0.03, high=-0.01)
    assert str(up) == "auc better by 0.0310 [0.0240, 0.0380] than best_lr"
    assert str(down) == "nll worse by 0.0200 [0.0100, 0.0300] than irt"
    assert up.is_sure
    assert not down.is_sure


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"gain": None},
        {"gain": {"metric": "auc"}},
        {"gain": {"metric": "auc", "over": "\x1b[2J", "value": 1, "low": 1, "high": 1}},
        {"gain": {"metric": "auc", "over": "irt", "value": "nan", "low": 1, "high": 1}},
    ],
)
def test_what_is_no_gain_is_not_told(scores):
    assert gain.of(scores) is None
