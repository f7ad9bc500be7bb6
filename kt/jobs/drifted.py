"""Which items have drifted since the active version was trained: looked for now and then, and remembered.

    .kt/drift-JOB.json      what was found last; without it, it is looked for again

`kt retrain` has a process of its own look, by the code of `kt drift`; `kt retrain --check` reads the file.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from kt import files
from kt.errors import KtError
from kt.jobs import runs
from kt.jobs.facts import Drifted
from kt.workspace import Workspace


@dataclass(frozen=True)
class Look:
    """at: ISO 8601. version: that was active. samples: there were then. why: nothing could be found."""

    at: str
    version: str
    samples: int
    judged: int = 0
    q: dict[str, float] = field(default_factory=dict)
    why: str = ""

    @property
    def found(self) -> Drifted:
        return Drifted(self.judged, self.q)

    def is_due(self, version: str, samples: int, now: datetime, hours: float) -> bool:
        """Whether it is time for another: of the version that is active now, where there are more samples."""
        if version != self.version:
            return True
        passed = now - datetime.fromisoformat(self.at)
        return samples != self.samples and not timedelta() <= passed < timedelta(hours=hours)


NEVER = Look("", "", 0)


def last(workspace: Workspace, name: str) -> Look:
    """Of a job; NEVER where there was none that can be read."""
    try:
        found = Look(**json.loads(files.read(path(workspace, name))))
        datetime.fromisoformat(found.at)
    except (OSError, KtError, ValueError, TypeError):
        return NEVER
    return found


def remember(workspace: Workspace, name: str, look: Look) -> None:
    with files.unseen():
        files.write_whole(path(workspace, name), json.dumps(asdict(look)).encode())


def path(workspace: Workspace, name: str) -> Path:
    return workspace.local / f"drift-{name}.json"


def learnt(done: runs.Job, active: str) -> runs.Learnt | None:
    """What the active version has learnt from: as its run says, or the first run that compared with it.
    None where no run tells. Pure."""
    ended = [run for run in done.runs if isinstance(run.ended, runs.Finished)]
    made = [run for run in reversed(ended) if getattr(run.ended, "version", "") == active]
    compared = [run for run in ended if run.started.parent == active]
    first = next(iter([*made, *compared]), None)
    return first.started.data if first else None
