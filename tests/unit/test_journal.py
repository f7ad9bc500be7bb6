"""A journal grows by a line, says where it was touched, and keeps what it does not know."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kt import journal
from kt.errors import Corrupt
from kt.journal import Journal

Events = list[dict[str, Any]]


def written(path: Path, count: int = 4) -> Journal:
    book = Journal(path, [], b"")
    for number in range(count):
        book = book.append([{"at": "2026-01-12T09:00:00Z", "note": f"n{number}"}])
    path.write_bytes(book.text)
    return book


def test_an_append_is_one_added_line(tmp_path: Path) -> None:
    before = written(tmp_path / "h.json", 2)
    after = before.append([{"note": "more"}])
    old, new = before.text.decode().splitlines(), after.text.decode().splitlines()
    assert old[0] == new[0] == "["
    assert old[-1] == new[-1] == "]"
    assert new[:-2] == old[:-1]
    assert new[-2].startswith(',{"seq":3,')
    assert old[1].startswith(' {"seq":1,')
    assert after.text.endswith(b"]\n")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    book = written(tmp_path / "h.json")
    assert journal.read(tmp_path / "h.json") == book
    assert [event["seq"] for event in book.events] == [1, 2, 3, 4]
    assert book.events[0]["prev"] == ""
    assert book.head == journal.digest(book.events[-1])


def test_several_events_are_chained_as_they_are_appended(tmp_path: Path) -> None:
    book = Journal(tmp_path / "h.json", [], b"").append([{"note": "a"}, {"note": "b"}])
    book.path.write_bytes(book.text)
    assert journal.read(book.path).events == book.events


def test_no_file_is_an_empty_journal(tmp_path: Path) -> None:
    book = journal.read(tmp_path / "none.json")
    assert (book.seq, book.head, book.text) == (0, "", b"")


def test_a_formatter_may_have_touched_it(tmp_path: Path) -> None:
    book = written(tmp_path / "h.json")
    book.path.write_text(json.dumps(book.events, indent=4, sort_keys=True))
    again = journal.read(book.path)
    assert again.events == book.events
    grown = again.append([{"note": "more"}])
    book.path.write_bytes(grown.text)
    assert journal.read(book.path).events == grown.events


def test_unknown_fields_stay_after_the_next_append(tmp_path: Path) -> None:
    book = Journal(tmp_path / "h.json", [], b"").append([{"from_the_future": {"a": [1]}}])
    book.path.write_bytes(book.text)
    grown = journal.read(book.path).append([{"note": "more"}])
    assert b'"from_the_future":{"a":[1]}' in grown.text


def edit(events: Events) -> None:
    events[1]["note"] = "forged"


def drop(events: Events) -> None:
    del events[1]


def swap(events: Events) -> None:
    events[1], events[2] = events[2], events[1]


def double(events: Events) -> None:
    events.insert(1, events[1])


def renumber(events: Events) -> None:
    events[2]["seq"] = True


def behead(events: Events) -> None:
    events[0]["prev"] = "0" * 64


@pytest.mark.parametrize(
    ("touch", "line", "what"),
    [
        (edit, 3, "event 2 was changed after it was written"),
        (drop, 3, "event 2 is numbered 3"),
        (swap, 3, "event 2 is numbered 3"),
        (double, 4, "event 3 is numbered 2"),
        (renumber, 4, "event 3 is numbered true"),
        (behead, 2, "event 1 claims one before it"),
    ],
)
def test_a_touched_event_is_found_and_named(
    touch: Callable[[Events], None], line: int, what: str, tmp_path: Path
) -> None:
    book = written(tmp_path / "h.json")
    events = json.loads(book.text)
    touch(events)
    book.path.write_text(json.dumps(events))
    with pytest.raises(Corrupt, match=what) as error:
        journal.read(book.path)
    assert error.value.where == f"{book.path}:{line}"
    assert error.value.do


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "not valid JSON"),
        (b"\0\0\0", "not valid JSON"),
        (b"[\n {", "not valid JSON"),
        (b"\xff[]", "not valid JSON"),
        (b'[\n {"seq":NaN}\n]', "not valid JSON"),
        (b"[" * 2000, "not valid JSON"),
        (b"{}", "is not a list of events"),
        (b"[1]", "is not a list of events"),
    ],
)
def test_what_is_no_journal_is_named(text: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(text)
    with pytest.raises(Corrupt, match=what) as error:
        journal.read(path)
    assert error.value.where.startswith(str(path))


def test_conflict_markers_are_told_as_a_merge(tmp_path: Path) -> None:
    book = written(tmp_path / "h.json", 2)
    lines = book.text.decode().splitlines()
    lines[2:2] = ["<<<<<<< HEAD", lines[2], "=======", lines[2], ">>>>>>> other"]
    book.path.write_text("\n".join(lines))
    with pytest.raises(Corrupt, match="two machines have deployed") as error:
        journal.read(book.path)
    assert error.value.where == f"{book.path}:3"
