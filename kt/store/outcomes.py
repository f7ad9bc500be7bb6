"""What came of predictions, as clients tell it: read, and held against what the id says of them.

    {"prediction_id": ID, "outcome": 1}
    {"prediction_id": ID, "outcome": [1, null, 0]}      of each of an answer's predictions, in their order
    {"prediction_id": ID, "outcome": 1, "place": 2}     of one of them, counted from 0

A null is not known yet, and may come later. What an outcome may be depends on what was predicted:
0 or 1 of a probability and of what has no score (was it right?), a category's number of a category,
any number of a number. False and true are 0 and 1.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

from kt.errors import Invalid
from kt.stats.scored import CATEGORIES, Kind
from kt.store.ids import MOST, Ids, Ticket

FIELDS = ("prediction_id", "outcome", "place")
NUMBERS = (int, float, bool)
LARGEST = 1e100  # whose square, and sums of such, are finite


class Outcome(NamedTuple):
    """Of one prediction of an answer. place: which of its predictions, from 0."""

    ticket: Ticket
    place: int
    value: float


@dataclass(slots=True)
class Counted:
    """What became of outcomes.

    accepted: the first of their prediction. corrected: another one than before. duplicate: the same again.
    late: after the horizon. early: before their prediction. unknown: of a stream that is not in the tables.
    malformed, version, key, forged: of ids, see ids.Unreadable.
    """

    accepted: int = 0
    corrected: int = 0
    duplicate: int = 0
    late: int = 0
    early: int = 0
    unknown: int = 0
    malformed: int = 0
    version: int = 0
    key: int = 0
    forged: int = 0

    def add(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def merge(self, other: Self) -> None:
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def used(self) -> int:
        """Outcomes that the tables hold now, whoever told them first."""
        return self.accepted + self.corrected + self.duplicate

    @property
    def refused(self) -> int:
        told: list[int] = [getattr(self, name) for name in NAMES]
        return sum(told) - self.used


NAMES = tuple(field.name for field in fields(Counted))
USED = ("accepted", "corrected", "duplicate")


def counter(name: str) -> str:
    """What a field of Counted is called among the counters of the tables."""
    return name if name in USED else f"refused_{name}"


def read(ids: Ids, entry: Any) -> list[Outcome]:
    """The outcomes that an entry tells. entry: its JSON. Raises Invalid with the bad field; Unreadable."""
    if not isinstance(entry, dict):
        raise Invalid(
            "must be an object: a prediction_id and an outcome",
            do='send {"prediction_id": ID, "outcome": 1}',
        )
    for name in entry:
        if name not in FIELDS:
            raise Invalid(
                "there is no such field", where=name[:64], do=f"there are: {', '.join(FIELDS)}"
            )
    text, outcome, place = (entry.get(name) for name in FIELDS)
    if not isinstance(text, str):
        raise Invalid(
            "must be the prediction_id of an answer",
            where="prediction_id",
            do="send it as the answer had it, as text",
        )
    if isinstance(outcome, list):
        if place is not None:
            raise Invalid(
                "is for one outcome, and there is a list of them",
                where="place",
                do="leave place out, or send one outcome",
            )
        return of_many(ids.read(text), outcome)
    return [of_one(ids.read(text), outcome, place)]


def of_many(ticket: Ticket, outcomes: list[Any]) -> list[Outcome]:
    count = len(ticket.scored)
    if len(outcomes) > count:
        raise Invalid(
            f"has {len(outcomes)} entries, {listed(count)}",
            where="outcome",
            do="send one for each prediction, null where none is known",
        )
    return [
        Outcome(ticket, place, fitting(ticket.kind, value, f"outcome.{place}"))
        for place, value in enumerate(outcomes)
        if value is not None
    ]


def of_one(ticket: Ticket, outcome: Any, place: Any) -> Outcome:
    count = len(ticket.scored)
    if place is None:
        if count != 1:
            raise Invalid(
                f"is of one prediction, {listed(count)}",
                where="outcome",
                do="give a list, or say which one it is of: place",
            )
        place = 0
    if type(place) is not int or not 0 <= place < count:
        raise Invalid(
            f"must be a whole number, {listed(count)} from 0 on",
            where="place",
            do="send the place of the prediction in the answer",
        )
    return Outcome(ticket, place, fitting(ticket.kind, outcome, "outcome"))


def listed(count: int) -> str:
    told = f"; of more than {MOST} nothing is told" if count == MOST else ""
    return f"and the answer has {count} prediction{'s' if count != 1 else ''}{told}"


def fitting(kind: Kind, value: Any, field: str) -> float:
    """An outcome, if it is one of what was predicted. Raises Invalid."""
    if type(value) not in NUMBERS:
        raise Invalid(
            "must be a number, true or false",
            where=field,
            do="send it as a JSON number or boolean, not as text",
        )
    match kind:
        case "probability" | "none" if value not in (0, 1):
            raise Invalid(
                "must be 0 or 1", where=field, do="send 1 for right or yes, 0 for wrong or no"
            )
        case "category" if not (0 <= value < CATEGORIES and value == int(value)):
            raise Invalid(
                "must be the number of a category",
                where=field,
                do=f"send a whole number from 0 to {CATEGORIES - 1}",
            )
    if not -LARGEST <= value <= LARGEST:
        raise Invalid(
            f"must lie within {LARGEST:g} of 0", where=field, do="send it in another unit"
        )
    return float(value)
