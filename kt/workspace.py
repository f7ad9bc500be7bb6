"""The workspace: the folder that holds kt.toml, and what belongs to this machine alone in .kt/."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kt import config
from kt.errors import Invalid

ROOMS = ("registry", "deployments", "monitors", "jobs")
VARIABLE = "KT_WORKSPACE"


@dataclass(frozen=True)
class Workspace:
    """root: the absolute folder of kt.toml. Paths in journals and manifests are relative to it."""

    root: Path

    @cached_property
    def settings(self) -> config.Settings:
        return config.load(self.root / "kt.toml")

    @property
    def local(self) -> Path:
        """State of this machine: the lock, who runs, what is being written. Not in git."""
        return self.root / ".kt"


def find(start: Path, chosen: str = "") -> Workspace:
    """The workspace named by `chosen` or KT_WORKSPACE, else the nearest one at or above `start`. Raises Invalid."""
    found = find_any(start, chosen)
    if found is None:
        raise Invalid(
            f"no kt.toml in {start.resolve()} or above it",
            do="make a workspace here: kt init, or name one: kt --workspace DIR ...",
        )
    return found


def find_any(start: Path, chosen: str = "") -> Workspace | None:
    """As `find`, but None where none is named and there is none. Raises Invalid for a name that is not one's."""
    named = chosen or os.environ.get(VARIABLE, "")
    if named:
        root = Path(named).resolve()
        if not (root / "kt.toml").is_file():
            raise Invalid(
                f"{root} is not a workspace: it has no kt.toml", do=f"make one: kt init {named}"
            )
        return Workspace(root)
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "kt.toml").is_file():
            return Workspace(folder)
    return None
