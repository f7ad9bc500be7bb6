"""Locks of the kernel (flock): each ends with its holder, however that ends. Its file says who that is."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kt import clock, files
from kt.errors import Unavailable
from kt.workspace import Workspace


def acquire(workspace: Workspace, command: str, wait: float) -> int:
    """The workspace's lock, as a descriptor to close. Raises Unavailable, naming the holder, after `wait` seconds."""
    path = workspace.local / "lock"
    with files.named("lock", path):
        workspace.local.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = time.monotonic() + wait
    try:
        with files.named("lock", path):
            while not take(descriptor):
                if time.monotonic() >= deadline:
                    raise held(descriptor)
                time.sleep(0.01)
        name_holder(descriptor, command)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def name_holder(descriptor: int, command: str) -> None:
    """Say in the lock's file who holds it."""
    since = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    say(descriptor, f"kt {command}, process {os.getpid()}, since {since}\n")


def say(descriptor: int, words: str) -> None:
    """A full disk keeps nobody from holding a lock."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, words.encode(), 0)


def take(descriptor: int) -> bool:
    """The kernel lock on an open file or folder, without waiting for it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def holding(path: Path, words: str = "", wait: float = 0.0) -> Iterator[str]:
    """Hold a lock of one's own for the block; or who holds it, where it is not free within `wait` seconds.

    words: who holds it now, for others to read.
    """
    with files.named("lock", path):
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        until = time.monotonic() + wait
        while not (mine := take(descriptor)) and time.monotonic() < until:
            time.sleep(0.05)
        if mine:
            say(descriptor, words)
        yield "" if mine else said_by(descriptor) or "another process"
    finally:
        os.close(descriptor)


def holder(workspace: Workspace) -> str:
    """The command that holds the workspace's lock, as it calls itself; empty where it is free."""
    try:
        descriptor = os.open(workspace.local / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return "" if take(descriptor) else said_by(descriptor) or "another command"
    finally:
        os.close(descriptor)


def said_by(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip()


def held(descriptor: int) -> Unavailable:
    holder = said_by(descriptor)
    return Unavailable(
        f"the workspace is locked by {holder or 'another command'}",
        do="wait for it to end, or give it more time: lock_wait in kt.toml",
    )
