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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kt import files
from kt.errors import KtError
from kt.store.tally import Report, merged, reports
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
    # what they were found to say: tally.py
    shadows: list[dict[str, Any]] = field(default_factory=list)
    recording: dict[str, Any] = field(default_factory=dict)  # of what is answered: writer.py


class Place:
    """This process's own card, held while it lives. The cards of dead processes are removed.

    left: what those told of shadows, to be told on.
    """

    def __init__(self, local: Path) -> None:
        self.path = local / FOLDER / f"{os.getpid()}.json"
        self.left = [report for path in cards(local) for report in take_over(path)]
        self.descriptor = claim(self.path)
        self.told: list[dict[str, Any]] = []

    @property
    def gone(self) -> bool:
        """Whether somebody has removed the card, as `git clean` does with all of .kt."""
        try:
            return not os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except OSError:
            return True

    def tell(self, presence: Presence) -> None:
        """Write in place: the lock belongs to this very file. A reader that meets half of it looks again."""
        if self.gone:
            gone, self.descriptor = self.descriptor, claim(self.path)
            os.close(gone)
        data = json.dumps(asdict(presence)).encode() + b"\n"
        os.pwrite(self.descriptor, data, 0)
        os.ftruncate(self.descriptor, len(data))
        self.told = presence.shadows

    def leave(self) -> None:
        """The card is removed, unless another process is to tell on what it says of shadows."""
        if not self.told:
            files.discard(self.path)
        os.close(self.descriptor)


TRIES = 100  # a millisecond apart: whoever looks whether a card is held holds it for a moment


def claim(path: Path) -> int:
    """A descriptor of the file at `path` itself, locked: one that was removed meanwhile is made anew, and so is its folder.

    Raises BlockingIOError where another holds it.
    """
    for left in reversed(range(TRIES)):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def card(path: Path) -> Presence | None:
    """What a card says; None where its process ended meanwhile, or has not written yet."""
    for _ in range(TRIES):
        try:
            data = path.read_bytes()
            if not data:
                return None
            return Presence(**json.loads(data))
        except ValueError:  # half of it is written
            time.sleep(0.001)
        except (OSError, TypeError):
            return None
    return None


def take_over(path: Path) -> list[dict[str, Any]]:
    """What a dead process told of shadows; its card is removed, by one alone of those who look."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            return []
        found = card(path)
        files.discard(path)
        return found.shadows if found else []
    except OSError:  # it is alive, or gone
        return []
    finally:
        os.close(descriptor)


def alive(workspace: Workspace) -> list[Presence]:
    """The predictors that run, oldest process first."""
    held = [card(path) for path in cards(workspace.local) if is_held(path)]
    return sorted(filter(None, held), key=lambda presence: presence.pid)


def shadows(workspace: Workspace) -> list[Report]:
    """What is known of shadows on this machine, also from processes that have ended."""
    found = filter(None, map(card, cards(workspace.local)))
    return merged(reports(one for each in found for one in each.shadows))


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
