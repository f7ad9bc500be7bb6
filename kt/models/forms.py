"""The forms in which answers are written, recognised by looking at the content.

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
"""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from sys import intern
from typing import Any

from kt.errors import Invalid
from kt.models.split import UNASSIGNED

STUDENT = ("student_id", "learner", "student", "user_id", "uid")
ITEM = ("item", "item_id")
RESPONSE = ("response", "correct")
SKILL = ("skill", "skill_id")
SECONDS = ("seconds", "response_time_s")
HELP = ("help", "hints")
MISSING = ("", "NA", "NaN", "nan")
FORMS = "a CSV with the columns student_id,item,response; see kt train --help for the others"
MEND = "mend that line, or leave it out"
RECORDS = {  # by how many lines a student has
    3: "give each student three lines: how many answers, the items, the responses",
    4: "give each student four lines: row,student, the problems, the skills, the responses",
}


@dataclass
class Row:
    """A student's answers, or some of them. skills, times, seconds, help: as many as items, or none at all.

    times: when each was given, in seconds since 1970 where it is the hour that is told.
    """

    student: str
    fold: int = UNASSIGNED
    items: list[str] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)
    skills: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    help: list[float] = field(default_factory=list)

    def extend(self, other: "Row") -> None:
        """What `other` has, after what is here; unknown where only one of them knows."""
        for mine, theirs in (
            (self.times, other.times),
            (self.seconds, other.seconds),
            (self.help, other.help),
        ):
            if mine or theirs:
                mine += [math.nan] * (len(self.items) - len(mine))
                mine += theirs or [math.nan] * len(other.items)
        self.items += other.items
        self.responses += other.responses

    def order(self) -> None:
        """By time, where that is known; what came at the same time stays as it stands."""
        if self.times != sorted(self.times):
            place = sorted(range(len(self.times)), key=self.times.__getitem__)
            columns: list[list[Any]] = [self.items, self.responses, self.skills, self.times]
            columns += [self.seconds, self.help]
            for column in filter(None, columns):
                column[:] = [column[at] for at in place]


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
                raise Invalid("no .csv or .csv.gz file in it", where=str(path), do=f"give {FORMS}")
            yield from found
        elif path.exists():
            yield path
        else:
            raise Invalid(
                "there is no such file or folder",
                where=str(path),
                do="name one with answers, or draw some: kt simulate gpcm --out learners",
            )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(
            f"cannot read it: {error.strerror}", where=str(path), do="let this user read it: ls -l"
        ) from error


def _text(path: Path, content: bytes) -> str:
    try:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return plain.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = plain.count(b"\n", 0, error.start) + 1
        raise Invalid(
            f"is not UTF-8: byte 0x{plain[error.start]:02x}",
            where=f"{path}:{line}",
            do=f"save it as UTF-8: iconv -f LATIN1 -t UTF-8 {path.name} > utf8.csv",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid(
            f"is no whole gzip file: {error}", where=str(path), do="copy it again, whole"
        ) from error


def reader_of(path: Path, lines: list[str]) -> Reader:
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
    raise unknown(path, header, FORMS)


def unknown(path: Path, header: Sequence[str], forms: str) -> Invalid:
    """What is told of a file whose columns are those of none of these forms."""
    shown = ",".join(header)
    return Invalid(
        f"unknown form: the columns are {shown[:120]}{'…' if len(shown) > 120 else ''}",
        where=f"{path}:1",
        do=f"give {forms}",
    )


def table(path: Path, lines: list[str]) -> tuple[list[str], Iterator[tuple[str, list[str]]]]:
    """The names of a file's columns, and each row with its place. Raises Invalid at a row of another length."""
    csv.field_size_limit(1 << 30)
    rows = csv.reader(lines)
    header = [name.strip() for name in next(rows, [])]

    def whole() -> Iterator[tuple[str, list[str]]]:
        for row in filter(None, rows):
            where = f"{path}:{rows.line_num}"
            if len(row) != len(header):
                raise Invalid(
                    f"{len(row)} columns, the header has {len(header)}",
                    where=where,
                    do='mend that line; a field with a comma in it stands in quotes, "a, b"',
                )
            yield where, row

    return header, whole()


def _long(path: Path, lines: list[str]) -> Iterator[Row]:
    header, rows = table(path, lines)
    student, item, response = (_column(header, names) for names in (STUDENT, ITEM, RESPONSE))
    time, skill, seconds, help_ = (
        _column(header, names) for names in (("time",), SKILL, SECONDS, HELP)
    )
    assert student is not None
    assert item is not None
    assert response is not None
    found: dict[str, Row] = {}
    for where, row in rows:
        name, answered = row[student].strip(), row[item].strip()
        if not name or not answered:
            raise Invalid("a student and an item need a name", where=where, do=MEND)
        if (known := found.get(name)) is None:
            known = found[name] = Row(name)
        known.items.append(intern(answered))
        known.responses.append(_response(row[response], where))
        if time is not None:
            known.times.append(_time(row[time], where))
        if skill is not None:
            known.skills.append(intern(row[skill].strip()))
        if seconds is not None:
            known.seconds.append(_amount(row[seconds], "seconds", where))
        if help_ is not None:
            known.help.append(_amount(row[help_], "help", where))
    for known in found.values():
        known.order()
        yield known


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
            raise Invalid(
                f"fold is {fold}, not a whole number",
                where=where,
                do="write a whole number, -1 for none",
            )
        name = row.get("uid") or f"{path.name}-{rows.line_num}"
        yield Row(name, int(fold), [i for i, _ in kept], [_response(r, where) for _, r in kept])


def _three_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for n, first, (count, items, responses) in _records(path, lines, 3):
        if not count.strip().isdigit():
            raise Invalid(
                f"the number of answers is expected, not {count[:40]!r}",
                where=f"{path}:{first}",
                do=RECORDS[3],
            )
        yield _record(path, f"{path.name}-{n}", first + 1, int(count), items, responses)


def _four_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for _, first, (head, problems, skills, responses) in _records(path, lines, 4):
        names = _list(head)
        if len(names) != 2:
            raise Invalid(
                f"row,student is expected, not {head[:40]!r}",
                where=f"{path}:{first}",
                do=RECORDS[4],
            )
        row = _record(path, names[1], first + 1, None, problems, responses)
        row.skills = _list(skills)
        if len(row.skills) != len(row.items):
            raise Invalid(
                f"{len(row.items)} problems and {len(row.skills)} skills",
                where=f"{path}:{first}",
                do=MEND,
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
                f"the last student has {len(record)} of {height} lines",
                where=f"{path}:{place + 1}",
                do=RECORDS[height],
            )
        yield n, place + 1, record


def _record(path: Path, name: str, line: int, count: int | None, items: str, responses: str) -> Row:
    codes, given = _list(items), _list(responses)
    where = f"{path}:{line}"
    _same(where, len(codes), len(given))
    if count is not None and count != len(codes):
        raise Invalid(f"{len(codes)} items, {count} were announced", where=where, do=MEND)
    return Row(name, UNASSIGNED, codes, [_response(r, where) for r in given])


def _wide(path: Path, lines: list[str]) -> Iterator[Row]:
    header, rows = table(path, lines)
    student = _column(header, STUDENT)
    assert student is not None
    items = _alike([place for place in range(len(header)) if place != student], header)
    for where, row in rows:
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
        raise Invalid(f"{items} items and {responses} responses", where=where, do=MEND)


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
        raise Invalid(
            f"{what} is {text[:40]!r}, not a number from 0",
            where=where,
            do="write such a number, or nothing where none was noted",
        )
    return value


def _time(text: str, where: str) -> float:
    """A finite number; of ISO 8601 seconds since 1970, in UTC where it names no zone."""
    try:
        value = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text.strip())
        except ValueError:
            value = math.nan
        else:
            value = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise Invalid(
            f"time is {text[:40]!r}, neither a number nor ISO 8601",
            where=where,
            do="write seconds, or 2026-09-01T12:00:00",
        )
    return value
