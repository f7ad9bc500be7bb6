"""What a training came from, so that it can be done again: its files, code and threads.

Data that grow at their end, as a log of answers does, still hold what was learnt from: the first `size`
bytes of each file, whose digest says whether they are the same.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from kt.errors import Invalid

TABLES, ARCHIVES = (".csv", ".csv.gz"), (".npz",)
AT_ONCE = 1 << 20  # bytes


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(Part):
    """A file of data as it was. path: from the workspace, or from where it was trained without one; of a file
    that was made for one run, from that run's folder."""

    path: str
    size: int = Field(ge=0)  # bytes
    sha256: str

    @property
    def name(self) -> str:
        return Path(self.path).name


class Origin(Part):
    """files, valid: in the order in which they were read. holdout: the share of newest units left out.

    job: of kt.toml, where one asked for it. code: sha256 of the family's source. commit: of the
    workspace. cpu: what its arithmetic is done by, as torch calls it.
    """

    files: tuple[File, ...]
    valid: tuple[File, ...] = ()
    holdout: float = 0.0
    job: str = ""
    threads: int = Field(1, ge=1)
    code: str
    commit: str = Field("", pattern=r"^([0-9a-f]{40,64})?$")
    cpu: str


def of(
    family: Any,
    paths: Sequence[Path],
    root: Path,
    *,
    valid: Sequence[Path] = (),
    made: Path | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The Origin of a training that begins now, for the record. made: a folder of files that do not last.

    more: holdout, job and commit.
    """
    found = Origin(
        files=tuple(described(path, root, made) for path in listed(paths)),
        valid=tuple(described(path, root, made) for path in listed(valid)),
        threads=torch.get_num_threads(),
        code=source(family),
        cpu=cpu(),
        **more,
    )
    return found.model_dump(mode="json")


def listed(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that these files and folders stand for, in the order in which tasks read them."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        inside = sorted(path.iterdir())
        tables = [one for one in inside if one.name.endswith(TABLES)]
        yield from tables or (one for one in inside if one.name.endswith(ARCHIVES))


def described(path: Path, root: Path, made: Path | None) -> File:
    above = made if made and path.is_relative_to(made) else root
    where = os.path.relpath(path.absolute(), above.absolute())
    size = path.stat().st_size
    return File(path=where, size=size, sha256=digest(path, size))


def digest(path: Path, size: int) -> str:
    """Of the first `size` bytes of a file, or of all where it has fewer."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while size and (part := file.read(min(size, AT_ONCE))):
            hashed.update(part)
            size -= len(part)
    return hashed.hexdigest()


def again(
    files: Sequence[File], root: Path, folder: Path, instead: Mapping[str, Path]
) -> list[Path]:
    """The files as they were; one that has grown since is cut in a copy, in `folder`.

    instead: by path or by name, files to look into in place of the recorded ones. Raises Invalid where one
    is gone or is another.
    """
    found = (instead.get(file.path) or instead.get(file.name) or root / file.path for file in files)
    return [
        as_it_was(file, path, folder / str(number))
        for number, (file, path) in enumerate(zip(files, found, strict=True))
    ]


def as_it_was(file: File, path: Path, folder: Path) -> Path:
    if not path.is_file():
        raise Invalid(
            f"the data are gone: there is no {file.path} any more",
            do="put it back, or say where it is: --data PATH",
        )
    size = path.stat().st_size
    if size < file.size or digest(path, file.size) != file.sha256:
        raise Invalid(
            f"the data have changed: {file.path} is not what was learnt from"
            f" (sha256 {file.sha256[:12]}… of {file.size:,} bytes)",
            do="put the file of then back, or say where it is: --data PATH",
        )
    if size == file.size:
        return path
    folder.mkdir(parents=True)
    cut = folder / path.name  # its name may say that it is for testing
    with path.open("rb") as whole, cut.open("wb") as part:
        shutil.copyfileobj(whole, part)
        part.truncate(file.size)
    return cut


def source(family: Any) -> str:
    """sha256 of the file that a family is."""
    return hashlib.sha256(Path(family.__file__).read_bytes()).hexdigest()


def cpu() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
