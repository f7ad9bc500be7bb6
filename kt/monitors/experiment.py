"""The report on an experiment, from what was recorded of it. Only reads: whoever asks, and however often."""

from datetime import datetime

from kt.config import Settings
from kt.deployments.courses import Course
from kt.monitors import evidence, told, verdict
from kt.monitors.verdict import Report, Subject
from kt.store.database import Store


def report(store: Store | None, settings: Settings, course: Course, now: datetime) -> Report:
    """What is known of an experiment, also of one that has ended. store: None where nothing is recorded."""
    begin, until = (datetime.fromisoformat(at) for at in (course.begin, over(course, now)))
    subject = Subject(
        course.model, course.name, course.control, course.treatment, course.now.seq, begin, until
    )
    if store is None or not course.split:
        return verdict.judge(subject, [], [], settings.experiment, 0.0)
    ids = evidence.streams(store, course)
    metric, mature = settings.experiment.metric, settings.monitor.mature
    stretches = evidence.stretches(store, course, ids, metric, now, mature)
    before = evidence.looks(store, course, settings.experiment)
    rate = evidence.outcomes_a_day(store, ids, begin, now)
    return verdict.judge(subject, stretches, before, settings.experiment, rate)


def over(course: Course, now: datetime) -> str:
    return str(course.end["at"]) if course.end else now.isoformat()


def line(report: Report) -> str:
    """How an experiment stands, in one line."""
    return told.line(report)
