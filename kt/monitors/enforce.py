"""What kt monitor does for the experiments that run: keeps what is seen, ends what breaks a guardrail.

A treatment that fails is out of traffic within seconds, since the predictors see to it themselves
(predictor/brake.py). Here that becomes an event; where no predictor of this machine has told, the rows
in the tables do. Either way once: the event ends the phase in which the guardrail broke.
"""

from datetime import datetime
from typing import Any

from kt import git
from kt.deployments import audit, courses, deploy
from kt.deployments.courses import Course
from kt.deployments.deploy import Done
from kt.deployments.plan import Stamp
from kt.monitors import evidence, experiment, shares, told, tripped
from kt.monitors.verdict import Report
from kt.store.database import Store
from kt.workspace import Workspace


def enforce(workspace: Workspace, store: Store | None, now: datetime) -> list[Done]:
    """Keep what is seen of the experiments that run, and do what is due: their events, to be told of."""
    book, _ = audit.read(workspace)
    running = [
        one for one in courses.courses(book.events) if one.end is None and not one.now.shadow
    ]
    done = [check(workspace, store, course, now) for course in running]
    return [one for one in done if one is not None and one.event is not None]


def check(workspace: Workspace, store: Store | None, course: Course, now: datetime) -> Done | None:
    """One experiment: it ends, or its share follows, or nothing is due."""
    settings = workspace.settings.experiment
    guarded = settings.abort or course.canary
    if guarded and (ended := guard(workspace, store, course, now)):
        return ended
    if store is None:
        return None
    found = experiment.report(store, workspace.settings, course, now)
    evidence.keep(store, found, now)
    if settings.bandit and not course.canary:
        return reweight(workspace, course, found, now)
    return None


def guard(
    workspace: Workspace,
    store: Store | None,
    course: Course,
    now: datetime,
    *,
    dry_run: bool = False,
) -> Done | None:
    """End an experiment whose guardrail is broken; None where all of them hold."""
    found = broken(workspace, store, course, now)
    if found is None:
        return None
    why, seen = found
    stamp = Stamp(git.identity(), iso(now), "a guardrail is broken")
    return deploy.abort(workspace, course.name, course.now.seq, why, stamp, seen, dry_run=dry_run)


def broken(
    workspace: Workspace, store: Store | None, course: Course, now: datetime
) -> tuple[str, dict[str, Any]] | None:
    """Which guardrail, in words, and what shows it: the predictors' own word first, which needs no tables."""
    if trip := tripped.of(workspace.local, course):
        return trip.why, {"tripped": trip.model_dump(mode="json")}
    if store is None:
        return None
    found = experiment.report(store, workspace.settings, course, now)
    if found.broken is None:
        return None
    return told.guardrail(found, found.broken), told.summary(found)


def reweight(workspace: Workspace, course: Course, found: Report, now: datetime) -> Done | None:
    """Let the share follow who is probably better, where its time has come."""
    since = datetime.fromisoformat(course.now.begin)
    share = shares.due(found, course.now.share, since, now)
    if share is None:
        return None
    reason = f"bandit: the treatment is better with probability {shares.chance(found):.2f}"
    stamp = Stamp(git.identity(), iso(now), reason)
    return deploy.reweight(workspace, course.name, course.now.seq, share, stamp)


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
