"""Moments of a metric in each bucket of units: what an experiment compares its variants by.

Units make many predictions, and those of one unit go together; a bucket (0 to 127) gathers units,
and buckets are independent. Kept by the day of the predictions, so that a reader can leave out those
that are too young for all their outcomes to be there.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from kt.stats.moments import Moments
from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert

RIGHT = "right"  # 1 where the prediction was, else 0
ERROR = "error"  # |outcome - value| of numbers, the squared error of probabilities and categories
OUTCOME = "outcome"  # as a number
METRICS = (RIGHT, ERROR, OUTCOME)


def add(
    connection: Connection, seen: Mapping[tuple[int, str, int, int], Moments], sign: int = 1
) -> None:
    """By stream, metric, bucket and day since the epoch. sign: -1 takes off what an earlier outcome has added."""
    rows = [
        {"stream": stream, "metric": metric, "bucket": bucket, "day": day, "sign": sign}
        | {"n": one.n, "mean": one.mean, "m2": one.m2}
        for (stream, metric, bucket, day), one in sorted(seen.items(), key=lambda item: item[0])
        if one.n
    ]
    if rows:
        connection.execute(merging(connection), rows)


def merging(connection: Connection) -> Any:
    """Chan's sum of two moments (see kt.stats.moments), where the row is there already."""
    table = schema.buckets
    statement = insert(connection, table)
    ours, theirs = table.c, statement.excluded
    n = ours.n + theirs.n
    off = theirs.mean - ours.mean
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={
            "n": n,
            "mean": ours.mean + off * theirs.n / n,
            "m2": ours.m2 + theirs.m2 + off * off * ours.n * theirs.n / n,
        },
    )


def buckets(
    store: Store, ids: Collection[int], metric: str, before: int | None = None
) -> dict[int, dict[int, Moments]]:
    """By stream and bucket, of every one of `ids`. before: the day from which on nothing counts."""
    columns = schema.buckets.c
    asked = (
        select(columns.stream, columns.bucket, columns.sign, columns.n, columns.mean, columns.m2)
        .where(columns.stream.in_(list(ids)), columns.metric == metric)
        .order_by(columns.sign.desc())  # what was corrected comes off the whole
    )
    if before is not None:
        asked = asked.where(columns.day < before)
    out: dict[int, dict[int, Moments]] = {stream: {} for stream in ids}
    with store.read() as connection:
        for stream, bucket, sign, *moments in connection.execute(asked):
            whole = out[stream].setdefault(bucket, Moments())
            (whole.merge if sign > 0 else whole.unmerge)(Moments(*moments))
    return out
