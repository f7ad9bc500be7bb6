"""Item drift: which items have become harder or easier between two periods, apart from who answers.

What a model expects of each answer, from the answers before it, holds abilities. Against that an item's shift
in a period is the δ at which its answers are as expected, in logits:

    P_δ(k) ∝ p_k e^{-kδ}       for right and wrong: logit p - δ; for more categories all steps moved alike

found by Newton's method, with 1 / information as its variance, or that between students where it is more (answers
of one student go together). A drift is the change of δ less the median change over all items, which is
the population's or the model's and no item's:

    z = (δ_2 - δ_1 - median) / sqrt(se_1² + se_2²)

Flags are those of Benjamini and Hochberg (1995), so that of what is flagged one in twenty is false at most. Few
answers flag nothing, whatever an item does: each comes with the smallest drift that would be found.

Who looks again and again while answers come in finds a drift by chance sooner or later. For them p is the inverse
of the e-value of a normal mixture (`sequential.py`), which holds however often one looks: what is known after n
answers differs from what will be known by as much as an average of them does, with the information 1 / error².
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from kt.stats import sequential

FALSE_DISCOVERIES = 0.05  # of those flagged, at most
POWER = 0.8  # with which the smallest detectable drift is found
FEWEST = 30  # answers in each period, for an item to be judged at all
FEWEST_STUDENTS = 10  # who gave them: of fewer nobody knows how they differ
WORTH_FINDING = 0.6  # logits: an item that could hide so much is not called stable
USUAL = 0.5  # logits: the drift that a look among many is sharpest for
PRIOR = 3.0  # standard deviation of δ: keeps an item finite that all answered alike
ITERATIONS = 25  # of Newton's method, at most

Verdict = Literal["drifted", "stable", "unknown"]


@dataclass(frozen=True)
class Shifts:
    """Of I items in one period: δ and its standard error in logits; how many answers told, of how many students.
    (I,) each."""

    shift: np.ndarray
    error: np.ndarray
    answers: np.ndarray
    students: np.ndarray


@dataclass(frozen=True)
class Drift:
    """Of one item, in logits, above zero where it has become harder; None where too few answered."""

    answers: tuple[int, int]  # before, after
    shift: float | None = None
    error: float | None = None
    z: float | None = None
    q: float | None = None  # the false discovery rate at which it is flagged
    smallest: float | None = None  # the drift that is found with POWER
    verdict: Verdict = "unknown"


def shifts(
    expected: np.ndarray, responses: np.ndarray, items: np.ndarray, students: np.ndarray, count: int
) -> Shifts:
    """Of each of `count` items, from E answers.

    expected: (E, K) probabilities that a model gave the categories, from earlier answers.
    responses: (E,) in 0 .. K - 1. items: (E,) in 0 .. count - 1. students: (E,) any whole numbers.
    """
    k = np.arange(expected.shape[1])
    log_p = np.log(np.clip(expected, 1e-12, None))
    delta = np.zeros(count)

    def moments() -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each answer under its item's present δ."""
        z = log_p - delta[items, None] * k
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = p @ k
        return mean, p @ k**2 - mean**2

    for _ in range(ITERATIONS):
        mean, variance = moments()
        gradient = np.bincount(items, mean - responses, count) - delta / PRIOR**2
        information = np.bincount(items, variance, count) + PRIOR**-2
        step = np.clip(gradient / information, -1, 1)
        delta += step
        if np.abs(step).max(initial=0) < 1e-9:
            break
    mean, variance = moments()
    information = np.bincount(items, variance, count) + PRIOR**-2
    between, who = _between(mean - responses, items, students, count)
    between *= who / np.maximum(who - 1, 1)  # as every variance about a mean of its own
    error = np.sqrt(np.maximum(1 / information, between / information**2))
    return Shifts(delta, error, np.bincount(items, minlength=count), who)


def drifts(before: Shifts, after: Shifts, worth_finding: float = WORTH_FINDING) -> list[Drift]:
    """Of each item. worth_finding: the drift that an item must be able to show to be called stable, logits."""
    counts = [(int(a), int(b)) for a, b in zip(before.answers, after.answers, strict=True)]
    enough = np.minimum(before.answers, after.answers) >= FEWEST
    enough &= np.minimum(before.students, after.students) >= FEWEST_STUDENTS
    places = np.flatnonzero(enough)
    found = [Drift(answers) for answers in counts]
    if not len(places):
        return found
    change = (after.shift - before.shift)[places]
    change = change - np.median(change)
    error = np.hypot(before.error, after.error)[places]
    z = change / error
    normal = NormalDist()
    p = np.array([2 * normal.cdf(-abs(value)) for value in z])
    q = false_discovery(p)
    # the first of m items must pass q / m, so this is what one item that drifts alone needs
    needed = normal.inv_cdf(1 - FALSE_DISCOVERIES / (2 * len(places))) + normal.inv_cdf(POWER)
    smallest = needed * error
    for n, place in enumerate(places.tolist()):
        verdict: Verdict = "stable" if smallest[n] <= worth_finding else "unknown"
        found[place] = Drift(
            counts[place],
            float(change[n]),
            float(error[n]),
            float(z[n]),
            float(q[n]),
            float(smallest[n]),
            "drifted" if q[n] <= FALSE_DISCOVERIES else verdict,
        )
    return found


def false_discovery(p: np.ndarray) -> np.ndarray:
    """(m,) for each p-value the least rate at which it is among the discoveries. Benjamini and Hochberg 1995."""
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return out


def false_discovery_of_looks(found: Sequence[Drift]) -> list[float]:
    """Of items that could be judged, as `q`; but it holds for all looks together, as answers come in."""
    log_e = [
        sequential.log_mixture(one.shift / one.error**2, one.error**-2, USUAL**-2)
        for one in found
        if one.shift is not None and one.error is not None
    ]
    rates: list[float] = false_discovery(np.exp(-np.maximum(log_e, 0.0))).tolist()
    return rates


def _between(
    surprise: np.ndarray, items: np.ndarray, students: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(count,) the sum over students of their squared sums of surprise, for each item; and how many students."""
    _, student = np.unique(students, return_inverse=True)
    pairs, place = np.unique(items * (student.max(initial=0) + 1) + student, return_inverse=True)
    sums = np.bincount(place, surprise, len(pairs))
    item = pairs // (student.max(initial=0) + 1)
    return np.bincount(item, sums**2, count), np.bincount(item, minlength=count)
