"""The structure of a torch archive, checked before anything unpickles it.

torch.save writes a zip that zip tools rarely meet otherwise: one root folder, nothing compressed, a few
records of known names. Whatever differs was written by something else, and readers disagree about it:
two records of one name, a name that climbs out, compressed or encrypted records, bytes before the first.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

STORAGE = r"data/\d+"
TEXT = r"version|byteorder|\.format_version|\.storage_alignment|\.data/(serialization_id|version)"
PROGRAM = (
    r"archive_format|archive_version|models/[\w.-]+\.json|data/(weights|constants|sample_inputs)/[\w.-]+|"
    r"extra/[\w./-]+"
)


class Odd(ValueError):
    """What is wrong with an archive, as a clause: "a record twice (data.pkl)"."""


def names(path: Path) -> dict[str, int]:
    """The records, without their root folder, with their sizes. Raises Odd."""
    with readable(path) as archive:
        records = archive.infolist()
        check(records)
        whole(archive, path, records)
        return {record.filename.partition("/")[2]: record.file_size for record in records}


def listed(path: Path) -> set[str]:
    """The records' names as they stand, of an archive that may be anything. Raises Odd."""
    with readable(path) as archive:
        return set(archive.namelist())


def storages(path: Path) -> list[int]:
    """The sizes of the records that hold tensors' bytes. Raises Odd."""
    with readable(path) as archive:
        records = [(record.filename.partition("/")[2], record) for record in archive.infolist()]
    return [record.file_size for name, record in records if re.fullmatch(STORAGE, name)]


@contextmanager
def readable(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        RuntimeError,  # zipfile: encrypted, or a compression that it does not know
        UnicodeError,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        if isinstance(error, Odd):
            raise
        raise Odd(
            f"a damaged zip archive ({str(error)[:100] or type(error).__name__}): copied in part?"
        ) from error


def check(records: list[zipfile.ZipInfo]) -> None:
    """What can be told from the directory alone."""
    seen: set[str] = set()
    roots: set[str] = set()
    for record in records:
        name = record.orig_filename
        shown = name[:60]
        if (
            name != record.filename
            or "\\" in name
            or name.startswith("/")
            or ".." in name.split("/")
        ):
            raise Odd(f"an archive whose record {shown!r} climbs out")
        if name in seen:
            raise Odd(f"an archive that has the record {shown!r} twice")
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 0x1 or record.is_dir():
            raise Odd(
                f"an archive whose record {shown!r} is compressed, encrypted or a folder: torch.save writes none"
            )
        seen.add(name)
        roots.add(name.partition("/")[0])
    if len(roots) != 1:
        raise Odd(f"an archive with {len(roots)} root folders: torch.save writes one")


def whole(archive: zipfile.ZipFile, path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Nothing before the first record, no overlaps, every checksum right."""
    if min(record.header_offset for record in records) != 0:
        raise Odd("an archive with bytes before its first record")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise Odd("an archive whose records overlap")
    if broken := archive.testzip():
        raise Odd(f"an archive whose record {broken[:60]!r} has a wrong checksum")


def only(records: Iterable[str], allowed: str) -> None:
    """Raises Odd for a record whose name is not of the allowed ones."""
    for name in records:
        if not re.fullmatch(allowed, name):
            raise Odd(f"an archive with a record that does not belong there ({name[:60]!r})")
