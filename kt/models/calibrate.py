"""Probabilities made to hold: of answers given with 0.8, eight in ten shall be right.

    temperature   p_k ∝ p_k^(1 / T)                           Guo et al. 2017; of any number of categories
    platt         p = 1 / (1 + exp(a s + b)), s = logit p     Platt 1999; of two
    isotonic      p = a line that never falls, through knots  Zadrozny and Elkan 2002; of two, and many answers

A calibrator is its numbers. They are part of a version's signature, as JSON, and are applied where a form
makes answers of outputs, so that they hold whatever engine ran the model. One is fitted on held-out
answers, judged on others, and kept only if it helps there. No torch here.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kt.stats import calibration
from kt.stats.calibration import Bin

LEAST = (
    1_000  # answers to fit and judge on; a perfect model's error on fewer is as large as most mends
)
MANY = 5_000  # from here on the data say what curve it is
FITTED = 0.7  # the share of the units that it is fitted on
JUDGED_BINS = 10
Method = Literal["auto", "platt", "isotonic", "temperature"]

COLDEST, HOTTEST = 0.05, 20.0  # bounds of a temperature: where all are right there is no best
# of an isotonic one: what it may rise by, for a rise of 1 in the score. Two engines, or a batch and a
# request alone, differ by up to 1e-6 in a score, and their answers then by half of 1e-4
STEEPEST = 50.0
SURE = 1e-6  # probabilities nearer to 0 and 1 have this one's logit


class Calibration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Temperature(Calibration):
    method: Literal["temperature"] = "temperature"
    temperature: Annotated[float, Field(ge=COLDEST, le=HOTTEST)]

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        z = np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny)) / self.temperature
        e = np.exp(z - z.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True))


class Platt(Calibration):
    method: Literal["platt"] = "platt"
    a: float  # below 0 where the model is not upside down
    b: float

    def of(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 - 0.5 * np.tanh((self.a * scores + self.b) / 2))  # never overflows

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        return pair(self.of(logit(probabilities[..., 1])), probabilities.dtype)


class Isotonic(Calibration):
    """Linear between its knots, level outside them."""

    method: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[float, ...], Field(min_length=1)]  # rising
    values: tuple[Annotated[float, Field(ge=0, le=1)], ...]  # never falling

    @model_validator(mode="after")
    def rises(self) -> Self:
        if len(self.scores) != len(self.values):
            raise ValueError("as many values as scores are needed")
        if (np.diff(self.scores) <= 0).any() or (np.diff(self.values) < 0).any():
            raise ValueError("scores must rise and values must not fall")
        return self

    def of(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(scores, self.scores, self.values))

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        return pair(self.of(probabilities[..., 1]), probabilities.dtype)


Calibrator = Annotated[Temperature | Platt | Isotonic, Field(discriminator="method")]


def calibrated(probabilities: np.ndarray, calibrator: Calibrator | None) -> np.ndarray:
    """(..., K) probabilities, as a version with this calibrator gives them."""
    return probabilities if calibrator is None else calibrator.apply(probabilities)


def fits(calibrator: Calibrator | None, categories: int) -> bool:
    """Whether it gives probabilities of so many categories."""
    return calibrator is None or calibrator.method == "temperature" or categories == 2


def logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype(np.float64), SURE, 1 - SURE)
    return np.asarray(np.log(p) - np.log1p(-p))


def pair(p: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The probabilities of two categories, from that of the second."""
    return np.stack([1 - p, p], -1).astype(dtype)


# Fitting.


def temperature(
    log_p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> Temperature:
    """The T with the least mean -log softmax(log_p / T). log_p: (n, K) logits or log probabilities.

    weights: (n,) how often each counts, here and below.
    """
    chosen = log_p[np.arange(len(labels)), labels]

    def nll(log_t: float) -> float:
        z = log_p / math.exp(log_t)
        most = z.max(1)
        total = most + np.log(np.exp(z - most[:, None]).sum(1))
        return float(np.average(total - chosen / math.exp(log_t), weights=weights))

    found = math.exp(least(nll, math.log(COLDEST), math.log(HOTTEST)))
    return Temperature(temperature=min(max(found, COLDEST), HOTTEST))


def least(f: Callable[[float], float], low: float, high: float, steps: int = 50) -> float:
    """Where a function that falls and then rises is least, by golden section."""
    inverse = (math.sqrt(5) - 1) / 2
    a, b = high - inverse * (high - low), low + inverse * (high - low)
    at_a, at_b = f(a), f(b)
    for _ in range(steps):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - inverse * (high - low)
            at_a = f(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + inverse * (high - low)
            at_b = f(b)
    return (low + high) / 2


def platt(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> Platt | None:
    """By Newton's steps on the smoothed targets of Platt (Lin, Lin and Weng 2007); None of one class."""
    weight = np.ones(len(labels)) if weights is None else weights
    positive = float(weight @ (labels == 1))
    negative = float(weight.sum()) - positive
    if not positive or not negative:
        return None
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.stack([scores, np.ones(len(scores))])  # (2, n)

    def loss(w: np.ndarray) -> float:
        f = w @ x
        return float(weight @ (target * f + np.logaddexp(0, -f)))

    w = np.array([0.0, math.log((negative + 1) / (positive + 1))])
    for _ in range(100):
        p = Platt(a=w[0], b=w[1]).of(scores)
        gradient = x @ (weight * (target - p))
        if np.abs(gradient).max() < 1e-8 * weight.sum():
            break
        hessian = (x * (weight * p * (1 - p))) @ x.T + 1e-9 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        before = loss(w)
        while loss(w - size * step) > before and size > 1e-10:
            size /= 2
        w = w - size * step
    return Platt(a=float(w[0]), b=float(w[1]))


def isotonic(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Isotonic:
    """The never falling line through the blocks of pooled adjacent violators, nowhere steeper than STEEPEST.

    A block is one knot, at its mean score (centred isotonic regression, Oron and Flournoy 2017). Were it a
    level from its lowest score to its highest, the riser to the next would be as steep as two scores are
    near: a slope of 40,000 was seen. Where a line through the blocks is too steep still, see `gentle`.
    """
    blocks = pooled(scores, labels, weights)
    return _isotonic(*(np.array([getattr(b, of) for b in blocks]) for of in ("mean", "value")))


def pooled(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> "list[Block]":
    """The answers in blocks whose values rise with their scores: neighbours that violate it are pooled."""
    at, group = np.unique(scores, return_inverse=True)
    weight = np.ones(len(labels)) if weights is None else weights
    right = np.bincount(group, weight * labels).tolist()
    count = np.bincount(group, weight).tolist()
    blocks: list[Block] = []
    for block in map(Block, right, count, at.tolist(), at.tolist(), at.tolist()):
        while blocks and blocks[-1].value >= block.value:
            block = blocks.pop().with_next(block)
        blocks.append(block)
    return blocks


class Block(NamedTuple):
    """Answers that are given one value. right, answers: their labels' sum, and how many. Scores: of theirs."""

    right: float
    answers: float
    lowest: float
    highest: float
    mean: float

    @property
    def value(self) -> float:
        return self.right / self.answers

    def with_next(self, other: "Block") -> "Block":
        answers = self.answers + other.answers
        mean = self.mean + (other.mean - self.mean) * other.answers / answers
        # so that rounding never takes it into a neighbour
        mean = min(max(mean, self.lowest), other.highest)
        return Block(self.right + other.right, answers, self.lowest, other.highest, mean)


def gentle(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The nearest values, by the largest difference, that nowhere rise by more than STEEPEST.

    scores: (n,) rising. values: (n,) never falling. The middle of the highest such line that stays under these
    values and the lowest that stays over them.
    """
    rises = (STEEPEST * np.diff(scores)).tolist()
    low, high = values.tolist(), values.tolist()
    for k, rise in enumerate(rises):
        low[k + 1] = min(low[k + 1], low[k] + rise)
    for k, rise in reversed(list(enumerate(rises))):
        high[k] = max(high[k], high[k + 1] - rise)
    return np.asarray((np.array(low) + np.array(high)) / 2)


# Choosing.


@dataclass(frozen=True)
class Tried:
    """A calibrator, and what it came to on answers that it was not fitted on."""

    calibrator: Temperature | Platt | Isotonic
    fitted_on: int  # answers
    judged_on: int
    before: dict[str, float]
    after: dict[str, float]

    @property
    def helps(self) -> bool:
        """The error alone can be mended by saying less: the Brier score must be lower too."""
        return all(self.after[name] < self.before[name] for name in ("ece", "brier"))

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.calibrator.method,
            "kept": self.helps,
            "fitted_on": self.fitted_on,
            "judged_on": self.judged_on,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True)
class Outcomes:
    """n held-out answers: what was said of them, (n, K) probabilities, and what came true, (n,).

    weights: (n,) how many answers each stands for; one without.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def count(self) -> int:
        return len(self.labels) if self.weights is None else round(float(self.weights.sum()))

    def take(self, places: np.ndarray) -> "Outcomes":
        weights = None if self.weights is None else self.weights[places]
        return Outcomes(self.probabilities[places], self.labels[places], weights)

    def through(self, calibrator: "Calibrator | None") -> "Outcomes":
        return Outcomes(calibrated(self.probabilities, calibrator), self.labels, self.weights)


def attempt(known: Outcomes, ours: np.ndarray, method: Method = "auto") -> Tried | None:
    """The calibrator for what was said, fitted on `ours` (n, a mask) and judged on the others.

    None where there are too few answers, or all they say is one category.
    """
    if known.count < LEAST or ours.all() or not ours.any():
        return None
    fitted, judged = known.take(ours), known.take(~ours)
    found = fit(fitted, method, many=known.count >= MANY)
    if found is None:
        return None
    after = quality(judged.through(found))
    return Tried(found, fitted.count, judged.count, quality(judged), after)


def drawn(units: Sequence[str]) -> np.ndarray:
    """(L,) which units are fitted on: by a hash of the name, so that it is no part of another split."""
    digests = [hashlib.sha256(b"calibrate/" + name.encode()).digest() for name in units]
    chosen = np.zeros(len(units), bool)
    chosen[sorted(range(len(units)), key=digests.__getitem__)[: round(FITTED * len(units))]] = True
    return chosen


def fit(known: Outcomes, method: Method, *, many: bool) -> Temperature | Platt | Isotonic | None:
    """By itself temperature for more than two categories; of two Platt, or isotonic where there are many."""
    p, labels, weights = known.probabilities, known.labels, known.weights
    assert p.shape[1] == 2 or method in ("auto", "temperature")
    if method == "temperature" or p.shape[1] > 2:
        return temperature(np.log(np.maximum(p, 1e-12)), labels, weights)
    score = p[:, 1]
    if method == "platt" or (method == "auto" and not many):
        return platt(logit(score), labels, weights)
    found = isotonic(score, labels, weights)
    # n answers that were all right do not say that the next one is
    bound = 1 / (known.count + 2)
    return found.model_copy(
        update={"values": tuple(np.clip(found.values, bound, 1 - bound).tolist())}
    )


def quality(known: Outcomes) -> dict[str, float]:
    """ece, mce: of the second of two categories, else of the predicted one; brier: of the second of
    two categories, else the sum over all, 0 to 2. Of answers that count one each also adaptive_ece, over
    bins of equal mass, and of more than two categories classwise_ece, the mean over all."""
    p, labels, weights = known.probabilities, known.labels, known.weights
    K = p.shape[1]
    given = np.arange(K) == labels[:, None]
    confidence, came_true = confidence_of(p, labels)
    wide = errors(confidence, came_true, weights)
    found = {"ece": wide.ece, "mce": wide.mce}
    if weights is None:
        found["adaptive_ece"] = calibration.errors(
            calibration.equal_mass(confidence.tolist(), came_true.tolist(), JUDGED_BINS)
        ).ece
    squared = ((p - given) ** 2).sum(1)
    found["brier"] = float(np.average(squared, weights=weights)) / (2 if K == 2 else 1)
    if K > 2 and weights is None:
        each = [errors(p[:, k], given[:, k]).ece for k in range(K)]
        found["classwise_ece"] = math.fsum(each) / K
    return found


def confidence_of(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the probability of the second of two categories, else of the likeliest; whether it came true."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], labels == 1
    return probabilities.max(1), probabilities.argmax(1) == labels


def errors(
    confidence: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None
) -> calibration.Errors:
    edges = np.arange(1, JUDGED_BINS) / JUDGED_BINS
    place = np.searchsorted(edges, confidence, "right")
    weight = np.ones(len(place)) if weights is None else weights
    n, said, came = (
        np.bincount(place, weight * values, JUDGED_BINS).tolist()
        for values in (np.ones(len(place)), confidence, right)
    )
    return calibration.errors(
        Bin(round(count), total, round(hits))
        for count, total, hits in zip(n, said, came, strict=True)
    )


# One after the other.


def composed(
    inner: Calibrator | None, outer: Temperature | Platt | Isotonic
) -> Temperature | Platt | Isotonic | None:
    """One calibrator in place of two: what `outer` makes of what `inner` gives. None where there is none.

    Between the knots of an isotonic one it is a straight line, whichever of the two had them.
    """
    if inner is None:
        return outer
    if inner.method == outer.method == "temperature":
        both = inner.temperature * outer.temperature
        return Temperature(temperature=min(max(both, COLDEST), HOTTEST))
    first, then = _of_two(inner), _of_two(outer)
    if isinstance(first, Isotonic):
        levels = np.array(first.values)
        values = then.apply(pair(levels, levels.dtype))[:, 1]
        return None if (np.diff(values) < 0).any() else _isotonic(np.array(first.scores), values)
    if isinstance(then, Platt):
        return Platt(a=-then.a * first.a, b=then.b - then.a * first.b)
    if first.a >= 0:  # upside down, or says one thing: no score has a place of its own
        return None
    knots = -(logit(np.array(then.scores)) + first.b) / first.a
    return _isotonic(0.5 + 0.5 * np.tanh(knots / 2), np.array(then.values))


def _of_two(calibrator: Temperature | Platt | Isotonic) -> Platt | Isotonic:
    """A temperature of two categories is a slope."""
    if calibrator.method == "temperature":
        return Platt(a=-1 / calibrator.temperature, b=0.0)
    return calibrator


def _isotonic(scores: np.ndarray, values: np.ndarray) -> Isotonic:
    """Of scores that never fall; of equal ones the last."""
    last = np.append(np.diff(scores) > 0, True)
    scores, values = scores[last], gentle(scores[last], values[last])
    return Isotonic(scores=tuple(scores.tolist()), values=tuple(values.tolist()))
