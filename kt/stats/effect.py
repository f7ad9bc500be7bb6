"""Whether the treatment is better or worse than the control, and what is missing to say so.

Normal theory needs a few of everything: under these floors nothing is said, however large the difference.
"""

import math
from dataclasses import dataclass
from typing import Literal

from kt.stats import sequential
from kt.stats.moments import Moments
from kt.stats.sequential import Evidence
from kt.stats.stratified import Difference

LEAST = 100  # observations in a variant
EVENTS = 5  # of either kind in a variant, where they are of two kinds
BUCKETS = 20  # in use, where units come back


@dataclass(frozen=True, slots=True)
class Effect:
    """n: observations in (control, treatment). higher: which has the higher mean for sure.

    missing: in numbers, what it lacks to be judged.
    """

    evidence: Evidence | None
    n: tuple[int, int]
    missing: tuple[str, ...]
    higher: Literal["control", "treatment"] | None


def judge(
    found: Difference | None, a: Moments, b: Moments, binary: bool, alpha: float, n_star: float
) -> Effect:
    """Of the difference of means (kt.stats.stratified). a, b: all of the control and of the treatment.

    binary: whether every observation is 0 or 1.
    """
    evidence = None
    if found is not None:
        evidence = sequential.difference(found.difference, found.error, found.n, alpha, n_star)
    missing = tuple(_missing(found, a, b, binary))
    settled = evidence is not None and evidence.log_e >= math.log(1 / alpha) and not missing
    higher: Literal["control", "treatment"] | None = None
    if evidence is not None and settled:
        higher = "treatment" if evidence.difference > 0 else "control"
    return Effect(evidence, (a.n, b.n), missing, higher)


def _missing(found: Difference | None, a: Moments, b: Moments, binary: bool) -> list[str]:
    lacks = []
    for name, variant in (("control", a), ("treatment", b)):
        ones = round(variant.mean * variant.n)
        if variant.n < LEAST:
            lacks.append(f"{name}: {variant.n} of {LEAST} outcomes")
        elif binary and min(ones, variant.n - ones) < EVENTS:
            kind = "right" if ones < variant.n - ones else "wrong"
            lacks.append(f"{name}: {min(ones, variant.n - ones)} of {EVENTS} {kind}")
    if found is not None and 0 < found.buckets < BUCKETS:
        lacks.append(f"{found.buckets} of {BUCKETS} groups of units")
    return lacks
