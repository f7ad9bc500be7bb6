"""Whether two means differ, asked as often as one likes: the answer is wrong in alpha of all runs at most.

    z = d / se        log e = z² N / (2 (N + R)) - ln(1 + N / R) / 2        R = N* / (2 ln(1/α) + ln(1 + 2 ln(1/α)))

A mixture of normal likelihood ratios (Robbins 1970), valid asymptotically whatever the distribution
(Waudby-Smith et al., arXiv 2103.06476). d is settled when log e ≥ ln(1/α); the interval is the same
inverted. N* is where the test is sharpest, not an end. Fed with pooled counts it is wrong in every run where
a metric moves while traffic changes: kt.stats.stratified makes d, se and N.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

N_STAR = 5_000  # observations in both arms


@dataclass(frozen=True, slots=True)
class Evidence:
    """log_e: beyond ln(1 / alpha) the difference is not chance. p_value: keep the least one seen."""

    difference: float
    error: float
    log_e: float
    lower: float
    upper: float

    @property
    def p_value(self) -> float:
        return min(1.0, math.exp(-self.log_e))


def difference(
    d: float, error: float, n: float, alpha: float = 0.05, n_star: float = N_STAR
) -> Evidence | None:
    """Of a difference d with that standard error, of n independent observations in both arms.

    None where nothing varied: all right against all right is no proof.
    """
    if not error > 0 or not n > 0:
        return None
    rho = scale(n_star, alpha)
    log_e = log_mixture(d / error * math.sqrt(n), n, rho)
    half = error / math.sqrt(n) * bound(n, rho, alpha)
    return Evidence(d, error, log_e, d - half, d + half)


def scale(best: float, alpha: float, *, one_sided: bool = False) -> float:
    """The mixture's variance that makes the bound least at intrinsic time `best`. Howard et al. 2021."""
    level = 2 * math.log(1 / (2 * alpha if one_sided else alpha))
    return best / (level + math.log1p(level))


def log_mixture(s: float, v: float, rho: float, *, one_sided: bool = False) -> float:
    """The log e-value of a sum s of deviations from the null at intrinsic time v, its variance."""
    log_e = math.log(rho / (v + rho)) / 2 + s * s / (2 * (v + rho))
    if one_sided:
        log_e += math.log(2 * NormalDist().cdf(s / math.sqrt(v + rho)))
    return log_e


def bound(v: float, rho: float, alpha: float, *, one_sided: bool = False) -> float:
    """The s at which log_mixture reaches ln(1 / alpha)."""
    if not one_sided:
        return math.sqrt((v + rho) * (2 * math.log(1 / alpha) + math.log1p(v / rho)))
    low, high = 0.0, bound(v, rho, alpha / 2)
    for _ in range(60):
        middle = (low + high) / 2
        beyond = log_mixture(middle, v, rho, one_sided=True) >= math.log(1 / alpha)
        low, high = (low, middle) if beyond else (middle, high)
    return (low + high) / 2
