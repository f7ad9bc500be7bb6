"""The tables under abuse: processes that write at once and are killed, a disk that is full."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from test_full_disk import disk, fill  # noqa: F401  # a fixture

from kt.config import Settings
from kt.errors import Unavailable
from kt.store import connect, traffic, units
from kt.store.batch import Batch, Stream, Traffic
from kt.store.database import Store

pytestmark = pytest.mark.e2e

ONE = Stream("m", "v1", "", "", 1, 1)
START = 29_000_000
WRITER = """
import sys
from pathlib import Path
from kt.config import Settings
from kt.store import connect, rollup
from kt.store.batch import Batch, Stream, Traffic
from kt.store.traffic import append
from datetime import UTC, datetime

root, name, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
one = Stream("m", "v1", "", "", 1, 1)
store = connect.open(root, Settings())
for number in range(1, batches + 1):
    minute = 29_000_000 + number % 7
    counted = Traffic(assigned=1, served=1)
    counted.latency.add(5.0)
    counted.scores.add(0.5)
    unit = hash((name, number)).to_bytes(8, "big", signed=True)
    batch = Batch({one.id: one}, {(one.id, minute): counted}, units={one.id: {unit}})
    append(store, name, number, batch, minute)
    print(number, flush=True)
    if number % 20 == 0:
        rollup.roll_up(store, datetime.fromtimestamp(60 * (29_000_000 + 60), UTC))
"""


def writer(root: Path, name: str, batches: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(root), name, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def seen(store: Store) -> tuple[int, int, int]:
    found = traffic.total(store, [ONE.id], START, START + 60)[ONE.id]
    return found.assigned, found.latency.count, found.scores.count


def test_four_that_write_at_once_and_roll_up_lose_nothing(tmp_path: Path) -> None:
    running = [writer(tmp_path, name, 40) for name in "abcd"]
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert len(out.split()) == 40
    store = connect.open(tmp_path, Settings())
    assert seen(store) == (160,) * 3
    assert units.units(store, [ONE.id])[ONE.id].kept == 160


def test_one_that_is_killed_loses_at_most_the_batch_in_its_hands(tmp_path: Path) -> None:
    done = 0
    for name in ("a", "b", "c"):
        process = writer(tmp_path, name, 1000)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(15)]
        assert all(told)
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        done += 15 + len(rest.split())
    store = connect.open(tmp_path, Settings())
    assigned, latencies, scores = seen(store)
    assert assigned == latencies == scores  # a batch is there whole or not at all
    assert done <= assigned <= done + 3  # one each may have been written and not yet told
    with store.read() as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"


def test_a_full_disk_fails_the_batch_which_counts_once_when_there_is_room(disk: Path) -> None:  # noqa: F811
    store = connect.open(disk, Settings())
    fill(disk)
    batch = Batch({ONE.id: ONE}, {(ONE.id, START): Traffic(assigned=1)})
    number, error = append_until_it_fails(store, batch)
    assert re.search("full|disk I/O", error.what)
    assert "room on the disk" in error.do
    (disk / "big").unlink()
    assert traffic.total(store, [ONE.id], START, START + 1)[ONE.id].assigned == number - 1
    for _ in range(2):
        traffic.append(store, "a", number, batch, START)
    assert traffic.total(store, [ONE.id], START, START + 1)[ONE.id].assigned == number


def append_until_it_fails(store: Store, batch: Batch) -> tuple[int, Unavailable]:
    """The number of the batch that found no room, and what was said: the log of SQLite may have had some for the first."""
    for number in range(1, 1000):
        try:
            traffic.append(store, "a", number, batch, START)
        except Unavailable as error:
            return number, error
    raise AssertionError("the disk has room")


def test_tables_that_have_no_room_to_be_made_are_made_later(disk: Path) -> None:  # noqa: F811
    fill(disk)
    with pytest.raises(Unavailable):
        connect.open(disk, Settings())
    (disk / "big").unlink()
    assert connect.open(disk, Settings())
