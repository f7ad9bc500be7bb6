"""What the tables of counts share: a row is a part of a sum, and a window of time takes the rows that lie in it."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_

HOUR, DAY = 60, 24 * 60  # minutes; a row of counts spans one minute, an hour or a day
FINE = 2 * DAY  # minutes after which hours are enough


class Place(NamedTuple):
    """Of a row: whose it is, its first minute, and how many it stands for."""

    stream: int
    minute: int
    span: int


class Sum(Protocol):
    def merge(self, other: Self, /) -> None: ...


S = TypeVar("S", bound=Sum)


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect, which knows ON CONFLICT."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def within(table: Table, ids: Iterable[int], start: int, end: int) -> ColumnElement[bool]:
    """The rows of streams from minute `start` to before `end`; one that begins earlier and holds `start` counts whole."""
    minute, span = table.c.minute, table.c.span
    return and_(
        table.c.stream.in_(list(ids)),
        minute > start - DAY,  # for the index: no row spans more
        minute >= start - start % span,
        minute < end,
    )


def folded(rows: dict[Place, S]) -> dict[Place, S]:
    """Rows in order, of which none overlap: what lies within a longer one, since it came late, is added to it."""
    out: dict[Place, S] = {}
    last = Place(0, 0, 0)
    for place in sorted(rows, key=lambda row: (row.stream, row.minute, -row.span)):
        if place.stream == last.stream and place.minute < last.minute + last.span:
            out[last].merge(rows[place])
        else:
            out[place] = rows[place]
            last = place
    return out
