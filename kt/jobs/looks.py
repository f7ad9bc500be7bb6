"""When each job was looked at last, and what was found: jobs/last_check.json, so that a dead cron shows. Not in git."""

import contextlib
import json
from typing import TYPE_CHECKING, Any

from kt import files
from kt.errors import KtError
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.jobs.asked import Asked
    from kt.jobs.decide import Due

LAST_CHECK = "jobs/last_check.json"  # not in git


def remember(asked: "Asked", due: "Due") -> None:
    """A witness: where it cannot be written, so be it."""
    path = asked.workspace.root / LAST_CHECK
    known = last(asked.workspace)
    known[asked.name] = {
        "at": asked.at,
        "due": due.yes,
        "reasons": due.reasons,
        "blocked": due.blocked,
    }
    with contextlib.suppress(KtError):
        files.write_whole(path, json.dumps(known, indent=1).encode() + b"\n")


def last(workspace: Workspace) -> dict[str, Any]:
    """When each job was last looked at, and what was found; nothing where nobody has."""
    try:
        known = json.loads(files.read(workspace.root / LAST_CHECK))
    except (OSError, KtError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
