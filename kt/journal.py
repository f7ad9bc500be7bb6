"""A journal: a JSON array that only grows, one event a line with the comma in front.

    [
     {"seq":1,"at":"2026-01-12T09:00:00Z",…}
    ,{"seq":2,…}
    ]

An append is one added line in `git diff`, any JSON tool reads it, and two clones that both wrote get
a merge conflict instead of a silent union. Reading parses plain JSON: a formatter may have touched
the file, the layout serves git only. Each event carries in `prev` the digest of the one before it,
so that an event changed, dropped, doubled or swapped by hand is found and named. `seq` counts
without gaps: order is `seq`, never the clock.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from kt import files
from kt.errors import Corrupt
from kt.event import Impossible

S = TypeVar("S")

MEND = "see what is wrong and how to go on: kt verify"


@dataclass(frozen=True)
class Journal:
    """events: as parsed, with whatever a newer kt may have added. text: the bytes on disk."""

    path: Path
    events: list[dict[str, Any]]
    text: bytes

    @property
    def seq(self) -> int:
        return len(self.events)

    @property
    def head(self) -> str:
        """The digest of the last event, empty before the first."""
        return digest(self.events[-1]) if self.events else ""

    def head_to(self, seq: int) -> "Journal":
        """The events up to the one numbered `seq`."""
        return Journal(self.path, self.events[:seq], self.text)

    def append(self, events: Sequence[dict[str, Any]]) -> "Journal":
        """The journal with these events added: `seq` and `prev` are filled in here."""
        added, lines = [], []
        head = self.head
        for number, event in enumerate(events, self.seq + 1):
            whole = {"seq": number, **event, "prev": head}
            head = digest(whole)
            added.append(whole)
            lines.append(orjson.dumps(whole))
        text = self.text.rstrip()
        body = text[:-1].rstrip() if text else b"["
        first = b"\n " if body.endswith(b"[") else b"\n,"
        return Journal(self.path, self.events + added, body + first + b"\n,".join(lines) + b"\n]\n")


def digest(event: dict[str, Any]) -> str:
    """The sha256 of an event, whatever the layout of its file and the order of its keys."""
    return hashlib.sha256(orjson.dumps(event, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read(path: Path) -> Journal:
    """The journal at `path`; empty where there is no file. Raises Corrupt with file and line."""
    try:
        text = files.read(path)
    except FileNotFoundError:
        return Journal(path, [], b"")
    events = parse(text, path)
    check(events, path)
    return Journal(path, events, text)


def parse(text: bytes, path: Path) -> list[dict[str, Any]]:
    if b"\n<<<<<<<" in b"\n" + text:
        raise Corrupt(
            "holds git conflict markers: two machines have deployed",
            where=f"{path}:{text[: text.find(b'<<<<<<<')].count(10) + 1}",
            do="decide which side stands: git checkout --ours (or --theirs) on the file, then deploy the other's change again",
        )
    try:
        events = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Corrupt(
            f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}", do=MEND
        ) from error
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise Corrupt("is not a list of events", where=str(path), do=MEND)
    return events


def check(events: Sequence[dict[str, Any]], path: Path) -> None:
    """Numbers without gaps, each event chained to the one before it. Raises Corrupt at the first fault."""
    head = ""
    for number, event in enumerate(events, 1):
        if event.get("seq") != number or isinstance(event.get("seq"), bool):
            raise Corrupt(
                f"event {number} is numbered {json.dumps(event.get('seq'))[:20]}",
                where=at(path, number),
                do=MEND,
            )
        if event.get("prev") != head:
            what = (
                f"event {number - 1} was changed after it was written"
                if number > 1
                else "event 1 claims one before it"
            )
            raise Corrupt(what, where=at(path, max(1, number - 1)), do=MEND)
        head = digest(event)


def fold(book: Journal, step: Callable[[S, Any], S], state: S) -> S:
    """The state after a journal's events, each folded as it comes so that a fault is named by its line.

    step: the state after an event as it was parsed; raises ValidationError or Impossible. Raises Corrupt.
    """
    for number, raw in enumerate(book.events, 1):
        try:
            state = step(state, raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"][1:]) or "kind"
            raise damaged(book, number, f"{key}: {first['msg']}") from error
        except Impossible as error:
            raise damaged(book, number, f"it cannot follow: {error}") from error
    return state


def damaged(book: Journal, number: int, what: str) -> Corrupt:
    return Corrupt(f"event {number}: {what}", where=at(book.path, number), do=MEND)


def at(path: Path, number: int) -> str:
    """File and line of an event: in the layout that kt writes, event n stands on line n + 1."""
    return f"{path}:{number + 1}"
