"""What is kept of many numbers: it merges as if it had seen them all, and survives being written."""

import math
import pickle
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from kt.stats.latency import Sketch
from kt.stats.moments import Moments
from kt.stats.scores import BINS, Histogram, bin_of


def moments(values: list[float]) -> Moments:
    found = Moments()
    for value in values:
        found.add(value)
    return found


def sketch(values: list[float]) -> Sketch:
    found = Sketch()
    for value in values:
        found.add(value)
    return found


def histogram(values: list[float]) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


def test_moments_merge_without_losing_digits_at_an_offset() -> None:
    found = moments([1e9 + 4, 1e9 + 7])
    found.merge(moments([1e9 + 13]))
    found.merge(Moments())
    found.merge(moments([1e9 + 16]))
    assert (found.n, found.mean, found.m2) == (4, 1e9 + 10, 90)
    assert found.variance == 30


def test_moments_leave_out_what_is_not_finite() -> None:
    assert moments([1, math.nan, 3, math.inf]) == Moments(2, 2.0, 2.0)


def test_what_was_merged_can_be_taken_back() -> None:
    found = moments([1, 0, 0, 1, 1])
    found.unmerge(moments([0]))
    assert found.n == 4
    assert found.mean == pytest.approx(0.75)
    assert found.m2 == pytest.approx(0.75)
    found.unmerge(moments([1, 0, 1, 1]))
    assert found == Moments()


def test_quantiles_are_within_one_percent() -> None:
    draw = random.Random(1)
    values = [draw.lognormvariate(3, 1.5) * draw.choice((1, 1, 1, -1)) for _ in range(2000)]
    found, ordered = sketch(values), sorted(values)
    for q in (0, 0.01, 0.2, 0.5, 0.95, 0.999, 1):
        exact = ordered[math.floor(q * (len(values) - 1))]
        assert found.quantile(q) == pytest.approx(exact, rel=0.0101)
    assert found.total == pytest.approx(math.fsum(values))
    assert found.largest == max(values)


def test_zero_is_kept_exactly_and_what_is_no_number_apart() -> None:
    found = sketch([0.0, 0.0, 5.0, math.nan, math.inf, 1e-300])
    assert (found.count, found.odd, found.quantile(0.5)) == (4, 2, 0.0)
    assert Sketch().quantile(0.5) is None


def test_numbers_of_any_size_fill_few_buckets() -> None:
    found = sketch([10.0**power for power in range(-300, 301)])
    assert found.quantile(1) == pytest.approx(1e300, rel=0.0101)
    assert found.zeros == 291


def test_scores_fall_into_bins_closed_on_the_left() -> None:
    assert [bin_of(p) for p in (0.0, 0.009, 0.01, 0.29, 0.57, 0.999, 1.0)] == [
        0,
        0,
        1,
        29,
        57,
        99,
        99,
    ]
    found = histogram([0.29, 0.295, 1.0, math.nan, -0.1, 1.1])
    assert (found.count, found.counts[29], found.odd) == (3, 2, 3)
    assert found.sums[29] == pytest.approx(0.585)
    assert found.squares == pytest.approx(0.29**2 + 0.295**2 + 1)
    assert len(found.counts) == BINS


@pytest.mark.parametrize("made", [moments, sketch, histogram])
def test_the_order_of_merging_changes_nothing(made: Callable[[list[float]], Any]) -> None:
    draw = random.Random(2)
    parts = [[draw.random() for _ in range(20)] for _ in range(5)]
    whole = made([value for part in parts for value in part])
    merged = made([])
    for part in reversed(parts):
        merged.merge(made(part))
    if isinstance(whole, Moments):
        assert (merged.n, merged.mean) == (whole.n, pytest.approx(whole.mean))
        assert merged.m2 == pytest.approx(whole.m2)
    elif isinstance(whole, Sketch):
        assert list(merged.bars()) == list(whole.bars())
    else:
        assert merged.counts == whole.counts
        assert merged.sums == pytest.approx(whole.sums)


@pytest.mark.parametrize("values", [[], [0.5], [0.0, 0.1, 0.1, 0.9, math.nan, -0.4, -4e-5]])
@pytest.mark.parametrize("made", [sketch, histogram])
def test_it_comes_back_from_bytes_and_from_another_process(
    made: Callable[[list[float]], Any], values: list[float]
) -> None:
    found = made(values)
    assert type(found).load(found.dump()) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_many_probabilities_at_once_are_what_they_are_one_by_one() -> None:
    rng = random.Random(0)
    values = [rng.random() for _ in range(500)]
    values += [place / BINS for place in range(BINS + 1)] + [-0.1, 1.1, math.nan, math.inf]
    found, expected = histogram(values[:50]), histogram(values)
    found.extend(values[50:])
    found.extend([])
    assert (found.counts, found.odd) == (expected.counts, expected.odd)
    assert found.sums == pytest.approx(expected.sums)
    assert found.squares == pytest.approx(expected.squares)


@pytest.mark.parametrize("kept", [Sketch, Histogram])
def test_bytes_of_a_later_format_are_refused(kept: type[Sketch | Histogram]) -> None:
    raw = bytearray(zlib.decompress(kept().dump()))
    raw[0] = 9
    with pytest.raises(ValueError, match="format 9"):
        kept.load(zlib.compress(bytes(raw)))


def test_bytes_of_the_first_format_are_read_still() -> None:
    of_values = sketch([0.5, 0.5, 3.0, -2.0, 0.0, math.nan])
    header = struct.pack("<BqqqddII", 1, 5, 1, 1, of_values.total, 3.0, 2, 1)
    (low, twice), (high, once), (key, n) = (
        *sorted(of_values.above.items()),
        *of_values.below.items(),
    )
    sides = struct.pack("<2i2q", low, high, twice, once) + struct.pack("<iq", key, n)
    assert Sketch.load(zlib.compress(header + sides)) == of_values
    of_scores = histogram([0.0, 0.291, 0.294, 1.0, math.nan])
    numbers = (1, of_scores.odd, of_scores.squares, *of_scores.counts, *of_scores.sums)
    assert Histogram.load(zlib.compress(struct.pack("<Bqd100q100d", *numbers))) == of_scores


def test_many_counts_take_few_bytes() -> None:
    """More than two bytes a bucket are left of a million values of an hour, and not five."""
    draw, found = random.Random(3), Sketch()
    for key in range(200):
        found.above[key] = int(1e4 * math.exp(-((key - 100) ** 2) / 2_000)) + draw.randrange(100)
    assert len(found.dump()) < 3 * 200
