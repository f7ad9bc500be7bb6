"""Old rows become few: what is written every 10 s becomes a row a minute, an hour, a day. Days stay for ever.

Sums are made beside the writers and put in by a short transaction that deletes the very rows which
were added up: where another process was quicker, nothing is done. Rows that come late are added by
the next roll-up.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    union,
)

from kt.stats.moments import Moments
from kt.store import schema, sketches, students
from kt.store.batch import COUNTS, LATENCY
from kt.store.database import Store
from kt.store.rows import DAY, FINE, HOUR

HORIZON = LOG = timedelta(days=30)  # as in kt.toml
KEEP = 90 * DAY  # minutes; what is known of units, after the last answer of a stream
TOGETHER = 500  # rows that one transaction deletes

Found = Row[*tuple[Any, ...]]


class Step(NamedTuple):
    """Rows that are older than `after` minutes become one row for each `span` minutes."""

    span: int
    after: int


FROM_MINUTES = (Step(1, 10), Step(HOUR, FINE), Step(DAY, 90 * DAY))
FROM_HOURS = (
    Step(HOUR, 10),
    Step(DAY, 9 * DAY),
)  # a window looks back 7 days at most, from a day ago


@dataclass(frozen=True)
class Ladder:
    """The rows of a table that are rolled up alike. apart: the columns that tell sums apart."""

    table: Table
    which: ColumnElement[bool]
    apart: tuple[str, ...]
    add_up: Callable[[Sequence[Found]], dict[str, Any]]
    steps: Sequence[Step]


def roll_up(
    store: Store, now: datetime, horizon: timedelta = HORIZON, log: timedelta = LOG
) -> None:
    """Put old rows together, and forget what nobody asks for any more. horizon: how late outcomes may come.
    log: how long requests are kept, and their outcomes with them; and what is known of students, once nobody
    measures it any more.

    Raises Unavailable or Corrupt: what was done by then is done, and the rest will be the next time.
    """
    minute = int(now.timestamp()) // 60
    for ladder in LADDERS:
        for step in ladder.steps:
            for old, new in sums(store, ladder, step, minute - step.after):
                replace(store, ladder.table, old, new)
    forget(store, minute, horizon, log)
    store.shrink()


def sums(
    store: Store, ladder: Ladder, step: Step, cut: int
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Ids of rows before the minute `cut`, and the rows that take their place; some at a time."""
    old: list[int] = []
    new: list[dict[str, Any]] = []
    with store.read() as connection:
        for stream, day in crowded(connection, ladder, step, cut):
            for parts in groups(connection, ladder, step, stream, day, min(cut, day + DAY)):
                if len(parts) == 1 and parts[0].span == step.span:
                    continue
                first = parts[0]
                start = {"stream": stream, "minute": first.minute - first.minute % step.span}
                apart = {name: getattr(first, name) for name in ladder.apart}
                old += [part.id for part in parts]
                new.append(start | {"span": step.span} | apart | ladder.add_up(parts))
                if len(old) >= TOGETHER:
                    yield old, new
                    old, new = [], []
    if old:
        yield old, new


def crowded(
    connection: Connection, ladder: Ladder, step: Step, cut: int
) -> Sequence[Row[int, int]]:
    """The streams and days (their first minutes) where there is something to put together."""
    columns = ladder.table.c
    start = columns.minute - columns.minute % step.span
    day = columns.minute - columns.minute % DAY
    asked = (
        select(columns.stream, day)
        .where(columns.minute < cut, columns.span <= step.span, ladder.which)
        .group_by(columns.stream, day, start, *(columns[name] for name in ladder.apart))
        .having(or_(func.count() > 1, func.min(columns.span) < step.span))
        .distinct()
    )
    return connection.execute(asked).all()


def groups(
    connection: Connection, ladder: Ladder, step: Step, stream: int, start: int, end: int
) -> Iterable[list[Found]]:
    """The rows of a stream from minute `start` to before `end`, those together that become one row."""
    columns = ladder.table.c
    asked = select(ladder.table).where(
        columns.stream == stream,
        columns.minute >= start,
        columns.minute < end,
        columns.span <= step.span,
        ladder.which,
    )
    out = defaultdict(list)
    for row in connection.execute(asked):
        place = row.minute - row.minute % step.span
        out[place, *(getattr(row, name) for name in ladder.apart)].append(row)
    return out.values()


def replace(store: Store, table: Table, old: list[int], new: list[dict[str, Any]]) -> None:
    with store.write() as connection:
        gone = connection.execute(delete(table).where(table.c.id.in_(old))).rowcount
        if gone == len(old):
            connection.execute(insert(table), new)
        else:
            connection.rollback()  # another process has put some of them together


def counts(rows: Sequence[Found]) -> dict[str, Any]:
    return {name: sum(getattr(row, name) for row in rows) for name in COUNTS}


def outcomes(rows: Sequence[Found]) -> dict[str, Any]:
    error = Moments()
    for row in rows:
        error.merge(Moments(row.error_n, row.error_mean, row.error_m2))
    return {
        "n": sum(row.n for row in rows),
        "right": sum(row.right for row in rows),
        "error_n": error.n,
        "error_mean": error.mean,
        "error_m2": error.m2,
    }


def distribution(rows: Sequence[Found]) -> dict[str, Any]:
    first, *rest = (sketches.load(row.name, row.data) for row in rows)
    for sketch in rest:
        first.merge(sketch)
    return {"data": first.dump()}


TELLING = ("source", "name", "sign")
BY_MINUTE = schema.sketches.c.name == LATENCY
LADDERS = (
    Ladder(schema.traffic, true(), ("source",), counts, FROM_MINUTES),
    Ladder(schema.labels, true(), ("source", "sign"), outcomes, FROM_MINUTES),
    Ladder(schema.sketches, BY_MINUTE, TELLING, distribution, FROM_MINUTES),
    Ladder(schema.sketches, ~BY_MINUTE, TELLING, distribution, FROM_HOURS),
)


def forget(store: Store, minute: int, horizon: timedelta, log: timedelta) -> None:
    """Delete what is past its use. minute: now."""
    late = minute - horizon // timedelta(minutes=1)
    alive = union(
        *(
            select(table.c.stream).where(table.c.minute >= minute - KEEP)
            for table in (schema.traffic, schema.labels)
        )
    )
    with store.write() as connection:
        requests, answered = schema.requests, schema.answered.c
        gone = 60 * minute - log.total_seconds()
        connection.execute(delete(requests).where(requests.c.at < gone))
        students.forget(connection, gone)
        logged = exists().where(requests.c.id == answered.id)
        connection.execute(delete(schema.answered).where(answered.minute < late, ~logged))
        for table in (schema.units, schema.buckets, schema.loads):
            connection.execute(delete(table).where(table.c.stream.not_in(alive)))
        connection.execute(delete(schema.counters).where(schema.counters.c.minute < minute - KEEP))
        connection.execute(delete(schema.shadows).where(schema.shadows.c.at < 60 * (minute - KEEP)))
        connection.execute(delete(schema.writers).where(schema.writers.c.minute < late))
