"""What a check of the monitors remembers for the next one: a document by key, and when each kind was made last."""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from kt.store import rows, schema
from kt.store.database import Store


def load(store: Store) -> tuple[dict[str, str], dict[str, int]]:
    """Documents by key, and seconds by kind of evaluation."""
    states, evaluations = schema.states.c, schema.evaluations.c
    with store.read() as connection:
        documents = connection.execute(select(states.key, states.document))
        made = connection.execute(select(evaluations.name, evaluations.at))
        return {row.key: row.document for row in documents}, {row.name: row.at for row in made}


def save(
    connection: Connection, documents: Mapping[str, str], made: Mapping[str, int], now: int
) -> None:
    """In place of what was remembered; of kinds that are not named it stays."""
    connection.execute(delete(schema.states))
    if documents:
        found = [{"key": key, "at": now, "document": text} for key, text in documents.items()]
        connection.execute(insert(schema.states), found)
    for name, at in made.items():
        values = {"name": name, "at": at, "until": 0, "holder": ""}
        statement = rows.insert(connection, schema.evaluations).values(values)
        statement = statement.on_conflict_do_update(
            index_elements=[schema.evaluations.c.name], set_={"at": at}
        )
        connection.execute(statement)
