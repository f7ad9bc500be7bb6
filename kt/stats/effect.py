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

LEAST = 100  # observations in an arm
EVENTS = 5  # of either kind in an arm, where they are of two kinds
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
    for name, arm in (("control", a), ("treatment", b)):
        ones = round(arm.mean * arm.n)
        if arm.n < LEAST:
            lacks.append(f"{name}: {arm.n} of {LEAST} outcomes")
        elif binary and min(ones, arm.n - ones) < EVENTS:
            kind = "right" if ones < arm.n - ones else "wrong"
            lacks.append(f"{name}: {min(ones, arm.n - ones)} of {EVENTS} {kind}")
    if found is not None and 0 < found.buckets < BUCKETS:
        lacks.append(f"{found.buckets} of {BUCKETS} groups of units")
    return lacks
