"""Files and folders, as `kt train --data` takes them. A sample is a line, of a .npz file a vector.

What has come since is what there is more of than before: such files grow.
"""

import gzip
import math
import struct
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from pydantic import BaseModel, Field

from kt.errors import Invalid
from kt.workspace import Workspace

AT_ONCE = 1 << 20  # bytes


class Settings(BaseModel, extra="forbid"):
    paths: list[str] = Field(min_length=1)  # from the workspace


def collect(workspace: Workspace, settings: Settings, folder: Path) -> list[Path]:
    """What is there. Raises Invalid where there is nothing."""
    return [path for name in settings.paths for path in found(workspace.root / name)]


def count(workspace: Workspace, settings: Settings) -> int:
    return sum(map(samples, collect(workspace, settings, workspace.root)))


def new(workspace: Workspace, settings: Settings, before: int, since: datetime | None) -> int:
    return max(0, count(workspace, settings) - before)


def found(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    inside = sorted(path.iterdir()) if path.is_dir() else []
    taken = [one for one in inside if one.name.endswith((".csv", ".csv.gz", ".npz"))]
    if not taken:
        raise Invalid("there are no data here", where=str(path), do="name files of answers: .csv")
    yield from taken


def samples(path: Path) -> int:
    try:
        if path.suffix == ".npz":
            return vectors(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return max(0, lines(file) - 1)  # the first names the columns
    except (OSError, EOFError, zipfile.BadZipFile, ValueError, struct.error, KeyError) as error:
        raise Invalid(
            f"cannot be read: {error}",
            where=str(path),
            do="put a whole file there, or leave it out of the paths of the job",
        ) from error


def lines(file: IO[bytes] | gzip.GzipFile) -> int:
    total, last = 0, b"\n"
    while part := file.read(AT_ONCE):
        total += part.count(b"\n")
        last = part[-1:]
    return total + (last != b"\n")


def vectors(path: Path) -> int:
    """The length of the array `vectors`, from its header alone."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive, archive.open("vectors.npy") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, _ = read(file)
        return math.prod(shape[:1])
