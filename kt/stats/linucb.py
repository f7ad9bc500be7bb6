"""A contextual bandit: which arm for this context? Disjoint LinUCB, Li et al. 2010, algorithm 1.

    A = λ I + Σ x xᵀ        θ = A⁻¹ Σ r x        score = xᵀθ + α sqrt(xᵀ A⁻¹ x)

A⁻¹ is kept, not A: one context changes it by the formula of Sherman and Morrison.
"""

import math
from collections.abc import Sequence

Vector = Sequence[float]


class Arm:
    """size: numbers in a context. ridge: λ."""

    def __init__(self, size: int, ridge: float = 1.0) -> None:
        self.inverse = [[(i == j) / ridge for j in range(size)] for i in range(size)]
        self.earned = [0.0] * size  # Σ r x

    def learn(self, x: Vector, reward: float) -> None:
        moved = [_dot(row, x) for row in self.inverse]
        scale = 1 + _dot(moved, x)
        for row, left in zip(self.inverse, moved, strict=True):
            row[:] = [old - left * right / scale for old, right in zip(row, moved, strict=True)]
        self.earned = [old + reward * value for old, value in zip(self.earned, x, strict=True)]

    @property
    def theta(self) -> list[float]:
        return [_dot(row, self.earned) for row in self.inverse]

    def score(self, x: Vector, alpha: float) -> float:
        """What is expected of it, and how much more it might be."""
        spread = _dot([_dot(row, x) for row in self.inverse], x)
        return _dot(self.theta, x) + alpha * math.sqrt(max(spread, 0.0))


def choose(scores: Sequence[float]) -> int:
    """The highest; of equal ones the first."""
    return max(range(len(scores)), key=scores.__getitem__)


def _dot(a: Vector, b: Vector) -> float:
    return math.fsum(left * right for left, right in zip(a, b, strict=True))
