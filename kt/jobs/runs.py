"""What can happen to a job, as it stands in jobs/history.json, and what that adds up to. Pure.

A run is numbered by the event that began it. One that began and has no end while nobody trains was
interrupted: the next command writes that down.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from kt.event import Base, Impossible, Name, Part, Time, appended

HISTORY = "jobs/history.json"
KEPT_AT_MOST = 2  # candidates in a row that were to cure something and did not: then a hold
CURES = {"alert", "calibration", "item_drift"}  # triggers that ask again until it is cured


class Event(Base):
    job: Name


class Learnt(Part):
    """What a run learns from. counts: samples of each source; until: the last moment that is counted."""

    source: str
    sha256: str
    counts: list[int]
    until: Time

    @property
    def samples(self) -> int:
        return sum(self.counts)


class Started(Event):
    """reasons: why, by trigger. parent: the version that was active."""

    kind: Literal["started"] = "started"
    model: Name
    reasons: dict[str, str]
    data: Learnt
    seed: int
    parent: str = ""


class Comparison(Part):
    """Candidate and active version on the same held-out units: what the candidate has more of the metric.

    low: the one-sided 95 % lower bound over units.
    """

    metric: str
    candidate: float
    active: float
    gain: float
    low: float
    units: int


class Finished(Event):
    """outcome: kept (the active version stays), registered, or deployed, as `experiment` unless it was
    the model's first version."""

    kind: Literal["finished"] = "finished"
    run: int
    outcome: Literal["kept", "registered", "deployed"]
    version: str = ""
    experiment: str = ""
    comparison: Comparison | None = None
    scores: dict[str, Any] = Field(default_factory=dict)
    seconds: float = 0.0
    made_with: dict[str, str] = Field(default_factory=dict)


class Failed(Event):
    """how: failed, timeout, interrupted or stopped."""

    kind: Literal["failed"] = "failed"
    run: int
    how: Literal["failed", "timeout", "interrupted", "stopped"]


class Settled(Event):
    """What became of the experiment of a run's candidate, whoever ended it."""

    kind: Literal["settled"] = "settled"
    run: int
    how: Literal["promoted", "ended", "aborted", "rolled back"]


class Held(Event):
    """No trigger starts the job until somebody lets it go on."""

    kind: Literal["held"] = "held"


class Released(Event):
    kind: Literal["released"] = "released"


AnyEvent = Started | Finished | Failed | Settled | Held | Released
one = TypeAdapter[AnyEvent](Annotated[AnyEvent, Field(discriminator="kind")])


@dataclass(frozen=True)
class Run:
    """A run and its end, which is missing while it goes on or was interrupted. settled: what became of
    its experiment."""

    number: int
    started: Started
    ended: Finished | Failed | None = None
    settled: Settled | None = None

    @property
    def outcome(self) -> str:
        if self.settled:
            return self.settled.how
        match self.ended:
            case None:
                return "running"
            case Finished(outcome=outcome):
                return outcome
            case Failed(how=how):
                return how

    @property
    def experiment(self) -> str:
        """Of its candidate, as long as nobody has written down what became of it."""
        if isinstance(self.ended, Finished) and not self.settled:
            return self.ended.experiment
        return ""


@dataclass(frozen=True)
class Job:
    """What a job's events add up to.

    success: the last run that ended well. open: the run that has no end yet. failures: in a row
    since then. kept: candidates in a row that were to cure something and did not: no better, or taken out
    of traffic again.
    """

    runs: tuple[Run, ...] = ()
    success: Run | None = None
    open: Run | None = None
    failures: int = 0
    kept: int = 0
    held: str = ""

    @property
    def last_attempt(self) -> datetime | None:
        """The end of the last run; a release forgets one that failed."""
        ended = [run.ended for run in self.runs if run.ended]
        if not ended or (isinstance(ended[-1], Failed) and not self.failures):
            return None
        return time(ended[-1].at)

    @property
    def trial(self) -> Run | None:
        """The last run whose candidate is in an experiment, as far as is written down."""
        return next((run for run in reversed(self.runs) if run.experiment), None)

    @property
    def last_success(self) -> datetime | None:
        return time(self.success.started.at) if self.success else None


EMPTY = Job()


def time(at: str) -> datetime:
    return datetime.fromisoformat(at)


@dataclass(frozen=True)
class State:
    jobs: Mapping[str, Job] = field(default_factory=dict)

    def job(self, name: str) -> Job:
        return self.jobs.get(name, EMPTY)


def fold(events: Iterable[AnyEvent], state: State | None = None) -> State:
    state = state or State()
    for event in events:
        after = apply(state.job(event.job), event)
        state = State({**state.jobs, event.job: after})
    return state


def apply(job: Job, event: AnyEvent) -> Job:
    """A job after an event. Raises Impossible."""
    match event:
        case Started():
            if job.open:
                raise Impossible(f"run {job.open.number} has no end")
            run = Run(event.seq, event)
            return replace(job, open=run, runs=(*job.runs, run))
        case Settled():
            return settled(job, event)
        case Held():
            return replace(job, held=event.reason or "nobody said why")
        case Released():
            return replace(job, held="", kept=0, failures=0)
        case Finished() | Failed():
            return ended(job, event)


def ended(job: Job, event: Finished | Failed) -> Job:
    if job.open is None or job.open.number != event.run:
        raise Impossible(f"run {event.run} is not open")
    run = replace(job.open, ended=event)
    job = replace(job, runs=(*job.runs[:-1], run), open=None)
    if isinstance(event, Failed):
        return replace(job, failures=job.failures + 1)
    match event.outcome:
        case "kept":
            kept = job.kept + cures(run.started.reasons)
        case "deployed" if run.experiment:
            kept = job.kept  # its end tells
        case _:
            kept = 0
    return replace(job, success=run, failures=0, kept=kept)


def settled(job: Job, event: Settled) -> Job:
    for place, run in enumerate(job.runs):
        if run.number == event.run and run.experiment:
            after = replace(run, settled=event)
            runs = (*job.runs[:place], after, *job.runs[place + 1 :])
            success = after if job.success == run else job.success
            kept = 0 if event.how == "promoted" else job.kept + cures(run.started.reasons)
            return replace(job, runs=runs, success=success, kept=kept)
    raise Impossible(f"run {event.run} has no experiment")


def cures(reasons: Mapping[str, str]) -> bool:
    """Whether a run for these reasons is to cure something."""
    return not CURES.isdisjoint(reasons)


def must_hold(job: Job, retries: int) -> str:
    """Why kt puts a hold on a job by itself, or nothing. retries: after how many more failures in a row."""
    if job.failures > retries:
        return f"it has failed {times(job.failures)}"
    return no_cure(job)


def times(failures: int) -> str:
    return "once" if failures == 1 else f"{failures} times in a row"


def no_cure(job: Job) -> str:
    """Why training again cures nothing, where that has been seen."""
    if job.kept < KEPT_AT_MOST:
        return ""
    return (
        f"{job.kept} candidates in a row, called for by an alert or a drift, were no better:"
        " more of the same does not cure it"
    )


def body(event: AnyEvent) -> dict[str, Any]:
    """An event as it is appended."""
    return appended(event, "job")


def describe(event: Mapping[str, Any]) -> str:
    """An event in a few words: of the commit that records it."""
    match event["kind"]:
        case "started":
            return f"run {event['seq']} started: {'; '.join(event['reasons'].values())}"
        case "finished":
            version = f" {event['version']}" if event["version"] else ""
            return f"run {event['run']} {event['outcome']}{version}"
        case "failed":
            return f"run {event['run']} {event['how']}"
        case "settled":
            return f"run {event['run']} {event['how']}"
        case "held":
            return "on hold"
        case _:
            return "released"
