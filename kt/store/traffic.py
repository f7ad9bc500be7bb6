"""Answers given: how many, how many failed, how fast, with which scores, to which requests. By stream and minute."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Row, Select, func, select
from sqlalchemy import insert as insert_into

from kt.store import counters, loads, requests, schema, shadows, sketches, units
from kt.store.batch import COUNTS, FEATURE, LATENCY, NUMBERS, SCORES, Batch, Traffic
from kt.store.database import Store
from kt.store.rows import Place, folded, insert, within
from kt.store.sketches import Key
from kt.store.streams import remember

ALL = ("counts", LATENCY, SCORES, NUMBERS, FEATURE)  # the parts that may be read


def append(store: Store, writer: str, number: int, batch: Batch, minute: int) -> bool:
    """Add a batch, in one transaction; False where this writer's batch of this number is there already.

    writer: one process from its start to its end; its numbers rise. A batch that failed may have been
    written all the same: send it again as it was, under its number, before the next one.
    minute: now.
    """
    with store.write() as connection:
        if not first_time(connection, writer, number, minute):
            return False
        remember(connection, batch.streams.values())
        add(connection, batch.traffic)
        loads.add(connection, batch.loads)
        units.add(connection, batch.units)
        counters.add(connection, batch.counts)
        shadows.add(connection, batch.shadows, minute)
        requests.add(connection, batch.logged)
    return True


def first_time(connection: Connection, writer: str, number: int, minute: int) -> bool:
    table = schema.writers
    statement = insert(connection, table).values(writer=writer, last=number, minute=minute)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.writer],
        set_={"last": number, "minute": minute},
        where=table.c.last < number,
    )
    options = {"preserve_rowcount": True}
    return connection.execute(statement, execution_options=options).rowcount == 1


def add(connection: Connection, seen: Mapping[tuple[int, int], Traffic]) -> None:
    rows = [
        {"stream": stream, "minute": minute, "span": 1}
        | {name: getattr(one, name) for name in COUNTS}
        for (stream, minute), one in seen.items()
    ]
    if rows:
        connection.execute(insert_into(schema.traffic), rows)
    sketches.add(
        connection,
        {
            Key(stream, minute, name): sketch
            for (stream, minute), one in seen.items()
            for name, sketch in one.parts()
        },
    )


def total(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str] = ALL
) -> dict[int, Traffic]:
    """The traffic of each stream from minute `start` to before `end`; of every one of `ids`.

    What is kept by the hour, or was rolled up, counts whole where its row holds `start`. parts: what
    is needed; distributions cost more than counts.
    """
    out = {stream: Traffic() for stream in ids}
    with store.read() as connection:
        if "counts" in parts:
            by_stream = counted(ids, start, end, schema.traffic.c.stream)
            for row in connection.execute(by_stream):
                out[row.stream] = of(row)
        for place, name, _, sketch in sketches.read(connection, ids, parts, start, end):
            out[place.stream].put(name, sketch)
    return out


def series(
    store: Store, ids: Collection[int], start: int, end: int, parts: Collection[str] = ALL
) -> Iterator[tuple[int, int, int, Traffic]]:
    """(stream, minute, span, traffic) in order. Scores and features come by the hour, the rest by the
    minute as long as it is kept so: they may be of different rows, and all rows add up to `total`."""
    fine: dict[Place, Traffic] = {}
    coarse: dict[Place, Traffic] = {}
    table = schema.traffic
    with store.read() as connection:
        if "counts" in parts:
            by_row = counted(ids, start, end, table.c.stream, table.c.minute, table.c.span)
            for row in connection.execute(by_row):
                fine[Place(row.stream, row.minute, row.span)] = of(row)
        for place, name, _, sketch in sketches.read(connection, ids, parts, start, end):
            rows = fine if name == LATENCY else coarse
            rows.setdefault(place, Traffic()).put(name, sketch)
    out = folded(fine)
    for place, traffic in folded(coarse).items():
        out.setdefault(place, Traffic()).merge(traffic)
    for place in sorted(out):
        yield (*place, out[place])


def slow(
    store: Store, ids: Collection[int], start: int, end: int
) -> Iterator[tuple[int, int, int]]:
    """(stream, minute, answers over the alert level), of the rows that have any."""
    table = schema.traffic
    asked = (
        select(table.c.stream, table.c.minute, func.sum(table.c.over_alert))
        .where(within(table, ids, start, end), table.c.over_alert > 0)
        .group_by(table.c.stream, table.c.minute)
    )
    with store.read() as connection:
        for stream, minute, n in connection.execute(asked):
            yield stream, minute, int(n)


def counted(
    ids: Collection[int], start: int, end: int, *by: Column[int]
) -> Select[*tuple[Any, ...]]:
    """The sums of COUNTS, for each value of the columns that tell rows apart."""
    table = schema.traffic
    sums = [func.sum(table.c[name]).label(name) for name in COUNTS]
    return select(*by, *sums).where(within(table, ids, start, end)).group_by(*by)


def of(row: Row[*tuple[Any, ...]]) -> Traffic:
    traffic = Traffic()
    for name in COUNTS:
        setattr(traffic, name, int(getattr(row, name)))
    return traffic


def newest(store: Store, ids: Collection[int]) -> int | None:
    """The minute after the last one in which a stream answered; None where none has."""
    table = schema.traffic
    asked = select(func.max(table.c.minute + table.c.span)).where(table.c.stream.in_(list(ids)))
    with store.read() as connection:
        return connection.execute(asked).scalar()
