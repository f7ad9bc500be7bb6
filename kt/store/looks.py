"""What was seen each time an experiment was looked at: its interval over time."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert


@dataclass(frozen=True)
class Look:
    """at: seconds since the epoch. phase: the one it was made in. estimate: treatment minus control.
    metric, alpha: what the interval is of, and how sure."""

    experiment: str
    phase: int
    at: int
    metric: str
    alpha: float
    estimate: float
    lower: float
    upper: float
    log_e: float
    n_control: int
    n_treatment: int
    verdict: str


FIELDS = tuple(Look.__dataclass_fields__)


def looks(store: Store, experiment: str, phases: Collection[int]) -> list[Look]:
    """Those made in these phases, the oldest first."""
    table = schema.looks
    asked = (
        select(*(table.c[name] for name in FIELDS))
        .where(table.c.experiment == experiment, table.c.phase.in_(list(phases)))
        .order_by(table.c.at)
    )
    with store.read() as connection:
        return [Look(*row) for row in connection.execute(asked)]


def add(store: Store, look: Look) -> None:
    """Keep a look. Two in the same second are one."""
    with store.write() as connection:
        statement = insert(connection, schema.looks).on_conflict_do_nothing()
        connection.execute(statement, {name: getattr(look, name) for name in FIELDS})
