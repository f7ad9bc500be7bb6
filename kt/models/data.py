"""What students answered, read from files in any of the forms of forms.py.

A part of the students is kept for testing: those of fold -1 in a pyKT file, and those in a file
whose name begins with "test". How the others are split: split.py.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from kt.errors import Invalid
from kt.models.forms import FORMS, Row, opened, reader_of
from kt.models.split import TEST
from kt.models.tracing import UNKNOWN, Signature


@dataclass(frozen=True)
class Data:
    """The answers of L students, E in all: student l gave events offsets[l] to offsets[l + 1]."""

    students: tuple[str, ...]
    offsets: np.ndarray  # (L + 1,) int64
    items: np.ndarray  # (E,) int64, places in `names`
    responses: np.ndarray  # (E,) int64
    folds: np.ndarray  # (L,) int64: TEST, UNASSIGNED, or the file's
    names: tuple[str, ...]  # of the items
    skills: tuple[str, ...] = ()  # of each of `names`, empty where unknown; () where none is known
    times: np.ndarray | None = (
        None  # (E,) float64 when each came, as its `time` says, NaN where unknown
    )
    seconds: np.ndarray | None = None  # (E,) float64 that each answer took, NaN where unknown
    help: np.ndarray | None = None  # (E,) float64, how often it was asked for, NaN where unknown
    source: str = ""  # the files' names
    sha256: str = ""  # of the files' bytes, in order

    @property
    def events(self) -> int:
        return len(self.items)

    @property
    def units(self) -> tuple[str, ...]:
        return self.students

    @property
    def counts(self) -> dict[str, int]:
        return {"answers": self.events, "students": len(self.students)}

    @property
    def categories(self) -> int:
        """As many as the highest response asks for, at least two."""
        return max(2, int(self.responses.max(initial=0)) + 1)

    def take(self, students: np.ndarray) -> Self:
        """The data of these students alone, given as places (or a mask)."""
        places = np.arange(len(self.students))[students]
        lengths = np.diff(self.offsets)[places]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[places] - offsets[:-1], lengths)
        return replace(
            self,
            students=tuple(self.students[place] for place in places),
            offsets=offsets,
            items=self.items[events],
            responses=self.responses[events],
            folds=self.folds[places],
            times=None if self.times is None else self.times[events],
            seconds=None if self.seconds is None else self.seconds[events],
            help=None if self.help is None else self.help[events],
        )

    def rows(self, signature: Signature) -> np.ndarray:
        """(E,) the row of each event's item in a version's tables. Raises Invalid on a response it lacks."""
        if self.events and self.categories > signature.categories:
            place = int(np.argmax(self.responses >= signature.categories))
            student = self.students[int(np.searchsorted(self.offsets, place, "right")) - 1]
            raise Invalid(
                f"a response is {self.responses[place]}, the model knows 0 to {signature.categories - 1}",
                where=f"{self.source}: student {student}",
                do="train with as many categories as the data has: --set categories=N",
            )
        known = np.array([signature.rows.get(name, UNKNOWN) for name in self.names], np.int64)
        return known[self.items] if self.events else self.items


def read(paths: Path | Sequence[Path]) -> Data:
    """The data in a file, in several, or in a folder's .csv and .csv.gz files. Raises Invalid."""
    files: list[Path] = []
    students: dict[str, Row] = {}
    skills: dict[str, Counter[str]] = {}
    hashed = hashlib.sha256()
    for path, content, lines in opened(paths):
        files.append(path)
        hashed.update(content)
        kept = path.name.lower().startswith("test")
        for row in reader_of(path, lines)(path, lines):
            if not row.items:
                continue
            known = students.setdefault(row.student, Row(row.student, TEST if kept else row.fold))
            known.extend(row)
            for item, skill in zip(row.items, row.skills, strict=False):
                skills.setdefault(item, Counter())[skill] += 1
    if not students:
        raise Invalid("no answers in it", where=", ".join(map(str, files)), do=f"give {FORMS}")
    source, sha256 = ", ".join(path.name for path in files), hashed.hexdigest()
    return replace(assembled([*students.values()], skills), source=source, sha256=sha256)


def assembled(rows: Sequence[Row], skills: Mapping[str, Counter[str]]) -> Data:
    """Students' rows on end. skills: how often each is named of an item."""
    lengths = [len(row.items) for row in rows]
    items = [item for row in rows for item in row.items]
    names = sorted(set(items), key=natural)
    place = {name: number for number, name in enumerate(names)}
    return Data(
        students=tuple(row.student for row in rows),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.fromiter(map(place.__getitem__, items), np.int64),
        responses=np.fromiter((r for row in rows for r in row.responses), np.int64),
        folds=np.array([row.fold for row in rows], np.int64),
        names=tuple(names),
        skills=tuple(_most(skills.get(name)) for name in names) if skills else (),
        times=_measured([row.times for row in rows], lengths),
        seconds=_measured([row.seconds for row in rows], lengths),
        help=_measured([row.help for row in rows], lengths),
    )


def vocabulary(data: Data) -> tuple[str, ...]:
    """The items that were answered, in natural order ("2" before "10")."""
    return tuple(data.names[place] for place in np.unique(data.items))


def _measured(parts: list[list[float]], lengths: list[int]) -> np.ndarray | None:
    """What was measured of each student's answers, on end; None where nothing was."""
    if not any(parts):
        return None
    whole = (part or [math.nan] * length for part, length in zip(parts, lengths, strict=True))
    return np.fromiter(chain.from_iterable(whole), np.float64, sum(lengths))


def _most(skills: Counter[str] | None) -> str:
    """The skill that was named most often, of several the first in natural order."""
    if not skills:
        return ""
    return min(skills, key=lambda skill: (-skills[skill], natural(skill)))


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """ "2" before "10", "X9" before "X10"."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name
