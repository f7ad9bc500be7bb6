"""What becomes of a job's experiment: by its verdict, where kt.toml says `auto_promote`, or by whoever ends it."""

from datetime import datetime
from typing import Literal

from kt.deployments import audit, courses, deploy
from kt.deployments.courses import Course
from kt.deployments.plan import Stamp
from kt.jobs.runs import Job, Run
from kt.monitors import experiment, told
from kt.monitors.verdict import Report
from kt.store import connect
from kt.workspace import Workspace

Turn = Literal["promote", "end", ""]
WHY = {
    "treatment_worse": "it is worse",
    "no_difference": "there is no difference",
    "expired": "there was no verdict in time",
    "invalid": "units got lost: the ratio is not the planned one",
}


def settle(workspace: Workspace, job: Job, by: str, now: datetime) -> str:
    """Promote or end the experiment that the job's last deployed version is in, if it is time to.

    Returns what was done, as a clause; nothing where there is nothing to do yet.
    """
    found = running(workspace, job)
    if found is None:
        return ""
    store = connect.peek(workspace.root, workspace.settings)
    report = experiment.report(store, workspace.settings, found, now)
    what, why = turn(report)
    stamp = Stamp(by, now.strftime("%Y-%m-%dT%H:%M:%SZ"), f"by itself: {why}")
    if what == "promote":
        evidence = told.summary(report)
        deploy.promote(workspace, found.name, stamp, evidence=evidence, force=False)
    elif what == "end":
        deploy.end(workspace, found.name, stamp)
    return f"{what} {found.name}: {why}" if what else ""


def running(workspace: Workspace, job: Job) -> Course | None:
    """The experiment of the job's last deployed version, while it runs. A canary has a plan of its own."""
    found = course(workspace, job.trial)
    if found is None or found.end is not None or found.canary or found.now.shadow:
        return None
    return found


def over(workspace: Workspace, run: Run) -> tuple[str, str] | None:
    """How a run's experiment ended, and why; None while it runs."""
    found = course(workspace, run)
    if found is None or found.end is None:
        return None
    return found.how, str(found.end.get("aborted") or found.end["reason"])


def course(workspace: Workspace, run: Run | None) -> Course | None:
    if run is None:
        return None
    return courses.of(audit.read(workspace)[0].events, run.experiment)


def turn(report: Report) -> tuple[Turn, str]:
    """What to do, and why. A broken guardrail is for `kt monitor`, which ends it with an alert. Pure."""
    if report.verdict == "better":
        return "promote", "it is better"
    if report.broken is None and report.state in WHY:
        return "end", WHY[report.state]
    return "", ""
