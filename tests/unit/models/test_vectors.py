"""The form of next-vector prediction: what a request may be, and what becomes of it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from kt.errors import Invalid
from kt.models import vectors
from kt.models.vectors import Request, Signature

SIGNATURE = Signature(dimension=2, window=3)


def request(given, **more):
    return Request.model_validate({"vectors": given, **more})


def test_a_document_may_be_a_number():
    assert request([[1, 0.5]], document=12).document == "12"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ("vectors",)),
        ({"vectors": []}, ("vectors",)),
        ({"vectors": [[0.1, 0.2]], "vector": 1}, ("vector",)),
        ({"vectors": [0.1, 0.2]}, ("vectors", 0)),
        ({"vectors": [[0.1, "0.2"]]}, ("vectors", 0, 1)),
        ({"vectors": [[0.1, True]]}, ("vectors", 0, 1)),
        ({"vectors": [[0.1, None]]}, ("vectors", 0, 1)),
        ({"vectors": [[0.0] * 10_001]}, ("vectors", 0)),
    ],
)
def test_what_does_not_belong_is_named(body, field):
    with pytest.raises(ValidationError) as caught:
        Request.model_validate(body)
    assert caught.value.errors()[0]["loc"] == field


def test_collate_pads_on_the_right_and_takes_the_last_of_a_long_document():
    found = vectors.collate([request([[1, 2]]), request([[n, 0] for n in range(5)])], SIGNATURE)
    assert found["lengths"].tolist() == [1, 3]
    assert found["vectors"].tolist() == [[[1, 2], [0, 0], [0, 0]], [[2, 0], [3, 0], [4, 0]]]
    assert (found["vectors"].dtype, found["lengths"].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([1.0], "has 1 numbers, this model takes vectors of 2"),
        ([1.0, 1e300], "no float32"),
        ([1.0, float("nan")], "no float32"),
        ([float("inf"), 0.0], "no float32"),
    ],
)
@pytest.mark.parametrize("before", [1, 7])
def test_a_vector_that_does_not_fit_is_named_by_its_place(wrong, says, before):
    asked = request([[1.0, 2.0]] * before + [wrong, [1.0, 2.0]])
    with pytest.raises(Invalid, match=says) as caught:
        vectors.collate([request([[1.0, 0.0]]), asked], SIGNATURE)
    assert caught.value.where == f"vectors.{before}"


def test_what_the_window_leaves_out_is_not_looked_at():
    assert vectors.collate([request([[1.0], *[[1.0, 2.0]] * 3])], SIGNATURE)["lengths"] == [3]


def test_an_answer_is_one_vector_ready_for_json():
    outputs = {"vector": np.array([[0.5, -1]], np.float32)}
    assert json.loads(json.dumps(vectors.answer(outputs, [request([[1, 2]])], SIGNATURE))) == [
        [{"vector": [0.5, -1.0]}]
    ]


def test_examples_go_from_one_vector_to_a_full_window():
    found = vectors.example(SIGNATURE, np.random.default_rng(0), 3)
    assert [len(each.vectors) for each in found] == [1, 2, 3]
    assert vectors.collate(found, SIGNATURE)["vectors"].shape == (3, 3, 2)


def test_what_gates_ask_differs_in_direction_or_beside_the_point():
    for one, other in vectors.unlike(SIGNATURE, np.random.default_rng(0)):
        np.testing.assert_array_equal(np.array(one.vectors), -np.array(other.vectors))
    for one, other in vectors.alike(SIGNATURE, np.random.default_rng(0)):
        a, b = vectors.collate([one, other], SIGNATURE)["vectors"]
        np.testing.assert_array_equal(2 * a, b)


def test_another_dimension_is_narrower_and_another_window_is_not():
    assert "2" in vectors.narrower(SIGNATURE, Signature(dimension=3, window=3))
    assert not vectors.narrower(SIGNATURE, Signature(dimension=2, window=1))


@pytest.mark.parametrize("given", [[[1.0, 2.0]], [[[1.0, 2.0]]]])
def test_tensors_become_the_fields_of_a_request(given):
    assert vectors.fields({"vectors": given}, SIGNATURE) == {"vectors": [[1.0, 2.0]]}
    takes, gives = vectors.ports(SIGNATURE)
    assert (takes[0].name, takes[0].shape) == ("vectors", (-1, 2))
    made = vectors.tensors([{"vector": [0.5, 0.5]}])
    assert {port.name for port in gives} == made.keys()
    assert (made["vector"].shape, made["vector"].dtype) == ((1, 2), np.float32)


@pytest.mark.parametrize("given", [{}, {"vectors": 3}, {"vectors": [1.0]}, {"vectors": [], "x": 1}])
def test_other_tensors_are_refused(given):
    with pytest.raises(Invalid):
        vectors.fields(given, SIGNATURE)


def test_the_form_needs_no_torch():
    code = "import sys, kt.models.vectors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
