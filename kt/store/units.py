"""How many distinct units a stream has answered: who was assigned where, not who asked how often.

A unit is 63 bits of its pseudonym. Where the streams of one phase hold more than FULL, only hashes below
2^63 / 2^level stay, one level more each time it is full again: of every stream the same share, chosen
by hash alone. So what is kept stays an exact sample for the sample-ratio check at any traffic.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, Row, delete, func, select, update

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert

FULL = 100_000
BITS = 63


class Units(NamedTuple):
    """kept: distinct units below the bound of `level`; about kept * 2**level were seen."""

    kept: int
    level: int


def add(connection: Connection, seen: Mapping[int, Iterable[bytes]]) -> None:
    """seen: by stream, the first 8 bytes of each unit's pseudonym. The streams are known already."""
    keep(connection, {stream: map(number_of, hashes) for stream, hashes in seen.items()})


def keep(connection: Connection, seen: Mapping[int, Iterable[int]]) -> None:
    """The same of hashes as they lie in the table."""
    statement = insert(connection, schema.units).on_conflict_do_nothing()
    grown = set()
    for stream, hashes in sorted(seen.items()):
        phase = phase_of(connection, stream)
        bound = largest(max(one.level for one in phase))
        rows = [{"stream": stream, "hash": one} for one in sorted(hashes) if one <= bound]
        if rows:
            connection.execute(statement, rows)
            grown.add(tuple(one.id for one in phase))
    for ids in grown:
        thin(connection, ids)


def number_of(hashed: bytes) -> int:
    return int.from_bytes(hashed[:8]) >> 1


def largest(level: int) -> int:
    """The largest hash that stays."""
    return ((1 << BITS) >> level) - 1


def phase_of(connection: Connection, stream: int) -> list[Row[tuple[int, int]]]:
    """The id and level of every stream of a stream's phase, its own with them."""
    ours, theirs = schema.streams.alias(), schema.streams
    asked = (
        select(theirs.c.id, theirs.c.level)
        .where(ours.c.id == stream)
        .where(*(theirs.c[name] == ours.c[name] for name in ("model", "experiment", "phase")))
        .order_by(theirs.c.id)
    )
    return list(connection.execute(asked))


def thin(connection: Connection, ids: Collection[int]) -> None:
    """Leave half of what a phase holds, again and again, until it is not full."""
    held, names = schema.units.c, schema.streams.c
    level = connection.scalar(select(func.max(names.level)).where(names.id.in_(ids))) or 0
    start = level
    while count(connection, ids, level) > FULL:
        level += 1
    if level > start:
        connection.execute(update(schema.streams).where(names.id.in_(ids)).values(level=level))
        connection.execute(
            delete(schema.units).where(held.stream.in_(ids), held.hash > largest(level))
        )


def count(connection: Connection, ids: Collection[int], level: int) -> int:
    held = schema.units.c
    asked = select(func.count()).where(held.stream.in_(ids), held.hash <= largest(level))
    return connection.scalars(asked).one()


def units(store: Store, ids: Collection[int]) -> dict[int, Units]:
    """Of streams of one phase, all at one level."""
    held, names = schema.units.c, schema.streams.c
    with store.read() as connection:
        level = connection.scalar(select(func.max(names.level)).where(names.id.in_(ids))) or 0
        asked = (
            select(held.stream, func.count())
            .where(held.stream.in_(list(ids)), held.hash <= largest(level))
            .group_by(held.stream)
        )
        out = {stream: Units(0, level) for stream in ids}
        for stream, kept in connection.execute(asked):
            out[stream] = Units(kept, level)
    return out
