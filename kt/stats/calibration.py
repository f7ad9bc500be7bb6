"""Whether confidence holds: of answers given with 0.8, eight in ten should be right.

A calibration error is computed from bins, which are sums and may be merged. It is never 0: a perfect
model's, over 15 bins, is about 0.08 at 200 answers, 0.03 at 2,000 and 0.01 at 10,000. And it is never
enough: a constant confidence, equal to the accuracy, has none and says nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kt.stats.scores import Histogram

BINS = 15


class Bin(NamedTuple):
    """Answers of like confidence: how many, the sum of their confidences, how many were right."""

    n: int
    confidence: float
    right: int


class Errors(NamedTuple):
    """Gaps between confidence and accuracy over the bins that hold answers.

    ece: their mean weighted by how many fall in each; mce: the largest; ace: the plain mean.
    """

    ece: float
    mce: float
    ace: float


def errors(bins: Iterable[Bin]) -> Errors:
    """Naeini et al. 2015, Guo et al. 2017 (eq. 3). Raises ValueError where no bin holds an answer."""
    held = [each for each in bins if each.n]
    if not held:
        raise ValueError("no answers to judge")
    gaps = [abs(each.right - each.confidence) for each in held]
    means = [gap / each.n for gap, each in zip(gaps, held, strict=True)]
    return Errors(
        math.fsum(gaps) / sum(each.n for each in held),
        max(means),
        math.fsum(means) / len(means),
    )


def equal_width(
    confidence: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> tuple[Bin, ...]:
    """confidence: in [0, 1], of what was predicted; right: whether it was so.

    Bins are closed on the left, the last on both sides. Raises ValueError where the lengths differ.
    """
    return _binned(confidence, right, [place / bins for place in range(1, bins)])


def equal_mass(
    confidence: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> tuple[Bin, ...]:
    """Bins of about as many answers each (Nixon et al. 2019): edges at interpolated quantiles."""
    ordered = sorted(confidence)
    places = [(len(ordered) - 1) * place / bins for place in range(1, bins)]
    below = [ordered[math.floor(place)] for place in places]
    above = [ordered[math.ceil(place)] for place in places]
    edges = [
        low + (high - low) * (place % 1)
        for low, high, place in zip(below, above, places, strict=True)
    ]
    return _binned(confidence, right, edges)


def of_outcomes(positives: Histogram, negatives: Histogram, bins: int = 10) -> tuple[Bin, ...]:
    """Of what was given where it then came true, and where it did not. bins: a divisor of 100."""
    fine = [
        Bin(n + m, sum_n + sum_m, n)
        for n, m, sum_n, sum_m in zip(
            positives.counts, negatives.counts, positives.sums, negatives.sums, strict=True
        )
    ]
    return merged(fine, bins)


def merged(bins: Sequence[Bin], into: int) -> tuple[Bin, ...]:
    """Neighbours together: so many bins of equal width, of a multiple of them."""
    assert len(bins) % into == 0
    each = len(bins) // into
    return tuple(_sum(bins[at : at + each]) for at in range(0, len(bins), each))


def _sum(bins: Sequence[Bin]) -> Bin:
    return Bin(
        sum(each.n for each in bins),
        math.fsum(each.confidence for each in bins),
        sum(each.right for each in bins),
    )


def brier(n: int, squares: float, products: float, right: int) -> float:
    """Mean (p - y)², of sums over n answers: of p², of p where it was right, and of those that were.

    Brier 1950. 0 is best.
    """
    return (squares - 2 * products + right) / n


def _binned(
    confidence: Sequence[float], right: Sequence[bool], edges: Sequence[float]
) -> tuple[Bin, ...]:
    """edges: between the bins, rising."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(len(edges) + 1)]
    for each in zip(confidence, right, strict=True):
        members[bisect_right(edges, each[0])].append(each)
    return tuple(
        Bin(len(of), math.fsum(value for value, _ in of), sum(was for _, was in of))
        for of in members
    )
