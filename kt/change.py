"""A change: everything that one command writes, in order, under one lock, as one commit.

    with locked(workspace, "deploy") as lock:       # finishes what a killed command left
        change = Change("deploy sakt v4", [...])    # decided before anything is written
        apply(change, lock)

All bytes are staged before the first rename, so a full disk changes nothing. The journal's rename
is the commit point: from there on the change is a fact. Git comes after it and cannot fail it.
What kill -9 leaves: the old state or the new, and at most staged files and a missing manifest or
commit, all of which the next `locked` puts right. A ctrl-C or SIGTERM that comes while the change is
written waits for its end: most commands are done by then, what goes on calls `heed`.
"""

import errno
import json
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kt import clock, commits, files, git, locks, reserve, staging
from kt.errors import KtError, Refused, Unavailable, Unconfirmed
from kt.workspace import ROOMS, Workspace

PENDING = "pending.json"
waiting: list[int] = []  # signals that came to this process while a change was written


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
    """Files in writing order, what nothing names yet first, and the message of the one commit.

    to: the files are those of this fetched commit, and git moves to it in place of a new one.
    fact: the digest of the event that it records.
    """

    message: str
    files: Sequence[Write | Adopt]
    to: str = ""
    fact: str = ""

    @property
    def paths(self) -> list[str]:
        """What git commits."""
        out: list[str] = []
        for file in self.files:
            out += [file.path] if isinstance(file, Write) else file.commit
        return out


@dataclass
class Lock:
    """The workspace's lock, held. notes: what was recovered, for people.

    interrupted: the fact of a command that was killed before it could say that it is done.
    """

    workspace: Workspace
    descriptor: int
    interrupted: str = ""
    notes: list[str] = field(default_factory=list)


@contextmanager
def locked(workspace: Workspace, command: str, wait: float | None = None) -> Iterator[Lock]:
    """Hold the workspace's lock and recover. Raises Unavailable, naming the holder, after `wait` seconds.

    It is a kernel lock (flock): it ends with its holder, however that ends.
    """
    refuse_if_busy(workspace)
    descriptor = locks.acquire(
        workspace, command, workspace.settings.lock_wait if wait is None else wait
    )
    try:
        lock = Lock(workspace, descriptor)
        recover(lock)
        yield lock
    finally:
        # what a change writes anew are the files that lie in the rooms themselves
        replaced = [path for room in ROOMS for path in (workspace.root / room).glob("*.json")]
        reserve.keep(workspace.local, replaced)
        os.close(descriptor)


def refuse_if_busy(workspace: Workspace) -> None:
    if workspace.settings.git == "on":
        git.refuse_if_busy(workspace.root)


def apply(change: Change, lock: Lock, after: Callable[[], None] = lambda: None) -> git.Committed:
    """Write the change and commit it. Raises Unavailable with nothing changed, Unconfirmed after the fact.

    after: what follows the files, before the commit; it must not fail.
    """
    workspace = lock.workspace
    if any(isinstance(file, Adopt) for file in change.files):
        asides = stage(change, workspace)
    else:  # a change of traffic alone
        asides = reserve.spend(workspace.local, lambda: stage(change, workspace))
    try:
        with uninterrupted():
            doubt = publish(change, asides, workspace)
            after()
            if asides:  # not whole: the next command writes what is missing and commits all of it
                told(workspace)
            else:
                done = record(lock, change.paths, change.message, change.to)
    finally:
        for aside in asides.values():
            files.discard(aside)  # those that were not renamed
    if doubt:
        raise doubt
    return done


def stage(change: Change, workspace: Workspace) -> dict[str, Path]:
    """Write everything aside, and the note of it. Leaves nothing where that fails."""
    asides: dict[str, Path] = {}
    try:
        for file in change.files:
            if isinstance(file, Write):
                asides[file.path] = files.stage(workspace.root / file.path, file.data)
        note(workspace, change)
    except BaseException:
        for aside in asides.values():
            files.discard(aside)
        raise
    return asides


def publish(change: Change, asides: dict[str, Path], workspace: Workspace) -> Unconfirmed | None:
    """Every rename, in order. The first one that names something makes the change a fact.

    Before it a failure undoes what was adopted and raises Unavailable. After it nothing stops the
    rest, and what went wrong is returned: the change is there, but not known to last, or not whole.
    What was written leaves `asides`.
    """
    fact, doubt = False, None
    adopted: list[Adopt] = []
    for file in change.files:
        path = workspace.root / file.path
        try:
            if isinstance(file, Adopt):
                adopt(file, path)
                adopted.append(file)
            else:
                files.publish(asides[file.path], path)
                del asides[file.path]
                fact = True
        except Unconfirmed as error:  # renamed, but its folder was not synced
            if isinstance(file, Adopt):
                adopted.append(file)
            else:
                del asides[file.path]
                fact = True
            doubt = doubt or error
        except KtError as error:
            if not fact:
                for earlier in adopted:
                    give_back(earlier, workspace.root / earlier.path)
                raise
            doubt = Unconfirmed(
                f"the change is recorded, but {error.what}",
                do="mend it, then write it anew from the history: kt verify --fix",
            )
    return doubt


def adopt(file: Adopt, path: Path) -> None:
    """Move something staged to its place: it is there whole, or not at all."""
    new = not path.parent.exists()
    with files.named("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.staged.rename(path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise Unavailable(
                f"cannot write {path}: it lies on another file system than .kt/",
                do="put .kt/ and the folders beside it on one: kt doctor",
            ) from error
    files.sync_folder(path.parent)
    if new:
        files.sync_folder(path.parent.parent)


def give_back(file: Adopt, path: Path) -> None:
    """Undo an adoption that nothing names. Weights that were put back stay: they are right."""
    if file.commit:
        with suppress(OSError):
            path.rename(file.staged)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a ctrl-C or SIGTERM pass unheeded: what is being written is a fact a moment later.

    Handlers rather than a mask, so that git, which inherits none of them, can still be stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = [
        (number, signal.signal(number, lambda came, _: waiting.append(came))) for number in wanted
    ]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def heed() -> None:
    """Let a ctrl-C or SIGTERM that has waited for the end of a change do its work, in a command that goes on after it."""
    if waiting:
        number = waiting[-1]
        waiting.clear()
        signal.raise_signal(number)


def record(lock: Lock, paths: Sequence[str], message: str, to: str = "") -> git.Committed:
    """The git commit of a change that has happened, and the end of its note."""
    workspace = lock.workspace
    if workspace.settings.git == "off":
        clear(workspace)
        return git.Committed()
    since = time_of_day()
    if to:
        done = commits.fast_forward(workspace.root, to, lock.descriptor)
    else:
        done = git.commit(workspace.root, paths, message, lock.descriptor)
    if done.began:
        git.clear_own_locks(workspace.root, since)  # which git could not remove itself
    if done.problem:
        told(workspace, began=done.began)
    else:
        clear(workspace)
    return done


def note(workspace: Workspace, change: Change) -> None:
    """What is about to be written and committed, for the command that comes after a kill.

    An earlier note whose commit is still pending is carried along.
    """
    left = pending(workspace)
    paths = sorted({*left.get("paths", []), *change.paths})
    since = min(left.get("git_since", math.inf), time_of_day())
    said = {"message": change.message, "paths": paths, "git_since": since, "to": change.to}
    text = json.dumps(said | {"fact": change.fact}).encode()
    with files.unseen():
        files.write_whole(workspace.local / PENDING, text)


def told(workspace: Workspace, *, began: bool = True) -> None:
    """The command lives to say that it is done, and that its commit is pending: nothing was interrupted.

    began: whether git was run; where it was not, the lock that kept it from that is another's.
    """
    with suppress(KtError):
        left = pending(workspace) | {"fact": ""} | ({} if began else {"git_since": time_of_day()})
        files.write_whole(workspace.local / PENDING, json.dumps(left).encode())


def time_of_day() -> float:
    """Seconds since the epoch, to compare with the time stamp of git's lock file."""
    return clock.now().timestamp()


def commit_of(workspace: Workspace) -> str:
    """The commit that a workspace stands at; empty without git, before the first, and of a folder that is none."""
    try:
        return git.head(workspace.root) if workspace.settings.git == "on" else ""
    except KtError:
        return ""


def pending(workspace: Workspace) -> dict[str, Any]:
    """The note that a killed or uncommitted change left, or nothing."""
    try:
        found = json.loads(files.read(workspace.local / PENDING))
    except (OSError, ValueError, KtError):
        return {}
    sound = (
        isinstance(found, dict)
        and isinstance(found.get("paths"), list)
        and isinstance(found.get("git_since"), int | float)
    )
    return found if sound else {}


def clear(workspace: Workspace) -> None:
    files.discard(workspace.local / PENDING)


def recover(lock: Lock) -> None:
    """Sweep what a killed command staged. Its commit follows in `catch_up`, once its files are whole."""
    workspace = lock.workspace
    for folder in written(workspace):
        files.sweep(folder)
    staging.sweep(workspace)


def catch_up(lock: Lock) -> None:
    """Commit what an earlier change could not."""
    workspace = lock.workspace
    left = pending(workspace)
    lock.interrupted = str(left.get("fact", ""))
    if not left:
        return
    if workspace.settings.git == "off":
        clear(workspace)
        return
    if git.clear_own_locks(workspace.root, left.get("git_since", 0.0)):
        lock.notes.append("removed the lock of a git command that was killed with its kt command")
    paths = [path for path in map(str, left["paths"]) if (workspace.root / path).exists()]
    to = str(left.get("to", ""))
    if to and not commits.arrived(workspace.root, to, left["paths"]):
        clear(workspace)  # the pull was killed before it became a fact
        return
    done = record(lock, paths, f"recover: {left.get('message', '')}"[:200], to)
    if done.commit:
        lock.notes.append(
            f"committed what an interrupted command had left: {left.get('message', '')}"
        )


def leftovers(workspace: Workspace) -> list[Path]:
    """What killed commands left half written. The next command that takes the lock removes it."""
    asides = [path for folder in written(workspace) for path in files.asides(folder)]
    return [*asides, *staging.abandoned(workspace)]


def written(workspace: Workspace) -> list[Path]:
    """The folders in which kt writes files: the root has those with secrets in them."""
    return [workspace.root, workspace.local, *(workspace.root / room for room in ROOMS)]


def must_be_workspace(root: Path) -> None:
    """Refuse to write through a room that is not a folder of this workspace (a link elsewhere)."""
    for room in ROOMS:
        if (root / room).is_symlink():
            raise Refused(
                f"{room}/ is a symbolic link",
                do="kt writes its rooms itself: put a real folder there",
            )
