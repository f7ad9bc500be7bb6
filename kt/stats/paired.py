"""Whether a retrained version may take over: judged with the active one on the same held-out answers.

"At least 0.01 better" alone lets an equal version through in 37 % of cases at 200 answers and in 16 % at
1,000; with the bound it is one in twenty.
"""

import math
from dataclasses import dataclass

from kt.stats.arms import ONE_SIDED

LEAST = 0.01  # by which its share of right answers must be higher


@dataclass(frozen=True, slots=True)
class Paired:
    """lower: the difference's one-sided bound of 95 %."""

    difference: float
    lower: float
    accept: bool


def compare(n: int, only_new: int, only_old: int, least: float = LEAST) -> Paired | None:
    """n: answers that both gave; only_new, only_old: right in one of the two alone. None of no answers."""
    if not n:
        return None
    d = (only_new - only_old) / n
    error = math.sqrt(max((only_new + only_old) / n - d * d, 0.0) / n)
    lower = d - ONE_SIDED * error
    return Paired(d, lower, d >= least and lower > 0)
