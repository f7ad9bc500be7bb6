"""What is asked of a job: by whom, when, and with whose help; and the names that its runs give to what they do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kt.config import Job
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.registry.register import Prepared, Request

Tell = Callable[[str, str], None]


class Trainer(Protocol):
    """What trains and compares: `Training`, in processes of their own."""

    @property
    def out(self) -> Path: ...
    @property
    def log(self) -> Path: ...
    def train(self) -> dict[str, Any]: ...
    def compare(self, active: Sequence[str]) -> dict[str, Any]: ...


Make = Callable[[Workspace, str, Job, str, str, Sequence[Path], Path, Path], Trainer]
Admit = Callable[
    [Workspace, "Request", Mapping[str, str], Tell], "AbstractContextManager[Prepared]"
]


def training(*given: Any) -> Trainer:
    """In processes of its own. Who only asks whether a job is due need not load it, nor the model door."""
    from kt.jobs.training import Training

    return Training(*given)


def door(*given: Any) -> "AbstractContextManager[Prepared]":
    """Where every file comes in."""
    from kt.registry import door

    return door.prepared(*given)


@dataclass(frozen=True)
class Asked:
    """A job, and how it is to be run. deploy: whether a better candidate gets traffic. by, reason: who
    asks, and why. make, admit: what trains, and what lets the candidate into the registry."""

    workspace: Workspace
    name: str
    job: Job
    by: str
    now: Callable[[], datetime]
    reason: str = ""
    force: bool = False
    deploy: bool = False
    make: Make = training
    admit: Admit = door

    @property
    def model(self) -> str:
        return self.job.model or self.name

    @property
    def at(self) -> str:
        return iso(self.now())


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def title(asked: Asked, number: int) -> str:
    """What a run gives as the reason of what it does."""
    return f"run {number} of job {asked.name}"


def trial(asked: Asked, number: int) -> str:
    """The name of a run's experiment."""
    return f"{asked.name}-{number}"
