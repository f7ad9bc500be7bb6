"""A job that kt has put on hold, or that fails again and again, is an alert; it follows from the journal."""

from kt.deployments.plan import Stamp
from kt.jobs import alarm
from kt.jobs.alarm import Alarm
from kt.jobs.runs import Job
from kt.monitors import history

STAMP = Stamp("kt", "2026-01-20T09:00:00Z")
HELD = Job(held="more of the same does not cure it", kept=2)


def kinds(place):
    events = history.read(place)[0].events
    return [(one["kind"], one.get("severity", ""), one["metric"]) for one in events]


def agree(place, job, name="nightly"):
    alarm.agree(place, name, "m", job, 3, STAMP)


def test_it_opens_once_and_ends_when_the_job_goes_on(place):
    agree(place, Job())
    assert kinds(place) == []
    agree(place, HELD)
    agree(place, HELD)
    assert kinds(place) == [("opened", "critical", "retraining_nightly")]
    agree(place, Job(), "weekly")
    agree(place, Job())
    assert kinds(place)[1:] == [("resolved", "", "retraining_nightly")]


def test_a_hold_of_a_person_is_no_alert(place):
    agree(place, Job(held="exams"))
    assert kinds(place) == []


def test_a_job_that_fails_too_often_is_worse_once_it_is_on_hold(place):
    why = "it has failed 4 times in a row"
    assert alarm.due(Job(held=why, failures=4), 3) == Alarm("critical", 4, 3, f"on hold: {why}")
