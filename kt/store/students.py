"""How well each student masters each skill, as the last run of each [mastery.NAME] in kt.toml found.

A run puts a student's rows in the place of those before in one transaction, and who is gone from the data goes
at its end. One that is cut off leaves of every student the old rows or the new ones, and has no end.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, case, delete, func, select, update

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert

LOW, HIGH = 0.5, 0.8  # mastery below the one is counted, and above the other


@dataclass(frozen=True)
class Run:
    """The last one of a name. skills: a digest of the file of skills, empty where the data say. at: when it began,
    in seconds since the epoch. ended, students: when the last one that was not cut off ended, 0 where none has,
    and of how many that told."""

    name: str
    model: str
    version: str
    skills: str
    at: int
    ended: int = 0
    students: int = 0

    @property
    def is_whole(self) -> bool:
        """It does not go on, nor was it cut off."""
        return self.ended >= self.at


class Row(NamedTuple):
    """A student in a skill. unit: a labelled pseudonym. items: that were asked, of the digest `reference`.
    answers: given to items of the skill, the last at `answered_at`, if that is known."""

    unit: bytes
    skill: str
    version: str
    mastery: float
    items: int
    answers: int
    answered_at: int | None
    at: int
    reference: str


class Skill(NamedTuple):
    """All students of a skill whom one run told of. mean: of their mastery. low, high: how many are below
    LOW, and above HIGH."""

    skill: str
    version: str
    at: int
    items: int
    reference: str
    students: int
    mean: float
    low: int
    high: int


def last(store: Store, name: str) -> Run | None:
    table = schema.mastery
    with store.read() as connection:
        found = connection.execute(select(table).where(table.c.name == name)).first()
        return Run(**found._mapping) if found else None


def begin(store: Store, one: Run) -> Run:
    """Write down that it begins. Later than the one before it, whatever the clock says."""
    before = last(store, one.name)
    if before:
        at = max(one.at, before.at + 1)
        one = replace(one, at=at, ended=before.ended, students=before.students)
    with store.write() as connection:
        statement = insert(connection, schema.mastery).values(vars(one))
        statement = statement.on_conflict_do_update(index_elements=["name"], set_=vars(one))
        connection.execute(statement)
    return one


def put(store: Store, name: str, rows: Sequence[Row]) -> None:
    """All rows of some students, in place of theirs. Those of a later run stay."""
    table = schema.student_mastery
    with store.write() as connection:
        statement = insert(connection, table)
        changed = {field: statement.excluded[field] for field in Row._fields[2:]}
        statement = statement.on_conflict_do_update(
            index_elements=["name", "unit", "skill"],
            set_=changed,
            where=table.c.at <= statement.excluded.at,
        )
        # in one order, so that two of them on a server wait for each other and do not stand still
        ordered = sorted(rows, key=lambda row: row[:2])
        connection.execute(statement, [{"name": name, **row._asdict()} for row in ordered])
        units = {row.unit for row in rows}
        ours = (table.c.name == name, table.c.unit.in_(units))
        connection.execute(delete(table).where(*ours, table.c.at < rows[0].at))


def end(store: Store, one: Run) -> None:
    """It is complete: what it has not told of anew is gone."""
    rows, table = schema.student_mastery.c, schema.mastery
    with store.write() as connection:
        gone = delete(schema.student_mastery).where(rows.name == one.name, rows.at < one.at)
        connection.execute(gone)
        this = update(table).where(table.c.name == one.name, table.c.at == one.at)
        connection.execute(this.values(ended=one.ended, students=one.students))


def skills(store: Store, name: str) -> list[Skill]:
    """By skill; several of one where the last run was cut off or goes on."""
    rows = schema.student_mastery.c
    told = [rows[name] for name in ("skill", "version", "at", "items", "reference")]
    asked = (
        select(
            *told,
            func.count(),
            func.avg(rows.mastery),
            func.sum(case((rows.mastery < LOW, 1), else_=0)),
            func.sum(case((rows.mastery > HIGH, 1), else_=0)),
        )
        .where(rows.name == name)
        .group_by(*told)
        .order_by(rows.skill, rows.at)
    )
    with store.read() as connection:
        return [Skill._make(row) for row in connection.execute(asked)]


def student(store: Store, name: str, units: Iterable[bytes]) -> list[Row]:
    """The skills of one student, by the pseudonyms that it has had."""
    rows = schema.student_mastery.c
    asked = select(*(rows[field] for field in Row._fields)).where(
        rows.name == name, rows.unit.in_(list(units))
    )
    with store.read() as connection:
        return [Row._make(row) for row in connection.execute(asked.order_by(rows.skill))]


def of(units: Collection[bytes]) -> ColumnElement[bool]:
    """Which rows are of a unit, by the pseudonyms that it has had: of each name, for the index."""
    rows = schema.student_mastery.c
    return rows.name.in_(select(schema.mastery.c.name)) & rows.unit.in_(units)


def forget(connection: Connection, before: float) -> None:
    """All of whatever ran last before then, in seconds since the epoch."""
    table, rows = schema.mastery, schema.student_mastery
    old = table.c.at < before
    connection.execute(delete(rows).where(rows.c.name.in_(select(table.c.name).where(old))))
    connection.execute(delete(table).where(old))
