"""Tables are made as schema.py has them, and those of an older kt brought up to date by Alembic's steps in
migrations/: one process at a time.

Alembic is imported only where there is a step to take: it costs a worker 10 MB.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    insert,
    inspect,
    select,
)

from kt import files
from kt.errors import Unavailable
from kt.store.database import Store, translated
from kt.store.schema import metadata, sources

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "0004"  # the newest step
STEPS = Path(__file__).parent / "migrations"
LOCK = 0x6B74  # a number for PostgreSQL's advisory lock
STANDS = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def version(store: Store) -> str | None:
    """The last step that these tables have taken; None where there are no tables."""
    if store.engine.dialect.name == "sqlite" and not Path(store.where).exists():
        return None
    with store.read() as connection:
        return stands_at(connection)


def stands_at(connection: "Connection") -> str | None:
    if not inspect(connection).has_table(STANDS.name):
        return None
    return connection.scalar(select(STANDS.c.version_num))


def make(store: Store, local: Path) -> None:
    """Make the tables, or take the steps that are missing. local: the workspace's .kt/.

    Raises Unavailable, of a newer kt's tables too.
    """
    if store.engine.dialect.name == "sqlite":
        with alone(local):
            prepare(store)
            upgrade(store)
    else:
        upgrade(store)


@contextmanager
def alone(local: Path) -> Iterator[None]:
    """One process of this machine at a time. The database's own lock does not hold while it becomes WAL."""
    path = local / "store.lock"
    with files.named("lock", path):
        local.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def prepare(store: Store) -> None:
    """A file in WAL mode that its owner alone may read: SQLite makes the files beside it alike."""
    path = Path(store.where)
    with files.named("make", path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with translated(store.where):
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()


def upgrade(store: Store) -> None:
    with store.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        stands = stands_at(connection)
        if stands is None:
            create(connection)
        elif stands != HEAD:  # else another process was first
            climb(connection, store.where)


def create(connection: "Connection") -> None:
    """The tables as they are after the last step."""
    metadata.create_all(connection, checkfirst=False)
    STANDS.create(connection)
    connection.execute(insert(STANDS).values(version_num=HEAD))
    # others that merge these tables know them again by this
    connection.execute(insert(sources).values(id=secrets.token_hex(8), own=1, minute=0))


def climb(connection: "Connection", where: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(steps(connection), "head")
    except CommandError as error:
        raise Unavailable(
            f"the tables are of a newer kt: step {stands_at(connection)}, this one knows {HEAD}",
            where=where,
            do="install that kt, or name other tables: store.url in kt.toml",
        ) from error


def steps(connection: "Connection") -> "Config":
    """Alembic's configuration, on a connection whose transaction holds all the steps or none."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    return config
