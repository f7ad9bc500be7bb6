"""Who answers: a version in a role, from one change of traffic to the next. Whatever is counted belongs to one."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection, select

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert


@dataclass(frozen=True)
class Stream:
    """variant: "control" or "treatment", "" where no experiment splits the traffic.

    deployment: the seq of the event that made the active version active. phase: the seq of the event
    that last changed the experiment's traffic, else the deployment's.
    share: percent of the units. kind: of what it predicts: probability, category, number or none.
    since: when the phase began (ISO 8601), "" where nobody knows.
    """

    model: str
    version: str
    variant: str
    experiment: str
    deployment: int
    phase: int
    share: float = 100.0
    kind: str = "none"
    since: str = ""

    @cached_property
    def id(self) -> int:
        """The same on every machine, for who answers alone: 63 bits."""
        names = (self.model, self.version, self.variant, self.experiment)
        text = "\0".join((*names, str(self.deployment), str(self.phase)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) & (2**63 - 1)


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
