"""Who answers: a version in a role, from one change of traffic to the next. Whatever is counted belongs to one."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from kt.store import schema
from kt.store.batch import Stream
from kt.store.database import Store
from kt.store.rows import insert

FIELDS = tuple(Stream.__dataclass_fields__)


def remember(connection: Connection, known: Iterable[Stream]) -> None:
    """Write down the streams that are not known yet."""
    rows = [{"id": one.id} | {name: getattr(one, name) for name in FIELDS} for one in known]
    if rows:
        statement = insert(connection, schema.streams).on_conflict_do_nothing()
        connection.execute(statement, sorted(rows, key=lambda row: row["id"]))


def streams(store: Store, model: str = "", experiment: str = "") -> list[Stream]:
    """Of a model, of an experiment, or all, in the order in which they came to answer."""
    table = schema.streams
    asked = select(*(table.c[name] for name in FIELDS)).order_by(table.c.phase, table.c.variant)
    if model:
        asked = asked.where(table.c.model == model)
    if experiment:
        asked = asked.where(table.c.experiment == experiment)
    with store.read() as connection:
        return [Stream(*row) for row in connection.execute(asked)]
