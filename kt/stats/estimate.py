"""How good a classifier is without outcomes, if its probabilities hold (CBPE). Never a trigger.

A prediction of 0.8 is right with probability 0.8, if the model is calibrated and what it says of these inputs
is as true as it was of those before. When it no longer is, this does not show: it is an estimate, and said to be one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kt.stats.ranking import auc


@dataclass(frozen=True, slots=True)
class Estimate:
    accuracy: float
    auc: float | None
    precision: float | None
    recall: float | None


def of_positive(
    counts: Sequence[int], sums: Sequence[float], threshold: float = 0.5
) -> Estimate | None:
    """Of probabilities of the positive: in bins of rising score, how many and their sum. None of none.

    threshold: from which on the positive is predicted; an edge of the bins.
    """
    n = sum(counts)
    if not n:
        return None
    held = [(count, total) for count, total in zip(counts, sums, strict=True) if count]
    said = [(count, total) for count, total in held if total >= threshold * count]
    positives = math.fsum(total for _, total in held)
    predicted, hits = sum(count for count, _ in said), math.fsum(total for _, total in said)
    misses = positives - hits
    return Estimate(
        accuracy=(hits + (n - predicted) - misses) / n,
        auc=auc([total for _, total in held], [count - total for count, total in held]),
        precision=hits / predicted if predicted else None,
        recall=hits / positives if positives else None,
    )


def of_top(counts: Sequence[int], sums: Sequence[float]) -> float | None:
    """The accuracy, of probabilities of what was predicted: their mean. None of none."""
    return math.fsum(sums) / sum(counts) if sum(counts) else None
