"""Whether units were split as planned. Where they were not, whatever is measured on them is worth nothing.

Count units when they are assigned, before a model runs: one that fails early would hide here.
"""

import math
from collections.abc import Sequence

from kt.stats.special import chi2_above

K = 100.0  # the prior's weight, in units
LOOKED = 100.0  # e-value from which on it is a mismatch
ONCE = 0.0005  # p-value under which it is one, where it is asked once. Fabijan et al. 2019


def log_e(counts: Sequence[int], shares: Sequence[float], k: float = K) -> float:
    """Sequential: however often one looks, a right split reaches ln(x) once in x times at most.

    A Dirichlet mixture of multinomials around the plan (Lindon and Malek 2022).
    """
    if _where_none_should_be(counts, shares):
        return math.inf
    planned = [(n, share / sum(shares)) for n, share in zip(counts, shares, strict=True) if share]
    if not sum(counts):
        return 0.0
    gained = math.fsum(math.lgamma(k * s + n) - math.lgamma(k * s) for n, s in planned)
    gained += math.lgamma(k) - math.lgamma(k + sum(counts))
    return gained - math.fsum(n * math.log(s) for n, s in planned)


def mismatch(counts: Sequence[int], shares: Sequence[float]) -> bool:
    return log_e(counts, shares) >= math.log(LOOKED)


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The p-value of looking once; 0 where units are in an arm without a share."""
    if _where_none_should_be(counts, shares):
        return 0.0
    n, whole = sum(counts), sum(shares)
    planned = [
        (seen, n * share / whole) for seen, share in zip(counts, shares, strict=True) if share
    ]
    if not n or len(planned) < 2:
        return 1.0
    x = math.fsum((seen - expected) ** 2 / expected for seen, expected in planned)
    return chi2_above(x, len(planned) - 1)


def _where_none_should_be(counts: Sequence[int], shares: Sequence[float]) -> bool:
    return any(n and not share for n, share in zip(counts, shares, strict=True))
