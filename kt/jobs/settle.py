"""What becomes of a job's experiment when its verdict is in, where kt.toml says `auto_promote`."""

from datetime import datetime
from typing import Literal

from kt.deployments import audit, courses, deploy
from kt.deployments.courses import Course
from kt.deployments.plan import Stamp
from kt.jobs.runs import Finished, Job
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
    course = running(workspace, job)
    if course is None:
        return ""
    store = connect.peek(workspace.root, workspace.settings)
    report = experiment.report(store, workspace.settings, course, now)
    what, why = turn(report)
    stamp = Stamp(by, now.strftime("%Y-%m-%dT%H:%M:%SZ"), f"by itself: {why}")
    if what == "promote":
        evidence = told.summary(report)
        deploy.promote(workspace, course.name, stamp, evidence=evidence, force=False)
    elif what == "end":
        deploy.end(workspace, course.name, stamp)
    return f"{what} {course.name}: {why}" if what else ""


def running(workspace: Workspace, job: Job) -> Course | None:
    """The experiment of the job's last deployed version, while it runs. A canary has a plan of its own."""
    named = [
        run.ended.experiment
        for run in job.runs
        if isinstance(run.ended, Finished) and run.ended.experiment
    ]
    if not named:
        return None
    course = courses.of(audit.read(workspace)[0].events, named[-1])
    if course is None or course.end is not None or course.canary or course.now.shadow:
        return None
    return course


def turn(report: Report) -> tuple[Turn, str]:
    """What to do, and why. A broken guardrail is for `kt monitor`, which ends it with an alert. Pure."""
    if report.verdict == "better":
        return "promote", "it is better"
    if report.broken is None and report.state in WHY:
        return "end", WHY[report.state]
    return "", ""
