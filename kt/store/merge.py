"""The tables of another machine, added to these: so two machines that serve one experiment are judged together.

Rows that come from elsewhere carry the name of the store where they were written, and a merge puts
what that store holds now in the place of what it held before. So a merge may be repeated, what was
merged may have been merged before, and either side may have rolled up since.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select, update

from kt.errors import Invalid, Refused
from kt.store import database, migrate, requests, schema, units
from kt.store.database import Store
from kt.store.rows import insert

FILE = "kt.db"
SUMS = (
    schema.traffic,
    schema.labels,
    schema.sketches,
    schema.loads,
    schema.buckets,
    schema.counters,
    schema.shadows,
)
Rows = Sequence[Mapping[str, Any]]


def merge(store: Store, other: Path) -> int:
    """Bring in what another SQLite file holds, or the kt.db of a folder. Returns how many rows of counts.

    Raises Invalid where there are no tables, Refused of those of another kt and of a copy of these,
    Unavailable or Corrupt. Where it is cut off some tables are brought in and others not: merge again.
    """
    brought = 0
    with tables_at(other).read() as there:
        with store.write() as here:
            ours, theirs = known(here), known(there)
            if own(ours) == own(theirs):
                raise Refused(
                    "is a copy of these tables: what both hold would count twice",
                    where=str(other),
                    do="name the tables of another machine",
                )
            wanted = newer(ours, theirs)
            add(here, schema.streams, held(there, schema.streams))
            add(here, schema.answered, held(there, schema.answered))
            requests.bring(here, there)
            bring_units(here, there)
        for table in SUMS:
            with store.write() as here:
                for name, (source, _) in wanted.items():
                    found = held(there, table, source)
                    here.execute(delete(table).where(table.c.source == name))
                    add(here, table, [{**row, "source": name} for row in found])
                    brought += len(found)
        with store.write() as here:
            remember(here, wanted)
    return brought


def tables_at(path: Path) -> Store:
    path = path / FILE if path.is_dir() else path
    store = database.at(path)
    found = migrate.version(store)
    if found is None:
        raise Invalid(
            "there are no tables of kt", where=str(path), do=f"name a {FILE}, or its folder"
        )
    if found != migrate.HEAD:
        raise Refused(
            f"the tables are of another kt: step {found}, this one is at {migrate.HEAD}",
            where=str(path),
            do="bring both machines to one version of kt; kt doctor there brings its tables along",
        )
    return store


# What each store is called, by whom


def known(connection: Connection) -> dict[str, tuple[str, int]]:
    """Stores by name: their `source` in these tables, and the minute up to which their rows are known."""
    sources = schema.sources.c
    out = {}
    for name, own, minute in connection.execute(select(sources.id, sources.own, sources.minute)):
        out[name] = ("", last(connection)) if own else (name, minute)
    return out


def own(stores: Mapping[str, tuple[str, int]]) -> str:
    return next((name for name, (source, _) in stores.items() if not source), "")


def last(connection: Connection) -> int:
    """The minute of the last write of a process of this store."""
    batch = connection.scalar(select(func.max(schema.writers.c.minute))) or 0
    outcome = connection.scalar(select(func.max(schema.answered.c.at))) or 0
    return max(batch, outcome // 60)


def newer(
    ours: Mapping[str, tuple[str, int]], theirs: Mapping[str, tuple[str, int]]
) -> dict[str, tuple[str, int]]:
    """What to bring in: never our own rows back, nor an older copy of what was brought in already."""
    return {
        name: (source, minute)
        for name, (source, minute) in theirs.items()
        if name not in ours or (ours[name][0] and minute >= ours[name][1])
    }


def remember(connection: Connection, brought: Mapping[str, tuple[str, int]]) -> None:
    table = schema.sources
    statement = insert(connection, table)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.id], set_={"minute": statement.excluded.minute}
    )
    rows = [{"id": name, "own": 0, "minute": minute} for name, (_, minute) in brought.items()]
    if rows:
        connection.execute(statement, rows)


# Rows


def held(connection: Connection, table: Table, source: str | None = None) -> Rows:
    """All rows, or those of one source; without the numbers that the database gives them."""
    columns = [one for one in table.c if one is not table.autoincrement_column]
    asked = select(*columns)
    if source is not None:
        asked = asked.where(table.c.source == source)
    return [dict(row._mapping) for row in connection.execute(asked)]


def add(connection: Connection, table: Table, rows: Rows) -> None:
    """Those that are not there yet."""
    if rows:
        connection.execute(insert(connection, table).on_conflict_do_nothing(), rows)


def bring_units(here: Connection, there: Connection) -> None:
    """The union of both, thinned as far as either was."""
    names = schema.streams.c
    for name, level in there.execute(select(names.id, names.level).where(names.level > 0)):
        deeper = update(schema.streams).where(names.id == name, names.level < level)
        here.execute(deeper.values(level=level))
    hashes = schema.units.c
    found = there.execute(select(hashes.stream, hashes.hash).order_by(hashes.stream))
    units.keep(
        here,
        {
            stream: [row.hash for row in rows]
            for stream, rows in groupby(found, lambda row: row.stream)
        },
    )
