"""Whether a job is due, for whoever asks: from files alone, in a moment, without what trains."""

import contextlib
import os
from collections.abc import Iterator

from kt import locks
from kt.config import Job
from kt.deployments import audit
from kt.errors import Invalid
from kt.jobs import book, looks, watch
from kt.jobs.asked import Asked
from kt.jobs.decide import Due, Pace, decide
from kt.workspace import Workspace


def named(workspace: Workspace, name: str, *, several: bool) -> list[tuple[str, Job]]:
    """The job of this name; without one all of them, or if not several the only one. Raises Invalid."""
    jobs = workspace.settings.jobs
    if not jobs:
        raise Invalid(
            "there are no jobs", where="kt.toml", do="write one: [jobs.NAME], see: kt config"
        )
    if not name and (several or len(jobs) == 1):
        return list(jobs.items())
    if name not in jobs:
        raise Invalid(
            f"there is no job {name[:64]}" if name else "there are several jobs",
            do=f"name one: {', '.join(jobs)}",
        )
    return [(name, jobs[name])]


def check(asked: Asked) -> Due:
    """Whether the job is due. Writes when it was looked at, and nothing else."""
    due = glance(asked)
    looks.remember(asked, due)
    return due


def glance(asked: Asked) -> Due:
    """The same for whoever only wants to see, which is no sign that somebody sees to it: writes nothing."""
    with alone(asked) as holder:
        return look(asked, holder)


def look(asked: Asked, holder: str) -> Due:
    _, state = book.read(asked.workspace)
    job = asked.job
    found = watch.facts(
        asked.workspace, asked.name, job, state.job(asked.name), holder, asked.now()
    )
    pace = Pace(cooldown=job.cooldown, backoff=job.backoff)
    asks = watch.triggers(asked.workspace, asked.name, job)
    return decide(found, asks, pace, force=asked.force)


@contextlib.contextmanager
def alone(asked: Asked) -> Iterator[str]:
    """Hold the job's lock for the block; or who holds it, where it is held."""
    path = asked.workspace.local / f"retrain-{asked.name}.lock"
    with locks.holding(path, f"process {os.getpid()}, since {asked.at}") as holder:
        yield holder


def family_of(asked: Asked) -> str:
    """What is trained. Raises Invalid where nothing says so."""
    from kt.registry import record

    if asked.job.family or asked.job.command:
        return asked.job.family
    _, state = audit.read(asked.workspace)
    active = state.serving(asked.model).active
    if active is None:
        raise Invalid(
            "nothing says what it trains, and no version is active",
            where=f"jobs.{asked.name}.family",
            do="name a family, or a command of your own",
        )
    return record.read(asked.workspace, asked.model, active.version).spec.family
