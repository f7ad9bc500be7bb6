"""How many, their mean, and how far they lie around it: sums that merge without losing digits.

Never a sum of squares: at an offset of 1e9 it has none left. Welford 1962; Chan, Golub and LeVeque 1979.
"""

import math
from dataclasses import dataclass
from typing import Self


@dataclass(slots=True)
class Moments:
    """m2: the sum of squared deviations from the mean."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def add(self, x: float) -> None:
        """A value that is not finite is left out: it is a failure, which others count."""
        if not math.isfinite(x):
            return
        self.n += 1
        off = x - self.mean
        self.mean += off / self.n
        self.m2 += off * (x - self.mean)

    def merge(self, other: Self) -> None:
        """A part with n below 0 takes back, and comes after what it takes from: at n = 0 all is gone."""
        n = self.n + other.n
        if not n:
            self.mean = self.m2 = 0.0
        else:
            off = other.mean - self.mean
            self.m2 += other.m2 + off * off * self.n * other.n / n
            self.mean += off * other.n / n
        self.n = n

    def unmerge(self, part: Self) -> None:
        """Takes back what was merged: an outcome that was corrected."""
        self.merge(type(self)(-part.n, part.mean, -part.m2))
        self.m2 = max(self.m2, 0.0)  # rounding may leave less than nothing

    @property
    def variance(self) -> float:
        """Of the population they are a sample of: n - 1 below. 0 of fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else 0.0
