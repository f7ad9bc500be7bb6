"""What was counted comes into the tables, whatever happens to them, and never in an answer's way."""

import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from predictors import within

from kt import clock
from kt.config import Settings
from kt.errors import Unavailable
from kt.predictor.record import Recorder, Seen
from kt.predictor.writer import KEEP, NICE, Writer
from kt.stats.scored import nothing
from kt.store import connect, database, secret, traffic
from kt.store.batch import Stream, Traffic
from kt.store.counters import counters

STREAM = Stream("toy", "v2", "treatment", "trial", 1, 3, 10.0, "probability")


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    monkeypatch.setattr(database, "WAIT", 0.05)
    (tmp_path / "kt.toml").touch()
    return Writer(tmp_path, Settings(), Recorder(on=True))


def answered(writer: Writer, n: int = 1) -> None:
    entry = writer.recorder.begin(STREAM, ["s-1"] * n)
    writer.recorder.end(entry, [Seen(1.0)] * n)


def served(writer: Writer) -> int:
    store = connect.peek(writer.root, writer.settings)
    return traffic.total(store, [STREAM.id], 0, 2**31)[STREAM.id].served if store else 0


def dropped(writer: Writer) -> int:
    store = connect.open(writer.root, writer.settings)
    return counters(store, 0, 2**31)["dropped"]


@pytest.fixture
def locked(writer: Writer) -> Iterator[Callable[[], None]]:
    """The tables, held by somebody else until it is called."""
    answered(writer)
    writer.turn(0.0)
    held = sqlite3.connect(writer.root / "kt.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    yield lambda: held.rollback()
    held.close()


def test_what_is_answered_is_in_the_tables_after_a_turn(writer: Writer) -> None:
    writer.turn(0.0)
    assert not (writer.root / "kt.db").exists()  # nothing to write, nothing made
    answered(writer, 3)
    writer.turn(10.0)
    answered(writer, 2)
    writer.turn(20.0)
    assert served(writer) == 5
    assert writer.recording.state == "ok"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_the_first_write_gives_way_to_nobody_all_others_do(tmp_path: Path) -> None:
    """With SQLAlchemy to import it had taken minutes on a machine that is busy."""
    settings = Settings.model_validate({"predictor": {"flush": 0.1}})
    writer = Writer(tmp_path, settings, Recorder(on=True))
    (tmp_path / "kt.toml").touch()
    writer.start()
    try:
        thread = next(one for one in threading.enumerate() if one.name == "kt-record")
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        def priority() -> int:
            return os.getpriority(os.PRIO_PROCESS, thread.native_id or 0)

        assert priority() == own
        answered(writer)
        within(lambda: priority() == min(own + NICE, 19))
        assert served(writer) == 1
    finally:
        writer.close()


def test_what_cannot_be_written_is_kept_and_written_once(
    writer: Writer, locked: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    for turn in range(1, 5):
        answered(writer)
        writer.turn(10.0 * turn)
    assert writer.recording.state == "behind"
    assert writer.recording.waiting == 4
    assert "locked" in writer.recording.reason
    locked()
    writer.turn(50.0)
    assert served(writer) == 5
    assert (writer.recording.state, writer.recording.waiting) == ("ok", 0)
    assert len(caplog.records) == 2  # when it begins and when it is over, however long it takes


def test_what_may_have_been_written_after_all_is_not_counted_twice(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = traffic.append

    def cut_off(*arguments: object) -> bool:
        append(*arguments)  # type: ignore[arg-type]
        raise Unavailable("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(traffic, "append", cut_off)
        for turn in range(3):
            answered(writer)
            writer.turn(10.0 * turn)
    writer.turn(30.0)
    assert served(writer) == 3


def test_what_is_too_old_is_given_up_counted_and_told(
    writer: Writer, locked: Callable[[], None]
) -> None:
    answered(writer, 7)
    writer.turn(100.0)  # tried, and stays as it is
    answered(writer, 2)
    writer.turn(110.0)
    writer.turn(100.0 + KEEP + 1)
    assert writer.recording.dropped == 7
    locked()
    writer.turn(100.0 + KEEP + 2)
    assert served(writer) == 1 + 2
    assert dropped(writer) == 7
    assert writer.recording.dropped == 7  # of this process, for as long as it lives


def test_what_waits_takes_no_more_room_the_longer_it_waits(
    writer: Writer, locked: Callable[[], None]
) -> None:
    for turn in range(1, 50):
        answered(writer)
        writer.turn(10.0 * turn)
    assert len(writer._waiting) < 12
    locked()
    writer.turn(500.0)
    assert served(writer) == 50


def test_tables_that_were_deleted_are_made_anew(writer: Writer) -> None:
    answered(writer)
    writer.turn(0.0)
    for path in writer.root.glob("kt.db*"):
        path.unlink()
    answered(writer, 2)
    writer.turn(10.0)
    writer.turn(20.0)
    assert served(writer) == 2
    assert writer.recording.state == "ok"


def test_a_clock_that_is_set_back_an_hour_loses_nothing(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    for turn, second in enumerate((now, now - 3_600, now - 3_590)):
        monkeypatch.setattr(clock, "second", lambda second=second: second)
        answered(writer)
        writer.turn(10.0 * turn)
    assert served(writer) == 3


def test_a_batch_that_breaks_what_writes_it_ends_no_thread(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bool:
        raise ValueError("a bug")

    answered(writer)
    with monkeypatch.context() as patch:
        patch.setattr(traffic, "append", broken)
        writer.turn(0.0)
    assert writer.recording.reason == "ValueError: a bug"
    writer.turn(10.0)
    assert served(writer) == 1


def test_what_is_left_is_written_at_the_end(writer: Writer) -> None:
    writer.start()
    answered(writer, 4)
    writer.close()
    assert served(writer) == 4


def test_what_cannot_be_written_at_the_end_is_said(
    writer: Writer, locked: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    writer.start()
    answered(writer, 4)
    writer.close()
    assert "4 answers are not recorded" in caplog.text


def test_a_secret_is_made_followed_and_never_replaced(writer: Writer) -> None:
    writer.start()
    first = secret.read(writer.root)
    entry = writer.recorder.begin(STREAM, ["s-1"])
    assert len(writer.recorder.identity(entry, 0, nothing(0))) > 40
    (writer.root / secret.FILE).unlink()
    writer.turn(0.0)
    assert not (writer.root / secret.FILE).exists()
    secret.write(writer.root, first)
    writer.close()


def test_a_workspace_that_cannot_be_written_still_counts(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> secret.Secret:
        raise Unavailable("cannot write secret.json: Read-only file system")

    monkeypatch.setattr(secret, "ensure", refuse)
    writer.start()
    answered(writer, 2)
    writer.close()
    assert served(writer) == 2
    assert caplog.text.count("outcomes") == 1


def test_the_tables_are_rolled_up_once_an_hour(writer: Writer) -> None:
    answered(writer)
    writer.turn(0.0)
    store = connect.open(writer.root, writer.settings)
    with store.write() as connection:
        traffic.add(connection, {(STREAM.id, 1_000_000): Traffic(assigned=1)})  # of 1971

    def spans() -> set[int]:
        return {span for *_, span, _ in traffic.series(store, [STREAM.id], 0, 2_000_000)}

    writer.turn(10.0)
    assert spans() == {1}
    writer.turn(3_600.0)
    assert spans() == {24 * 60}
