"""What a client may tell of predictions, and what is refused, by its field."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.errors import Invalid
from kt.stats.scored import Kind, Scores
from kt.store import ids, outcomes, secret
from kt.store.ids import Ids, Unreadable
from kt.store.secret import Secret

SIGNER = Ids(Secret(keys=(secret.master(1, datetime(2026, 1, 12, tzinfo=UTC), bytes),)))


def of(kind: Kind = "probability", count: int = 1) -> str:
    return SIGNER.make(5, 29_000_000, 3, Scores(kind, [0.75] * count, [2] * count))


def told(entry: Any) -> list[tuple[int, float]]:
    return [(one.place, one.value) for one in outcomes.read(SIGNER, entry)]


def refused(entry: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as error:
        outcomes.read(SIGNER, entry)
    return error.value.where, error.value.what


@pytest.mark.parametrize(
    ("kind", "outcome", "value"),
    [
        ("probability", 1, 1.0),
        ("probability", False, 0.0),
        ("none", True, 1.0),
        ("category", 7, 7.0),
        ("category", 2.0, 2.0),
        ("number", -3.5, -3.5),
    ],
)
def test_an_outcome_is_one_of_what_was_predicted(kind: Kind, outcome: Any, value: float):
    assert told({"prediction_id": of(kind), "outcome": outcome}) == [(0, value)]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("probability", 0.5),
        ("probability", 2),
        ("none", -1),
        ("category", 0.5),
        ("category", -1),
        ("category", 2**32),
        ("number", 1e101),
        ("number", float("nan")),
        ("number", float("inf")),
        ("category", float("nan")),
        ("number", 10**399),
        ("number", "1"),
        ("number", None),
        ("number", {}),
        ("probability", "yes"),
    ],
)
def test_any_other_outcome_is_refused(kind: Kind, outcome: Any):
    assert refused({"prediction_id": of(kind), "outcome": outcome})[0] == "outcome"


def test_of_several_predictions_a_list_tells_those_that_are_known():
    entry = {"prediction_id": of(count=3), "outcome": [1, None, 0]}
    assert told(entry) == [(0, 1.0), (2, 0.0)]
    assert told({"prediction_id": of(count=3), "outcome": [None]}) == []
    assert told({"prediction_id": of(count=3), "outcome": 1, "place": 2}) == [(2, 1.0)]


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"outcome": 1}, "outcome"),  # which of the three?
        ({"outcome": [1, 0, 1, 0]}, "outcome"),
        ({"outcome": [1, "x"]}, "outcome.1"),
        ({"outcome": [1], "place": 0}, "place"),
        ({"outcome": 1, "place": 3}, "place"),
        ({"outcome": 1, "place": -1}, "place"),
        ({"outcome": 1, "place": 1.0}, "place"),
        ({"outcome": 1, "place": True}, "place"),
        ({}, "outcome"),
        ({"outcome": 1, "unit": "s-17"}, "unit"),
    ],
)
def test_what_does_not_fit_the_answer_is_named(entry: dict[str, Any], where: str):
    assert refused({"prediction_id": of(count=3)} | entry)[0] == where


@pytest.mark.parametrize("entry", [1, None, [], "x", {}, {"prediction_id": 3, "outcome": 1}])
def test_what_is_no_entry_is_refused(entry: Any):
    assert refused(entry)[0] in {"", "prediction_id"}


def test_an_id_is_read_first():
    with pytest.raises(Unreadable):
        outcomes.read(SIGNER, {"prediction_id": "x" * 46, "outcome": "nonsense"})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(ids.KINDS), st.integers(1, 3), VALUES, VALUES)
def test_nothing_that_is_sent_is_a_bug(kind: Kind, count: int, outcome: Any, place: Any):
    try:
        found = told({"prediction_id": of(kind, count), "outcome": outcome, "place": place})
    except Invalid:
        return
    assert all(0 <= at < count and abs(value) <= outcomes.LARGEST for at, value in found)
