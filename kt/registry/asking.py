"""A loaded version asked as a client asks it, and how far two of its predictions lie apart: what gates compare."""

import math
from collections.abc import Sequence
from typing import Any

from kt.registry.load import Loaded


def ask(loaded: Loaded, requests: Sequence[Any]) -> list[list[dict[str, Any]]]:
    """Each request's predictions, all answered by one run of the model."""
    arrays = loaded.form.collate(requests, loaded.signature)
    answers: list[list[dict[str, Any]]] = loaded.form.answer(
        loaded.run(arrays), requests, loaded.signature
    )
    return answers


def apart(one: Any, other: Any) -> float:
    """The largest difference of two numbers that stand in the same place, relative where they are large.

    Of lists of unequal length the rest is padding. Text says nothing.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return max((apart(one[key], other[key]) for key in one if key in other), default=0.0)
    if isinstance(one, list) and isinstance(other, list):
        return max(map(apart, one, other), default=0.0)
    if isinstance(one, int | float) and isinstance(other, int | float) and one != other:
        gap = abs(one - other) / max(1.0, abs(one))
        return math.inf if math.isnan(gap) and not (math.isnan(one) and math.isnan(other)) else gap
    return 0.0
