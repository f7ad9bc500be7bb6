"""How a bandit splits traffic: by the probability that each arm is the best (Thompson 1933).

With two arms an even split finds out sooner; this loses less while it finds out. Every arm keeps a floor, or
a bad first hour would be its last.
"""

import math
from collections.abc import Sequence

from kt.stats.special import log_beta, log_beta_below

FLOOR = 0.05
STEPS = 800  # of the integral
FAR = 30  # standard deviations, where the tail of any of these is less than 1e-12


def best(arms: Sequence[tuple[int, int]], *, lowest: bool = False) -> list[float]:
    """The probability that each arm has the highest rate, of (successes, failures), prior Beta(1, 1).

    ∫ f_i Π F_j, by Simpson's rule. lowest: the lowest rate is wanted, of errors.
    """
    posteriors = [(1 + s, 1 + f) for s, f in arms]
    if lowest:
        posteriors = [(b, a) for a, b in posteriors]
    found = [_wins(i, posteriors) for i in range(len(posteriors))]
    whole = math.fsum(found)
    return [p / whole for p in found]


def allocation(p_best: Sequence[float], floor: float = FLOOR) -> list[float]:
    """Shares of the traffic, which sum to 1. floor: of each, at most 1 / arms."""
    return [floor + (1 - len(p_best) * floor) * p for p in p_best]


def _wins(i: int, posteriors: Sequence[tuple[int, int]]) -> float:
    a, b = posteriors[i]
    mean, sd = a / (a + b), math.sqrt(a * b / (a + b + 1)) / (a + b)
    low, high = max(0.0, mean - FAR * sd), min(1.0, mean + FAR * sd)
    others = [arm for j, arm in enumerate(posteriors) if j != i]
    h = (high - low) / STEPS
    return (
        h
        / 3
        * math.fsum(
            (1 if step in (0, STEPS) else 4 if step % 2 else 2)
            * _density(low + step * h, a, b)
            * math.prod(math.exp(log_beta_below(low + step * h, *arm)) for arm in others)
            for step in range(STEPS + 1)
        )
    )


def _density(x: float, a: int, b: int) -> float:
    """Of Beta(a, b), whole numbers from 1 on."""
    if (x <= 0 and a > 1) or (x >= 1 and b > 1):
        return 0.0
    log_x = (a - 1) * math.log(x) if a > 1 else 0.0
    log_y = (b - 1) * math.log1p(-x) if b > 1 else 0.0
    return math.exp(log_x + log_y - log_beta(a, b))
