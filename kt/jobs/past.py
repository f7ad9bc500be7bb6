"""The data of a job as they were at a time: what of them had come by then.

A sample says when it came by its column `came`, else by its column `time` (ISO 8601, UTC where it names no
zone, or seconds since 1970); a file without these by a date in its name (answers-2026-01-14.csv), whose
samples were all there when that day was over. When a file was written says nothing: a copy changes it.
"""

import csv
import gzip
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import numpy as np

from kt.errors import Invalid
from kt.jobs.sources import files

COLUMNS = (
    "came",
    "time",
)  # the first that there is: an answer may become known long after it was given
DATED = re.compile(r"(?<!\d)(\d{4})-?(\d\d)-?(\d\d)(?!\d)")


@dataclass(frozen=True)
class Part:
    """A file of samples. times: (n,) when each came, seconds since 1970. rows: whether the file has them by row."""

    path: Path
    times: np.ndarray
    rows: bool


@dataclass(frozen=True)
class Past:
    """All samples that a job has now, by when they came."""

    parts: tuple[Part, ...]

    @property
    def times(self) -> np.ndarray:
        """(N,) of all, in order."""
        return np.sort(np.concatenate([part.times for part in self.parts]))

    def count(self, until: datetime, since: datetime | None = None) -> int:
        """Samples that came after `since` and not after `until`."""
        low = -math.inf if since is None else since.timestamp()
        high = until.timestamp()
        return sum(int(((part.times > low) & (part.times <= high)).sum()) for part in self.parts)

    def files(self, folder: Path, until: datetime, since: datetime | None = None) -> list[Path]:
        """The files as they were, written to `folder`: what had come by `until`, or only since `since`."""
        low = -math.inf if since is None else since.timestamp()
        out = []
        for number, part in enumerate(self.parts):
            kept = (part.times > low) & (part.times <= until.timestamp())
            if kept.any():
                path = folder / str(number) / part.path.name.removesuffix(".gz")
                path.parent.mkdir(parents=True)
                cut(part, kept, path)
                out.append(path)
        return out


def read(paths: Sequence[Path]) -> Past:
    """Raises Invalid where samples do not say when they came."""
    return Past(tuple(map(timed, paths)))


def timed(path: Path) -> Part:
    if path.suffix != ".npz":
        with opened(path) as file:
            rows = csv.reader(file)
            header = [name.strip().lower() for name in next(rows, [])]
            told = [name for name in COLUMNS if name in header]
            if told:
                place = header.index(told[0])
                times = [moment(row, place, f"{path}:{rows.line_num}") for row in rows if row]
                return Part(path, np.array(times, float), rows=True)
    dates = DATED.findall(path.name)
    try:
        year, month, day = map(int, dates[-1])
        whole = datetime(year, month, day, tzinfo=UTC) + timedelta(days=1)
    except (IndexError, ValueError):
        raise Invalid(
            "its samples do not say when they came",
            where=str(path),
            do="give them a column time, or a date in the file's name: answers-2026-01-14.csv",
        ) from None
    return Part(path, np.full(files.samples(path), whole.timestamp()), rows=False)


def moment(row: Sequence[str], place: int, where: str) -> float:
    """Seconds since 1970. Raises Invalid."""
    text = row[place].strip() if place < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            value = math.nan
        else:
            value = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise Invalid(
            f"a time is {text[:40]!r}",
            where=where,
            do="write it in ISO 8601, or in seconds since 1970",
        )
    return value


def cut(part: Part, kept: np.ndarray, path: Path) -> None:
    """Write the header and these samples."""
    if not part.rows:  # all of them
        if part.path.suffix != ".gz":
            shutil.copyfile(part.path, path)
            return
        with opened(part.path) as file, path.open("w", newline="") as out:
            shutil.copyfileobj(file, out)
        return
    with opened(part.path) as file, path.open("w", newline="") as out:
        rows = csv.reader(file)
        writer = csv.writer(out)
        writer.writerow(next(rows))
        writer.writerows(row for row, keep in zip(filter(None, rows), kept, strict=True) if keep)


def in_two(path: Path, at: datetime, before: Path, after: Path) -> None:
    """Write what of a file had come by a time as one file and the rest as another, neither without any."""
    part = timed(path)
    known = part.times <= at.timestamp()
    for kept, to in ((known, before), (~known, after)):
        if kept.any():
            cut(part, kept, to)


def opened(path: Path) -> IO[str]:
    """A table as text."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def times(begin: datetime, end: datetime, every: timedelta) -> Iterator[datetime]:
    """From the beginning to the end, which may be one of them."""
    at = begin
    while at <= end:
        yield at
        at += every
