"""Files that survive a kill and a power cut: written aside, synced, renamed, their folder synced.

A rename is atomic, so a reader finds the old file or the new one. `stage` does all that can fail
for want of space; `publish` is the rename. A sync that fails after the rename raises Unconfirmed:
the file is there, but the disk has not said that it will stay.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kt.errors import Corrupt, Unavailable, Unconfirmed

ASIDE = ".aside-"  # names of files being written begin so; under the lock a left-over one is swept
CHUNK = 1 << 20  # bytes
MODE = 0o666  # of a file that is for everybody, less the umask
PRIVATE = 0o600  # of one that is for its owner alone, from its first byte on
TRIES = 5  # at writing what is swept each time


@contextmanager
def named(action: str, path: Path) -> Iterator[None]:
    """An OSError becomes Unavailable: what was done to which path, and the system's reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unavailable(
            f"cannot {action} {path}: {reason}",
            do="nothing was changed; mend it and run the command again",
        ) from error


@contextmanager
def unseen() -> Iterator[None]:
    """Where nobody sees yet what is written, a sync that fails is a refusal: Unconfirmed becomes Unavailable."""
    try:
        yield
    except Unconfirmed as error:
        raise Unavailable(error.what, do="nothing was changed; run the command again") from error


def write_whole(path: Path, data: bytes, mode: int = MODE) -> None:
    """Replace `path` by `data`, wholly or not at all.

    What is written without the workspace's lock may be swept by a command that holds it; it is
    written again.
    """
    for left in reversed(range(TRIES)):
        try:
            publish(stage(path, data, mode), path)
            return
        except Unavailable as error:
            if not left or not isinstance(error.__cause__, FileNotFoundError):
                raise


def write_together(found: Mapping[Path, bytes]) -> None:
    """Replace all of these files, or none where there is no room for them."""
    asides: dict[Path, Path] = {}
    try:
        for path, data in found.items():
            asides[path] = stage(path, data)
        for path in found:
            publish(asides[path], path)
    finally:
        for aside in asides.values():
            discard(aside)  # those that were not renamed


def stage(path: Path, data: bytes, mode: int = MODE) -> Path:
    """Write `data` beside `path`, synced, under a name that nothing reads."""
    aside = path.parent / f"{ASIDE}{secrets.token_hex(4)}-{path.name}"
    with named("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            discard(aside)
            raise
    return aside


def publish(aside: Path, path: Path) -> None:
    """Rename what was staged to `path`. Raises Unconfirmed where the folder cannot be synced."""
    try:
        with named("write", path):
            aside.replace(path)
    except BaseException:
        discard(aside)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable. Raises Unconfirmed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unconfirmed(
            f"{folder} was changed, but not synced: {error.strerror}",
            do="the change is visible but may not survive a power cut; see: kt status",
        ) from error


def discard(path: Path) -> None:
    """Remove a file that may not be there. A disk that refuses even that leaves it to be swept."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def sweep(folder: Path) -> list[Path]:
    """Remove what killed commands left half written in `folder`. Only under the workspace's lock."""
    left = asides(folder)
    for path in left:
        discard(path)
    return left


def asides(folder: Path) -> list[Path]:
    """What is being written in `folder`, or was by a killed command."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.startswith(ASIDE))


def read(path: Path) -> bytes:
    """The bytes of a file that kt wrote: a regular file, no link elsewhere and no pipe to wait on.

    Raises FileNotFoundError, or Corrupt.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read()
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise Corrupt(
                f"cannot be read: {error.strerror}",
                where=str(path),
                do="let this user read it: ls -l; what is damaged is in git: kt verify",
            ) from error
    raise Corrupt("is not a regular file", where=str(path), do="put the file itself there")


def digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with named("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
