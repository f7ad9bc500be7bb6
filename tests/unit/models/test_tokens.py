"""The form of classification: what a request may be, and what becomes of it."""

import numpy as np
import pytest
from pydantic import ValidationError

from kt.errors import Invalid
from kt.models import tokens
from kt.models.calibrate import Platt
from kt.models.tokens import Request, Signature

SIGNATURE = Signature(tokens=("a", "7"), labels=("no", "yes"), window=3)


def test_tokens_become_rows_padded_on_the_right_and_cut_to_the_window():
    requests = [Request(tokens=given) for given in (["7", "new"], [], ["a", "a", 7, "7"])]
    arrays = tokens.collate(requests, SIGNATURE)
    assert arrays["tokens"].tolist() == [[3, 1, 0], [0, 0, 0], [2, 2, 3]]
    assert arrays["lengths"].tolist() == [2, 0, 3]


def test_nothing_but_empty_units_is_still_a_batch():
    assert tokens.collate([Request(tokens=[])], SIGNATURE)["tokens"].tolist() == [[0]]


def test_an_answer_is_the_likeliest_label_and_all_that_the_family_says():
    outputs = {
        "probabilities": np.array([[0.25, 0.75], [0.5, 0.5]]),
        "uncertainty": np.array([0.1, 0.2]),
    }
    said = tokens.answer(outputs, [Request(tokens=[])] * 2, SIGNATURE)
    assert said == [
        [{"label": "yes", "probabilities": [0.25, 0.75], "confidence": 0.75, "uncertainty": 0.1}],
        [{"label": "no", "probabilities": [0.5, 0.5], "confidence": 0.5, "uncertainty": 0.2}],
    ]


def test_an_answer_is_calibrated_by_the_signature():
    signature = SIGNATURE.model_copy(update={"calibration": Platt(a=0, b=0)})
    outputs = {"probabilities": np.array([[0.1, 0.9]])}
    assert tokens.answer(outputs, [Request(tokens=[])], signature)[0][0]["confidence"] == 0.5
    with pytest.raises(ValidationError, match="not for 3 labels"):
        Signature(tokens=("a",), labels=("x", "y", "z"), window=1, calibration=Platt(a=0, b=0))


@pytest.mark.parametrize(
    ("new", "lacks"),
    [
        ({"labels": ("no", "maybe")}, "the label yes"),
        ({"labels": ("on", "off")}, "2 labels (no, ...)"),
        ({"tokens": ("a",)}, "the token 7"),
        ({"tokens": ("7", "a", "b"), "labels": ("maybe", "no", "yes")}, ""),
    ],
)
def test_what_a_newer_version_must_know(new, lacks):
    assert lacks in tokens.narrower(SIGNATURE, SIGNATURE.model_copy(update=new))
    assert bool(lacks) == bool(tokens.narrower(SIGNATURE, SIGNATURE.model_copy(update=new)))


def test_examples_are_of_every_length_and_of_known_tokens():
    requests = tokens.example(SIGNATURE, np.random.default_rng(0), 4)
    assert [len(request.tokens) for request in requests] == [0, 1, 2, 3]
    assert {token for request in requests for token in request.tokens} <= {"a", "7"}


def test_a_client_of_tensors_sends_the_tokens_and_gets_the_answer_in_tensors():
    takes, gives = tokens.ports(SIGNATURE)
    assert [port.name for port in takes] == ["tokens"]
    assert tokens.fields({"tokens": [["a", "7"]]}, SIGNATURE) == {"tokens": ["a", "7"]}
    with pytest.raises(Invalid, match="no such input"):
        tokens.fields({"text": ["a"]}, SIGNATURE)
    said = tokens.answer(
        {"probabilities": np.array([[0.25, 0.75]])}, [Request(tokens=[])], SIGNATURE
    )
    arrays = tokens.tensors(said[0])
    assert arrays["label"].tolist() == ["yes"]
    for port in gives:
        assert arrays[port.name].shape == port.shape
