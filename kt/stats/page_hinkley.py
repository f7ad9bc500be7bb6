"""Page-Hinkley: whether the mean of a stream has moved, up or down. Page 1954.

Of means per minute, not of single answers: its threshold is in units of the values.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(slots=True)
class PageHinkley:
    """It begins anew after each detection.

    least: values before any; delta: a change of the mean that is none; fade: of the old, each value;
    mode: which way it is to be found.
    """

    threshold: float = 50.0
    least: int = 30
    delta: float = 0.005
    fade: float = 0.9999
    mode: Literal["up", "down", "both"] = "both"

    n: int = 0
    mean: float = 0.0
    up: float = 0.0  # sums of what lies above and below the mean, and how far back they came
    down: float = 0.0
    lowest: float = math.inf
    highest: float = -1.0

    def add(self, x: float) -> bool:
        """Whether the mean has moved."""
        self.n += 1
        self.mean += (x - self.mean) / self.n
        off = x - self.mean
        self.up = self.fade * self.up + off - self.delta
        self.down = self.fade * self.down + off + self.delta
        self.lowest = min(self.lowest, self.up)
        self.highest = max(self.highest, self.down)
        risen = self.mode != "down" and self.up - self.lowest > self.threshold
        fallen = self.mode != "up" and self.highest - self.down > self.threshold
        if self.n < self.least or not (risen or fallen):
            return False
        self.n, self.mean, self.up, self.down = 0, 0.0, 0.0, 0.0
        self.lowest, self.highest = math.inf, -1.0
        return True
