"""What earlier runs left to be done: the end of one that was cut, what became of a candidate, an alert. Each
follows from what is written down, so whoever looks next does it where a kill came between."""

from typing import Any, Literal

from kt.deployments import audit, courses
from kt.deployments.plan import Stamp
from kt.errors import KtError
from kt.jobs import alarm, book
from kt.jobs.asked import Asked, Tell, title, trial
from kt.jobs.runs import Failed, Finished, Settled
from kt.jobs.written import append
from kt.registry import record


def sweep(asked: Asked) -> None:
    """Write down the end of a run whose process is gone; what it had made already is what came of it.
    Under the job's lock."""
    cut = book.read(asked.workspace)[1].job(asked.name).open
    if cut is None:
        return
    end(asked, cut.number, "interrupted", "its process ended before it could tell how")


def end(asked: Asked, number: int, how: Literal["interrupted", "stopped"], why: str) -> None:
    """Write down the end of a run that was cut. What it had made is looked at under the workspace's lock, where a
    change that was cut too is whole."""

    def ended(common: dict[str, Any]) -> Finished | Failed:
        fields = common | {"reason": why, "run": number}
        if found := made(asked, number):
            return Finished(**fields, **found)
        return Failed(**fields, how=how)

    append(asked, ended)


def made(asked: Asked, number: int) -> dict[str, Any]:
    """What a run has brought into the registry or into traffic; nothing where it had not come so far."""
    history, serving = audit.read(asked.workspace)
    if tried := courses.of(history.events, trial(asked, number)):
        return {"outcome": "deployed", "version": tried.treatment, "experiment": tried.name}
    for version in reversed(record.versions(asked.workspace, asked.model)):
        if record.read(asked.workspace, asked.model, version).reason == title(asked, number):
            active = serving.serving(asked.model).active
            first = active is not None and active.version == version
            return {"outcome": "deployed" if first else "registered", "version": version}
    return {}


def settled(asked: Asked, tell: Tell) -> None:
    """Promote or end the job's experiment, where the job says so and its verdict is in; write down how it
    ended, whoever ended it."""
    job = book.read(asked.workspace)[1].job(asked.name)
    if job.trial is None:
        return
    from kt.jobs import settle

    if asked.job.auto_promote:
        said = settle.settle(asked.workspace, job, asked.by, asked.now())
        if said:
            tell("settled", said)
    if ended := settle.over(asked.workspace, job.trial):
        how, why = ended
        more = {"reason": why, "run": job.trial.number, "how": how}
        append(asked, lambda common: Settled.model_validate(common | more))


def alarmed(asked: Asked, tell: Tell) -> None:
    """Bring the job's alert in line with how it stands. The next look does it where it cannot be done now."""
    job = book.read(asked.workspace)[1].job(asked.name)
    stamp = Stamp(asked.by, asked.at, "")
    try:
        alarm.agree(asked.workspace, asked.name, asked.model, job, asked.job.retries, stamp)
    except KtError as error:
        tell("alert", f"it is not written yet: {error}")
