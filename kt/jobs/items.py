"""Look for items that have drifted since the active version was trained, where a job asks for it and it is time."""

from collections.abc import Sequence
from dataclasses import replace

from kt import files
from kt.change import staging
from kt.deployments import audit
from kt.deployments.history import Held
from kt.jobs import book, drifted, logs, watch
from kt.jobs.asked import Asked, Tell
from kt.jobs.drifted import Look
from kt.jobs.training import Failure, Training
from kt.jobs.watch import Source


def look(asked: Asked, tell: Tell) -> None:
    """Remembers what was found. A look that does not come to an end is not made again before its time."""
    workspace = asked.workspace
    every = watch.hours_between_looks(workspace, asked.name, asked.job)
    job = book.read(workspace)[1].job(asked.name)
    active = audit.read(workspace)[1].serving(asked.model).active
    if every is None or active is None or job.held:
        return
    learnt = drifted.learnt(job, active.version)
    sources = watch.sources(workspace, asked.name, asked.job)
    counts = [one.count() for one in sources]
    if len(learnt) != len(counts) or sum(counts) <= sum(learnt):
        return
    before, samples = drifted.last(workspace, asked.name), sum(counts)
    if before.is_due(active.version, samples, asked.now(), every):
        tell("drift", f"of items, since {asked.model}@{active.version} was trained")
        found = searched(asked, active, sources, learnt, tell)
        made = replace(found, at=asked.at, version=active.version, samples=samples)
        drifted.remember(workspace, asked.name, made)


def searched(
    asked: Asked, active: Held, sources: Sequence[Source], learnt: Sequence[int], tell: Tell
) -> Look:
    """By the active version, in a process of its own. learnt: the samples of each source that it knows."""
    workspace = asked.workspace
    log = logs.path(workspace, f"drift-{asked.name}")
    logs.make_room(workspace)
    files.discard(log)
    with staging(workspace) as folder:
        given = watch.collect(sources, folder / "data")
        parts = list(zip(given, learnt, strict=True))
        training = Training(workspace, asked.name, asked.job, asked.model, "", [], folder, log)
        try:
            found = training.drift((asked.model, active.version, active.sha256), parts)
        except Failure as failure:
            tell("drift", f"nobody can tell: {failure}")
            return replace(drifted.NEVER, why=str(failure))
    return replace(drifted.NEVER, judged=found["judged"], q=found["q"])
