"""Outcomes: how many predictions turned out right, by how much they were off, and their scores by what happened.

A row lies at the minute of its prediction. An outcome that was corrected is taken off by a row of
its own (sign -1), and the reader takes it off from the whole: from sums that do not hold it, moments
cannot be.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Column, Connection, Select, func, select
from sqlalchemy import insert as insert_into

from kt.stats.moments import Moments
from kt.stats.scores import Histogram
from kt.store import schema, sketches
from kt.store.database import Store
from kt.store.rows import Place, folded, within
from kt.store.sketches import NEGATIVES, POSITIVES, Key

ALL = ("counts", "bins")  # the parts that may be read


@dataclass(slots=True)
class Sums:
    """right: predictions that were. error: moments of |outcome - value| of numbers, of the squared error
    of probabilities and categories."""

    n: int = 0
    right: int = 0
    error: Moments = field(default_factory=Moments)

    def parts(self) -> Iterator[tuple[str, Histogram]]:
        """The distributions that hold something, by their names in the tables."""
        yield from ()


@dataclass(slots=True)
class Labels(Sums):
    """All of it, which merges.

    positives, negatives: the scores of the predictions by their outcome (of categories: whether the
    likeliest was the one); numbers have none.
    """

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
            if not any(theirs.counts):  # as most often: little is corrected
                continue
            ours.counts = [a - b for a, b in zip(ours.counts, theirs.counts, strict=True)]
            # an empty bin sums to nothing, whatever rounding left
            ours.sums = [
                a - b if n else 0.0
                for n, a, b in zip(ours.counts, ours.sums, theirs.sums, strict=True)
            ]
            ours.squares -= theirs.squares

    def parts(self) -> Iterator[tuple[str, Histogram]]:
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


def add(
    connection: Connection, seen: Mapping[tuple[int, int], Sums], sign: int = 1, span: int = 1
) -> None:
    """By stream and minute of the prediction, or the first of so many. sign: -1 takes off what an earlier
    outcome has added."""
    rows = [
        {
            "stream": stream,
            "minute": minute,
            "span": span,
            "sign": sign,
            "n": one.n,
            "right": one.right,
        }
        | {"error_n": one.error.n, "error_mean": one.error.mean, "error_m2": one.error.m2}
        for (stream, minute), one in seen.items()
        if one.n
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
    table = schema.labels
    with store.read() as connection:
        if "counts" in parts:
            by_stream = counted(ids, start, end, table.c.stream)
            for stream, sign, *counts in connection.execute(by_stream):
                sums[stream].of(sign).merge(of(*counts))
        for place, name, sign, histogram in sketches.read(connection, ids, bins(parts), start, end):
            getattr(sums[place.stream].of(sign), name).merge(histogram)
    return {stream: signed.net() for stream, signed in sums.items()}


def series(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str] = ALL
) -> Iterator[tuple[int, int, int, Labels]]:
    """(stream, minute, span, labels) in order. Histograms come by the hour, the rest by the minute as long
    as it is kept so: they may be of different rows, and all rows add up to `total`."""
    fine: dict[Place, Signed] = {}
    coarse: dict[Place, Signed] = {}
    columns = schema.labels.c
    with store.read() as connection:
        if "counts" in parts:
            by_row = counted(ids, start, end, columns.stream, columns.minute, columns.span)
            for stream, minute, span, sign, *counts in connection.execute(by_row):
                signed = fine.setdefault(Place(stream, minute, span), Signed())
                signed.of(sign).merge(of(*counts))
        for place, name, sign, histogram in sketches.read(connection, ids, bins(parts), start, end):
            getattr(coarse.setdefault(place, Signed()).of(sign), name).merge(histogram)
    out = folded(fine)
    for place, signed in folded(coarse).items():
        out.setdefault(place, Signed()).merge(signed)
    for place in sorted(out):
        yield (*place, out[place].net())


def bins(parts: Collection[str]) -> tuple[str, ...]:
    """The histograms to read."""
    return (POSITIVES, NEGATIVES) if "bins" in parts else ()


def counted(
    ids: Collection[int], start: int, end: int, *by: Column[int]
) -> Select[*tuple[Any, ...]]:
    """The sums of counts and the moments of errors, for each value of the columns that tell rows apart, and sign.

    The mean first, then what lies around it: sums of squares would have no digits left (see kt.stats.moments).
    """
    table = schema.labels
    apart = [*by, table.c.sign]
    n, weighted = func.sum(table.c.error_n), func.sum(table.c.error_n * table.c.error_mean)
    mean = weighted.over(partition_by=apart) / func.nullif(n.over(partition_by=apart), 0)
    rows = (
        select(table, func.coalesce(mean, 0.0).label("whole"))
        .where(within(table, ids, start, end))
        .subquery()
        .c
    )
    off = rows.error_mean - rows.whole
    kept = [rows[column.name] for column in apart]
    return select(
        *kept,
        *(func.sum(rows[name]) for name in ("n", "right", "error_n")),
        func.max(rows.whole),
        func.sum(rows.error_m2 + rows.error_n * off * off),
    ).group_by(*kept)


def of(n: int, right: int, error_n: int, mean: float, m2: float) -> Labels:
    return Labels(int(n), int(right), Moments(int(error_n), mean, m2))
