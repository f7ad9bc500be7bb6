"""Outcomes: how many predictions turned out right, by how much they were off, and their scores by what happened.

A row lies at the minute of its prediction. An outcome that was corrected is taken off by a row of
its own (sign -1), and the reader takes it off from the whole: from sums that do not hold it, moments
cannot be.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import Connection, select
from sqlalchemy import insert as insert_into

from kt.stats.moments import Moments
from kt.stats.scores import Histogram
from kt.store import schema, sketches
from kt.store.database import Store
from kt.store.rows import Place, folded, within
from kt.store.sketches import NEGATIVES, POSITIVES, Key

ALL = ("counts", "bins")  # the parts that may be read


@dataclass(slots=True)
class Labels:
    """Sums, which merge.

    right: predictions that were. error: moments of |outcome - value| of numbers, of the squared error
    of probabilities and categories. positives, negatives: the scores of the predictions by their
    outcome (of categories: whether the likeliest was the one); numbers have none.
    """

    n: int = 0
    right: int = 0
    error: Moments = field(default_factory=Moments)
    positives: Histogram = field(default_factory=Histogram)
    negatives: Histogram = field(default_factory=Histogram)

    def merge(self, other: Self) -> None:
        self.n += other.n
        self.right += other.right
        self.error.merge(other.error)
        self.positives.merge(other.positives)
        self.negatives.merge(other.negatives)

    def unmerge(self, part: Self) -> None:
        """Take back what was merged."""
        self.n -= part.n
        self.right -= part.right
        self.error.unmerge(part.error)
        for ours, theirs in ((self.positives, part.positives), (self.negatives, part.negatives)):
            ours.counts = [a - b for a, b in zip(ours.counts, theirs.counts, strict=True)]
            # an empty bin sums to nothing, whatever rounding left
            ours.sums = [
                a - b if n else 0.0
                for n, a, b in zip(ours.counts, ours.sums, theirs.sums, strict=True)
            ]
            ours.squares -= theirs.squares

    def parts(self) -> Iterator[tuple[str, Histogram]]:
        """The distributions that hold something, by their names in the tables."""
        for name, histogram in ((POSITIVES, self.positives), (NEGATIVES, self.negatives)):
            if histogram.count:
                yield name, histogram


@dataclass(slots=True)
class Signed:
    """What was counted, and what of it was corrected since."""

    counted: Labels = field(default_factory=Labels)
    corrected: Labels = field(default_factory=Labels)

    def of(self, sign: int) -> Labels:
        return self.counted if sign > 0 else self.corrected

    def merge(self, other: Self) -> None:
        self.counted.merge(other.counted)
        self.corrected.merge(other.corrected)

    def net(self) -> Labels:
        self.counted.unmerge(self.corrected)
        return self.counted


def add(connection: Connection, seen: Mapping[tuple[int, int], Labels], sign: int = 1) -> None:
    """By stream and minute of the prediction. sign: -1 takes off what an earlier outcome has added."""
    rows = [
        {
            "stream": stream,
            "minute": minute,
            "span": 1,
            "sign": sign,
            "n": one.n,
            "right": one.right,
        }
        | {"error_n": one.error.n, "error_mean": one.error.mean, "error_m2": one.error.m2}
        for (stream, minute), one in seen.items()
    ]
    if rows:
        connection.execute(insert_into(schema.labels), rows)
    sketches.add(
        connection,
        {
            Key(stream, minute, name, sign): histogram
            for (stream, minute), one in seen.items()
            for name, histogram in one.parts()
        },
    )


def total(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str] = ALL
) -> dict[int, Labels]:
    """The labels of each stream's predictions from minute `start` to before `end`; of every one of `ids`."""
    sums = {stream: Signed() for stream in ids}
    fine, coarse = read(store, ids, start, end, parts)
    for rows in (fine, coarse):
        for place, signed in rows.items():
            sums[place.stream].merge(signed)
    return {stream: signed.net() for stream, signed in sums.items()}


def series(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str] = ALL
) -> Iterator[tuple[int, int, int, Labels]]:
    """(stream, minute, span, labels) in order. Histograms come by the hour, the rest by the minute as long
    as it is kept so: they may be of different rows, and all rows add up to `total`."""
    fine, coarse = (folded(rows) for rows in read(store, ids, start, end, parts))
    for place, signed in coarse.items():
        fine.setdefault(place, Signed()).merge(signed)
    for place in sorted(fine):
        yield (*place, fine[place].net())


def read(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str]
) -> tuple[dict[Place, Signed], dict[Place, Signed]]:
    """Counts by their rows, histograms by theirs."""
    fine: dict[Place, Signed] = {}
    coarse: dict[Place, Signed] = {}
    columns = schema.labels.c
    asked = select(
        columns.stream, columns.minute, columns.span, columns.sign,
        columns.n, columns.right, columns.error_n, columns.error_mean, columns.error_m2,
    ).where(within(schema.labels, ids, start, end))  # fmt: skip
    bins = (POSITIVES, NEGATIVES) if "bins" in parts else ()
    with store.read() as connection:
        if "counts" in parts:
            for stream, minute, span, sign, n, right, *error in connection.execute(asked):
                signed = fine.setdefault(Place(stream, minute, span), Signed())
                signed.of(sign).merge(Labels(n, right, Moments(*error)))
        for place, name, sign, histogram in sketches.read(connection, ids, bins, start, end):
            signed = coarse.setdefault(place, Signed())
            getattr(signed.of(sign), name).merge(histogram)
    return fine, coarse
