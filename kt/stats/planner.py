"""How many units an experiment needs."""

import math
from statistics import NormalDist

SEQUENTIAL = 1.7  # times as many for the same power where it may stop at any time; measured


def of_shares(
    p_a: float, p_b: float, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> tuple[int, int] | None:
    """Units in the control and the treatment, to tell p_a from p_b with that power by one two-sided test.

    ratio: units of the treatment for one of the control. None where there is nothing to tell.
    """
    if not (0 < p_a < 1 and 0 < p_b < 1) or p_a == p_b:
        return None
    return _of(p_a * (1 - p_a), p_b * (1 - p_b), p_b - p_a, alpha, power, ratio)


def of_means(
    difference: float, sd: float, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0
) -> tuple[int, int] | None:
    """The same for means of values with that standard deviation."""
    if not difference or not sd > 0:
        return None
    return _of(sd * sd, sd * sd, difference, alpha, power, ratio)


def _of(
    var_a: float, var_b: float, d: float, alpha: float, power: float, ratio: float
) -> tuple[int, int]:
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    n_a = z * z * (var_a + var_b / ratio) / (d * d)
    return math.ceil(n_a), math.ceil(n_a * ratio)
