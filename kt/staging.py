"""Folders to prepare a big thing in, outside the lock of the workspace.

A kernel lock on each tells a living command's from a killed one's.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kt import files
from kt.locks import take
from kt.workspace import Workspace

STAGING = "staging"  # in .kt/


@contextmanager
def staging(workspace: Workspace) -> Iterator[Path]:
    """A folder of one's own. It goes when the block ends, unless it is adopted."""
    folder = workspace.local / STAGING / secrets.token_hex(8)
    with files.named("write", folder):
        while (descriptor := make_and_take(folder)) is None:
            pass  # swept by another command before it was locked
    try:
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def make_and_take(folder: Path) -> int | None:
    """A new folder under its lock, None where a sweep has come between the two."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if take(descriptor) and folder.exists():
        return descriptor
    os.close(descriptor)
    return None


def sweep(workspace: Workspace) -> None:
    """Remove the staging folders of commands that have died."""
    for folder in abandoned(workspace):
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(workspace: Workspace) -> Iterator[Path]:
    """The staging folders of commands that have died, each locked while it is looked at."""
    for folder, descriptor in staged(workspace):
        if take(descriptor):
            yield folder


def preparing(workspace: Workspace) -> bool:
    """Whether a living command prepares something, outside the workspace's lock."""
    return not all(take(descriptor) for _, descriptor in staged(workspace))


def staged(workspace: Workspace) -> Iterator[tuple[Path, int]]:
    """Every staging folder with a descriptor of it, open until the next one."""
    parent = workspace.local / STAGING
    for folder in parent.iterdir() if parent.is_dir() else ():
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            yield folder, descriptor
        finally:
            os.close(descriptor)
