"""What the tables tell of themselves: how large they are, when they were last written, whether they are rolled up."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import DAY

LATE = 3 * DAY  # a minute that is older should be part of an hour


class Health(NamedTuple):
    """size: bytes, None of a server. written: the minute of the last batch, None before the first.
    unrolled: minutes since the oldest row that a roll-up should have taken, 0 where there is none."""

    size: int | None
    written: int | None
    unrolled: int


def health(store: Store, minute: int) -> Health:
    """minute: now."""
    rows = schema.traffic.c
    with store.read() as connection:
        written = connection.scalar(select(func.max(schema.writers.c.minute)))
        oldest = connection.scalar(select(func.min(rows.minute)).where(rows.span == 1))
    age = minute - oldest if oldest is not None else 0
    return Health(size(store), written, age if age > LATE else 0)


def size(store: Store) -> int | None:
    """The file, with the log beside it."""
    if store.engine.dialect.name != "sqlite":
        return None
    paths = [Path(store.where), Path(f"{store.where}-wal")]
    return sum(path.stat().st_size for path in paths if path.exists())
