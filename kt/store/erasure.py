"""What the tables hold of one unit: found by the pseudonyms that it has had, and erased.

Three tables have rows of units: `requests`, `student_mastery`, and `units`, which only says that one was in an experiment.
Everything else is sums. Outcomes stay, by the id of their answer: whose they were only `requests` told.
"""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Table, delete, func, select

from kt.store import pseudonym, schema, students
from kt.store.database import Store
from kt.store.secret import Secret
from kt.store.units import number_of

TABLES = {
    schema.requests: "what was asked and answered",
    schema.student_mastery: "how well it masters a skill",
    schema.units: "that it was in an experiment",
}


def find(store: Store, secret: Secret, unit: str) -> dict[str, int]:
    """How many rows each table holds of a unit. What was written under a key that is gone is not found."""
    with store.read() as connection:
        return {
            table.name: connection.scalars(select(func.count()).where(which)).one()
            for table, which in rows(secret, unit).items()
        }


def erase(store: Store, secret: Secret, unit: str) -> dict[str, int]:
    """Delete them, in one transaction. Returns how many there were."""
    with store.write() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")  # no trace in the file either
        erased = {
            table.name: connection.execute(delete(table).where(which)).rowcount
            for table, which in rows(secret, unit).items()
        }
    store.shrink()
    return erased


def rows(secret: Secret, unit: str) -> Mapping[Table, ColumnElement[bool]]:
    """Which rows of each table are of a unit."""
    names, labelled = pseudonym.every(secret, unit), pseudonym.labelled(secret, unit)
    return {
        schema.requests: schema.requests.c.unit.in_(labelled),
        schema.student_mastery: students.of(labelled),
        schema.units: schema.units.c.hash.in_([number_of(name) for name in names.values()]),
    }
