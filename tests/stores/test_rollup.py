"""Whoever wrote what, however often it was sent and whenever it was rolled up: the sums are the same."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select

from kt.stats.latency import Sketch
from kt.stats.moments import Moments
from kt.store import buckets, counters, labels, loads, rollup, schema, traffic, units
from kt.store.batch import COUNTS, Batch, Load, Stream, Traffic
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.rollup import roll_up
from kt.store.traffic import append

ONE = Stream("m", "v1", "control", "x", 1, 2, 90.0, "probability")
TWO = Stream("m", "v2", "treatment", "x", 1, 2, 10.0, "probability")
IDS = [ONE.id, TWO.id]
DAY = 24 * 60
START = 20_000 * DAY  # a midnight
LATER = START + 200 * DAY  # when all are days


def at(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def answer(score: float, failed: bool) -> Traffic:
    """What one answer adds."""
    one = Traffic(assigned=1, served=int(not failed), failed=int(failed))
    one.latency.add(1 + score)
    one.scores.add(score)
    one.features["items"] = Sketch()
    one.features["items"].add(100 * score)
    return one


def outcome(score: float, happened: bool) -> Labels:
    one = Labels(1, int((score >= 0.5) == happened), Moments(1, (score - happened) ** 2))
    (one.positives if happened else one.negatives).add(score)
    return one


def rows(store: Store) -> dict[str, int]:
    tables = (schema.traffic, schema.labels, schema.sketches)
    with store.read() as connection:
        return {
            table.name: connection.scalars(select(func.count()).select_from(table)).one()
            for table in tables
        }


def same(ours: Traffic, theirs: Traffic) -> None:
    """Equal, but for the order in which floats were added."""
    for name in COUNTS:
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.scores.counts == theirs.scores.counts
    assert ours.scores.sums == pytest.approx(theirs.scores.sums)
    pairs = [(ours.latency, theirs.latency)]
    pairs += [(ours.features[name], theirs.features[name]) for name in theirs.features]
    for mine, yours in pairs:
        assert (mine.count, mine.largest, mine.above) == (yours.count, yours.largest, yours.above)
        assert mine.total == pytest.approx(yours.total)


SCORES = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])
MINUTES = st.integers(START, START + 4 * DAY)
ANSWERS = st.tuples(st.sampled_from([ONE, TWO]), MINUTES, SCORES, st.booleans())
DEEDS = st.one_of(
    st.tuples(st.just("batch"), st.sampled_from("abcd"), st.lists(ANSWERS, max_size=4)),
    st.tuples(st.just("again"), st.sampled_from("abcd"), st.none()),
    st.tuples(st.just("roll up"), st.just(""), st.integers(START, LATER)),
)


def fresh(store: Store) -> None:
    with store.write() as connection:
        for table in schema.metadata.tables.values():
            if table is not schema.sources:
                connection.execute(table.delete())


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=st.lists(DEEDS, max_size=12))
def test_any_split_any_retry_and_any_roll_up_give_the_same_totals(
    store: Store, deeds: list[tuple[str, str, object]]
) -> None:
    fresh(store)
    expected = {stream: Traffic() for stream in IDS}
    sent: dict[str, list[Batch]] = {writer: [] for writer in "abcd"}
    for deed, writer, what in deeds:
        if deed == "roll up":
            assert isinstance(what, int)
            roll_up(store, at(what))
            continue
        if deed == "batch":
            assert isinstance(what, list)
            batch = Batch({ONE.id: ONE, TWO.id: TWO})
            for stream, minute, score, failed in what:
                one = answer(score, failed)
                batch.traffic.setdefault((stream.id, minute), Traffic()).merge(one)
                expected[stream.id].merge(one)
            sent[writer].append(batch)
        if sent[writer]:
            append(store, writer, len(sent[writer]), sent[writer][-1], LATER)
    for now in (START, LATER):
        roll_up(store, at(now))
        found = traffic.total(store, IDS, START, LATER)
        for stream in IDS:
            same(found[stream], expected[stream])
    whole = {stream: Traffic() for stream in IDS}
    for stream, *_, part in traffic.series(store, IDS, START, LATER):
        whole[stream].merge(part)
    for stream in IDS:
        same(whole[stream], expected[stream])


OUTCOMES = st.tuples(MINUTES, SCORES, st.lists(st.booleans(), min_size=1, max_size=3))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=st.lists(OUTCOMES, max_size=8), rolls=st.lists(st.integers(START, LATER), max_size=3))
def test_corrected_outcomes_count_as_the_last_one_said(
    store: Store, seen: list[tuple[int, float, list[bool]]], rolls: list[int]
) -> None:
    fresh(store)
    expected = Labels()
    for number, (minute, score, happened) in enumerate(seen):
        expected.merge(outcome(score, happened[-1]))
        for before, now in zip([None, *happened], happened, strict=False):
            with store.write() as connection:
                if before is not None:
                    labels.add(connection, {(ONE.id, minute): outcome(score, before)}, sign=-1)
                labels.add(connection, {(ONE.id, minute): outcome(score, now)})
            if number < len(rolls):
                roll_up(store, at(rolls[number]))
    for now in (START, LATER):
        roll_up(store, at(now))
        found = labels.total(store, [ONE.id], START, LATER)[ONE.id]
        assert (found.n, found.right) == (expected.n, expected.right)
        assert found.error.n == expected.error.n
        assert found.error.mean == pytest.approx(expected.error.mean)
        assert found.error.m2 == pytest.approx(expected.error.m2, abs=1e-9)
        assert found.positives.counts == expected.positives.counts
        assert found.negatives.counts == expected.negatives.counts
        assert found.positives.sums == pytest.approx(expected.positives.sums, abs=1e-9)


def fill(store: Store, minutes: Iterable[int]) -> None:
    draw = random.Random(1)
    for minute in minutes:
        for part in range(3):
            batch = Batch({ONE.id: ONE}, {(ONE.id, minute): answer(draw.random(), False)})
            append(store, "a", 3 * minute + part, batch, minute)


def test_rows_become_minutes_then_hours_then_days(store: Store) -> None:
    fill(store, range(START, START + 120, 10))
    assert rows(store) == {"traffic": 36, "labels": 0, "sketches": 36 * 3}
    roll_up(store, at(START + 131))
    assert rows(store)["traffic"] == 12
    assert rows(store)["sketches"] == 12 + 2 * 2  # scores and features come by the hour
    roll_up(store, at(START + 2 * DAY + 120))
    assert rows(store)["traffic"] == 2
    assert {span for *_, span, _ in traffic.series(store, [ONE.id], START, LATER)} == {60}
    roll_up(store, at(START + 9 * DAY + 120))
    assert (
        rows(store)["sketches"] == 2 + 2
    )  # hours of latencies, days of what no window reaches now
    roll_up(store, at(START + 90 * DAY + 120))
    assert rows(store) == {"traffic": 1, "labels": 0, "sketches": 3}
    assert traffic.total(store, [ONE.id], START, START + 1)[ONE.id].assigned == 36


def test_what_comes_late_is_added_to_its_hour(store: Store) -> None:
    fill(store, [START])
    roll_up(store, at(START + 3 * DAY))
    with store.write() as connection:
        traffic.add(connection, {(ONE.id, START + 5): answer(0.5, False)})
    (row,) = traffic.series(store, [ONE.id], START, START + 60, ["counts"])
    assert row[:3] == (ONE.id, START, 60)
    assert row[3].assigned == 4
    roll_up(store, at(START + 3 * DAY))
    assert rows(store)["traffic"] == 1


def test_a_window_takes_whole_the_row_that_holds_its_start(store: Store) -> None:
    fill(store, [START, START + 59, START + 60])
    roll_up(store, at(START + 3 * DAY))
    found = traffic.total(store, [ONE.id], START + 30, START + 90)
    assert found[ONE.id].assigned == 9
    found = traffic.total(store, [ONE.id], START + 60, START + 90)
    assert found[ONE.id].assigned == 3


def test_of_two_roll_ups_at_once_the_slower_one_does_nothing(store: Store) -> None:
    fill(store, [START])
    ladder, step = rollup.LADDERS[0], rollup.FROM_MINUTES[0]
    both = [list(rollup.sums(store, ladder, step, LATER)) for _ in range(2)]
    for ((old, new),) in both:
        rollup.replace(store, schema.traffic, old, new)
    assert traffic.total(store, [ONE.id], START, LATER, ["counts"])[ONE.id].assigned == 3
    fill(store, [START + 1])  # and no row that came since is taken for one that was added up
    rollup.replace(store, schema.traffic, *both[1][0])
    assert traffic.total(store, [ONE.id], START, LATER, ["counts"])[ONE.id].assigned == 6


def test_what_nobody_asks_for_is_forgotten(store: Store) -> None:
    batch = Batch(
        {ONE.id: ONE},
        {(ONE.id, START): answer(0.5, False)},
        {(ONE.id, 3): Load(1, 0)},
        {ONE.id: {b"12345678"}},
    )
    batch.counts[START, "dropped"] += 1
    append(store, "a", 1, batch, START)
    seen = {
        "id": b"1",
        "place": 0,
        "outcome": 1.0,
        "stream": ONE.id,
        "minute": START,
        "at": 60 * START,
    }
    with store.write() as connection:
        buckets.add(connection, {(ONE.id, "right", 3, 7): Moments(1, 1.0)})
        connection.execute(insert(schema.answered).values(seen))

    def kept() -> list[int]:
        tables = (schema.answered, schema.units, schema.buckets, schema.loads, schema.counters)
        with store.read() as connection:
            return [
                connection.scalars(select(func.count()).select_from(table)).one()
                for table in tables
            ]

    roll_up(store, at(START + 29 * DAY))
    assert kept() == [1, 1, 1, 1, 1]
    roll_up(store, at(START + 31 * DAY), horizon=timedelta(days=60))
    assert kept() == [1, 1, 1, 1, 1]
    roll_up(store, at(START + 31 * DAY))
    assert kept() == [0, 1, 1, 1, 1]
    assert units.units(store, [ONE.id])[ONE.id].kept == 1
    roll_up(store, at(START + 92 * DAY))
    assert kept() == [0, 0, 0, 0, 0]
    assert loads.loads(store, [ONE.id]) == {ONE.id: {}}
    assert not counters.counters(store, 0, LATER)
    assert traffic.total(store, [ONE.id], START, LATER, ["counts"])[ONE.id].assigned == 1


def test_the_log_of_sqlite_is_written_back(store: Store) -> None:
    if store.engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps a log beside its file")
    fill(store, [START])
    with store.engine.connect():  # the last one to leave would write it back anyway
        roll_up(store, at(START + 3 * DAY))
        from pathlib import Path

        assert Path(store.where + "-wal").stat().st_size == 0
