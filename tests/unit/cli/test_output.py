"""One document or a few lines, and nobody's text moves the cursor."""

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kt.cli import output
from kt.errors import Refused

HOSTILE = [
    "\x1b[2J",
    "\x1b]0;x\x07",
    "a\rb",
    "\x9b31m",
    "\u202eabc",
    "\x00",
    "\ud800",
    "\u2066",
    "a\x7fb",
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> output.Run:
    fresh = output.Run(command="deploy")
    monkeypatch.setattr(output, "run", fresh)
    return fresh


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_shown_not_obeyed(
    text: str, run: output.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write(f"name {text} end")
    output.say(f"name {text} end")
    output.emit({}, output.table(("NAME",), [(text,)]))
    said = capsys.readouterr()
    for char in said.out + said.err:
        assert char.isprintable() or char == "\n"


def test_a_table_takes_no_more_room_than_its_cells() -> None:
    shown = output.table(("MODEL", "NOTE", "N"), [("m", "", 1), ("longer", "", 20)])
    assert [line.rstrip() for line in shown.splitlines()] == [
        "MODEL   N",
        "m       1",
        "longer  20",
    ]
    assert output.table(("A", "B"), []) == "A  B"


def test_a_line_of_talk_is_one_line(run: output.Run, capsys: pytest.CaptureFixture[str]) -> None:
    output.fail(Refused("a\nb", do="c\nd"))
    assert capsys.readouterr().err == "kt: a\\nb\n    c\\nd\n"


@pytest.mark.parametrize("text", [*HOSTILE, "ä→\xa0\x85", "x" * 200_000])
def test_a_document_is_json_whatever_is_in_it(
    text: str, run: output.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.json = True
    output.emit(
        {"text": text, "at": datetime(2026, 1, 12, tzinfo=UTC), "path": Path("a"), "of": {1}}, "x"
    )
    said = capsys.readouterr().out
    assert said.isascii()
    assert said.count("\n") == 1
    document = json.loads(said)
    assert (document["kt"], document["command"], document["ok"], document["warnings"]) == (
        1,
        "deploy",
        True,
        [],
    )
    assert document["result"] == {
        "text": text,
        "at": "2026-01-12T00:00:00Z",
        "path": "a",
        "of": [1],
    }


def test_an_error_is_a_document_too(run: output.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.json = True
    output.warn("careful")
    output.fail(Refused("no", where="a.json:3"))
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "kt": 1,
        "command": "deploy",
        "ok": False,
        "error": {"code": 3, "kind": "refused", "message": "a.json:3: no", "hint": None},
        "warnings": ["careful"],
    }
    assert said.err == "kt: careful\nkt: a.json:3: no\n"


def test_quiet_says_nothing_but_what_went_wrong(
    run: output.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.quiet = True
    output.step("hashing", "x")
    output.emit({}, "done")
    output.fail(Refused("no"))
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "kt: no\n")


def test_a_terminal_of_another_alphabet_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.any_text()
    output.write("v1 → v2")
    sys.stdout.flush()
    assert raw.getvalue() == b"v1 \\u2192 v2\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (59, "59 s"),
        (61, "1 min"),
        (3700, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (864_000, "10 d"),
    ],
)
def test_a_duration_is_told_in_its_largest_units(seconds: float, text: str) -> None:
    assert output.ago(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (98_200_000, "98.2 MB"), (5e12, "5000.0 GB")],
)
def test_a_size_is_told_in_its_unit(size: int, text: str) -> None:
    assert output.bytes_of(size) == text
