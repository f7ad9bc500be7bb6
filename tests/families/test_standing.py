"""What every family that predicts answers expects of students now is what the predictor would answer them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kt import plugins
from kt.errors import Invalid
from kt.models import answers, tracing
from kt.models.calibrate import Temperature
from kt.models.data import Data
from kt.models.family import is_trainable
from kt.registry import load
from kt.registry.load import Loaded
from kt.registry.record import Spec

SEQUENCES = [
    name
    for name in plugins.names("models")
    if is_trainable(load.family(Path(), name)) and load.family(Path(), name).FORM is tracing
]
ITEMS = 6
WINDOW = 12
LENGTHS = [1, 5, WINDOW, 2 * WINDOW + 3]


@pytest.fixture(params=SEQUENCES)
def family(request, tmp_path):
    return load.family(tmp_path, request.param)


@pytest.fixture(params=[2, 4], ids=["binary", "polytomous"])
def loaded(family, request):
    """A version of few items and of another vocabulary than the data, calibrated."""
    torch.manual_seed(1)
    K = request.param
    config = family.Config(
        items=ITEMS, categories=K, window=WINDOW, **family.SIZES.get("small", {})
    )
    module = family.Model(config)
    with torch.no_grad():  # away from the constructor's zeros
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    calibration = Temperature(temperature=1.7) if K > 2 else None
    signature = family.signature(config).model_copy(update={"calibration": calibration})
    spec = Spec(family=family.__name__, config={}, form="kt.models.tracing", signature={})
    return Loaded(spec, family, tracing, signature, module.requires_grad_(False).eval())


@pytest.fixture
def data(loaded):
    rng = np.random.default_rng(2)
    E = sum(LENGTHS)
    return Data(
        students=tuple("abcd"),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        items=rng.integers(ITEMS + 1, size=E),
        responses=rng.integers(loaded.signature.categories, size=E),
        folds=np.full(4, -2),
        names=(*loaded.signature.items[::-1], "new"),
    )


def answered(loaded, data, items):
    """(L, M) what a client is told, of the highest response."""
    requests = []
    for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        past = [
            {"item": data.names[data.items[e]], "response": int(data.responses[e])}
            for e in range(begin, end)
        ]
        requests.append(tracing.Request(answers=past, items=items))
    outputs = loaded.run(tracing.collate(requests, loaded.signature))
    told = tracing.answer(outputs, requests, loaded.signature)
    top = loaded.signature.categories - 1
    return np.array([[one["expected"] / top for one in each] for each in told])


def test_it_is_what_the_predictor_answers(loaded, data, monkeypatch):
    items = [*loaded.signature.items[1:4], "unheard of"]
    expected = answered(loaded, data, items)
    assert expected.shape == (4, 4)
    found = answers.standing(loaded.run, loaded.signature, data, items)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # in parts of two items and two students
    monkeypatch.setattr(answers, "MAX_ITEMS", 2)
    monkeypatch.setattr(answers, "STANDING_AT_ONCE", 2)
    parts = answers.standing(loaded.run, loaded.signature, data, items)
    np.testing.assert_allclose(parts, expected, atol=1e-5)


def test_an_answer_that_is_no_probability_is_said(data, loaded):
    def broken(arrays):
        return {"probabilities": np.full((*arrays["asked"].shape, 2), np.nan)}

    signature = loaded.signature.model_copy(update={"categories": 2, "calibration": None})
    data.responses[:] = 1
    with pytest.raises(Invalid, match="probabilities is not finite"):
        answers.standing(broken, signature, data, ["a"])
