"""Probabilities that were given, in 100 equal bins of [0, 1], which merge by adding.

Enough for drift, for AUC within 0.001, and for an accuracy that is expected without outcomes.
"""

import struct
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

from kt.stats.packing import WIDTH, gaps, restored, shuffled

BINS = 100
EDGES = [place / BINS for place in range(1, BINS)]  # a bin is closed on the left, the last on both

HEADER = struct.Struct("<BqdB")
FORMAT = 2
MOST = HEADER.size + 3 * WIDTH * BINS + 1  # bytes of one, unpacked; more is none
EARLIER = b"\x01"  # its format is read still
WHOLE = struct.Struct(f"<Bqd{BINS}q{BINS}d")  # as it was written then


def bin_of(p: float) -> int:
    """0 .. 99, of p in [0, 1]."""
    return bisect_right(EDGES, p)


def _none() -> list[int]:
    return [0] * BINS


def _nothing() -> list[float]:
    return [0.0] * BINS


@dataclass(slots=True)
class Histogram:
    """counts and sums: of each bin, how many and the sum of them; squares: the sum of p² over all.

    odd: how many were no probability, and are in nothing else.
    """

    counts: list[int] = field(default_factory=_none)
    sums: list[float] = field(default_factory=_nothing)
    squares: float = 0.0
    odd: int = 0

    def add(self, p: float) -> None:
        if not 0 <= p <= 1:
            self.odd += 1
            return
        place = bisect_right(EDGES, p)
        self.counts[place] += 1
        self.sums[place] += p
        self.squares += p * p

    def extend(self, values: Sequence[float]) -> None:
        """Add all of them: many cost a tenth of what they cost one by one."""
        import numpy as np  # not for who only reads

        found = np.asarray(values, float)
        found = found[(found >= 0) & (found <= 1)]
        self.odd += len(values) - len(found)
        places = np.searchsorted(EDGES, found, side="right")
        counts = np.bincount(places, minlength=BINS).tolist()
        sums = np.bincount(places, weights=found, minlength=BINS).tolist()
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]
        self.squares += float(found @ found)

    def merge(self, other: Self) -> None:
        if any(other.counts):  # often it is empty, and adding nothing up takes long
            self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
            self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares += other.squares
        self.odd += other.odd

    @property
    def count(self) -> int:
        return sum(self.counts)

    def bars(self) -> list[tuple[float, int]]:
        """Values and how many there are of each, rising: the middle of each bin."""
        return [((place + 0.5) / BINS, n) for place, n in enumerate(self.counts) if n]

    def dump(self) -> bytes:
        places = [place for place, n in enumerate(self.counts) if n]
        counts, sums = ([column[place] for place in places] for column in (self.counts, self.sums))
        header = HEADER.pack(FORMAT, self.odd, self.squares, len(places))
        body = _layout(len(places)).pack(*gaps(places), *counts, *sums)
        return zlib.compress(header + shuffled(body))

    @classmethod
    def load(cls, blob: bytes) -> Self:
        """Raises ValueError, zlib.error or struct.error of what dump did not write."""
        raw = zlib.decompressobj().decompress(blob, MOST)
        if raw[:1] == EARLIER:
            _, odd, squares, *whole = WHOLE.unpack(raw)
            return cls(whole[:BINS], whole[BINS:], squares, odd)
        version, odd, squares, n = HEADER.unpack_from(raw)
        if version != FORMAT:
            raise ValueError(f"a histogram of format {version}")
        numbers = _layout(n).unpack(restored(raw[HEADER.size :]))
        places = list(accumulate(numbers[:n]))
        if places and not 0 <= places[0] <= places[-1] < BINS:
            raise ValueError(f"a histogram of bin {places[-1]}")
        found = cls(squares=squares, odd=odd)
        for place, count, total in zip(places, numbers[n : 2 * n], numbers[2 * n :], strict=True):
            found.counts[place], found.sums[place] = count, total
        return found


def _layout(bins: int) -> struct.Struct:
    """Of the bins that hold something: the gaps between their places, the counts, the sums."""
    return struct.Struct(f"<{2 * bins}q{bins}d")
