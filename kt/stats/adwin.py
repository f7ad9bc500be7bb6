"""ADWIN: a window over a stream that drops its old end when that has another mean. Bifet and Gavaldà 2007.

The window is a row of buckets of 1, 2, 4 ... values, five of each size at most: of n values it keeps
about 5 log2(n / 5). It is cut where the means of its two parts differ by more than

    ε = sqrt(2 σ² ln(2 / δ') / m) + 2 ln(2 / δ') / (3 m)        1 / m = 1 / n_0 + 1 / n_1        δ' = δ / ln n
"""

import math
from itertools import accumulate

from kt.stats.moments import Moments
from kt.stats.stratified import merged

MOST = 5  # buckets of a size
EVERY = 32  # values between looks
LEAST = 5  # values in a part
FIRST = 10  # values before the first look


class Adwin:
    """delta: about how often it cuts where nothing has changed. Values in [0, 1]."""

    def __init__(self, delta: float = 0.002) -> None:
        self.delta = delta
        self.seen = 0
        self.window: list[Moments] = []  # oldest first, and so the largest

    def add(self, x: float) -> bool:
        """Whether the stream has changed."""
        self.seen += 1
        self.window.append(Moments(1, x))
        self._fold()
        if self.seen % EVERY or self.seen < FIRST:
            return False
        changed = False
        while self._differs():
            del self.window[0]
            changed = True
        return changed

    @property
    def mean(self) -> float:
        return merged(self.window).mean

    def _fold(self) -> None:
        """Where there are too many of a size, the two oldest of them become one of the next."""
        size = 1
        while True:
            alike = [place for place, held in enumerate(self.window) if held.n == size]
            if len(alike) <= MOST:
                return
            self.window[alike[0]].merge(self.window.pop(alike[1]))
            size *= 2

    def _differs(self) -> bool:
        whole = merged(self.window)
        if whole.n < 2 * LEAST:
            return False
        level = math.log(2 * math.log(whole.n) / self.delta)
        spread = 2 * whole.m2 / whole.n * level
        counts = accumulate(held.n for held in self.window)
        sums = accumulate(held.n * held.mean for held in self.window)
        for n_0, sum_0 in zip(counts, sums, strict=True):
            n_1 = whole.n - n_0
            if n_0 < LEAST or n_1 < LEAST:
                continue
            gap = abs(sum_0 / n_0 - (whole.n * whole.mean - sum_0) / n_1)
            over_m = 1 / n_0 + 1 / n_1
            if gap > math.sqrt(spread * over_m) + 2 / 3 * level * over_m:
                return True
        return False
