"""Messages that a sink has not taken yet, each sink's in the order in which they came.

Whoever sends one claims it first, for a while: it is not due for others until then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from kt.store import schema
from kt.store.database import Store


@dataclass(frozen=True)
class Notice:
    """at: when it was put there; due: not to be sent before; both in seconds. tries: so far."""

    id: int
    at: int
    tries: int
    due: int
    sink: str
    document: str


def put(connection: Connection, sinks: Sequence[str], documents: Iterable[str], now: int) -> None:
    """Each document for each sink."""
    new = [
        {"at": now, "tries": 0, "due": 0, "sink": sink, "document": document}
        for document in documents
        for sink in sinks
    ]
    if new:
        connection.execute(insert(schema.notices), new)


def first(store: Store, sink: str) -> Notice | None:
    """A sink's oldest message."""
    columns = schema.notices.c
    asked = select(schema.notices).where(columns.sink == sink).order_by(columns.id).limit(1)
    with store.read() as connection:
        row = connection.execute(asked).mappings().first()
        return Notice(**row) if row else None


def claim(store: Store, one: Notice, until: int) -> bool:
    """Take a message to send it; False where somebody else has meanwhile."""
    columns = schema.notices.c
    mine = update(schema.notices).where(columns.id == one.id, columns.due == one.due)
    with store.write() as connection:
        done = connection.execute(mine.values(due=until, tries=one.tries + 1))
        return done.rowcount == 1


def remove(store: Store, one: Notice) -> None:
    with store.write() as connection:
        connection.execute(delete(schema.notices).where(schema.notices.c.id == one.id))


def put_off(store: Store, one: Notice, due: int, document: str) -> None:
    """It was not taken: not again before `due`."""
    mine = update(schema.notices).where(schema.notices.c.id == one.id)
    with store.write() as connection:
        connection.execute(mine.values(due=due, document=document))


def waiting(store: Store) -> list[Notice]:
    """All of them, in order."""
    with store.read() as connection:
        found = connection.execute(select(schema.notices).order_by(schema.notices.c.id))
        return [Notice(**row) for row in found.mappings()]


def forget(connection: Connection, sinks: Sequence[str]) -> None:
    """Those for sinks other than these."""
    connection.execute(delete(schema.notices).where(schema.notices.c.sink.not_in(sinks)))
