"""The difference of two arms' means over phases of constant traffic, with an error that units may share.

Units come back, and the day changes: pooled over phases the arm that had more traffic in a bad hour loses
(Simpson), and the answers of one unit are not independent. So means are compared within a phase,

    d = Σ c_k (m_bk - m_ak)        c_k ∝ n_ak n_bk / (n_ak + n_bk)

and the variance is that of sums over buckets of units (Deng et al. 2018, arXiv 1803.06336).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kt.stats.moments import Moments

Buckets = Mapping[int, Moments]  # by a hash of the unit: the same unit, the same bucket


@dataclass(frozen=True, slots=True)
class Difference:
    """error: the standard error. n: so many independent observations would have told as much.

    buckets: in use; 0 where units are not told apart.
    """

    difference: float
    error: float
    n: float
    buckets: int = 0


def clustered(phases: Sequence[tuple[Buckets, Buckets]]) -> Difference | None:
    """The treatment's mean less the control's, of (control, treatment) in each phase.

    None where no phase has two observations in both arms, or one bucket holds them all.
    """
    arms = [(merged(a.values()), merged(b.values())) for a, b in phases]
    plain = independent(arms)
    if plain is None:
        return None
    surprise: defaultdict[int, float] = defaultdict(float)
    for weight, means, arm in zip(_weights(arms), arms, phases, strict=True):
        for sign, mean, buckets in zip((-1, 1), means, arm, strict=True):
            for bucket, held in buckets.items() if weight else ():
                surprise[bucket] += sign * weight * held.n * (held.mean - mean.mean) / mean.n
    used = len(surprise)
    if used < 2:
        return None
    variance = math.fsum(value * value for value in surprise.values()) * used / (used - 1)
    effect = variance / plain.error**2 if plain.error else 1.0  # of the design
    return Difference(plain.difference, math.sqrt(variance), plain.n / max(effect, 1.0), used)


def independent(phases: Sequence[tuple[Moments, Moments]]) -> Difference | None:
    """The same where every observation is a unit of its own."""
    weights = _weights(phases)
    if not any(weights):
        return None
    variance = math.fsum(
        weight**2 * (a.variance / a.n + b.variance / b.n)
        for weight, (a, b) in zip(weights, phases, strict=True)
        if weight
    )
    d = math.fsum(c * (b.mean - a.mean) for c, (a, b) in zip(weights, phases, strict=True))
    n = sum(a.n + b.n for c, (a, b) in zip(weights, phases, strict=True) if c)
    return Difference(d, math.sqrt(variance), n)


def merged(parts: Iterable[Moments]) -> Moments:
    whole = Moments()
    for part in parts:
        whole.merge(part)
    return whole


def _weights(phases: Sequence[tuple[Moments, Moments]]) -> list[float]:
    """They sum to 1; 0 where an arm has fewer than two."""
    raw = [a.n * b.n / (a.n + b.n) if a.n > 1 and b.n > 1 else 0.0 for a, b in phases]
    whole = sum(raw)
    return [weight / whole if whole else 0.0 for weight in raw]
