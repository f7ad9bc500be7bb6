"""Alerts on experiments that a broken guardrail has ended. Pure.

They are told from the history of deployments, whoever ended the experiment: this monitor, `kt canary step`,
or another machine. So an abort is told once, also where a monitor was killed just after it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kt.deployments.courses import Course
from kt.deployments.plan import Stamp
from kt.monitors.events import Alerts, Opened

METRIC = "guardrail"
RECENT = timedelta(days=1)  # older ones are no news


def untold(over: Iterable[Course], known: Alerts, now: datetime, stamp: Stamp) -> list[Opened]:
    """One for each that was aborted of late and has no alert. over: experiments that ended."""
    told = {
        (alert.model, alert.experiment, alert.reason)
        for alert in known.all.values()
        if alert.metric == METRIC
    }
    return [
        opened(one, stamp)
        for one in over
        if one.end is not None
        and one.how == "aborted"
        and now - datetime.fromisoformat(one.end["at"]) <= RECENT
        and (one.model, one.name, reason(one.end)) not in told
    ]


def reason(end: Mapping[str, Any]) -> str:
    """Which guardrail, and by which event: experiments may share a name."""
    return f"{end['aborted']}; event {end['seq']}"


def opened(course: Course, stamp: Stamp) -> Opened:
    assert course.end is not None
    control, treatment = rates(course.end["evidence"])
    return Opened(
        seq=1,
        prev="",
        at=stamp.at,
        by=stamp.by,
        model=course.model,
        metric=METRIC,
        reason=reason(course.end),
        version=course.treatment,
        variant="treatment",
        deployment=course.deployment,
        experiment=course.name,
        severity="critical",
        value=round(treatment[0] / max(1, treatment[1]), 6),
        level=round(control[0] / max(1, control[1]), 6),
        n=treatment[1],
    )


def rates(evidence: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many went wrong of how many, in control and treatment."""
    if trip := evidence.get("tripped"):
        bad, of = ("failed", "requests") if trip["metric"] == "errors" else ("slow", "calls")
        return (trip["control"][bad], trip["control"][of]), (
            trip["treatment"][bad],
            trip["treatment"][of],
        )
    broken = next(one for one in evidence["guardrails"] if one["broken"])
    control, treatment = (
        (broken[name], evidence[name]["assigned"]) for name in ("control", "treatment")
    )
    return control, treatment
