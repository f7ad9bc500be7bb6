"""Another machine's tables are added to these: twice is harmless, before and after any roll-up of either."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from kt.config import Settings
from kt.errors import Invalid, Refused, Unavailable
from kt.stats.moments import Moments
from kt.store import buckets, connect, counters, loads, traffic, units
from kt.store.batch import Batch, Load, Stream, Traffic
from kt.store.database import Store
from kt.store.merge import merge
from kt.store.rollup import roll_up
from kt.store.streams import streams
from kt.store.traffic import append

ONE = Stream("m", "v1", "control", "x", 1, 2)
START = 29_000_000


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], tuple[Store, Path]]:
    """Tables of a machine of that name, in a folder of their own."""

    def make(name: str) -> tuple[Store, Path]:
        folder = tmp_path / name
        folder.mkdir()
        return connect.open(folder, Settings()), folder

    return make


def write(store: Store, number: int, minute: int = START) -> None:
    """One answer of a unit of its own, and its outcome."""
    batch = Batch(
        {ONE.id: ONE},
        {(ONE.id, minute): Traffic(assigned=1, served=1)},
        {(ONE.id, number % 128): Load(1, 0)},
        {ONE.id: {(2 * number).to_bytes(8)}},
    )
    batch.traffic[ONE.id, minute].latency.add(number)
    batch.counts[minute, "late"] += 1
    append(store, f"writer of {store.where}", number, batch, minute)
    with store.write() as connection:
        buckets.add(connection, {(ONE.id, "right", number % 128, 7): Moments(1, 1.0)})


def counted(store: Store) -> tuple[int, int, int, int, int, int]:
    """The same thing counted in each of the tables."""
    found = traffic.total(store, [ONE.id], START, START + 10_000)[ONE.id]
    return (
        found.assigned,
        found.latency.count,
        sum(load.assigned for load in loads.loads(store, [ONE.id])[ONE.id].values()),
        sum(one.n for one in buckets.buckets(store, [ONE.id], "right")[ONE.id].values()),
        counters.counters(store, START, START + 10_000)["late"],
        units.units(store, [ONE.id])[ONE.id].kept,
    )


def test_two_machines_add_up_however_often_they_are_merged(
    store: Store, machine: Callable[[str], tuple[Store, Path]]
) -> None:
    other, folder = machine("other")
    for number in range(1, 4):
        write(store, 2 * number)
    for number in range(1, 6):
        write(other, 100 + 2 * number)
    assert merge(store, folder) > 0
    assert counted(store) == (8,) * 6
    merge(store, folder / "kt.db")
    assert counted(store) == (8,) * 6
    write(other, 200)
    merge(store, folder)
    assert counted(store) == (9,) * 6
    assert streams(store) == [ONE]


def test_either_side_may_roll_up_in_between(
    store: Store, machine: Callable[[str], tuple[Store, Path]]
) -> None:
    other, folder = machine("other")
    for number in range(1, 4):
        write(store, 2 * number)
        write(other, 100 + 2 * number)
    merge(store, folder)
    late = datetime.fromtimestamp(60 * (START + 4000), UTC)
    for rolled in (other, store, other):
        roll_up(rolled, late)
        merge(store, folder)
        assert counted(store) == (6,) * 6


def test_what_comes_by_two_ways_counts_once(
    store: Store, machine: Callable[[str], tuple[Store, Path]]
) -> None:
    one, at_one = machine("one")
    two, at_two = machine("two")
    write(store, 1)
    write(one, 2)
    write(two, 3)
    merge(two, at_one)
    merge(store, at_one)
    merge(store, at_two)
    assert counted(store) == (3,) * 6
    write(one, 4, START + 5)
    merge(store, at_one)
    merge(store, at_two)  # which knows an older state of one
    assert counted(store) == (4,) * 6


def test_our_own_rows_do_not_come_back(machine: Callable[[str], tuple[Store, Path]]) -> None:
    one, at_one = machine("one")
    two, at_two = machine("two")
    write(one, 1)
    write(two, 2)
    merge(two, at_one)
    merge(one, at_two)
    merge(two, at_one)
    assert counted(one) == counted(two) == (2,) * 6


def test_what_is_no_store_of_this_kt_is_refused(
    tmp_path: Path, machine: Callable[[str], tuple[Store, Path]]
) -> None:
    one, at_one = machine("one")
    other, folder = machine("other")
    with pytest.raises(Refused, match="a copy of these tables"):
        merge(one, at_one)
    with pytest.raises(Invalid, match="no tables of kt"):
        merge(one, tmp_path / "nowhere")
    with other.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises((Refused, Unavailable), match="another kt"):
        merge(one, folder)
