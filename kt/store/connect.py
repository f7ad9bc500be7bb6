"""The workspace's tables, by `[store] url` in kt.toml: made where needed, or only looked for.

SQLAlchemy is imported in functions: a command that finds no tables must not wait for it.
"""

from pathlib import Path

from kt.config import Settings
from kt.errors import Refused
from kt.store import database
from kt.store.database import Store

SQLITE = "sqlite:///"


def open(root: Path, settings: Settings) -> Store:  # noqa: A001  # read as connect.open
    """The workspace's tables, made or brought up to date where needed.

    Raises Refused where kt.toml switches them off, Invalid, Unavailable or Corrupt.
    """
    url = settings.store.url
    if not url:
        raise Refused(
            "there are no tables: store.url is empty", where="kt.toml", do="see: kt config store"
        )
    from kt.store import migrate

    store = database.at(file_of(root, url) or url)
    if migrate.version(store) != migrate.HEAD:
        migrate.make(store, root / ".kt")
    return store


def peek(root: Path, settings: Settings) -> Store | None:
    """As `open`, for who only reads: None where there are no tables yet, and none are made."""
    url = settings.store.url
    path = file_of(root, url)
    if not url or (path is not None and not path.exists()):
        return None
    from kt.store import migrate

    store = database.at(path or url)
    found = migrate.version(store)
    if found is None:
        return None
    return store if found == migrate.HEAD else open(root, settings)


def file_of(root: Path, url: str) -> Path | None:
    """Where SQLite keeps its file; None of another database."""
    return root / url.removeprefix(SQLITE) if url.startswith(SQLITE) else None
