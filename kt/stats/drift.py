"""How far two distributions lie apart, of bars: values and how many there are of each, rising.

PSI is compared with what chance reaches once in a thousand times: without that it alarms in most windows
of 50, and for nothing in windows of a million.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from kt.stats.special import chi2_level

Bars = Sequence[tuple[float, int]]

PARTS = 10
FLATTEST = 0.001  # a reference narrower than this is not divided by


def parts(reference: Bars, current: Bars, most: int = PARTS) -> tuple[list[int], list[int]]:
    """Counts of both, in parts that hold about as many of the reference each.

    A value that fills a part is one alone, so that what comes beside it is seen.
    """
    edges = _edges(reference, most)
    return _counted(reference, edges), _counted(current, edges)


def _edges(bars: Bars, most: int) -> list[float]:
    """Where the parts end, each edge its part's highest value; the last part has none."""
    whole = sum(n for _, n in bars)
    edges: list[float] = []
    held = seen = 0  # in the open part, in all
    for value, n in bars:
        full = seen * most // whole
        held, seen = held + n, seen + n
        if n * most >= whole:
            if held > n or not edges:
                edges.append(math.nextafter(value, -math.inf))
            edges.append(value)
            held = 0
        elif seen * most // whole > full and seen < whole:
            edges.append(value)
            held = 0
    return edges


def _counted(bars: Bars, edges: Sequence[float]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value, n in bars:
        counts[bisect_left(edges, value)] += n
    return counts


def psi(reference: Sequence[int], current: Sequence[int]) -> float | None:
    """Σ (q - p) ln(q / p), with 0.5 added to every count. None where one of them is empty."""
    if not sum(reference) or not sum(current):
        return None
    p, q = _flattened(reference), _flattened(current)
    return math.fsum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def chance(bins: int, n: int, m: int) -> float:
    """The PSI that samples of n and m from one distribution reach once in a thousand times.

    Yurdakul and Naranjo 2020.
    """
    return chi2_level(0.001, bins - 1) * (1 / n + 1 / m) if bins > 1 else 0.0


def kolmogorov_smirnov(reference: Bars, current: Bars) -> float | None:
    """The largest distance of the cumulative shares. None where one of them is empty."""
    lines = _lines(reference, current)
    return max(abs(p - q) for _, p, q in lines) if lines else None


def wasserstein(reference: Bars, current: Bars) -> float | None:
    """How far a value has to be moved, on average, in its own unit. None where one of them is empty."""
    lines = _lines(reference, current)
    if not lines:
        return None
    return math.fsum(abs(p - q) * (right - left) for (left, p, q), (right, _, _) in pairwise(lines))


def spread(bars: Bars) -> float:
    """The standard deviation that a distance is divided by."""
    n = sum(count for _, count in bars)
    mean = math.fsum(value * count for value, count in bars) / n
    square = math.fsum((value - mean) ** 2 * count for value, count in bars) / n
    return max(math.sqrt(square), FLATTEST)


def jensen_shannon(reference: Sequence[int], current: Sequence[int]) -> float | None:
    """0 to 1: the square root of the divergence, base 2. None where one of them is empty."""
    n, m = sum(reference), sum(current)
    if not n or not m:
        return None

    def gained(p: float, middle: float) -> float:
        return p * math.log2(p / middle) if p else 0.0

    pairs = [(a / n, b / m) for a, b in zip(reference, current, strict=True)]
    divergence = math.fsum(gained(p, (p + q) / 2) + gained(q, (p + q) / 2) for p, q in pairs) / 2
    return math.sqrt(max(divergence, 0.0))


def _flattened(counts: Sequence[int]) -> list[float]:
    whole = sum(counts) + 0.5 * len(counts)
    return [(n + 0.5) / whole for n in counts]


def _lines(reference: Bars, current: Bars) -> list[tuple[float, float, float]]:
    """Every value with the share of each at or below it."""
    n, m = sum(count for _, count in reference), sum(count for _, count in current)
    if not n or not m:
        return []
    held: dict[float, list[int]] = {}
    for place, bars in enumerate((reference, current)):
        for value, count in bars:
            held.setdefault(value, [0, 0])[place] += count
    values = sorted(held)
    p = accumulate(held[value][0] for value in values)
    q = accumulate(held[value][1] for value in values)
    return [(value, a / n, b / m) for value, a, b in zip(values, p, q, strict=True)]
