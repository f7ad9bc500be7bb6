"""The form of knowledge tracing: what a request may be, and what becomes of it."""

import base64
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from kt.errors import Invalid
from kt.models import tracing
from kt.models.calibrate import Platt
from kt.models.tracing import Request, Signature

SIGNATURE = Signature(items=("a", "7", "c"), categories=3, window=4)


def request(answers=(), items=("a",), **more):
    return Request.model_validate(
        {"answers": [{"item": i, "response": r} for i, r in answers], "items": list(items), **more}
    )


def handed_in(data):
    """A state as a predictor would have to give it for these bytes."""
    return base64.urlsafe_b64encode(tracing.checked(data)).decode()


def test_a_state_stands_for_the_answers_before():
    whole = [("a", 0), ("never seen", 2), ("7", 1), ("ü", 2), ("c", 1), ("a", 2)]
    state = tracing.state(request(whole[:4], state=True), SIGNATURE.window)
    resumed = request(whole[4:], state=state)
    assert resumed == request(whole, state=True)
    again = tracing.state(resumed, SIGNATURE.window)
    assert len(base64.urlsafe_b64decode(again)) < 8 + 20 * SIGNATURE.window
    arrays = [tracing.collate([one], SIGNATURE) for one in (request(whole), request(state=again))]
    for name, array in arrays[0].items():
        assert np.array_equal(arrays[1][name], array)


def test_a_state_of_no_answers_is_one():
    assert (
        request([("a", 1)], state=tracing.state(request(), 4)).answers
        == request([("a", 1)]).answers
    )


def test_a_request_without_a_state_does_not_mention_it():
    assert "state" not in request().model_dump()


@pytest.mark.parametrize(
    "state",
    [
        "",
        "x",
        "ü",
        "AAAA",
        "=" * 100,
        3,
        None,
        [],
        [{"item": "a", "response": 1}],
        {},
        tracing.state(request([("a", 1)]), 4)[:-4],
        tracing.state(request([("a", 1)]), 4).swapcase(),
        handed_in(b""),
        handed_in(b"\xff"),
        handed_in(b"[" * 100_000),
        handed_in(b'[["a"], [1, 2]]'),
        handed_in(b'[["a"], ["1"]]'),
        handed_in(b'[["a"], [true]]'),
        handed_in(b"[[3], [1]]"),
        handed_in(b'[["\\ud800"], [1]]'),
        handed_in(b'[["a"], [NaN]]'),
        handed_in(b'[["a"], [1.5]]'),
        handed_in(b'[["a"], [1], []]'),
        handed_in(b'{"items": [], "responses": []}'),
        handed_in(b"[[" + b'"a",' * 10_000 + b'"a"],[' + b"1," * 10_000 + b"1]]"),
    ],
    ids=lambda state: repr(state)[:20],
)
def test_what_is_no_state_is_one_clear_error(state):
    with pytest.raises(ValidationError) as caught:
        request(state=state)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("state",)
    assert problem["msg"].startswith("Is no state that a predictor gave: send the whole history")


def test_a_state_s_answers_are_looked_at_like_others():
    with pytest.raises(Invalid) as caught:
        tracing.collate([request(state=handed_in(b'[["a"],[3]]'))], SIGNATURE)
    assert caught.value.where == "answers.0.response"


def test_numbers_are_names():
    found = request([(7, 1)], [7], student_id=12)
    assert (found.student_id, found.answers[0]["item"], found.items) == ("12", "7", ["7"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answers": []}, ("items",)),
        ({"items": ["a"]}, ("answers",)),
        ({"answers": [], "items": []}, ("items",)),
        ({"answers": [], "items": ["a"] * 1001}, ("items",)),
        ({"answers": [], "items": ["a"], "itmes": 1}, ("itmes",)),
        ({"answers": [{"item": "a"}], "items": ["a"]}, ("answers", 0, "response")),
        ({"answers": [{"item": "a", "response": "1"}], "items": ["a"]}, ("answers", 0, "response")),
        (
            {"answers": [{"item": "a", "response": True}], "items": ["a"]},
            ("answers", 0, "response"),
        ),
        ({"answers": [{"item": None, "response": 1}], "items": ["a"]}, ("answers", 0, "item")),
        ({"answers": [{"item": "a", "response": 1, "x": 0}], "items": ["a"]}, ("answers", 0, "x")),
    ],
)
def test_what_does_not_belong_is_named(body, field):
    with pytest.raises(ValidationError) as caught:
        Request.model_validate(body)
    assert caught.value.errors()[0]["loc"] == field


def test_collate_pads_on_the_right():
    arrays = tracing.collate([request([("a", 0), ("c", 2)], ["7", "c"]), request()], SIGNATURE)
    assert {key: array.tolist() for key, array in arrays.items()} == {
        "items": [[2, 4], [0, 0]],
        "responses": [[0, 2], [0, 0]],
        "lengths": [2, 0],
        "asked": [[3, 4], [2, 0]],
    }
    assert all(array.dtype == np.int64 for array in arrays.values())


def test_an_empty_history_has_one_step_of_padding():
    assert tracing.collate([request()], SIGNATURE)["items"].tolist() == [[0]]


def test_the_last_answers_of_a_long_history_are_used():
    arrays = tracing.collate([request([("a", 0)] * 3 + [("c", 1)] * 4)], SIGNATURE)
    assert arrays["items"].tolist() == [[4, 4, 4, 4]]


def test_an_unknown_item_is_not_padding():
    arrays = tracing.collate([request([("new", 0)], ["new"])], SIGNATURE)
    assert arrays["items"].tolist() == arrays["asked"].tolist() == [[tracing.UNKNOWN]]


@pytest.mark.parametrize("response", [3, -1, 10**30])
@pytest.mark.parametrize("before", [1, 9])
def test_a_response_that_is_no_category_is_named(response, before):
    answers = [("a", 0)] * before + [("c", response), ("a", 0)]
    with pytest.raises(Invalid, match=r"0 to 2") as caught:
        tracing.collate([request(answers)], SIGNATURE)
    assert caught.value.where == f"answers.{before}.response"


def test_answer_drops_the_padding_and_keeps_the_order():
    requests = [request(items=["c", "a"]), request(items=["7"])]
    p = np.array([[[0.2, 0.3, 0.5], [1, 0, 0]], [[0, 0.5, 0.5], [0.3, 0.3, 0.4]]])
    outputs = {"probabilities": p, "ability": np.array([[0.1, 0.2], [0.3, 9]])}
    first, second = tracing.answer(outputs, requests, SIGNATURE)
    assert [prediction["item"] for prediction in first] == ["c", "a"]
    assert first[0] == {
        "item": "c",
        "probabilities": [0.2, 0.3, 0.5],
        "expected": pytest.approx(1.3),
        "confidence": 0.5,
        "ability": 0.1,
    }
    assert [prediction["ability"] for prediction in second] == [0.3]


def test_examples_go_from_no_history_to_a_full_window():
    found = tracing.example(SIGNATURE, np.random.default_rng(0), 3)
    assert [len(example.answers) for example in found] == [0, 2, 4]
    tracing.collate(found, SIGNATURE)


def test_the_form_needs_no_torch():
    code = "import sys, kt.models.tracing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_request_and_its_answer_can_be_said_in_tensors():
    given = {"items": ["a", "7"], "responses": [0, 2], "asked": ["c"]}
    assert tracing.fields(given, SIGNATURE) == {
        "answers": [{"item": "a", "response": 0}, {"item": "7", "response": 2}],
        "items": ["c"],
    }
    assert tracing.fields({"asked": [["c"]]}, SIGNATURE) == {"answers": [], "items": ["c"]}
    p = np.array([[[0.25, 0.25, 0.5]]], np.float32)
    said = tracing.answer({"probabilities": p}, [request(items=["c"])], SIGNATURE)[0]
    found = tracing.tensors(said)
    for port in tracing.ports(SIGNATURE)[1]:
        assert len(port.shape) == found[port.name].ndim
        assert port.dtype in ("text", str(found[port.name].dtype))
    assert found["item"].tolist() == ["c"]
    np.testing.assert_array_equal(found["probabilities"], p[0])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"asked": ["a"], "history": ["a"]}, "inputs.history"),
        ({"asked": ["a"], "items": ["a"]}, "inputs.responses"),
        ({"asked": [["a"], ["b"]]}, "inputs.asked"),
        ({"asked": 3}, "inputs.asked"),
    ],
)
def test_tensors_that_are_no_request_are_named(given, field):
    with pytest.raises(Invalid) as caught:
        tracing.fields(given, SIGNATURE)
    assert caught.value.where == field


def test_an_answer_is_calibrated_by_the_signature():
    signature = Signature(items=("a",), categories=2, window=5, calibration=Platt(a=0, b=0))
    assert Signature.model_validate_json(signature.model_dump_json()) == signature
    request = tracing.Request(answers=[], items=["a"])
    outputs = {"probabilities": np.array([[[0.1, 0.9]]], np.float32)}
    ((said,),) = tracing.answer(outputs, [request], signature)
    assert said["probabilities"] == [0.5, 0.5]
    assert said["expected"] == said["confidence"] == 0.5


def test_a_signature_without_calibration_is_written_as_it_was():
    assert "calibration" not in Signature(items=("a",), categories=2, window=5).model_dump()


def test_a_calibration_of_two_categories_does_not_fit_four():
    with pytest.raises(ValidationError, match="not for 4 categories"):
        Signature(items=("a",), categories=4, window=5, calibration=Platt(a=-1, b=0))
