"""Which predictors run on this machine, and what each really serves.

Every serving process keeps one small file in .kt/predictors and a kernel lock on it. A file whose
lock is free belongs to a process that has ended, however it ended.
"""

import fcntl
import json
import os
import time
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
    """This process's own file, held while it lives."""

    def __init__(self, local: Path) -> None:
        folder = local / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{os.getpid()}.json"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def tell(self, presence: Presence) -> None:
        """Write in place: the lock belongs to this very file. A reader that meets half of it looks again."""
        data = json.dumps(asdict(presence)).encode() + b"\n"
        os.pwrite(self.descriptor, data, 0)
        os.ftruncate(self.descriptor, len(data))

    def leave(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def alive(workspace: Workspace) -> list[Presence]:
    """The predictors that run, oldest process first; the files of dead ones are removed."""
    folder = workspace.local / FOLDER
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            with path.open("rb+") as file:
                if is_held(file.fileno()):
                    found.append(Presence(**json.loads(file.read())))
                else:
                    path.unlink(missing_ok=True)
        except (OSError, ValueError, TypeError):
            continue  # it ended meanwhile, or is about to write
    return sorted(found, key=lambda presence: presence.pid)


def served(workspace: Workspace) -> set[tuple[str, str]]:
    """Model and version of all that predictors on this machine hold, or would after a restart."""
    from kt.deployments.manifest import parse
    from kt.deployments.need import named

    held = {(one["model"], one["version"]) for card in alive(workspace) for one in card.versions}
    try:
        return held | set(named(parse(files.read(workspace.local / LIVE))))
    except (FileNotFoundError, KtError):
        return held  # none has served yet


def is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


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
