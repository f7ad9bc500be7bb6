"""active.json as a predictor reads it, and whether it follows it.

A predictor never goes back in `seq`: a rollback has a higher one, so a lower one is a git checkout
and not kt's doing.
"""

import os
import stat
from collections.abc import Collection
from pathlib import Path

import jiter

from kt.deployments import manifest as manifests
from kt.deployments.manifest import MANIFEST, Manifest
from kt.errors import Corrupt, KtError

LARGEST = 10_000_000  # bytes of a manifest


def identity(path: Path) -> object:
    """What changes when a file is replaced or written to."""
    try:
        found = path.lstat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_mtime_ns, found.st_size


def read(path: Path) -> Manifest:
    """A manifest. Raises Corrupt, also for what is no regular file; FileNotFoundError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Corrupt("is no file", where=MANIFEST, do=manifests.ANEW)
            data = os.read(descriptor, min(found.st_size, LARGEST))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Corrupt(
            f"cannot be read: {error.strerror}", where=MANIFEST, do=manifests.ANEW
        ) from error
    try:
        jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise Corrupt(f"is not JSON: {error}", where=MANIFEST, do=manifests.ANEW) from error
    return manifests.parse(data)


def peek(path: Path) -> Manifest | None:
    try:
        return read(path)
    except (FileNotFoundError, KtError):
        return None


def refusal(served: Manifest, found: Manifest | None, replaced: Collection[str] = ()) -> str:
    """Why a predictor that serves `served` does not follow `found`; empty where it does, or where there is none.

    replaced: the digests of events that a person has let go for another history.
    """
    if found is None or found == served or not served.seq or found.seq > served.seq:
        return ""
    if served.head in replaced and found.head not in replaced:
        return ""
    if found.seq < served.seq:
        return (
            f"{MANIFEST} is at seq {found.seq}, {served.seq} is served: a git checkout does not change"
            " what is served; see: kt verify"
        )
    if found.head != served.head:
        return f"{MANIFEST} is another seq {found.seq} than the one served: two histories; see: kt verify"
    return f"{MANIFEST} was edited: seq {found.seq} is served as kt wrote it; see: kt verify"
