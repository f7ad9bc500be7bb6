"""What a death is put down to, and what then serves."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from predictors import make

from kt.predictor import quarantine
from kt.predictor.engine import Key
from kt.predictor.quarantine import Book, Calls, Death, Pulse, Ran

AT = datetime(2026, 1, 12, 9, tzinfo=UTC)
V2 = Key("toy", "v2", "2" * 64)


def death(minutes: float = 0.0, key: Key = V2, seq: int = 7) -> Death:
    return Death(key=key, seq=seq, at=AT + timedelta(minutes=minutes), how="Segmentation fault")


def test_what_a_dead_worker_ran_is_read_in_the_process_that_forked_it() -> None:
    calls = Calls()
    child = os.fork()
    if not child:
        calls.seq = 7
        with calls.note(V2):
            pass
        with calls.note(Key("toy", "v1", "1" * 64)), calls.note(V2):
            os._exit(9)
    os.waitpid(child, 0)
    assert calls.seq == 7
    assert calls.running() == [Ran(V2, 2), Ran(Key("toy", "v1", "1" * 64), 1)]
    calls.forget()
    assert calls.running() == []


def test_a_loop_that_stands_still_is_seen_and_one_that_has_not_begun_does_not() -> None:
    calls, pulse = Calls(), Pulse()
    assert not any(pulse.stopped(calls.beats) for _ in range(2 * quarantine.STILL))
    for _ in range(2 * quarantine.STILL):
        calls.beat()
        assert not pulse.stopped(calls.beats)
    looks = [pulse.stopped(calls.beats) for _ in range(quarantine.STILL)]
    assert (looks.pop(), any(looks)) == (True, False)
    calls.beat()
    assert not pulse.stopped(calls.beats)


def test_one_version_too_many_is_not_noted() -> None:
    calls = Calls()
    notes = [calls.note(Key("toy", f"v{n}", "1" * 64)) for n in range(100)]
    with notes[0], notes[99]:
        assert [ran.key.version for ran in calls.running()] == ["v0"]


@pytest.mark.parametrize(
    ("code", "begun", "no_memory", "counts"),
    [
        (-signal.SIGSEGV, 10_000, False, True),
        (1, 10_000, False, True),
        (70, 10_000, False, True),
        (-signal.SIGKILL, 3, False, True),
        (-signal.SIGKILL, 10_000, True, True),
        (-signal.SIGKILL, 10_000, False, False),  # somebody's
        (-signal.SIGTERM, 3, False, False),
    ],
)
def test_a_death_is_put_down_to_what_ran(
    code: int, begun: int, no_memory: bool, counts: bool
) -> None:
    assert quarantine.blamed([Ran(V2, begun)], code, no_memory) == ([V2] if counts else [])


def test_three_deaths_in_ten_minutes_hold_a_version_back() -> None:
    book = Book()
    for minutes in (0, 8, 16, 17):
        book = quarantine.added(book, [death(minutes)], AT + timedelta(minutes=minutes))
        assert bool(book.held) == (minutes == 17)
    assert book.deaths == ()
    assert book.holds(V2, 7)
    assert not book.holds(V2, 8)  # deployed anew
    assert not book.holds(V2._replace(sha256="3" * 64), 7)


def test_what_is_left_of_a_manifest(tmp_path: Path) -> None:
    made = make(tmp_path / "workspace")
    for n in (1, 2, 3):
        made.add(f"v{n}")
    key = Key("toy", "v2", made.versions["v2"].sha256)
    book = quarantine.added(Book(), [death(key=key)] * 3, AT)

    what, why = quarantine.without(made.deploy(7, toy=made.route("v2", previous="v1")), book)
    assert what.models["toy"].active.version == "v1"
    assert "toy v2 is in quarantine: it ended 3 workers (Segmentation fault); v1 is served" in why

    what, why = quarantine.without(made.deploy(7, toy=made.route("v2")), book)
    assert what.models["toy"].active.version == "v2"
    assert "no version before it" in why

    what, why = quarantine.without(made.deploy(7, toy=made.route("v1", "v2")), book)
    assert what.models["toy"].experiment is None
    assert "v1 is served" in why

    what, why = quarantine.without(made.deploy(7, toy=made.route("v3", previous="v2")), book)
    assert (what.models["toy"].previous, why) == (None, "")  # nor is it kept for a rollback


def test_a_book_that_cannot_be_read_holds_nothing_back(tmp_path: Path) -> None:
    (tmp_path / quarantine.FILE).write_text("{")
    assert quarantine.read(tmp_path) == Book()
    calls = Calls()
    with calls.note(V2):
        for _ in range(3):
            assert quarantine.bury(tmp_path, calls, -11, False, AT)
    assert quarantine.read(tmp_path).holds(V2, 0)
    assert quarantine.release(tmp_path)
    assert not quarantine.release(tmp_path)
