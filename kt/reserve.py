"""Room for a rollback on a full disk: a file in .kt/ that takes up space while there is some, to give it back.

A change of traffic writes little, but it writes the new before the old goes. Where the disk or a quota
is full, that is tried once more with this file gone. At the end of each command what room there is
becomes the reserve again.
"""

import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from kt import files
from kt.errors import Unavailable

NAME = "reserve"
SIZE = 1 << 20  # bytes, and so many more for each so many that a change writes anew
FULL = (errno.ENOSPC, errno.EDQUOT)
T = TypeVar("T")


def keep(folder: Path, replaced: Sequence[Path]) -> None:
    """Take up room in `folder`, at most half of what is free. Where that fails the next command tries again."""
    path = folder / NAME
    try:
        written = 2 * sum(file.lstat().st_size for file in replaced)  # aside, and by git
        due = SIZE * (1 + -(-written // SIZE))
        size = min(due, shutil.disk_usage(folder).free // 2)
        if not path.exists() or path.stat().st_size < size:
            path.write_bytes(bytes(size))
    except OSError:
        return


def spend(folder: Path, work: Callable[[], T]) -> T:
    """Do what must work on a full disk, and leaves nothing where it fails."""
    try:
        return work()
    except Unavailable as error:
        if getattr(error.__cause__, "errno", None) not in FULL or not (folder / NAME).exists():
            raise
    files.discard(folder / NAME)
    return work()
