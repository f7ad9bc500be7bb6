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


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> tuple[float, bool]:
    """Of looking once: the p-value over the arms that have a share, and whether it is a mismatch."""
    planned = [(n, share) for n, share in zip(counts, shares, strict=True) if share]
    n, whole = sum(seen for seen, _ in planned), sum(share for _, share in planned)
    p = 1.0
    if n and len(planned) > 1:
        expected = [n * share / whole for _, share in planned]
        pairs = zip(planned, expected, strict=True)
        x = math.fsum((seen - wanted) ** 2 / wanted for (seen, _), wanted in pairs)
        p = chi2_above(x, len(planned) - 1)
    return p, p < ONCE or _where_none_should_be(counts, shares)


def _where_none_should_be(counts: Sequence[int], shares: Sequence[float]) -> bool:
    return any(n and not share for n, share in zip(counts, shares, strict=True))
