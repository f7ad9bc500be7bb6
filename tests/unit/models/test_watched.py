"""What monitoring sees of requests and their answers, form by form."""

from typing import Any

import numpy as np
import pytest

from kt.models import tensors, tokens, tracing, vectors
from kt.models.family import FEATURES
from kt.stats.scored import Scores, nothing


def tracing_signature(categories: int = 2) -> tracing.Signature:
    return tracing.Signature(items=("19", "20", "21"), categories=categories, window=9)


def test_knowledge_tracing_tells_how_much_and_how_well_was_answered() -> None:
    request = tracing.Request(
        answers=[{"item": "19", "response": 1}, {"item": "20", "response": 2}],
        items=["20", "21", "nine", "20"],
    )
    found = tracing.features(request, tracing_signature(3))
    assert found == {"answers": 2, "asked": 4, "unknown": 0.25, "right": 0.75}


def test_a_student_who_has_answered_nothing_was_not_right_to_any_degree() -> None:
    request = tracing.Request(answers=[], items=["20"])
    found = tracing.features(request, tracing_signature())
    assert found == {"answers": 0, "asked": 1, "unknown": 0.0}


def test_only_the_newest_answers_are_looked_at() -> None:
    old, new = [{"item": "19", "response": 0}] * 100, [{"item": "19", "response": 1}] * 50
    request = tracing.Request(answers=[*old, *new], items=["20"])
    assert tracing.features(request, tracing_signature())["right"] == 1.0


@pytest.mark.parametrize(
    ("p", "scores"),
    [
        ([[0.3, 0.7], [0.6, 0.4]], Scores("probability", [0.7, 0.4])),
        ([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], Scores("category", [0.5, 0.8], [1, 2])),
    ],
)
def test_two_categories_are_a_probability_more_are_the_likeliest(
    p: list[list[float]], scores: Scores
) -> None:
    signature = tracing_signature(len(p[0]))
    request = tracing.Request(answers=[], items=["20", "21"])
    (predictions,) = tracing.answer({"probabilities": np.array([p])}, [request], signature)
    assert tracing.scored(predictions, signature) == scores


def test_labels_are_scored_as_categories_are() -> None:
    signature = tokens.Signature(tokens=("cheap", "watch"), labels=("a", "b", "c"), window=9)
    outputs = {"probabilities": np.array([[0.25, 0.25, 0.5]])}
    request = tokens.Request(tokens=["cheap", "cheap", "offer", "cheap"])
    (predictions,) = tokens.answer(outputs, [request], signature)
    assert tokens.scored(predictions, signature) == Scores("category", [0.5], [2])
    assert tokens.features(request, signature) == {"tokens": 4, "unknown": 0.25}
    assert tokens.features(tokens.Request(tokens=[]), signature) == {"tokens": 0}


def test_a_vector_has_no_score() -> None:
    assert not hasattr(vectors, "scored")
    request = vectors.Request(vectors=[[9.0, 9.0], [1.0, 2.0]])
    signature = vectors.Signature(dimension=2, window=4)
    assert vectors.features(request, signature) == {"vectors": 2, "mean": 1.5}


@pytest.mark.parametrize(
    ("data", "scores"),
    [
        ([0.25], Scores("number", [0.25])),
        ([[[3]], [True]], Scores("number", [3.0, 1.0])),
        ([[1.0, 2.0]], nothing(1)),
        ([0.25, [[1.0], [2.0]]], nothing(2)),
        ([[]], nothing(1)),
    ],
)
def test_outputs_of_one_element_are_numbers(data: list[Any], scores: Scores) -> None:
    predictions = [{"output": "y", "data": each} for each in data]
    assert tensors.scored(predictions, tensors.Signature(inputs=(), outputs=("y",))) == scores


@pytest.mark.parametrize(
    ("value", "mean"),
    [
        (2.5, 2.5),
        ([1, 2, 3], 2.0),
        ([[1.0, 2.0], [3.0, 6.0]], 3.0),
        ([[True], [False]], 0.5),
        ([], None),
        ([[], []], None),
    ],
)
def test_of_an_input_the_mean_is_watched(value: Any, mean: float | None) -> None:
    assert tensors.mean(value) == mean


def test_of_a_large_input_some_elements_are_looked_at_spread_over_it() -> None:
    image = np.zeros((3, 200, 200))
    image[:, 100:] = 1.0
    assert tensors.mean(image.tolist()) == pytest.approx(0.5, abs=0.05)


def test_of_many_inputs_the_first_are_watched() -> None:
    names = [f"x{n}" for n in range(2 * FEATURES)]
    inputs = tuple(tensors.Tensor(name=name, dtype="float32", axes=()) for name in names)
    signature = tensors.Signature(inputs=inputs, outputs=("y",))
    request = tensors.Request(inputs=dict.fromkeys(names, 1.0))
    assert list(tensors.features(request, signature)) == names[:FEATURES]
