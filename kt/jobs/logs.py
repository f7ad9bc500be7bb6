"""What each training told, on this machine alone: .kt/runs/N.log, of the last runs."""

from pathlib import Path

from kt import files
from kt.workspace import Workspace

LOGS = "runs"  # in .kt/
KEPT = 50


def path(workspace: Workspace, number: int | str) -> Path:
    """What a run tells, as it goes. On this machine alone."""
    return workspace.local / LOGS / f"{number}.log"


def make_room(workspace: Workspace) -> None:
    """A folder for logs; those of the oldest runs go."""
    folder = workspace.local / LOGS
    with files.named("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    old = sorted(
        (path for path in folder.glob("*.log") if path.stem.isdigit()),
        key=lambda one: int(one.stem),
    )
    for path in old[: 1 - KEPT]:
        files.discard(path)
