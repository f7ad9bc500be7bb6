"""Whatever else is counted, by name and minute: what was dropped, refused, corrected."""

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert


def add(connection: Connection, seen: Mapping[tuple[int, str], int]) -> None:
    """By minute and name."""
    table = schema.counters
    rows = [{"minute": minute, "name": name, "n": n} for (minute, name), n in sorted(seen.items())]
    statement = insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={"n": table.c.n + statement.excluded.n}
    )
    if rows:
        connection.execute(statement, rows)


def counters(store: Store, start: int, end: int) -> Counter[str]:
    """How many of each name from minute `start` to before `end`."""
    columns = schema.counters.c
    asked = (
        select(columns.name, func.sum(columns.n))
        .where(columns.minute >= start, columns.minute < end)
        .group_by(columns.name)
    )
    with store.read() as connection:
        return Counter({name: int(n) for name, n in connection.execute(asked)})
