"""A change: everything that one command writes, in order, under one lock, as one commit.

    with locked(workspace, "deploy") as lock:       # finishes what a killed command left
        change = Change("deploy sakt v4", [...])    # decided before anything is written
        apply(change, lock)

All bytes are staged before the first rename, so a full disk changes nothing. The journal's rename
is the commit point: from there on the change is a fact. Git comes after it and cannot fail it.
What kill -9 leaves: the old state or the new, and at most staged files and a missing manifest or
commit, all of which the next `locked` puts right.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kt import files, git
from kt.errors import Refused, Unavailable
from kt.workspace import ROOMS, Workspace

PENDING = "pending.json"
STAGING = "staging"


@dataclass(frozen=True)
class Write:
    """A file, replaced whole. path: relative to the workspace."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Adopt:
    """A staged folder that becomes part of the workspace by one rename. path: where to.

    commit: the paths in it that git takes (weights are not among them).
    """

    staged: Path
    path: str
    commit: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """Files in writing order, what nothing names yet first, and the message of the one commit."""

    message: str
    files: Sequence[Write | Adopt]

    @property
    def paths(self) -> list[str]:
        """What git commits."""
        out: list[str] = []
        for file in self.files:
            out += [file.path] if isinstance(file, Write) else file.commit
        return out


@dataclass
class Lock:
    """The workspace's lock, held. notes: what was recovered, for people."""

    workspace: Workspace
    descriptor: int
    notes: list[str] = field(default_factory=list)


@contextmanager
def locked(workspace: Workspace, command: str, wait: float | None = None) -> Iterator[Lock]:
    """Hold the workspace's lock and recover. Raises Unavailable, naming the holder, after `wait` seconds.

    It is a kernel lock (flock): it ends with its holder, however that ends.
    """
    if workspace.settings.git == "on":
        git.refuse_if_busy(workspace.root)
    descriptor = acquire(workspace, command, workspace.settings.lock_wait if wait is None else wait)
    try:
        lock = Lock(workspace, descriptor)
        recover(lock)
        yield lock
    finally:
        os.close(descriptor)


def acquire(workspace: Workspace, command: str, wait: float) -> int:
    path = workspace.local / "lock"
    with files.named("lock", path):
        workspace.local.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise Unavailable(
                f"the workspace is locked by {holder or 'another command'}",
                do="wait for it to end, or give it more time: lock_wait in kt.toml",
            ) from None
        break
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"kt {command}, process {os.getpid()}\n".encode(), 0)
    return descriptor


def apply(change: Change, lock: Lock) -> git.Committed:
    """Write the change and commit it. Raises Unavailable with nothing changed, Unconfirmed after the fact."""
    workspace = lock.workspace
    staged: list[tuple[Path, Path]] = []
    try:
        for file in change.files:
            if isinstance(file, Write):
                path = workspace.root / file.path
                staged.append((files.stage(path, file.data), path))
        note(workspace, change)
    except BaseException:
        for aside, _ in staged:
            files.discard(aside)
        raise
    for file in change.files:
        if isinstance(file, Adopt):
            adopt(file, workspace)
    for aside, path in staged:
        files.publish(aside, path)
    return record(lock, change.paths, change.message)


def adopt(file: Adopt, workspace: Workspace) -> None:
    """Move a staged folder to its place: it is there whole, or not at all."""
    path = workspace.root / file.path
    new = not path.parent.exists()
    with files.named("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file.staged.rename(path)
    files.sync_folder(path.parent)
    if new:
        files.sync_folder(path.parent.parent)


def record(lock: Lock, paths: Sequence[str], message: str) -> git.Committed:
    """The git commit of a change that has happened, and the end of its note."""
    workspace = lock.workspace
    if workspace.settings.git == "off":
        clear(workspace)
        return git.Committed()
    done = git.commit(workspace.root, paths, message, lock.descriptor)
    if not done.problem:
        clear(workspace)
    return done


def note(workspace: Workspace, change: Change) -> None:
    """What is about to be written and committed, for the command that comes after a kill.

    An earlier note whose commit is still pending is carried along.
    """
    paths = sorted({*pending(workspace).get("paths", []), *change.paths})
    text = json.dumps({"message": change.message, "paths": paths, "git_since": time_of_day()})
    aside = files.stage(workspace.local / PENDING, text.encode())
    with files.named("write", workspace.local / PENDING):
        aside.replace(workspace.local / PENDING)


def time_of_day() -> float:
    """Seconds since the epoch, to compare with the time stamp of git's lock file."""
    from kt.clock import now

    return now().timestamp()


def pending(workspace: Workspace) -> dict[str, Any]:
    """The note that a killed or uncommitted change left, or nothing."""
    try:
        found = json.loads((workspace.local / PENDING).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("paths"), list) else {}


def clear(workspace: Workspace) -> None:
    files.discard(workspace.local / PENDING)


def recover(lock: Lock) -> None:
    """Sweep what a killed command staged. Its commit follows in `catch_up`, once its files are whole."""
    workspace = lock.workspace
    for folder in [workspace.local, *(workspace.root / room for room in ROOMS)]:
        files.sweep(folder)
    sweep_staging(workspace)


def catch_up(lock: Lock) -> None:
    """Commit what an earlier change could not."""
    workspace = lock.workspace
    left = pending(workspace)
    if not left or workspace.settings.git == "off":
        return
    if git.clear_own_lock(workspace.root, float(left.get("git_since", 0.0))):
        lock.notes.append(
            "removed the index.lock of a git command that was killed with its kt command"
        )
    paths = [path for path in map(str, left["paths"]) if (workspace.root / path).exists()]
    done = record(lock, paths, f"recover: {left.get('message', '')}"[:200])
    if done.commit:
        lock.notes.append(
            f"committed what an interrupted command had left: {left.get('message', '')}"
        )


@contextmanager
def staging(workspace: Workspace) -> Iterator[Path]:
    """A folder to prepare a big thing in, outside the lock. It goes when the block ends, unless adopted.

    A kernel lock on the folder tells a living command's from a killed one's.
    """
    import secrets

    folder = workspace.local / STAGING / secrets.token_hex(8)
    with files.named("write", folder):
        folder.mkdir(parents=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def sweep_staging(workspace: Workspace) -> None:
    """Remove the staging folders of commands that have died."""
    parent = workspace.local / STAGING
    for folder in parent.iterdir() if parent.is_dir() else ():
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def must_be_workspace(root: Path) -> None:
    """Refuse to write through a room that is not a folder of this workspace (a link elsewhere)."""
    for room in ROOMS:
        if (root / room).is_symlink():
            raise Refused(
                f"{room}/ is a symbolic link",
                do="kt writes its rooms itself: put a real folder there",
            )
