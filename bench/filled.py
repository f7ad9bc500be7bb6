"""A month of traffic in the tables, as predictors and roll-ups would leave it: what bench/watching reads."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from kt.stats.latency import PER_LOG, Sketch
from kt.stats.moments import Moments
from kt.stats.scores import BINS, Histogram
from kt.store import labels
from kt.store.batch import Batch, Stream, Traffic
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.rollup import roll_up
from kt.store.traffic import append

DAY = 1440  # minutes
FEATURES = 8  # as many as a request may have
LABELLED = 0.3  # of the answers


class Month:
    """Two kinds of numbers, drawn by how many fall into each bucket: that takes as long for any traffic."""

    def __init__(self, seed: int = 1) -> None:
        self.draw = np.random.default_rng(seed)
        many = 20_000
        keys = np.ceil(np.log(self.draw.lognormal(1.0, 0.6, many)) * PER_LOG).astype(int)
        self.keys, counts = np.unique(keys, return_counts=True)
        self.of_keys = counts / many
        self.of_bins = np.histogram(self.draw.beta(4, 2, many), BINS, (0, 1))[0] / many

    def sketch(self, n: int) -> Sketch:
        counts = self.draw.multinomial(n, self.of_keys).tolist()
        above = {key: c for key, c in zip(self.keys.tolist(), counts, strict=True) if c}
        return Sketch(n, n * math.e, max(above, default=0) * 1.0, 0, 0, above)

    def histogram(self, n: int) -> Histogram:
        counts = self.draw.multinomial(n, self.of_bins).tolist()
        sums = [c * (place + self.draw.random()) / BINS for place, c in enumerate(counts)]
        return Histogram(counts, sums, sum(sums) / 2)

    def minute(self, n: int) -> Traffic:
        return Traffic(n, n, over_limit=n // 100, latency=self.sketch(n))

    def hour(self, n: int, into: Traffic) -> None:
        """What is kept by the hour, at its first minute."""
        into.scores = self.histogram(n)
        into.features = {f"feature {number}": self.sketch(n) for number in range(FEATURES)}

    def outcomes(self, n: int, first: bool) -> Labels:
        out = Labels(n, round(0.8 * n), Moments(n, 0.15, 0.01 * n))
        if first:
            out.positives, out.negatives = self.histogram(45 * n), self.histogram(15 * n)
        return out


def fill(store: Store, streams: Sequence[Stream], total: int, end: int, days: int = 30) -> None:
    """`total` answers of these streams in the days before the minute `end`, rolled up each day."""
    month, each = Month(), max(1, round(total / days / DAY / len(streams)))
    for day in range(days):
        first = end - (days - day) * DAY
        batch = Batch({one.id: one for one in streams})
        for one in streams:
            for minute in range(first, first + DAY):
                batch.traffic[one.id, minute] = month.minute(each)
                if minute % 60 == 0:
                    month.hour(60 * each, batch.traffic[one.id, minute])
        append(store, "month", day, batch, first + DAY)
        with store.write() as connection:
            labels.add(
                connection,
                {
                    (one.id, minute): month.outcomes(math.ceil(LABELLED * each), minute % 60 == 0)
                    for one in streams
                    for minute in range(first, first + DAY)
                },
            )
        roll_up(store, datetime.fromtimestamp((first + DAY) * 60, UTC))
