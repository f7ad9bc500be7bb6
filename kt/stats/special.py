"""The few distributions that the standard library lacks: beta, Student's t, chi-square.

Continued fractions by Lentz's method (Numerical Recipes, chapter 6), in logarithms: a tail of 1e-300 is
one. They take about sqrt(n) steps of n counts: a microsecond for a few, a millisecond for ten million.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

CLOSE = 1e-15
SMALL = 1e-300  # in place of 0, to divide by


def log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_beta_above(x: float, a: float, b: float) -> float:
    """ln P(θ > x) of θ ~ Beta(a, b)."""
    return log_beta_below(1 - x, b, a)


def log_beta_below(x: float, a: float, b: float) -> float:
    """ln P(θ < x) of θ ~ Beta(a, b)."""
    if x <= 0:
        return -math.inf
    if x >= 1:
        return 0.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly on the other side
        rest = math.exp(log_beta_below(1 - x, b, a))
        return math.log1p(-rest) if rest < 1 else -math.inf
    front = a * math.log(x) + b * math.log1p(-x) - log_beta(a, b)
    return front - math.log(a) - math.log(_fraction(_beta_terms(x, a, b)))


def _beta_terms(x: float, a: float, b: float) -> Iterator[tuple[float, float]]:
    yield 0.0, 1.0
    m = 0
    while True:
        yield -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)), 1.0
        m += 1
        yield m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), 1.0


def t_tails(t: float, dof: float) -> float:
    """P(abs(T) > abs(t)) of Student's T."""
    return math.exp(log_beta_below(dof / (dof + t * t), dof / 2, 0.5))


def t_level(tails: float, dof: float) -> float:
    """The t with t_tails(t) = tails."""
    return _where(lambda t: t_tails(t, dof) > tails)


def chi2_above(x: float, dof: int) -> float:
    """P(χ² > x)."""
    if x <= 0:
        return 1.0
    a, half = dof / 2, x / 2
    front = math.exp(a * math.log(half) - half - math.lgamma(a))
    if half < a + 1:
        term = total = 1 / a
        n = a
        while term > total * CLOSE:
            n += 1
            term *= half / n
            total += term
        return 1 - front * total
    return front / _fraction(_gamma_terms(half, a))


def _gamma_terms(x: float, a: float) -> Iterator[tuple[float, float]]:
    yield 0.0, x + 1 - a
    n = 0
    while True:
        n += 1
        yield n * (a - n), x + 1 - a + 2 * n


@lru_cache
def chi2_level(above: float, dof: int) -> float:
    """The x with chi2_above(x) = above."""
    return _where(lambda x: chi2_above(x, dof) > above)


def _fraction(terms: Iterator[tuple[float, float]]) -> float:
    """b0 + a1 / (b1 + a2 / (b2 + ...)), of the terms (0, b0), (a1, b1), ..."""
    _, value = next(terms)
    c, d = value, 0.0
    for a, b in terms:
        d = 1 / (b + a * d or SMALL)
        c = b + a / c or SMALL
        value *= c * d
        if abs(c * d - 1) < CLOSE:
            break
    return value


def _where(below: Callable[[float], bool]) -> float:
    """The x above 0 from which `below` no longer holds."""
    low, high = 0.0, 1.0
    while below(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return (low + high) / 2
