"""What a version's record keeps of held-out data, for live traffic to be compared with."""

import numpy as np
import pytest

from kt.models import answers, marginal, reference, tracing
from kt.models.calibrate import Outcomes
from kt.models.data import Data
from kt.models.evaluate import evaluate
from kt.models.run import Options
from kt.models.train import train
from kt.registry import checkpoint
from kt.registry.record import Reference
from kt.stats.scores import Histogram


def data(count: int = 60, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * 8,
        items=rng.integers(2, size=count * 8),
        responses=(rng.random(count * 8) < 0.7).astype(np.int64),
        folds=np.full(count, -2),
        names=("a", "b"),
        source="made up",
    )


def test_two_categories_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.35, 0.65], [0.2, 0.8]])
    found = Reference.model_validate(
        reference.summary("test", Outcomes(p, np.array([0, 1, 0, 1])), {})
    )
    assert (found.n, found.accuracy) == (4, 0.75)
    assert found.ece == pytest.approx(
        (0.1 + abs(1.25 - 1) + 0.2) / 4
    )  # bins 0.1, 0.6 with 0.65, 0.8
    alone = Histogram()
    for value in p[:, 1]:
        alone.add(value)
    kept = found.histogram()
    assert kept.counts == alone.counts
    assert kept.sums == pytest.approx(alone.sums)
    assert kept.squares == pytest.approx(alone.squares)


def test_of_more_categories_the_likeliest() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = reference.summary("test", Outcomes(p, np.array([0, 1])), {})
    assert found["accuracy"] == 0.5
    assert Reference.model_validate(found).histogram().counts[80] == 1


def test_requests_are_those_that_would_be_asked() -> None:
    held = data(count=3)
    signature = tracing.Signature(items=("a", "b"), categories=2, window=5)
    found = answers.requests(held, signature, 1_000)
    assert len(found) == 3 * 7  # the first answers are not scored
    last = found[6]
    assert len(last.answers) == 7
    assert last.items == [held.names[held.items[7]]]
    features = tracing.features(last, signature)
    assert features["answers"] == 7
    assert features["right"] == pytest.approx(held.responses[:7].mean())
    assert len(answers.requests(held, signature, 4)) == 4


def test_training_leaves_one_and_it_is_that_of_the_evaluation(tmp_path) -> None:
    out = tmp_path / "model.pt"
    test = data(seed=2)
    trained = train(
        marginal, "marginal", data(), data(seed=1), test=test, out=out, options=Options(epochs=1)
    )
    with checkpoint.opening(out) as (file, source):
        brought = Reference.model_validate(checkpoint.read(file, source, out).reference)
    predicted = evaluate(marginal, trained.model, trained.signature, test).predicted
    again = reference.of("test", answers, tracing, trained.signature, test, predicted)
    assert brought == Reference.model_validate(again)
    assert brought.n == 60 * 7
    assert set(brought.features) == {"answers", "unknown", "right"}  # asked: as clients like
    assert brought.sketch("answers").count == 420
