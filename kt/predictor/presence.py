"""Which predictors run on this machine, and what each really serves.

Every serving process keeps one small file in .kt/predictors and a kernel lock on it: its card. A card
whose lock is free belongs to a process that has ended, however it ended.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kt import files
from kt.errors import KtError
from kt.workspace import Workspace

FOLDER = "predictors"
LIVE = "live.json"  # the manifest that was served last


@dataclass(frozen=True)
class Presence:
    """A serving process. address: its URL. seq, head: the manifest that it serves; 0 before the first."""

    pid: int
    host: str  # of the machine
    address: str
    seq: int
    head: str
    versions: list[dict[str, str]]  # model and version of each that is loaded
    state: str  # "ok" or "degraded"
    reason: str
    since: str  # when it began to serve this, ISO 8601


class Place:
    """This process's own card, held while it lives. The cards of dead processes are removed."""

    def __init__(self, local: Path) -> None:
        self.path = local / FOLDER / f"{os.getpid()}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left in cards(local):
            if not is_held(left):
                files.discard(left)
        self.descriptor = claim(self.path)

    def tell(self, presence: Presence) -> None:
        """Write in place: the lock belongs to this very file. A reader that meets half of it looks again."""
        data = json.dumps(asdict(presence)).encode() + b"\n"
        os.pwrite(self.descriptor, data, 0)
        os.ftruncate(self.descriptor, len(data))

    def leave(self) -> None:
        files.discard(self.path)
        os.close(self.descriptor)


TRIES = 100  # a millisecond apart: whoever looks whether a card is held holds it for a moment


def claim(path: Path) -> int:
    """A descriptor of the file at `path` itself, locked: one that was removed meanwhile is made anew.

    Raises BlockingIOError where another holds it.
    """
    for left in reversed(range(TRIES)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if not left:
                os.close(descriptor)
                raise
            time.sleep(0.001)
        os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def cards(local: Path) -> Iterator[Path]:
    return (local / FOLDER).glob("*.json")


def alive(workspace: Workspace) -> list[Presence]:
    """The predictors that run, oldest process first; the cards of dead ones are removed."""
    found = []
    for path in cards(workspace.local):
        if not is_held(path):
            files.discard(path)
            continue
        try:
            found.append(Presence(**json.loads(path.read_bytes())))
        except (OSError, ValueError, TypeError):
            continue  # it ended meanwhile, or is about to write
    return sorted(found, key=lambda presence: presence.pid)


def is_held(card: Path) -> bool:
    """Whether the process that wrote this card still runs."""
    try:
        descriptor = os.open(card, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def served(workspace: Workspace) -> set[tuple[str, str]]:
    """Model and version of all that predictors on this machine hold, or would after a restart."""
    from kt.deployments.manifest import parse
    from kt.deployments.need import named

    held = {(one["model"], one["version"]) for card in alive(workspace) for one in card.versions}
    try:
        return held | set(named(parse(files.read(workspace.local / LIVE))))
    except (FileNotFoundError, KtError):
        return held  # none has served yet


def wait(workspace: Workspace, seq: int, timeout: float) -> str:
    """Wait until every running predictor serves event `seq` or a later one.

    Returns why one does not, or nothing: also where none is running.
    """
    deadline = time.monotonic() + timeout
    while behind := [found for found in alive(workspace) if found.seq < seq]:
        if cannot := next((found for found in behind if f"seq {seq} " in found.reason), None):
            return f"predictor {cannot.pid}: {cannot.reason}"
        if time.monotonic() > deadline:
            return f"predictor {behind[0].pid} has not followed within {timeout:g} s"
        time.sleep(0.05)
    return ""


def found(workspace: Workspace, seq: int, timeout: float) -> str:
    """The address of a predictor, once there is one and all serve event `seq`; empty after `timeout`."""
    deadline = time.monotonic() + timeout
    while not (running := alive(workspace)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running[0].address if running and not wait(workspace, seq, timeout) else ""
