"""Takes a treatment out of traffic that fails, or is slow, more often than its share explains.

    .kt/tripped.json   the treatments that were taken out, and on what evidence

Workers count in memory that they share, so that all of them together need ten requests to see what each
alone would need forty for. Whoever sees it marks the treatment there, and no worker asks it any more; a
moment later the file says so too, to other predictors of this workspace and to those that start later.
A new phase begins anew: whoever changes the traffic knows of it.

Errors count by request. Slow answers count by call: those of a batch are slow together, and one stall is
one event. Of what the control failed at too the treatment is not accused. The rule: monitoring.md, 8.
"""

import fcntl
import logging
import math
import mmap
import os
import threading
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kt import clock, files
from kt.errors import KtError
from kt.stats import guardrail

if TYPE_CHECKING:  # the process that forks the workers reads no manifest
    from kt.deployments.manifest import Manifest, Trial
    from kt.store.batch import Stream

log = logging.getLogger("kt")

FILE = "tripped.json"
LOCK = "tripped.lock"
LEAST = 10  # requests that a treatment is asked before it is judged
BOUND = math.log(20)  # of log e: one of 20 treatments that are as good as the control is ever out
KEPT = 100  # treatments that were taken out that are remembered

Metric = Literal["errors", "slow"]

# What workers share


@dataclass(frozen=True)
class Counts:
    """requests; failed: of those; calls: of the version; slow: of those."""

    requests: int = 0
    failed: int = 0
    calls: int = 0
    slow: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.requests + other.requests,
            self.failed + other.failed,
            self.calls + other.calls,
            self.slow + other.slow,
        )


PLACES = 64  # streams of a worker
STREAM, COUNTS, MARK, WORDS = 0, slice(1, 5), 5, 6  # the words of a place


class Shared:
    """Counts by stream: each worker adds in a part of its own, all read all parts. Made before the fork.

    marks: how many were set, so that one look tells whether there are new ones.
    """

    def __init__(self, workers: int = 1) -> None:
        words = memoryview(mmap.mmap(-1, 8 * (1 + workers * PLACES * WORDS))).cast("q")
        self._marks, self._words = words[:1], words[1:]

    @property
    def marks(self) -> int:
        return self._marks[0]

    def place(self, worker: int, stream: int, live: Collection[int]) -> "memoryview[int] | None":
        """Where a worker counts a stream: the place it had, or one of a stream that is not live; None
        where there is no room."""
        places = [self._place(worker * PLACES + number) for number in range(PLACES)]
        if own := next((one for one in places if one[STREAM] == stream), None):
            return own
        free = next((one for one in places if one[STREAM] not in live), None)
        if free is not None:
            free[:] = memoryview(array("q", [0] * WORDS))
            free[STREAM] = stream
        return free

    def total(self, stream: int) -> tuple[Counts, bool]:
        """Of all workers, and whether one of them has marked it."""
        words = self._words
        starts = [at for at in range(0, len(words), WORDS) if words[at] == stream]
        places = [words[at : at + WORDS] for at in starts]
        total = sum((Counts(*place[COUNTS]) for place in places), Counts())
        return total, any(place[MARK] for place in places)

    def mark(self, place: "memoryview[int]") -> None:
        place[MARK] = 1
        self._marks[0] += 1

    def _place(self, number: int) -> "memoryview[int]":
        return self._words[number * WORDS : (number + 1) * WORDS]


# What is made of it


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Trip(Part):
    """A treatment that was taken out in one phase of its experiment, and what was counted until then.

    log_e: the evidence; None where it had answered nothing at all.
    """

    model: str
    experiment: str
    version: str
    phase: int
    at: datetime
    metric: Metric
    control: Counts
    treatment: Counts
    log_e: float | None

    @property
    def why(self) -> str:
        if self.metric == "errors":
            of = f"{self.version} failed {self.treatment.failed} of {self.treatment.requests} requests"
            return f"{of}, the control {self.control.failed} of {self.control.requests}"
        of = f"{self.version} was slow in {self.treatment.slow} of {self.treatment.calls} calls"
        return f"{of}, the control in {self.control.slow} of {self.control.calls}"


class Book(Part):
    kt: Literal[1] = 1
    trips: tuple[Trip, ...] = ()

    def holds(self, model: str, trial: "Trial") -> Trip | None:
        """Whether the treatments of a trial are out in the phase that it is in."""
        for one in self.trips:
            if (one.model, one.experiment, one.phase) == (model, trial.name, trial.phase):
                return one
        return None

    def dump(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"

    def added(self, trips: Sequence[Trip]) -> "Book":
        """The first to see it stays."""
        known = {(one.model, one.experiment, one.phase) for one in self.trips}
        new = [one for one in trips if (one.model, one.experiment, one.phase) not in known]
        return Book(trips=(*self.trips, *new)[-KEPT:])


def judged(control: Counts, treatment: Counts, share: float) -> tuple[Metric, float | None] | None:
    """On which metric a treatment does harm, and on what evidence; None where it does not.

    share: of the traffic that it was to get, in (0, 1). Where it got more than that, by chance or since
    some units ask more often, more is expected of it.
    """
    if treatment.requests < LEAST:
        return None
    if treatment.failed == treatment.requests:  # of a large share the evidence would come late
        return "errors", None
    metrics: tuple[tuple[Metric, int, int, int, int], ...] = (
        ("errors", control.failed, control.requests, treatment.failed, treatment.requests),
        ("slow", control.slow, control.calls, treatment.slow, treatment.calls),
    )
    for metric, bad, of, ours, all_ours in metrics:
        got = max(share, all_ours / max(of + all_ours, 1))
        if (found := guardrail.log_e(bad, ours, got)) >= BOUND:
            return metric, found
    return None


class Brake:
    """worker: whose part of what is shared."""

    def __init__(self, shared: Shared | None = None, worker: int = 0) -> None:
        self._shared, self._worker = shared or Shared(), worker
        self._places: dict[int, memoryview[int]] = {}  # of the streams that answer
        self._pairs: dict[int, tuple[Stream, Stream]] = {}  # by treatment: it, and its control
        self._out: set[int] = set()
        self._marks = 0  # when _out was last known
        self._lock = threading.Lock()
        self.trips: tuple[Trip, ...] = ()  # that this worker saw
        self._written = self._complained = 0  # of them

    def follow(self, pairs: Sequence[tuple["Stream", "Stream"]]) -> None:
        """Watch these from now on: each treatment with its control."""
        live = {stream.id for pair in pairs for stream in pair}
        with self._lock:
            self._pairs = {treatment.id: (treatment, control) for treatment, control in pairs}
            found = {one: self._shared.place(self._worker, one, live) for one in live}
            self._places = {one: place for one, place in found.items() if place is not None}
        self.look()

    def holds(self, stream: "Stream") -> bool:
        """Whether a treatment is out."""
        if self._shared.marks != self._marks:
            self.look()
        return stream.id in self._out

    def look(self) -> None:
        """Which treatments are out."""
        self._marks = self._shared.marks
        self._out = {one for one in list(self._pairs) if self._shared.total(one)[1]}

    def count(self, stream: "Stream", requests: int, failed: int, slow: bool) -> None:
        """A call of a version for so many requests has ended."""
        place = self._places.get(stream.id)
        if place is None:
            return
        with self._lock:
            place[1] += requests
            place[2] += failed
            place[3] += 1
            place[4] += slow
        if (failed or slow) and stream.id in self._pairs:
            self._judge(stream.id, place)

    def _judge(self, stream: int, place: "memoryview[int]") -> None:
        treatment, control = self._pairs[stream]
        (ours, marked), (theirs, _) = self._shared.total(stream), self._shared.total(control.id)
        found = judged(theirs, ours, treatment.share / 100)
        if marked or not found:
            return
        self._shared.mark(place)
        trip = Trip(
            model=treatment.model,
            experiment=treatment.experiment,
            version=treatment.version,
            phase=treatment.phase,
            at=clock.now(),
            metric=found[0],
            control=theirs,
            treatment=ours,
            log_e=found[1],
        )
        self.trips = (*self.trips, trip)
        log.error("kt: %s is out of traffic: %s", trip.experiment, trip.why)

    def write(self, local: Path) -> None:
        """Put down what this worker saw. Where that fails it is to be tried again: the other workers know."""
        trips = self.trips
        if len(trips) == self._written:
            return
        try:
            with alone(local / LOCK):
                files.write_whole(local / FILE, read(local).added(trips).dump())
            self._written = len(trips)
        except KtError as error:
            if len(trips) > self._complained:
                self._complained = len(trips)
                log.error("kt: a restart will ask %s again: %s", trips[-1].version, error)


def read(local: Path) -> Book:
    """What was taken out; nothing where there is no file that can be read."""
    try:
        return Book.model_validate_json(files.read(local / FILE))
    except (FileNotFoundError, KtError, ValidationError):
        return Book()


def without(what: "Manifest", book: Book) -> "tuple[Manifest, str]":
    """A manifest without the treatments that are out, and why; empty where none is."""
    models, why = {}, []
    for name, route in what.models.items():
        trip = book.holds(name, route.split) if route.split else None
        if trip:
            route = route.model_copy(update={"experiment": None})
            why.append(f"{trip.experiment} is out of traffic: {trip.why}; kt end {trip.experiment}")
        models[name] = route
    return what.model_copy(update={"models": models}), "; ".join(why)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While no other process is in here."""
    with files.named("lock", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
