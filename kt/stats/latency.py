"""Quantiles within 1 % of values whose range nobody knows: buckets of a logarithm, which merge by adding.

    key = ceil(ln x / ln γ),  γ = 1.01 / 0.99,  and a bucket stands for 2 γ^key / (1 + γ)

Masson, Rim and Lee 2019, "DDSketch". Milliseconds, and whatever numbers a model is asked about or answers.
"""

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

from kt.stats.packing import WIDTH, gaps, restored, shuffled

ACCURACY = 0.01
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
PER_LOG = 1 / math.log(GAMMA)
TINY = 1e-9  # nothing is nearer to 0 than this without being 0: else a few values could fill 30,000 buckets

HEADER = struct.Struct("<BqqqddII")
FORMAT = 2
MOST = 1 << 21  # bytes of one, unpacked: with every bucket that there can be


@dataclass(slots=True)
class Sketch:
    """count, total, largest: of the finite values; odd: how many were not finite, and are in nothing else."""

    count: int = 0
    total: float = 0.0
    largest: float = -math.inf
    zeros: int = 0
    odd: int = 0
    above: dict[int, int] = field(default_factory=dict)  # of values above 0: key -> how many
    below: dict[int, int] = field(default_factory=dict)  # of values below 0, by the key of -x

    def add(self, x: float) -> None:
        if not math.isfinite(x):
            self.odd += 1
            return
        self.count += 1
        self.total += x
        if x > self.largest:
            self.largest = x
        if -TINY < x < TINY:
            self.zeros += 1
            return
        side = self.above if x > 0 else self.below
        key = math.ceil(math.log(abs(x)) * PER_LOG)
        side[key] = side.get(key, 0) + 1

    def extend(self, values: Sequence[float]) -> None:
        """Add all of them: many cost a third of what they cost one by one."""
        if not all(map(math.isfinite, values)):
            for x in values:
                self.add(x)
            return
        self.count += len(values)
        self.total += sum(values)
        self.largest = max(self.largest, max(values, default=-math.inf))
        for side, part in (
            (self.above, [x for x in values if x >= TINY]),
            (self.below, [-x for x in values if x <= -TINY]),
        ):
            self.zeros -= len(part)
            for key, n in Counter(math.ceil(math.log(x) * PER_LOG) for x in part).items():
                side[key] = side.get(key, 0) + n
        self.zeros += len(values)

    def merge(self, other: Self) -> None:
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self.zeros += other.zeros
        self.odd += other.odd
        for ours, theirs in ((self.above, other.above), (self.below, other.below)):
            for key, n in theirs.items():
                ours[key] = ours.get(key, 0) + n

    def bars(self) -> Iterator[tuple[float, int]]:
        """Values and how many there are of each, rising."""
        for key in sorted(self.below, reverse=True):
            yield -_value(key), self.below[key]
        if self.zeros:
            yield 0.0, self.zeros
        for key in sorted(self.above):
            yield _value(key), self.above[key]

    def quantile(self, q: float) -> float | None:
        """About the value at floor(q (count - 1)) of the values in order; None where there is none."""
        left = math.floor(q * (self.count - 1))
        for value, n in self.bars():
            left -= n
            if left < 0:
                return value
        return None

    def dump(self) -> bytes:
        numbers = (self.count, self.zeros, self.odd, self.total, self.largest)
        header = HEADER.pack(FORMAT, *numbers, len(self.above), len(self.below))
        return zlib.compress(header + _packed(self.above) + _packed(self.below))

    @classmethod
    def load(cls, blob: bytes) -> Self:
        """Raises ValueError, zlib.error or struct.error of what dump did not write."""
        raw = zlib.decompressobj().decompress(blob, MOST)
        version, count, zeros, odd, total, largest, *lengths = HEADER.unpack_from(raw)
        if version not in SIDES:
            raise ValueError(f"a sketch of format {version}")
        above, at = SIDES[version](raw, HEADER.size, lengths[0])
        below, _ = SIDES[version](raw, at, lengths[1])
        return cls(count, total, largest, zeros, odd, above, below)


def _packed(side: dict[int, int]) -> bytes:
    """The gaps between its keys, and their counts."""
    keys = sorted(side)
    numbers = struct.pack(f"<{2 * len(keys)}q", *gaps(keys), *map(side.__getitem__, keys))
    return shuffled(numbers)


def _unpacked(raw: bytes, at: int, n: int) -> tuple[dict[int, int], int]:
    """A side of n buckets, and where it ends."""
    end = at + 2 * WIDTH * n
    numbers = struct.unpack(f"<{2 * n}q", restored(raw[at:end]))
    return dict(zip(accumulate(numbers[:n]), numbers[n:], strict=True)), end


def _plain(raw: bytes, at: int, n: int) -> tuple[dict[int, int], int]:
    """The same as it was written before: keys and counts as they are."""
    layout = struct.Struct(f"<{n}i{n}q")
    numbers = layout.unpack_from(raw, at)
    return dict(zip(numbers[:n], numbers[n:], strict=True)), at + layout.size


SIDES = {1: _plain, FORMAT: _unpacked}  # by the format of a sketch


def _value(key: int) -> float:
    return 2 * GAMMA**key / (1 + GAMMA)
