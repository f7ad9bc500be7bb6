"""Outcomes enter the tables, each of them once.

`answered` remembers what was told of each prediction. Told again it changes nothing; told otherwise,
what the first outcome had added is taken off and the new one added, in the transaction that remembers
it. So outcomes may be sent again after any failure, and by any number of processes at once.

An outcome counts at the minute of its prediction. Those that come later than the horizon are not used:
the tables need remember no longer than that.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from kt.config import Settings
from kt.stats.moments import Moments
from kt.stats.scored import error, right
from kt.store import buckets, counters, labels, schema
from kt.store.buckets import ERROR, OUTCOME, RIGHT
from kt.store.database import Store
from kt.store.labels import Labels, Sums
from kt.store.outcomes import NAMES, Counted, Outcome, counter
from kt.store.rows import DAY, FINE, HOUR, insert

TOGETHER = 10_000  # outcomes of one transaction
SKEW = 5  # minutes that the clocks of two machines may differ by
YOUNG = 10  # minutes until a stream that answers has surely been written down

Key = tuple[bytes, int]  # of a prediction: its answer's id, and its place there
Within = Callable[
    [str], float
]  # of a model by name: how far off its number may be and still be right


@dataclass(frozen=True)
class Rules:
    """By what outcomes are used. horizon: how late one may be. young: the models of streams that answer
    now, and are perhaps not written down yet."""

    horizon: timedelta
    within: Within
    young: Mapping[int, str] = field(default_factory=dict)


def rules(settings: Settings, young: Mapping[int, str] | None = None) -> Rules:
    """As kt.toml says."""
    horizon = timedelta(days=settings.store.horizon)
    return Rules(horizon, lambda model: settings.of(model).within, young or {})


def ingest(store: Store, outcomes: Sequence[Outcome], now: datetime, rules: Rules) -> Counted:
    """Count outcomes, some at a time.

    Raises Unavailable or Corrupt: some may be in the tables then, and all may be sent again.
    """
    counted = Counted()
    for start in range(0, len(outcomes), TOGETHER):
        counted.merge(take(store, outcomes[start : start + TOGETHER], now, rules))
    return counted


def take(store: Store, outcomes: Sequence[Outcome], now: datetime, rules: Rules) -> Counted:
    """Count outcomes in one transaction."""
    at = int(now.timestamp())
    with store.write() as connection:
        models = known(connection, outcomes, rules)
        told, counted = sifted(outcomes, at // 60, rules.horizon, models)
        before = remember(connection, {key: some[-1] for key, some in told.items()}, at)
        follow(counted, told, before)
        added, removed = changes(told, before)
        fine = at // 60 - FINE
        add(connection, added, models, rules.within, fine, sign=1)
        add(connection, removed, models, rules.within, fine, sign=-1)
        note(connection, counted, at // 60)
    return counted


def preview(
    store: Store,
    outcomes: Sequence[Outcome],
    now: datetime,
    rules: Rules,
    earlier: dict[Key, float],
) -> Counted:
    """What `take` would count. earlier: what those before are told of, to which these are added."""
    with store.read() as connection:
        models = known(connection, outcomes, rules)
        told, counted = sifted(outcomes, int(now.timestamp()) // 60, rules.horizon, models)
        before = outcomes_of(connection, told.keys()) | {
            key: earlier[key] for key in told if key in earlier
        }
    follow(counted, told, before)
    earlier.update({key: some[-1].value for key, some in told.items()})
    return counted


def note(connection: Connection, counted: Counted, minute: int) -> None:
    """Count what became of outcomes among the counters."""
    numbers = {(minute, counter(name)): getattr(counted, name) for name in NAMES}
    counters.add(connection, {key: n for key, n in numbers.items() if n})


# Decides


def untimely(minute: int, now: int, horizon: timedelta, known: bool) -> str:
    """Why an outcome is not used, as Counted has it, or nothing. minute: of the prediction."""
    if now - minute > horizon / timedelta(minutes=1):
        return "late"
    if minute - now > SKEW:
        return "early"
    return "" if known or now - minute <= YOUNG else "unknown"


def sifted(
    outcomes: Iterable[Outcome], now: int, horizon: timedelta, models: Mapping[int, str]
) -> tuple[dict[Key, list[Outcome]], Counted]:
    """The outcomes of each prediction that are used, and what the others are. now: in minutes.

    In the order of the keys, so that no two processes wait for each other's rows.
    """
    told: defaultdict[Key, list[Outcome]] = defaultdict(list)
    counted = Counted()
    for one in outcomes:
        ticket = one.ticket
        if why := untimely(ticket.minute, now, horizon, ticket.stream in models):
            counted.add(why)
        else:
            told[ticket.id, one.place].append(one)
    return dict(sorted(told.items())), counted


def follow(
    counted: Counted, told: Mapping[Key, Iterable[Outcome]], before: Mapping[Key, float]
) -> None:
    """Count the outcomes of each prediction, each against the one before it."""
    for key, some in told.items():
        last = before.get(key)
        for one in some:
            if last is None:
                counted.accepted += 1
            elif one.value == last:
                counted.duplicate += 1
            else:
                counted.corrected += 1
            last = one.value


def changes(
    told: Mapping[Key, Sequence[Outcome]], before: Mapping[Key, float]
) -> tuple[list[Outcome], list[Outcome]]:
    """What the counts lack, and what they hold and should not."""
    new = {key: some[-1] for key, some in told.items() if some[-1].value != before.get(key)}
    old = [one._replace(value=before[key]) for key, one in new.items() if key in before]
    return list(new.values()), old


# Acts


def known(connection: Connection, outcomes: Iterable[Outcome], rules: Rules) -> dict[int, str]:
    """The models of the outcomes' streams, of those that are known."""
    columns = schema.streams.c
    streams = {one.ticket.stream for one in outcomes}
    asked = select(columns.id, columns.model).where(columns.id.in_(streams))
    return dict(rules.young) | {row.id: row.model for row in connection.execute(asked)}


def remember(connection: Connection, told: Mapping[Key, Outcome], at: int) -> dict[Key, float]:
    """Write down the outcome of each prediction. Returns those that were there before."""
    if not told:
        return {}
    table = schema.answered
    rows = {
        key: {
            "id": key[0],
            "place": key[1],
            "outcome": one.value,
            "stream": one.ticket.stream,
            "minute": one.ticket.minute,
            "at": at,
        }
        for key, one in told.items()
    }
    statement = insert(connection, table)
    # The insert comes first: it waits for another process that tells of the same prediction.
    fresh = statement.on_conflict_do_nothing().returning(table.c.id, table.c.place)
    rest = rows.keys() - {
        (name, place) for name, place in connection.execute(fresh, [*rows.values()])
    }
    before = outcomes_of(connection, rest)
    if other := [rows[key] for key in sorted(rest) if rows[key]["outcome"] != before.get(key)]:
        changed = {name: statement.excluded[name] for name in ("outcome", "at")}
        replacing = statement.on_conflict_do_update(
            index_elements=list(table.primary_key), set_=changed
        )
        connection.execute(replacing, other)
    return before


def outcomes_of(connection: Connection, keys: Iterable[Key]) -> dict[Key, float]:
    """The outcomes that are remembered of predictions, held until the transaction's end."""
    names = {name for name, _ in keys}
    if not names:
        return {}
    columns = schema.answered.c
    asked = (
        select(columns.id, columns.place, columns.outcome)
        .where(columns.id.in_(names))
        .order_by(columns.id, columns.place)
        .with_for_update()
    )
    found = {(name, place): outcome for name, place, outcome in connection.execute(asked)}
    return {key: found[key] for key in keys if key in found}


def add(
    connection: Connection,
    outcomes: Iterable[Outcome],
    models: Mapping[int, str],
    within: Within,
    fine: int,
    sign: int,
) -> None:
    """Add outcomes to the counts, or take them off. fine: the minute from which on minutes are told apart."""
    by_minute: defaultdict[tuple[int, int], Sums] = defaultdict(Sums)
    by_hour: defaultdict[tuple[int, int], Labels] = defaultdict(Labels)
    by_bucket: defaultdict[tuple[int, str, int, int], Moments] = defaultdict(Moments)
    for (_, stream, kind, minute, bucket, scored), place, outcome in outcomes:
        one = scored[place]
        was_right = right(one, outcome, within(models.get(stream, "")))
        off = error(one, outcome)
        hour = by_hour[stream, minute - minute % HOUR]
        sums = by_minute[stream, minute] if minute >= fine else hour
        sums.n += 1
        sums.right += was_right
        sums.error.add(off)
        if kind in ("probability", "category"):
            came = outcome == 1 if kind == "probability" else was_right
            (hour.positives if came else hour.negatives).add(one.value)
        for metric, value in ((RIGHT, was_right), (ERROR, off), (OUTCOME, outcome)):
            by_bucket[stream, metric, bucket, minute // DAY].add(value)
    labels.add(connection, by_minute, sign)
    labels.add(connection, by_hour, sign, HOUR)
    buckets.add(connection, by_bucket, sign)
