"""What a query answers, in any database that SQLAlchemy speaks to. A sample is a row; its columns are those of
`kt train`: student_id, item, response, in time order.

    [[jobs.nightly.data]]
    name = "query"
    url = "env:ANSWERS_URL"         # or sqlite:///answers.db, from the workspace
    sql = "SELECT student_id, item, response FROM answers ORDER BY at"
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from kt.errors import Invalid, Unavailable
from kt.monitors import secret
from kt.workspace import Workspace

if TYPE_CHECKING:
    from sqlalchemy import Connection

SQLITE = "sqlite:///"
AT_ONCE = 10_000  # rows


class Settings(BaseModel, extra="forbid"):
    url: str = Field(min_length=1)  # of the database; env:NAME or file:PATH where it is a secret
    sql: str = Field(min_length=1)  # one SELECT


def collect(workspace: Workspace, settings: Settings, folder: Path) -> list[Path]:
    """Its rows, as a file in `folder`. Raises Invalid or Unavailable."""
    from sqlalchemy import text

    path = folder / "query.csv"
    with opened(workspace, settings) as connection, path.open("w", newline="") as file:
        rows = connection.execute(text(settings.sql).execution_options(stream_results=True))
        out = csv.writer(file)
        out.writerow(rows.keys())
        for part in rows.partitions(AT_ONCE):
            out.writerows(part)
    return [path]


def count(workspace: Workspace, settings: Settings) -> int:
    from sqlalchemy import text

    whole = f"SELECT count(*) FROM ({settings.sql.rstrip().rstrip(';')}) AS samples"  # noqa: S608  # the owner's own
    with opened(workspace, settings) as connection:
        return int(connection.execute(text(whole)).scalar_one())


def new(workspace: Workspace, settings: Settings, before: int, since: datetime | None) -> int:
    return max(0, count(workspace, settings) - before)


@contextmanager
def opened(workspace: Workspace, settings: Settings) -> "Iterator[Connection]":
    """The database, whose errors say what to do. Raises Invalid, Refused or Unavailable."""
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

    url = settings.url
    if url.startswith(("env:", "file:")):
        url = secret.read(url, workspace.root)
    if url.startswith(SQLITE):
        path = workspace.root / url.removeprefix(SQLITE)
        if not path.is_file():  # SQLite would make an empty one
            raise Unavailable(
                "there is no database",
                where=str(path),
                do="mend the path in kt.toml, or put the database there",
            )
        url = f"{SQLITE}{path}"
    try:
        engine = create_engine(url, poolclass=NullPool)
        with engine.connect() as connection:
            yield connection
    except ArgumentError as error:
        raise Invalid(
            "is no URL of a database",
            where="kt.toml, url of a query",
            do="write it as sqlite:///FILE or postgresql://USER@HOST/NAME",
        ) from error
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"{error.name} is not installed", where="kt.toml", do=f"pip install {error.name}"
        ) from error
    except OperationalError as error:
        raise Unavailable(
            f"the query cannot be answered: {first_line(error)}",
            do="see that the database runs, and that this user may read it",
        ) from error
    except SQLAlchemyError as error:
        raise Invalid(
            first_line(error), where="kt.toml, sql of a query", do="mend the statement in kt.toml"
        ) from error


def first_line(error: Exception) -> str:
    """What the database said; SQLAlchemy's own words hold the statement, and perhaps its values."""
    return str(getattr(error, "orig", None) or error).splitlines()[0][:200]
