"""What training does about probabilities that do not hold on the validation units."""

from pathlib import Path

import numpy as np
import pytest

from kt.models import gpcm, marginal, references
from kt.models.data import Data
from kt.models.evaluate import evaluate
from kt.models.run import Options
from kt.models.train import train
from kt.registry import checkpoint


def answered(share, count, seed=0, answers=6):
    """Students who answer, by chance alone, this share of two items rightly."""
    rng = np.random.default_rng(seed)
    events = count * answers
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * answers,
        items=rng.integers(2, size=events),
        responses=(rng.random(events) < share).astype(np.int64),
        folds=np.full(count, -2),
        names=("a", "b"),
        source="made up",
    )


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A model of students who were right in nine of ten cases, held out those of six, and its file."""
    out = tmp_path_factory.mktemp("calibration") / "model.pt"
    valid = answered(0.6, 300, seed=1)
    return train(marginal, "marginal", answered(0.9, 100), valid, out=out), valid, out


def test_probabilities_that_do_not_hold_are_calibrated(moved):
    trained, valid, _ = moved
    tried = trained.training["calibration"]
    assert (tried["method"], tried["kept"]) == ("platt", True)
    assert tried["fitted_on"] + tried["judged_on"] == 1_500  # the first answers are not scored
    assert tried["before"]["ece"] == pytest.approx(0.3, abs=0.05)
    assert tried["after"]["ece"] < 0.05
    assert trained.scores.values["ece"] < 0.05
    assert (
        evaluate(marginal, trained.model, trained.signature, valid).values == trained.scores.values
    )
    raw = trained.signature.model_copy(update={"calibration": None})
    assert evaluate(marginal, trained.model, raw, valid).values["ece"] > 0.25


def test_the_calibrator_is_numbers_in_the_checkpoint(moved, tmp_path: Path):
    trained, _, out = moved
    with checkpoint.opening(out) as (file, source):
        held = checkpoint.read(file, source, out)
    assert held.signature["calibration"] == {
        "method": "platt",
        "a": trained.signature.calibration.a,
        "b": trained.signature.calibration.b,
    }
    assert marginal.FORM.Signature.model_validate(held.signature) == trained.signature


def test_few_validation_answers_calibrate_nothing():
    trained = train(marginal, "marginal", answered(0.9, 100), answered(0.6, 199, seed=1))
    assert trained.signature.calibration is None
    assert trained.training["calibration"] is None


def test_a_reference_beside_a_calibrated_model_is_not_calibrated_with_it():
    data, valid = answered(0.9, 100), answered(0.6, 300, seed=1)
    settings = gpcm.SIZES["small"]
    trained = train(gpcm, "gpcm", data, valid, settings=settings, options=Options(epochs=1))
    assert trained.signature.calibration is not None
    again = references.beside(gpcm, trained.scores, trained.signature, data, valid)
    assert again.scores == trained.references.scores
    assert again.scores["marginal"]["ece"] > 0.25
