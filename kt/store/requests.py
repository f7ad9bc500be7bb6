"""What was asked and answered, one by one, of a sample of the units: to look into, and to learn from.

A row goes by the id of its answer, so that its outcomes are found among `answered` however late they
come, and that a row which is sent again, or brought in again from another machine, is the same row.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, func, select

from kt.store import schema
from kt.store.batch import Logged
from kt.store.database import Store
from kt.store.rows import insert

AT_ONCE = 1_000  # rows


class Asked(NamedTuple):
    """A request, who answered it, and what is known of its outcomes. at: seconds since the epoch.

    unit: a labelled pseudonym, empty where nobody was named. request, answer: their fields that were kept.
    outcomes: by the place of the prediction in the answer.
    """

    id: bytes
    at: float
    unit: bytes
    model: str
    version: str
    variant: str
    experiment: str
    request: dict[str, Any]
    answer: dict[str, Any]
    outcomes: dict[int, float]


class Told(NamedTuple):
    """An outcome of a logged request. at: when the request came; told: when its outcome did."""

    id: bytes
    at: float
    unit: bytes
    version: str
    request: dict[str, Any]
    place: int
    outcome: float
    told: int


def add(connection: Connection, logged: Sequence[Logged]) -> None:
    """The streams are known already."""
    if logged:
        statement = insert(connection, schema.requests).on_conflict_do_nothing()
        connection.execute(statement, [one._asdict() for one in logged])


def bring(here: Connection, there: Connection) -> None:
    """Another store's rows, some at a time."""
    rows = there.execute(select(schema.requests)).mappings()
    statement = insert(here, schema.requests).on_conflict_do_nothing()
    for part in rows.partitions(AT_ONCE):
        here.execute(statement, [dict(row) for row in part])


def newest(
    store: Store, limit: int, since: float = 0.0, model: str = "", units: Iterable[bytes] = ()
) -> list[Asked]:
    """The last `limit` requests from `since` on, newest first. units: the pseudonyms of one unit, or of all."""
    rows, streams, answered = schema.requests.c, schema.streams.c, schema.answered.c
    asked = (
        select(
            rows.id, rows.at, rows.unit, streams.model, streams.version, streams.variant,
            streams.experiment, rows.request, rows.answer,
        )
        .join_from(schema.requests, schema.streams, streams.id == rows.stream)
        .where(rows.at >= since)
        .order_by(rows.at.desc(), rows.id)
        .limit(limit)
    )  # fmt: skip
    if model:
        asked = asked.where(streams.model == model)
    if units := list(units):
        asked = asked.where(rows.unit.in_(units))
    with store.read() as connection:
        found = connection.execute(asked).all()
        told: dict[bytes, dict[int, float]] = {row.id: {} for row in found}
        outcomes = select(answered.id, answered.place, answered.outcome)
        for name, place, outcome in connection.execute(outcomes.where(answered.id.in_(told))):
            told[name][place] = outcome
    return [
        Asked(*row[:-2], json.loads(row.request), json.loads(row.answer), told[row.id])
        for row in found
    ]


def outcomes(store: Store, model: str, until: float) -> Iterator[Told]:
    """Outcomes of the model's logged requests that were told by `until`: requests in the order in which they came,
    those of one in the order in which they were told."""
    rows, streams, answered = schema.requests.c, schema.streams.c, schema.answered.c
    columns = (
        rows.id, rows.at, rows.unit, streams.version, rows.request,
        answered.place, answered.outcome, answered.at.label("told"),
    )  # fmt: skip
    asked = joined(select(*columns), model).where(answered.at <= until)
    ordered = asked.order_by(rows.at, rows.id, answered.at, answered.place)
    with store.read() as connection:
        streaming = connection.execution_options(stream_results=True, yield_per=AT_ONCE)
        for row in streaming.execute(ordered):
            yield Told(*row)._replace(request=json.loads(row.request))


def count(store: Store, model: str, since: float = -1.0, until: float = math.inf) -> int:
    """Outcomes of the model's logged requests that were told after `since`, and by `until`."""
    told = schema.answered.c.at
    asked = joined(select(func.count()), model).where(told > since)
    if until < math.inf:
        asked = asked.where(told <= until)
    with store.read() as connection:
        return int(connection.execute(asked).scalar_one())


def joined(asked: Select[Any], model: str) -> Select[Any]:
    rows, streams, answered = schema.requests, schema.streams, schema.answered
    return asked.select_from(
        rows.join(streams, and_(streams.c.id == rows.c.stream, streams.c.model == model)).join(
            answered, answered.c.id == rows.c.id
        )
    )
