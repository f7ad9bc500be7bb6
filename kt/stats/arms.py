"""Two arms side by side, for a report of what is over: never for stopping, which looks many times.

    difference of shares    pooled z, and Newcombe's interval of two Wilson intervals (Newcombe 1998)
    difference of means     Welch's t (1947)
    relative uplift         (m_b - m_a) / |m_a|, by the delta method

a is the control, b the treatment. What is undefined is None, never 0.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

from kt.stats.moments import Moments
from kt.stats.special import t_level, t_tails

ONE_SIDED = 1.6448536269514722  # standard errors of a bound of 95 %
TWO_SIDED = 1.959963984540054  # of both bounds of an interval of 95 %


@dataclass(frozen=True, slots=True)
class Arm:
    """variance: of one observation."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of_share(cls, successes: float, n: int) -> Self:
        p = successes / n if n else 0.0
        return cls(n, p, p * (1 - p))

    @classmethod
    def of(cls, moments: Moments) -> Self:
        return cls(moments.n, moments.mean, moments.variance)

    @property
    def error2(self) -> float:
        """The squared standard error of the mean."""
        return self.variance / self.n if self.n else math.inf


@dataclass(frozen=True, slots=True)
class Compared:
    """statistic: z or t; p_value: two-sided; interval: of the difference or uplift."""

    difference: float
    statistic: float | None
    dof: float | None
    p_value: float | None
    interval: tuple[float, float] | None


def wilson(successes: float, n: int, z: float) -> tuple[float, float]:
    """The share's bounds z standard errors away; all of [0, 1] where nothing was seen. Wilson 1927."""
    if n <= 0:
        return 0.0, 1.0
    p, spread = successes / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def shares(a: tuple[int, int], b: tuple[int, int], alpha: float = 0.05) -> Compared | None:
    """a, b: successes and n. None where an arm is empty."""
    (x_a, n_a), (x_b, n_b) = a, b
    if not n_a or not n_b:
        return None
    p_a, p_b, pooled = x_a / n_a, x_b / n_b, (x_a + x_b) / (n_a + n_b)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    z = (p_b - p_a) / error if error else None
    normal = NormalDist().inv_cdf(1 - alpha / 2)
    (low_a, high_a), (low_b, high_b) = wilson(x_a, n_a, normal), wilson(x_b, n_b, normal)
    return Compared(
        p_b - p_a,
        z,
        None,
        None if z is None else math.erfc(abs(z) / math.sqrt(2)),
        (
            p_b - p_a - math.hypot(p_b - low_b, high_a - p_a),
            p_b - p_a + math.hypot(high_b - p_b, p_a - low_a),
        ),
    )


def means(a: Arm, b: Arm, alpha: float = 0.05) -> Compared | None:
    """None where an arm has fewer than two."""
    if a.n < 2 or b.n < 2:
        return None
    return _welch(b.mean - a.mean, a.error2 + b.error2, _dof(a, b), alpha)


def uplift(a: Arm, b: Arm, alpha: float = 0.05) -> Compared | None:
    """Relative to the control. None where its mean is 0, an arm has fewer than two, or nothing varies."""
    if a.n < 2 or b.n < 2 or not a.mean or not a.error2 + b.error2:
        return None
    error2 = b.error2 / a.mean**2 + a.error2 * b.mean**2 / a.mean**4
    return _welch((b.mean - a.mean) / abs(a.mean), error2, _dof(a, b), alpha)


def _welch(difference: float, error2: float, dof: float | None, alpha: float) -> Compared:
    if dof is None or not error2:
        return Compared(difference, None, None, None, None)
    t = difference / math.sqrt(error2)
    half = t_level(alpha, dof) * math.sqrt(error2)
    return Compared(difference, t, dof, t_tails(t, dof), (difference - half, difference + half))


def _dof(a: Arm, b: Arm) -> float | None:
    """Welch and Satterthwaite's; None where nothing varies."""
    below = a.error2**2 / (a.n - 1) + b.error2**2 / (b.n - 1)
    return (a.error2 + b.error2) ** 2 / below if below else None
