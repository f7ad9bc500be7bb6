"""kt retrain: is it due, train, compare, gate, register or deploy; each turn written down with its reasons.

lock of the job      kernel lock, so that two daemons, a cron line and a person train once
run that was cut     written down as interrupted: its process is gone, its lock is free
experiment           of an earlier run: promoted or ended where it is time, and written down how it ended
facts -> due?        no: nothing but jobs/last_check.json is written
journal: started     the workspace's lock is held for this write and for those at the end alone
train, compare       in processes of their own
gates, register, deploy
journal: finished    kept, registered or deployed
alert                opened where the job is on hold or fails again and again, ended where it does not
"""

import platform
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

from kt import change
from kt.deployments import audit
from kt.errors import KtError, Refused
from kt.jobs import book, check, items, logs, looks, runs, tidy, watch
from kt.jobs.asked import Asked, Tell, iso
from kt.jobs.candidate import outcome
from kt.jobs.decide import Due
from kt.jobs.runs import Failed, Finished, Held, Learnt, Started
from kt.jobs.training import Failure, digest
from kt.jobs.written import append, common
from kt.staging import staging
from kt.workspace import Workspace

A_SECOND = timedelta(seconds=1)  # of the present one more may come; what does is new the next time


@dataclass(frozen=True)
class Done:
    """What came of a job. run: its number; ended: the event that ended it. Neither where it was not due."""

    due: Due
    run: int = 0
    ended: Finished | Failed | None = None
    held: str = ""


def retrain(asked: Asked, tell: Tell) -> Done:
    """Run the job if it is due. Raises Invalid for a job that cannot run, Refused where it is forced and runs
    already; a training that fails is an answer."""
    with check.alone(asked) as holder:
        if holder and asked.force:
            raise Refused(f"{asked.name} is in training already: {holder}", do="see it: kt runs")
        if not holder:
            tidy.sweep(asked)
            tidy.settled(asked, tell)
            tidy.alarmed(asked, tell)
            items.look(asked, tell)
        due = check.look(asked, holder)
        looks.remember(asked, due)
        if not due.yes:
            return Done(due)
        tell("due", "; ".join(due.reasons.values()))
        done = run(asked, due, tell)
        tidy.alarmed(asked, tell)
        return done


def run(asked: Asked, due: Due, tell: Tell) -> Done:
    """From the event that begins it to the one that ends it."""
    began = time.monotonic()
    workspace = asked.workspace
    with staging(workspace) as folder:
        until = iso(asked.now() - A_SECOND)
        sources = watch.sources(workspace, asked.name, asked.job, until)
        paths = list(chain.from_iterable(watch.collect(sources, folder / "data")))
        learnt = Learnt(
            source=", ".join(one.name for one in asked.job.data),
            sha256=digest(paths),
            counts=[one.count() for one in sources],
            until=until,
        )
        logs.make_room(workspace)
        family = check.family_of(asked)
        number = start(asked, due, learnt)
        training = asked.make(
            workspace,
            asked.name,
            asked.job,
            asked.model,
            family,
            paths,
            folder,
            logs.path(workspace, number),
        )
        try:
            change.heed()
            tell("training", f"run {number}; {training.log}")
            found = outcome(asked, training, number, tell)
            ended: Finished | Failed = found.model_copy(
                update={
                    "seconds": round(time.monotonic() - began, 1),
                    "made_with": versions(workspace),
                }
            )
        except Failure as failure:
            ended = failed(asked, number, failure.how, str(failure))
        except KtError as error:
            ended = failed(asked, number, "failed", str(error))
        except KeyboardInterrupt:
            tidy.end(asked, number, "stopped", "it was told to stop")
            raise
    held = finish(asked, ended)
    return Done(due, number, ended, held)


def start(asked: Asked, due: Due, learnt: Learnt) -> int:
    """The number of the run that begins now."""
    _, serving = audit.read(asked.workspace)
    active = serving.serving(asked.model).active

    def started(journal: Any, _: runs.State) -> list[runs.AnyEvent]:
        return [
            Started(
                **common(asked, journal, asked.reason),
                model=asked.model,
                reasons=due.reasons,
                data=learnt,
                seed=asked.job.seed,
                parent=active.version if active else "",
            )
        ]

    journal, _ = book.write(asked.workspace, started)
    return journal.seq


def failed(asked: Asked, number: int, how: Any, why: str) -> Failed:
    return Failed(**common(asked, None, why), run=number, how=how)


def finish(asked: Asked, ended: Finished | Failed) -> str:
    """Write the end of a run. Returns why there is a hold now, if there is one."""
    return append(asked, lambda common: ended.model_copy(update=common | {"reason": ended.reason}))


def versions(workspace: Workspace) -> dict[str, str]:
    """Of what a run's numbers rest on; commit: of the workspace, whose code may have trained."""
    import importlib.metadata

    from kt import __version__

    torch = importlib.metadata.version("torch")
    found = {"kt": __version__, "torch": torch, "python": platform.python_version()}
    commit = change.commit_of(workspace)
    return found | ({"commit": commit} if commit else {})


def hold(asked: Asked, *, on: bool, dry_run: bool) -> None:
    """Stop triggers from starting a job, or let them again. Raises Refused where it is so already."""
    kind = Held if on else runs.Released

    def planned(journal: Any, state: runs.State) -> list[runs.AnyEvent]:
        if bool(state.job(asked.name).held) == on:
            said = "is on hold already" if on else "is not on hold"
            raise Refused(f"{asked.name} {said}", do="see: kt jobs")
        return [kind(**common(asked, journal, asked.reason))]

    if dry_run:
        planned(*book.read(asked.workspace))
        return
    book.write(asked.workspace, planned)
    tidy.alarmed(asked, lambda *_: None)
