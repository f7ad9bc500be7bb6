"""Distributions over time. Only Python can add them up, so they lie apart from what SQL can.

Latencies are kept by the minute; scores, features and the scores of outcomes by the hour, and by the
day when no window reaches them any more: they are looked at over a day, and would be most of the file.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, false, or_, select
from sqlalchemy import insert as insert_into

from kt.errors import Corrupt
from kt.stats.latency import Sketch
from kt.stats.scores import Histogram
from kt.store import schema
from kt.store.batch import FEATURE, LATENCY, NUMBERS, SCORES
from kt.store.database import AWAY
from kt.store.rows import HOUR, Place, within

POSITIVES, NEGATIVES = "positives", "negatives"  # scores by what then happened
TYPES: dict[str, type[Sketch | Histogram]] = {
    LATENCY: Sketch,
    FEATURE: Sketch,
    SCORES: Histogram,
    NUMBERS: Sketch,
    POSITIVES: Histogram,
    NEGATIVES: Histogram,
}


class Key(NamedTuple):
    """sign: -1 of what a correction takes off."""

    stream: int
    minute: int
    name: str
    sign: int = 1


def span_of(name: str) -> int:
    """How many minutes a new row stands for."""
    return 1 if name == LATENCY else HOUR


def add(connection: Connection, sketches: Mapping[Key, Sketch | Histogram]) -> None:
    """One row for each sketch, or for those of an hour together."""
    whole: dict[Key, Any] = {}
    for key, sketch in sketches.items():
        start = key._replace(minute=key.minute - key.minute % span_of(key.name))
        whole.setdefault(start, type(sketch)()).merge(sketch)
    rows = [
        {**key._asdict(), "span": span_of(key.name), "data": sketch.dump()}
        for key, sketch in whole.items()
    ]
    if rows:
        connection.execute(insert_into(schema.sketches), rows)


def read(
    connection: Connection, ids: Collection[int], names: Collection[str], start: int, end: int
) -> Iterator[tuple[Place, str, int, Any]]:
    """Place, name, sign and sketch of each row in a window. names: as above; FEATURE: all of them."""
    table = schema.sketches
    columns = table.c
    which = or_(
        columns.name.in_(list(names)),
        columns.name.startswith(FEATURE) if FEATURE in names else false(),
    )
    asked = select(
        columns.stream, columns.minute, columns.span, columns.name, columns.sign, columns.data
    ).where(within(table, ids, start, end), which)
    for stream, minute, span, name, sign, data in connection.execute(asked):
        yield Place(stream, minute, span), name, sign, load(name, data)


def load(name: str, data: bytes) -> Any:
    """Raises Corrupt."""
    kind = TYPES[FEATURE if name.startswith(FEATURE) else name]
    try:
        return kind.load(data)
    except (ValueError, struct.error, zlib.error) as error:
        raise Corrupt(
            f"the tables hold a distribution ({name}) that kt did not write", do=AWAY
        ) from error
