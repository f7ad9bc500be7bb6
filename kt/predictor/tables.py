"""The tables, for requests that need them: opened by the first one, and anew after an error.

A request that finds them locked, full, damaged or gone is answered 503: it was no fault of the client's,
and may be sent again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kt.config import Settings
from kt.errors import Corrupt, Unavailable
from kt.store import connect
from kt.store.database import Store


class Tables:
    def __init__(self, root: Path, settings: Settings) -> None:
        self._root, self._settings = root, settings
        self._store: Store | None = None

    @contextmanager
    def open(self) -> Iterator[Store]:
        """Raises Unavailable; Refused where kt.toml switches them off."""
        try:
            self._store = self._store or connect.open(self._root, self._settings)
            yield self._store
        except (Corrupt, Unavailable) as error:
            self._store = None  # a file that was deleted, or mended, is opened anew
            raise Unavailable(error.what, do="send it again later; see: kt doctor") from error
