"""The experiment that a model's part of the page is about: the one that runs, else the last if it ended of late."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kt.config import Settings
from kt.deployments import courses
from kt.deployments.courses import Course
from kt.monitors import experiment, told
from kt.monitors.dashboard.facts import Case, Look, Shadow, Trial
from kt.monitors.verdict import Report
from kt.store import looks
from kt.store.database import Store
from kt.store.tally import Report as Compared
from kt.store.tally import Tally


def latest(events: Iterable[Mapping[str, Any]], model: str, since: str) -> Course | None:
    """since: the earliest end that is shown, ISO 8601."""
    of_model = [one for one in courses.courses(events) if one.model == model]
    if not of_model:
        return None
    last = of_model[-1]
    return last if last.end is None or str(last.end["at"]) >= since else None


def trial(store: Store, settings: Settings, course: Course, now: datetime) -> Trial:
    report = experiment.report(store, settings, course, now)
    kept = looks.looks(store, course.name, [phase.seq for phase in course.phases])
    return Trial(
        experiment=course.name,
        control=course.control,
        treatment=course.treatment,
        traffic=course.now.share / 100,
        since=course.begin,
        metric=settings.experiment.metric,
        verdict=report.state,
        sentence=told.state(report, ended=course.end is not None),
        alpha=report.alpha,
        looks=(*earlier(kept, settings.experiment.metric), *this(report)),
        checks=(told.ratio(report), *(told.guardrail(report, one) for one in report.guardrails)),
        ended=course.how,
    )


def shadow(course: Course, reports: Iterable[Compared]) -> Shadow:
    """Of a course that is a copy now. reports: of every shadow that is known."""
    nothing = Compared(course.model, course.name, course.treatment, course.now.seq, Tally())
    known = next((one for one in reports if one.shadow == nothing.shadow), nothing)
    found, tally = known.summary(), known.tally
    return Shadow(
        experiment=course.name,
        control=course.control,
        version=course.treatment,
        since=course.now.begin,
        compared=tally.compared,
        predictions=tally.predictions,
        agreement=found["agreement"],
        mean_difference=found["mean_difference"],
        worst_difference=found["worst_difference"],
        latency=None if found["p95"] is None else 1000 * found["p95"],
        failed=tally.failed,
        invalid=tally.invalid,
        slow=tally.slow,
        dropped=tally.dropped,
        worst=tuple(Case(name, apart) for apart, name in tally.cases),
        ended=course.how,
    )


def earlier(kept: Sequence[looks.Look], metric: str) -> list[Look]:
    return [
        Look(
            datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            one.estimate,
            one.lower,
            one.upper,
            one.n_control,
            one.n_treatment,
        )
        for one in kept
        if one.metric == metric
    ]


def this(report: Report) -> list[Look]:
    """What the report itself sees, now or when the experiment ended; nothing where there is nothing to compare."""
    if report.effect is None or report.interval is None:
        return []
    return [
        Look(
            report.subject.until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            report.effect.difference,
            report.interval.lower,
            report.interval.upper,
            report.control.outcomes,
            report.treatment.outcomes,
        )
    ]
