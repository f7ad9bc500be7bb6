"""The alert of a job that kt has put on hold, or that fails again and again.

It follows from the journal of runs, so whoever looks at the job next opens or ends it where a kill came
between. Sinks hear of it from the next `kt monitor`, as of any alert.
"""

from dataclasses import dataclass

from kt.deployments import audit
from kt.deployments.plan import Stamp
from kt.jobs import runs
from kt.jobs.runs import KEPT_AT_MOST, Job
from kt.monitors import history
from kt.monitors.events import Alerts, Ended, Opened
from kt.monitors.thresholds import RETRAINING, Severity
from kt.workspace import Workspace

FAILURES = 3  # in a row, before people are told: one may be the network's


@dataclass(frozen=True)
class Alarm:
    """n: how many in a row; more than `level` of them are an alert."""

    severity: Severity
    n: int
    level: int
    why: str


def due(job: Job, retries: int) -> Alarm | None:
    """What people should be told of a job now. Pure."""
    if job.held and (why := runs.must_hold(job, retries)):
        failing = job.failures > retries
        n, level = (job.failures, retries) if failing else (job.kept, KEPT_AT_MOST - 1)
        return Alarm("critical", n, level, f"on hold: {why}")
    if job.failures >= FAILURES:
        last = job.runs[-1]
        why = last.ended.reason if last.ended else ""
        return Alarm("warning", job.failures, FAILURES - 1, f"run {last.number} failed: {why}")
    return None


def agree(
    workspace: Workspace, name: str, model: str, job: Job, retries: int, stamp: Stamp
) -> None:
    """Open or end the job's alert, as it stands now. Raises KtError."""
    _, known = history.read(workspace)
    wanted, alert = due(job, retries), is_open(known, name, model)
    if (alert.severity if alert else None) == (wanted.severity if wanted else None):
        return
    new: list[Opened | Ended] = []
    if alert:
        new.append(ended(alert, stamp))
    if wanted:
        new.append(opened(workspace, name, model, wanted, len(job.runs), stamp))
    said = f"{model}: {name} {wanted.why if wanted else 'goes on'}"
    history.append(workspace, "retrain", new, f"alerts: {said}")


def is_open(known: Alerts, name: str, model: str) -> Opened | None:
    ours = model, RETRAINING + name
    return next((one for one in known.open.values() if (one.model, one.metric) == ours), None)


def opened(
    workspace: Workspace, name: str, model: str, alarm: Alarm, n: int, stamp: Stamp
) -> Opened:
    active = audit.read(workspace)[1].serving(model).active
    return Opened(
        seq=1,
        prev="",
        at=stamp.at,
        by=stamp.by,
        model=model,
        metric=RETRAINING + name,
        reason=alarm.why,
        version=active.version if active else "",
        variant="",
        deployment=active.seq if active else 0,
        severity=alarm.severity,
        value=float(alarm.n),
        level=float(alarm.level),
        n=n,
    )


def ended(alert: Opened, stamp: Stamp) -> Ended:
    return Ended(
        seq=1,
        prev="",
        at=stamp.at,
        by=stamp.by,
        model=alert.model,
        metric=alert.metric,
        kind="resolved",
        alert=alert.seq,
    )
