"""Weights that are not on this machine, on purpose: removed by `kt gc`, or left behind by `kt pull`.

    registry/<model>/<version>/model.absent     why, since when, by whom

It lies beside the record and is ignored by git as the weights are: it speaks of this machine alone.
Where the weights are there, it says nothing. Weights that are gone without it are lost, and
`kt verify` says so.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from kt import files
from kt.errors import Corrupt
from kt.registry import record
from kt.workspace import Workspace

MARK = "model.absent"
Why = Literal["pruned", "not pulled"]
SAID = {"pruned": "removed by kt gc", "not pulled": "not fetched by kt pull"}


@dataclass(frozen=True)
class Absence:
    """at: ISO 8601."""

    why: Why
    at: str
    by: str

    @property
    def sentence(self) -> str:
        return f"{SAID[self.why]} ({self.at}, {self.by})"


def of(workspace: Workspace, model: str, version: str) -> Absence | None:
    """Why a version's weights are not here; None where they are, and where nobody says."""
    if record.weights(workspace.root, model, version).exists():
        return None
    try:
        said = json.loads(files.read(record.folder(workspace, model, version) / MARK))
        found = Absence(said["why"], str(said["at"]), str(said["by"]))
    except (OSError, Corrupt, ValueError, KeyError, TypeError):
        return None
    return found if found.why in SAID else None


def mark(workspace: Workspace, model: str, version: str, absence: Absence) -> None:
    """Say so before the weights go: killed in between, they are there and the mark means nothing."""
    aside = files.stage(workspace.local / MARK, dump(absence))  # where left-overs are swept
    files.publish(aside, record.folder(workspace, model, version) / MARK)


def dump(absence: Absence) -> bytes:
    """What a mark holds."""
    return json.dumps(asdict(absence)).encode() + b"\n"


def clear(workspace: Workspace, model: str, version: str) -> None:
    """The weights are back."""
    files.discard(record.folder(workspace, model, version) / MARK)


def where(workspace: Workspace, model: str, version: str) -> str:
    """In a word: here, pruned, not pulled, or missing."""
    if record.weights(workspace.root, model, version).is_file():
        return "here"
    absence = of(workspace, model, version)
    return absence.why if absence else "missing"


def everywhere(workspace: Workspace) -> list[tuple[str, str]]:
    """Model and version of all whose weights are away on purpose."""
    return [
        (model, version)
        for model in record.models(workspace)
        for version in record.versions(workspace, model)
        if of(workspace, model, version)
    ]
