"""A database by its file or URL, and its transactions; every error of it leaves here as kt's own.

SQLite: one file in WAL mode, any number of readers beside one writer, who waits up to WAIT. A write
begins with the lock (BEGIN IMMEDIATE), so that none fails halfway for want of it.

A connection is made for each transaction: a file that was deleted is noticed at once, processes may
fork, nobody has anything to close.

SQLAlchemy and sqlite3 are imported in functions: a command that finds no tables must not wait for them.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kt.errors import Corrupt, Invalid, KtError, Unavailable
from kt.store import network

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection, Engine

WAIT = 5.0  # seconds, for another process's write to end
DAMAGED = ("malformed", "not a database", "database disk image")
AWAY = (
    "move it away with its -wal and -shm: kt makes a new one, and nothing else is lost;"
    " the .recover of sqlite3 may save its rows"
)
WAYS_OUT = (  # what the database says, and what to do about it
    ("locked", "another process holds them; see which: lsof on the file"),
    ("full", "make room on the disk"),
    ("disk I/O", "make room on the disk, if it is full; else see what the system's log says of it"),
    ("unable to open", "is the file there, and may this user write it and its folder?"),
    ("readonly", "let the user who runs kt write the file and its folder"),
    ("no such table", "kt makes them when it next writes"),
)


@dataclass(frozen=True)
class Store:
    """where: for people, without a password."""

    engine: "Engine"
    where: str

    @contextmanager
    def read(self) -> Iterator["Connection"]:
        """A connection that sees one state of the tables. Raises Unavailable or Corrupt."""
        with translated(self.where), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator["Connection"]:
        """One transaction; keep it short. Raises Unavailable or Corrupt: then nothing was written, unless
        the connection was lost at its very end."""
        writing = self.engine.execution_options(writing=True)
        with translated(self.where), writing.begin() as connection:
            yield connection

    def shrink(self) -> None:
        """Write SQLite's log into its file, so that it does not grow. Waits for who reads, up to WAIT."""
        if self.engine.dialect.name == "sqlite":
            with translated(self.where), closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def at(place: Path | str) -> Store:
    """A file of SQLite, or the URL of a PostgreSQL server. Nothing is opened yet."""
    # what fails is raised; that a ctrl-C came while a connection was closed is no news
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    if isinstance(place, Path):
        network.refuse(place)
        return sqlite(place)
    return postgresql(place)


def sqlite(path: Path) -> Store:
    import sqlite3

    from sqlalchemy import NullPool, create_engine, event

    def connected() -> "sqlite3.Connection":
        # mode=rw: a file that was deleted is an error, never an empty one made in silence
        opened = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=WAIT,
            isolation_level=None,  # transactions are begun below
            check_same_thread=False,
        )
        try:
            opened.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            opened.close()
            raise
        return opened

    engine = create_engine("sqlite://", creator=connected, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: "Connection") -> None:
        writing = connection.get_execution_options().get("writing")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return Store(engine, str(path))


def postgresql(url: str) -> Store:
    from sqlalchemy import NullPool, create_engine, make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(parsed, poolclass=NullPool)
    except ArgumentError as error:
        raise Invalid(
            f"store.url: {error}",
            where="kt.toml",
            do="write it as postgresql://USER@HOST/NAME, or sqlite:///FILE",
        ) from error
    except ModuleNotFoundError as error:
        raise Unavailable(
            "PostgreSQL's driver is not installed", where="kt.toml", do="pip install 'kt[postgres]'"
        ) from error
    return Store(engine, parsed.set(drivername="postgresql").render_as_string(hide_password=True))


@contextmanager
def translated(where: str) -> Iterator[None]:
    """What the database says, as an error with a way out. A statement that is wrong stays a bug."""
    import sqlite3

    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

    try:
        yield
    except (DataError, IntegrityError):
        raise
    except DBAPIError as error:
        raise told(error.orig, where) from error
    except sqlite3.Error as error:
        raise told(error, where) from error


def told(error: BaseException | None, where: str) -> KtError:
    reason = str(error).strip().partition("\n")[0]
    if any(sign in reason for sign in DAMAGED):
        return Corrupt(f"the tables are damaged: {reason}", where=where, do=AWAY)
    do = next(
        (do for sign, do in WAYS_OUT if sign in reason), "can they be reached? see: kt doctor"
    )
    return Unavailable(f"the tables did not answer: {reason}", where=where, do=do)
