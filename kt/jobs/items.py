"""Look for items that have drifted since the active version was trained, where a job asks for it and it is time."""

from collections.abc import Sequence
from dataclasses import replace

from kt import files
from kt.deployments import audit
from kt.deployments.history import Held
from kt.jobs import book, drifted, logs, runs, watch
from kt.jobs.asked import Asked, Tell
from kt.jobs.drifted import Look
from kt.jobs.runs import Learnt
from kt.jobs.training import Failure, Training, Two
from kt.jobs.watch import Source
from kt.staging import staging


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
    if learnt is None or len(learnt.counts) != len(sources):
        return
    since = runs.time(learnt.until)
    new = sum(one.new(n, since) for one, n in zip(sources, learnt.counts, strict=True))
    if not new:
        return
    before, samples = drifted.last(workspace, asked.name), learnt.samples + new
    if before.is_due(active.version, samples, asked.now(), every):
        tell("drift", f"of items, since {asked.model}@{active.version} was trained")
        found = searched(asked, active, sources, learnt, tell)
        made = replace(found, at=asked.at, version=active.version, samples=samples)
        drifted.remember(workspace, asked.name, made)


def searched(
    asked: Asked, active: Held, sources: Sequence[Source], learnt: Learnt, tell: Tell
) -> Look:
    """By the active version, in a process of its own. learnt: the samples that it knows."""
    workspace = asked.workspace
    log = logs.path(workspace, f"drift-{asked.name}")
    logs.make_room(workspace)
    files.discard(log)
    with staging(workspace) as folder:
        given = watch.collect(sources, folder / "data")
        parts = [
            Two(paths, samples, learnt.until if source.tells_time else "")
            for source, paths, samples in zip(sources, given, learnt.counts, strict=True)
        ]
        training = Training(workspace, asked.name, asked.job, asked.model, "", [], folder, log)
        try:
            found = training.drift((asked.model, active.version, active.sha256), parts)
        except Failure as failure:
            tell("drift", f"nobody can tell: {failure}")
            return replace(drifted.NEVER, why=str(failure))
    return replace(drifted.NEVER, judged=found["judged"], q=found["q"])
