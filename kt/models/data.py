"""What students answered, read from files: the form is recognised by looking at the content.

kt's own form is a CSV with a header, one answer a line, each student's answers in order (or with a
`time`, a number or ISO 8601, by which each student's are ordered):

    student_id,item,response            other columns are left alone but for these:
    s-17,19,1

    skill                  what the item practises; of an item with several, the one that most rows name
    seconds                how long the answer took
    help                   how often help was asked for before it

Read as well, plain or gzipped (`.csv`, `.csv.gz`), one file, several or a folder of them:

    pyKT          fold,uid,concepts,responses: "19,19,.." a student a line, -1 for padding
    three lines   count / items / responses, for each student (the DKVMN files)
    four lines    row,student / problems / skills / responses (the AKT files); an item is a problem
    wide          a student a line, an item a column; where most columns are named alike (X2001,
                  X2002, ..) only those are items; empty and NA are no answer

A part of the students is kept for testing: those of fold -1 in a pyKT file, and those in a file
whose name begins with "test". The rest are split for validation by pyKT's fold where there is one,
otherwise by a hash of the student's id, so that a student stays on one side as data grows.
"""

import csv
import gzip
import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np

from kt.errors import Invalid
from kt.models.task import Parts
from kt.models.tracing import UNKNOWN, Signature

TEST = -1  # fold of the students kept for testing
UNASSIGNED = -2  # no fold in the file: the hash of the id decides
FOLDS = 10  # of which the hash makes one for validation

STUDENT = ("student_id", "learner", "student", "user_id", "uid")
ITEM = ("item", "item_id")
RESPONSE = ("response", "correct")
SKILL = ("skill", "skill_id")
SECONDS = ("seconds", "response_time_s")
HELP = ("help", "hints")
MISSING = ("", "NA", "NaN", "nan")

FORMS = "a CSV with the columns student_id,item,response; see kt train --help for the others"


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
        for row in _form(path, lines)(path, lines):
            if not row.items:
                continue
            known = students.setdefault(row.student, Row(row.student, TEST if kept else row.fold))
            known.extend(row)
            for item, skill in zip(row.items, row.skills, strict=False):
                skills.setdefault(item, Counter())[skill] += 1
    if not students:
        raise Invalid("no answers in it", where=", ".join(map(str, files)), do=f"give {FORMS}")
    rows = students.values()
    lengths = [len(row.items) for row in rows]
    items = [item for row in rows for item in row.items]
    names = sorted(set(items), key=natural)
    place = {name: number for number, name in enumerate(names)}
    return Data(
        students=tuple(students),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=np.fromiter(map(place.__getitem__, items), np.int64),
        responses=np.fromiter((r for row in rows for r in row.responses), np.int64),
        folds=np.array([row.fold for row in rows], np.int64),
        names=tuple(names),
        skills=tuple(_most(skills.get(name)) for name in names) if skills else (),
        seconds=_measured([row.seconds for row in rows], lengths),
        help=_measured([row.help for row in rows], lengths),
        source=", ".join(path.name for path in files),
        sha256=hashed.hexdigest(),
    )


class Sided(Protocol):
    """Data whose units each stand on one side of a split. folds: (L,) TEST, UNASSIGNED or the file's."""

    @property
    def units(self) -> tuple[str, ...]: ...
    @property
    def folds(self) -> np.ndarray: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def source(self) -> str: ...
    def take(self, places: np.ndarray, /) -> Self: ...


S = TypeVar("S", bound=Sided)


def split(data: S, valid: S | None = None) -> Parts:
    """By unit. valid: others to stop by. Raises Invalid where a part would be empty."""
    hashes = np.array([fold_of(unit) for unit in data.units])
    folds = np.where(data.folds == UNASSIGNED, hashes, data.folds)
    test = folds == TEST
    kept = data.take(test) if test.any() else None
    if valid is not None:
        return Parts(data.take(~test), valid, kept)
    chosen = folds == 0
    train = ~test & ~chosen
    if not train.any() or not chosen.any():
        _, whom = data.counts
        raise Invalid(
            f"{len(data.units)} {whom} ({int(test.sum())} for testing) are too few to train and to validate",
            where=data.source,
            do=f"give more {whom}, or those to validate on with --valid",
        )
    return Parts(data.take(train), data.take(chosen), kept)


def without_test(data: S) -> S:
    """All units but those kept for testing."""
    return data.take(data.folds != TEST)


def only_test(data: S) -> S:
    """The units kept for testing, or all where none are."""
    test = data.folds == TEST
    return data.take(test) if test.any() else data


def fold_of(unit: str) -> int:
    """0 .. FOLDS - 1, by the id alone."""
    return int.from_bytes(hashlib.sha256(unit.encode()).digest()[:8]) % FOLDS


def vocabulary(data: Data) -> tuple[str, ...]:
    """The items that were answered, in natural order ("2" before "10")."""
    return tuple(data.names[place] for place in np.unique(data.items))


@dataclass(frozen=True)
class Windows:
    """Pieces of histories: window i is events start[i] to stop[i]; those from score[i] on are its own."""

    start: np.ndarray
    stop: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.stop - self.start)


class Grouped(Protocol):
    """Events in groups, as a student's answers: group l has events offsets[l] to offsets[l + 1]."""

    @property
    def offsets(self) -> np.ndarray: ...


def windows(data: Grouped, window: int, *, overlap: bool, shortest: int = 1) -> Windows:
    """Cut histories into pieces of at most `window` events; those shorter than `shortest` are left out.

    overlap: each piece after a student's first repeats the half before it as context and owns its
    second half, so that every event is owned once and few are predicted from a short history.
    """
    step = max(1, window // 2)
    pieces: list[tuple[int, int, int]] = []
    for begin, end in zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True):
        first = min(begin + window, end)
        pieces.append((begin, first, begin))
        if overlap:
            stops = range(first + step, end + step, step) if first < end else ()
            pieces += [(min(s, end) - window, min(s, end), s - step) for s in stops]
        else:
            pieces += [(s, min(s + window, end), s) for s in range(first, end, window)]
    start, stop, score = (
        np.array([p for p in pieces if p[1] - p[0] >= shortest], np.int64).reshape(-1, 3).T
    )
    return Windows(start, stop, score)


def batches(windows: Windows, size: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Places of windows, `size` together, of like length so that little is padding.

    With an rng, ties and the order of the batches are drawn; without, longest first.
    """
    if rng is None:
        order = np.argsort(-windows.lengths, kind="stable")
        return [order[i : i + size] for i in range(0, len(order), size)]
    order = np.lexsort((rng.random(len(windows)), windows.lengths))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def padded(values: np.ndarray, windows: Windows, places: np.ndarray) -> np.ndarray:
    """(B, T) the values of these windows' events, zero after each one's end."""
    lengths = windows.lengths[places]
    steps = np.arange(lengths.max(initial=1))
    inside = steps < lengths[:, None]
    index = np.where(inside, windows.start[places][:, None] + steps, 0)
    return np.where(inside, values[index], 0)


# The readers.


@dataclass
class Row:
    """A student's answers, or some of them. skills, seconds, help: as many as items, or none at all."""

    student: str
    fold: int = UNASSIGNED
    items: list[str] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)
    skills: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    help: list[float] = field(default_factory=list)

    def extend(self, other: "Row") -> None:
        """What `other` has, after what is here; unknown where only one of them knows."""
        for mine, theirs in ((self.seconds, other.seconds), (self.help, other.help)):
            if mine or theirs:
                mine += [math.nan] * (len(self.items) - len(mine))
                mine += theirs or [math.nan] * len(other.items)
        self.items += other.items
        self.responses += other.responses


Reader = Callable[[Path, list[str]], Iterator[Row]]


def opened(paths: Path | Sequence[Path]) -> Iterator[tuple[Path, bytes, list[str]]]:
    """Each of these files, or of a folder's .csv and .csv.gz files: its bytes and its lines. Raises Invalid."""
    for path in _files([paths] if isinstance(paths, Path) else paths):
        content = _content(path)
        yield path, content, _text(path, content).splitlines()


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.name.endswith((".csv", ".csv.gz")))
            if not found:
                raise Invalid("no .csv or .csv.gz file in it", where=str(path))
            yield from found
        elif path.exists():
            yield path
        else:
            raise Invalid("there is no such file or folder", where=str(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot read it: {error.strerror}", where=str(path)) from error


def _text(path: Path, content: bytes) -> str:
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return plain.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Invalid(f"neither text nor gzipped text: {error}", where=str(path)) from error


def _form(path: Path, lines: list[str]) -> Reader:
    """The reader for what the first line looks like."""
    if not lines:
        return lambda *_: iter(())
    if re.fullmatch(r"\s*\d+\s*", lines[0]):
        return _three_lines
    if re.fullmatch(r"\s*\d+\s*,\s*\w+\s*", lines[0]) and len(lines) > 3:
        return _four_lines
    header = [name.strip() for name in next(csv.reader(lines[:1]))]
    if {"concepts", "responses"} <= set(header):
        return _pykt
    if _column(header, STUDENT) is not None:
        if _column(header, ITEM) is not None and _column(header, RESPONSE) is not None:
            return _long
        if len(header) > 2:
            return _wide
    shown = ",".join(header)
    raise Invalid(
        f"unknown form: the columns are {shown[:120]}{'…' if len(shown) > 120 else ''}",
        where=f"{path}:1",
        do=f"give {FORMS}",
    )


def _long(path: Path, lines: list[str]) -> Iterator[Row]:
    rows = csv.reader(lines)
    header = [name.strip() for name in next(rows)]
    student, item, response = (_column(header, names) for names in (STUDENT, ITEM, RESPONSE))
    time, skill, seconds, help_ = (
        _column(header, names) for names in (("time",), SKILL, SECONDS, HELP)
    )
    assert student is not None
    assert item is not None
    assert response is not None
    answers: dict[str, list[tuple[float, list[str], str]]] = {}
    for row in rows:
        if not row:
            continue
        where = f"{path}:{rows.line_num}"
        if len(row) != len(header):
            raise Invalid(f"{len(row)} columns, the header has {len(header)}", where=where)
        at = 0.0 if time is None else _time(row[time], where)
        if not row[student].strip() or not row[item].strip():
            raise Invalid("a student and an item need a name", where=where)
        answers.setdefault(row[student].strip(), []).append((at, row, where))
    for name, given in answers.items():
        given.sort(key=lambda answer: answer[0])
        found = Row(name)
        for _, row, where in given:
            found.items.append(row[item].strip())
            found.responses.append(_response(row[response], where))
            if skill is not None:
                found.skills.append(row[skill].strip())
            if seconds is not None:
                found.seconds.append(_amount(row[seconds], "seconds", where))
            if help_ is not None:
                found.help.append(_amount(row[help_], "help", where))
        yield found


def _pykt(path: Path, lines: list[str]) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(lines)
    for row in rows:
        where = f"{path}:{rows.line_num}"
        items, responses = _list(row["concepts"]), _list(row["responses"])
        _same(where, len(items), len(responses))
        kept = [(i, r) for i, r in zip(items, responses, strict=True) if r != "-1" and i != "-1"]
        fold = row.get("fold") or str(UNASSIGNED)
        if not re.fullmatch(r"-?\d+", fold):
            raise Invalid(f"fold is {fold}, not a whole number", where=where)
        name = row.get("uid") or f"{path.name}-{rows.line_num}"
        yield Row(name, int(fold), [i for i, _ in kept], [_response(r, where) for _, r in kept])


def _three_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for n, first, (count, items, responses) in _records(path, lines, 3):
        if not count.strip().isdigit():
            raise Invalid(
                f"the number of answers is expected, not {count[:40]!r}", where=f"{path}:{first}"
            )
        yield _record(path, f"{path.name}-{n}", first + 1, int(count), items, responses)


def _four_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for _, first, (head, problems, skills, responses) in _records(path, lines, 4):
        names = _list(head)
        if len(names) != 2:
            raise Invalid(f"row,student is expected, not {head[:40]!r}", where=f"{path}:{first}")
        row = _record(path, names[1], first + 1, None, problems, responses)
        row.skills = _list(skills)
        if len(row.skills) != len(row.items):
            raise Invalid(
                f"{len(row.items)} problems and {len(row.skills)} skills", where=f"{path}:{first}"
            )
        yield row


def _records(path: Path, lines: list[str], height: int) -> Iterator[tuple[int, int, list[str]]]:
    """(number, line of its first, lines) of each record."""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    for n, place in enumerate(range(0, len(lines), height)):
        record = lines[place : place + height]
        if len(record) < height:
            raise Invalid(
                f"the last student has {len(record)} of {height} lines", where=f"{path}:{place + 1}"
            )
        yield n, place + 1, record


def _record(path: Path, name: str, line: int, count: int | None, items: str, responses: str) -> Row:
    codes, given = _list(items), _list(responses)
    where = f"{path}:{line}"
    _same(where, len(codes), len(given))
    if count is not None and count != len(codes):
        raise Invalid(f"{len(codes)} items, {count} were announced", where=where)
    return Row(name, UNASSIGNED, codes, [_response(r, where) for r in given])


def _wide(path: Path, lines: list[str]) -> Iterator[Row]:
    rows = csv.reader(lines)
    header = [name.strip() for name in next(rows)]
    student = _column(header, STUDENT)
    assert student is not None
    items = _alike([place for place in range(len(header)) if place != student], header)
    for row in rows:
        if not row:
            continue
        where = f"{path}:{rows.line_num}"
        if len(row) != len(header):
            raise Invalid(f"{len(row)} columns, the header has {len(header)}", where=where)
        given = [
            (header[i], _response(row[i], where)) for i in items if row[i].strip() not in MISSING
        ]
        yield Row(row[student].strip(), UNASSIGNED, [i for i, _ in given], [r for _, r in given])


def _alike(places: list[int], header: list[str]) -> list[int]:
    """The columns whose names share letters before a number, where those are most; otherwise all."""
    groups: dict[str, list[int]] = {}
    for place in places:
        if named := re.fullmatch(r"(\D+)\d+", header[place]):
            groups.setdefault(named[1], []).append(place)
    largest = max(groups.values(), key=len, default=[])
    return largest if 2 * len(largest) > len(places) else places


def _column(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").strip().strip(",").split(",") if part.strip()]


def _same(where: str, items: int, responses: int) -> None:
    if items != responses:
        raise Invalid(f"{items} items and {responses} responses", where=where)


def _response(text: str, where: str) -> int:
    """A category: a whole number from 0, perhaps written 1.0."""
    if named := re.fullmatch(r"\s*(\d{1,4})(?:\.0*)?\s*", text):
        return int(named[1])
    raise Invalid(
        f"response is {text[:40]!r}, a category is a whole number from 0",
        where=where,
        do="number the categories",
    )


def _amount(text: str, what: str, where: str) -> float:
    """A number from 0, or NaN where none was noted."""
    if text.strip() in MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise Invalid(f"{what} is {text[:40]!r}, not a number from 0", where=where)
    return value


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


def _time(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except ValueError:
        raise Invalid(
            f"time is {text[:40]!r}, neither a number nor ISO 8601", where=where
        ) from None


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """ "2" before "10", "X9" before "X10"."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], name
