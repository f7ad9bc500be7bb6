"""A prediction as monitoring sees it: one number, and what an outcome says about it. Pure.

kind         value                          category           an outcome
probability  P(positive), in [0, 1]         1 from 0.5 on      0 or 1
category     the likeliest's probability    the likeliest      a category
number       the number                     -                  a number
none         -                              -                  0 or 1: was it right
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

Kind = Literal["probability", "category", "number", "none"]

CATEGORIES = 2**32  # a prediction id has four bytes for one


class Scored(NamedTuple):
    kind: Kind
    value: float = 0.0
    category: int = 0


NOTHING = Scored("none")


class Scores(NamedTuple):
    """The predictions of one answer, in columns: a hundred cost little more than one.

    values: one a prediction, 0 where there is nothing to tell. categories: as many, of the kind category.
    """

    kind: Kind
    values: Sequence[float]
    categories: Sequence[int] = ()


@lru_cache(128)
def nothing(count: int) -> Scores:
    """So many predictions of which nothing is known."""
    return Scores("none", (0.0,) * count)


def binary(p: float) -> Scored:
    """p: the probability of the positive."""
    return Scored("probability", p, 1 if p >= 0.5 else 0)


def likeliest(category: int, p: float) -> Scored:
    """p: its probability. Nothing where there are too many categories to tell of."""
    return Scored("category", p, category) if category < CATEGORIES else NOTHING


def right(scored: Scored, outcome: float, within: float = 0.0) -> bool:
    """Whether the prediction came true. within: how far off a number may be."""
    match scored.kind:
        case "number":
            return abs(outcome - scored.value) <= within
        case "none":
            return outcome == 1
        case _:
            return scored.category == outcome


def error(scored: Scored, outcome: float) -> float:
    """How far off it was: of a number the distance, else the squared error of its probability
    (the Brier score's part); of what has neither, whether it was wrong."""
    match scored.kind:
        case "number":
            return abs(outcome - scored.value)
        case "probability":
            return (outcome - scored.value) ** 2
        case "category":
            return ((scored.category == outcome) - scored.value) ** 2
        case "none":
            return float(outcome != 1)
