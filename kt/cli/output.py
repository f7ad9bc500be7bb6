"""What a command prints: its result on stdout, for people or as one JSON document; all talk on stderr.

The same rows make the table and the JSON. Names and reasons come from other people: control
characters are shown as escapes, so that nobody's text moves the cursor.
"""

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kt.errors import INTERRUPTED, KtError

SCHEMA = 1


@dataclass
class Run:
    """The options that every command has. One per process; set by `cli/app.py`."""

    command: str = ""
    json: bool = False
    quiet: bool = False
    workspace: str = ""
    warnings: list[str] = field(default_factory=list)


run = Run()


def emit(result: Mapping[str, Any], text: str | Iterable[str]) -> None:
    """The command's result: `text` for people, `result` with --json."""
    if run.json:
        document = {
            "kt": SCHEMA,
            "command": run.command,
            "ok": True,
            "result": result,
            "warnings": run.warnings,
        }
        write_json(document)
        return
    lines = [text] if isinstance(text, str) else list(text)
    if not run.quiet:
        for line in lines:
            write(line)


def fail(error: KtError) -> None:
    """An error: two lines on stderr, and with --json the same as a document on stdout, if that takes it."""
    with suppress(OSError):
        fail_json(error.code, error.kind, str(error), error.do)
    say(f"kt: {error}")
    if error.do:
        say(f"    {error.do}")


def bug(error: Exception) -> None:
    """What nobody expected: with --json a document too; its traceback follows on stderr."""
    fail_json(KtError.code, KtError.kind, f"{type(error).__name__}: {error}", "")


def interrupted() -> None:
    fail_json(INTERRUPTED, "interrupted", "interrupted", "")
    say("kt: interrupted")


def fail_json(code: int, kind: str, message: str, hint: str) -> None:
    if run.json:
        write_json(
            {
                "kt": SCHEMA,
                "command": run.command,
                "ok": False,
                "error": {"code": code, "kind": kind, "message": message, "hint": hint or None},
                "warnings": run.warnings,
            }
        )


def write_json(document: Mapping[str, Any]) -> None:
    """One document in one line; in ASCII, so that no text in it can move a cursor."""
    print(json.dumps(document, default=plain))


def any_text() -> None:
    """A terminal or a pipe of any encoding is written to: what it has no character for is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write(line: str) -> None:
    print(safe(line, keep_lines=True))


def say(line: str) -> None:
    """A line of talk, on stderr. What it tells of goes on where nobody listens any more."""
    with suppress(BrokenPipeError):
        print(safe(line), file=sys.stderr)


def step(name: str, text: str) -> None:
    """One step of a command that takes several, on stderr."""
    if not run.quiet:
        say(f"  {name:<11} {text}")


def warn(text: str) -> None:
    run.warnings.append(text)
    say(f"kt: {text}")


def plain(value: Any) -> Any:
    """What JSON has no type for."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    raise TypeError(f"{type(value).__name__} in a JSON document")


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def safe(text: str, *, keep_lines: bool = False) -> str:
    """`text` with control and direction characters as escapes, cut where it would fill the screen."""
    shown = "".join(
        c if c.isprintable() or (keep_lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )
    return shown if len(shown) <= 100_000 else shown[:100_000] + "…"


def short(text: str, width: int = 60) -> str:
    """A free text in a table's cell."""
    return text if len(text) <= width else text[: width - 1] + "…"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, one_line: bool = False) -> str:
    """Columns under their names, two spaces apart; of columns that are empty in every row nothing.

    80 characters hold what is looked at most: the states of models, their versions, the history. one_line: on
    a terminal a row ends at its edge, where the last column is free text that can be read in full elsewhere.
    """
    from tabulate import tabulate

    lines = [list(headers), *([safe(short(str(cell))) for cell in row] for row in rows)]
    filled = [any(column) for column in zip(*lines[1:], strict=True)] or [True] * len(headers)
    # The names as a first row: tabulate would widen every column by two for names of its own.
    text = tabulate(
        [[cell for cell, there in zip(line, filled, strict=True) if there] for line in lines],
        tablefmt="plain",
        disable_numparse=True,
    )
    if not one_line or not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(short(line, width) for line in text.splitlines())


def interactive() -> bool:
    """Whether a person watches: progress bars and colour are for them alone."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def bytes_of(size: int) -> str:
    """A size for people."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def ago(seconds: float) -> str:
    """A duration for people: the two largest units."""
    seconds = max(0, int(seconds))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h" if days < 7 and hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
