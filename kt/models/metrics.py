"""How good predictions are: every score a family is judged by, from values alone.

A score is prepared once and then asked under weights of the units (students): all ones give its value,
the counts of a draw with replacement give one replicate of a bootstrap over units. Events of one student
are not independent, so it is students that are drawn, never events.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from kt.compute import each
from kt.config import Compute

BINS = 15  # of the calibration error
RESAMPLES = 500
MANY = 200_000  # predictions; of as many an AUC's interval takes seconds
PARTS = 20  # of their draws, scored side by side

HIGHER_IS_BETTER = {
    "auc": True,
    "nll": False,
    "accuracy": True,
    "brier": False,
    "ece": False,
    "error_auc": True,
    "rps": False,
    "within_one": True,
    "qwk_argmax": True,
    "qwk_mean": True,
    "hit": True,
    "mrr": True,
    "cosine": True,
}


def higher_is_better(name: str) -> bool:
    """Whether more of a score is better; what stands behind an @ or a / (hit@5/10000) are its parameters."""
    return HIGHER_IS_BETTER[re.split("[@/]", name, maxsplit=1)[0]]


BINARY = ("auc", "nll", "accuracy", "brier", "ece")
POLYTOMOUS = ("auc", "nll", "rps", "accuracy", "within_one", "qwk_argmax", "qwk_mean")


Weighted = Callable[[np.ndarray], np.ndarray]  # (R, L) weights of the units -> (R,) scores


class Predicted(Protocol):
    """n predictions about L units, to be scored.

    units: their names, L. unit: (n,) places in them. counts: as of
    `task.Data`. rule: what is scored.
    """

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def unit(self) -> np.ndarray: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def rule(self) -> str: ...

    def prepare(self, name: str) -> Weighted:
        """The score `name` of them, to be asked under weights."""

    def asked_as(self, other: Any) -> bool:
        """Whether the other holds predictions of the very same things."""


@runtime_checkable
class Categorical(Predicted, Protocol):
    """Probabilities (n, K) of categories; outcomes: (n,) those that came true."""

    @property
    def probabilities(self) -> np.ndarray: ...
    @property
    def outcomes(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Events:
    """n predicted answers of L students."""

    students: tuple[str, ...]  # L
    student: np.ndarray  # (n,) places in `students`
    place: np.ndarray  # (n,) how many answers the student gave before
    items: np.ndarray  # (n,) rows of the model's tables
    responses: np.ndarray  # (n,) what was answered
    probabilities: np.ndarray  # (n, K) float64, what was predicted of it

    rule: ClassVar[str] = "answers with at least one before them"

    @property
    def units(self) -> tuple[str, ...]:
        return self.students

    @property
    def unit(self) -> np.ndarray:
        return self.student

    @property
    def counts(self) -> dict[str, int]:
        return {"answers": len(self.student), "students": len(np.unique(self.student))}

    @property
    def outcomes(self) -> np.ndarray:
        return self.responses

    def prepare(self, name: str) -> Weighted:
        return SCORES[name](self)

    def asked_as(self, other: "Events") -> bool:
        return self.students == other.students and all(
            np.array_equal(x, y)
            for x, y in (
                (self.student, other.student),
                (self.place, other.place),
                (self.responses, other.responses),
            )
        )

    def take(self, events: np.ndarray) -> "Events":
        """These events alone (a mask or places); the students stay."""
        parts = (self.student, self.place, self.items, self.responses, self.probabilities)
        return Events(self.students, *(part[events] for part in parts))

    @property
    def expected(self) -> np.ndarray:
        """(n,) the mean response predicted; for two categories the probability of the second."""
        return np.asarray(self.probabilities @ np.arange(self.probabilities.shape[1]))


def names(categories: int) -> tuple[str, ...]:
    """The scores that fit so many categories."""
    return BINARY if categories == 2 else POLYTOMOUS


def score(name: str, predicted: Predicted) -> float:
    """One score over all; not a number where it is undefined (auc of one category)."""
    return float(predicted.prepare(name)(np.ones((1, len(predicted.units))))[0])


def interval(
    name: str, predicted: Predicted, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The middle 95 % of the score over units drawn with replacement."""
    return _middle(predicted.prepare(name)(draws(len(predicted.units), seed, resamples)))


def intervals(
    names: Sequence[str],
    predicted: Predicted,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    how: Compute | None = None,
) -> dict[str, tuple[float, float]]:
    """`interval` of each. how: where the draws are scored, some at a time, of many predictions."""
    if len(predicted.unit) < MANY:
        return {name: interval(name, predicted, seed=seed, resamples=resamples) for name in names}
    parts = np.array_split(draws(len(predicted.units), seed, resamples), PARTS)
    jobs = [(name, predicted, part) for name in names for part in parts]
    found = iter(itertools.starmap(_scored, jobs) if how is None else each(_scored, jobs, how))
    return {name: _middle(np.concatenate(list(itertools.islice(found, PARTS)))) for name in names}


def _scored(name: str, predicted: Predicted, weights: np.ndarray) -> np.ndarray:
    return predicted.prepare(name)(weights)


def standard_error(
    name: str, predicted: Predicted, *, seed: int = 0, resamples: int = RESAMPLES
) -> float:
    """Of the score over units drawn with replacement."""
    values = predicted.prepare(name)(draws(len(predicted.units), seed, resamples))
    return float(values[np.isfinite(values)].std())


@dataclass(frozen=True)
class Difference:
    """b - a of one score, with the middle of it (95 %, or as asked) over units drawn with replacement."""

    value: float
    low: float
    high: float


def difference(
    name: str,
    a: Predicted,
    b: Predicted,
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """How two versions differ on the same data, each draw of units scored by both.

    Paired, so that what makes a student hard to predict for both cancels. Raises ValueError where the
    two did not predict the same.
    """
    if not a.asked_as(b):
        raise ValueError("the two versions were not asked about the same answers")
    drawn = draws(len(a.units), seed, resamples)
    low, high = _middle(b.prepare(name)(drawn) - a.prepare(name)(drawn), level)
    return Difference(score(name, b) - score(name, a), low, high)


def draws(units: int, seed: int, resamples: int) -> np.ndarray:
    """(resamples, units): how often each is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def _middle(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, (0.5 - level / 2, 0.5 + level / 2)).tolist()
    return low, high


def mean(predicted: Predicted, values: np.ndarray) -> Weighted:
    """A score that is the mean of a value (n,) of each prediction."""
    sums = by_unit(predicted, values)
    counts = by_unit(predicted, np.ones(len(predicted.unit)))
    return lambda weights: _ratio(weights @ sums, weights @ counts)


def by_unit(predicted: Predicted, values: np.ndarray) -> np.ndarray:
    """(L,) the sum over each unit's predictions."""
    return np.bincount(predicted.unit, values, len(predicted.units))


def calibration(predicted: Predicted, confidence: np.ndarray, right: np.ndarray) -> Weighted:
    """Mean gap between confidence (n,) and the share of what is right, over 15 equal bins.

    A perfect model's is not 0 but about 0.08 at 200 events and 0.012 at 10,000: never read it without n.
    """
    cell = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = _table(predicted, cell, BINS, confidence - right)
    counts = by_unit(predicted, np.ones(len(confidence)))
    return lambda weights: _ratio(np.abs(weights @ gaps).sum(1), weights @ counts)


def ranking(predicted: Predicted, score: np.ndarray, level: np.ndarray) -> Weighted:
    """Of two that differ in level (n,), whole numbers from 0, how often the higher has the higher score.

    Ties count half. For two levels the area under the ROC curve.
    """
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    begins = (
        np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        if len(ranked)
        else order
    )
    unit, level = predicted.unit[order], level[order]

    def one(weights: np.ndarray) -> float:
        w = weights[unit]
        won = pairs = 0.0
        for k in range(1, int(level.max()) + 1):  # those of level k against all below it
            better = np.add.reduceat(w * (level == k), begins)
            worse = np.add.reduceat(w * (level < k), begins)
            below = worse.cumsum() - worse / 2
            won += float(better @ below)
            pairs += float(better.sum() * worse.sum())
        return won / pairs if pairs else float("nan")

    return lambda weights: (
        np.array([one(row) for row in weights]) if len(order) else np.full(len(weights), np.nan)
    )


def _table(
    predicted: Predicted, cell: np.ndarray, cells: int, values: np.ndarray | None = None
) -> np.ndarray:
    """(L, cells) the sum, by unit and cell, of values (of ones)."""
    L = len(predicted.units)
    return np.bincount(predicted.unit * cells + cell, values, L * cells).reshape(L, cells)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    result = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _of_response(events: Events) -> np.ndarray:
    taken: np.ndarray = np.take_along_axis(events.probabilities, events.responses[:, None], 1)
    return taken[:, 0]


def _nll(events: Events) -> np.ndarray:
    return np.asarray(-np.log(np.maximum(_of_response(events), 1e-12)))


def _accuracy(events: Events) -> np.ndarray:
    return np.asarray(events.probabilities.argmax(1) == events.responses, float)


def _within_one(events: Events) -> np.ndarray:
    return np.asarray(np.abs(events.probabilities.argmax(1) - events.responses) <= 1, float)


def _brier(events: Events) -> np.ndarray:
    """Of two categories: the squared error of the second's probability."""
    return np.asarray((events.probabilities[:, 1] - events.responses) ** 2)


def _rps(events: Events) -> np.ndarray:
    """Ranked probability score: squared error of the cumulative probabilities, over K - 1."""
    K = events.probabilities.shape[1]
    reached = events.responses[:, None] <= np.arange(K - 1)
    return np.asarray(((events.probabilities.cumsum(1)[:, :-1] - reached) ** 2).sum(1) / (K - 1))


def _qwk(decide: Callable[[Events], np.ndarray]) -> Callable[[Events], Weighted]:
    """Quadratic weighted kappa (Cohen 1968) of the decided category and the response."""

    def prepared(events: Events) -> Weighted:
        K = events.probabilities.shape[1]
        confusion = _table(events, events.responses * K + decide(events), K * K)
        apart = (np.arange(K)[:, None] - np.arange(K)) ** 2

        def value(weights: np.ndarray) -> np.ndarray:
            seen = (weights @ confusion).reshape(-1, K, K)
            chance = seen.sum(2)[:, :, None] * seen.sum(1)[:, None, :]
            total = seen.sum((1, 2))
            return 1 - _ratio((apart * seen).sum((1, 2)) * total, (apart * chance).sum((1, 2)))

        return value

    return prepared


SCORES: dict[str, Callable[[Events], Weighted]] = {
    "auc": lambda events: ranking(events, events.expected, events.responses),
    "nll": lambda events: mean(events, _nll(events)),
    "accuracy": lambda events: mean(events, _accuracy(events)),
    "brier": lambda events: mean(events, _brier(events)),
    "ece": lambda events: calibration(events, events.probabilities[:, 1], events.responses),
    "rps": lambda events: mean(events, _rps(events)),
    "within_one": lambda events: mean(events, _within_one(events)),
    "qwk_argmax": _qwk(lambda events: events.probabilities.argmax(1)),
    "qwk_mean": _qwk(lambda events: np.rint(events.expected).astype(int)),
}
