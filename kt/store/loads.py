"""Requests of each bucket of units, over a stream's whole life: bad luck of a few units is no bad version."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, func, select

from kt.store import schema
from kt.store.batch import Load
from kt.store.database import Store
from kt.store.rows import insert


def add(connection: Connection, seen: Mapping[tuple[int, int], Load]) -> None:
    """By stream and bucket."""
    table = schema.loads
    in_order = sorted(seen.items())  # no two writers wait in a ring
    rows = [
        {"stream": stream, "bucket": bucket, "assigned": load.assigned, "failed": load.failed}
        for (stream, bucket), load in in_order
    ]
    statement = insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={name: table.c[name] + statement.excluded[name] for name in Load._fields},
    )
    if rows:
        connection.execute(statement, rows)


def loads(store: Store, ids: Collection[int]) -> dict[int, dict[int, Load]]:
    """By stream and bucket."""
    columns = schema.loads.c
    asked = (
        select(columns.stream, columns.bucket, func.sum(columns.assigned), func.sum(columns.failed))
        .where(columns.stream.in_(list(ids)))
        .group_by(columns.stream, columns.bucket)
    )
    out: dict[int, dict[int, Load]] = {stream: {} for stream in ids}
    with store.read() as connection:
        for stream, bucket, assigned, failed in connection.execute(asked):
            out[stream][bucket] = Load(int(assigned), int(failed))
    return out
