"""What this process has answered, counted in memory: a request pays for a few microseconds, and for no database.

    entry = recorder.begin(stream, units)       before the model runs: who fails early has been asked too
    recorder.identity(entry, place, scores)     the prediction_id of an answer
    recorder.end(entry, seen)                   what came of each request

Both leave a note, and notes are added up MANY at a time, which costs half of doing it at once. `take`
hands over what was counted since it was last called; writer.py puts that into the tables.
"""

import logging
import os
import random
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

from kt import clock
from kt.deployments.manifest import Route
from kt.models.family import FEATURES, Form
from kt.predictor.engine import Engine
from kt.predictor.sampler import Sampler
from kt.stats.latency import Sketch
from kt.stats.scored import Kind, Scores, nothing
from kt.store.batch import Batch, Load, Stream, Traffic
from kt.store.ids import MOST, Ids
from kt.store.pseudonym import BUCKETS, Pseudonyms, bucket, unit_hash
from kt.store.secret import Secret

log = logging.getLogger("kt")

LIMIT, ALERT = 100.0, 200.0  # milliseconds: the two levels of latency
MANY = 32  # notes that are added up together: each may be of 8 answers of 64 predictions
WATCHED = (
    10  # requests of a stream, each second, whose features are taken: a million a day are enough
)
UNITS = 100_000  # of a stream that are remembered until they are written: more are not needed

PLAIN, CONTROL = "", "control"  # who answers, beside the treatments, which go by their versions
REFUSED = "refused"  # by the control too: the request is at fault


class Entry(NamedTuple):
    """Requests that one version is asked together.

    buckets: of their units, 0 to 127. named: the pseudonyms of those that name one. watched: whether
    their features are taken.
    """

    stream: Stream
    minute: int
    buckets: Sequence[int]
    named: Sequence[bytes]
    watched: bool


NONE = nothing(0)


class Seen(NamedTuple):
    """What came of a request.

    took: milliseconds of the version that was to answer. failure: of that version: failed, invalid,
    slow or REFUSED, or nothing. fallback: the control answered in its place. scores: of what it predicted.
    """

    took: float
    failure: str = ""
    fallback: bool = False
    scores: Scores = NONE
    features: Mapping[str, float] = {}


class Recorder:
    """on: whether anything is recorded; sampler: what keeps whole requests, if anything does. Any thread
    may call any of it."""

    def __init__(self, *, on: bool = False, sampler: Sampler | None = None) -> None:
        self.on = on
        self.sampler = sampler
        self._begun: deque[Entry] = deque()
        self._ended: deque[tuple[Entry, Sequence[Seen]]] = deque()
        self._watched: dict[int, tuple[int, int]] = {}  # by stream: requests of a second
        self._batch = Batch()
        self._loads: dict[int, Loads] = {}  # by stream
        self._lock = threading.Lock()  # of the last two
        self._pseudonyms: Pseudonyms | None = None
        self._ids: Ids | None = None
        self._complained: set[str] = set()

    def know(self, secret: Secret) -> None:
        """The secret that signs ids and hides units. Until it is known ids say nothing, and buckets are
        drawn by chance."""
        self._pseudonyms, self._ids = Pseudonyms(secret), Ids(secret)
        if self.sampler:
            self.sampler.know(self._pseudonyms)

    def begin(self, stream: Stream, units: Sequence[str | None]) -> Entry:
        """units: who asks; None of who does not say. Counted at once as assigned."""
        second = clock.second()
        if not self.on:
            return Entry(stream, second // 60, [0] * len(units), (), False)
        pseudonyms = self._pseudonyms
        buckets, named = [], []
        for unit in units:
            if unit is None or pseudonyms is None:
                buckets.append(random.getrandbits(7))  # no secret
            else:
                one = pseudonyms.of(unit)
                named.append(one)
                buckets.append(bucket(one))
        watched = self._watches(stream, second, len(units))
        entry = Entry(stream, second // 60, buckets, named, watched)
        self._begun.append(entry)
        return entry

    def scores(self, engine: Engine, predictions: Sequence[Mapping[str, Any]]) -> Scores:
        """Of the first MOST predictions, as the form of whoever made them says: as many as an id tells of."""
        form, told = engine.form, predictions[:MOST]
        if not self.on or not told or not hasattr(form, "scored"):
            return nothing(len(told))
        try:
            found: Scores = form.scored(told, engine.signature)
            return found
        except Exception as error:  # noqa: BLE001  # a form is foreign code, and no answer fails with this
            self._complain(f"{form.__name__}.scored", error)
            return nothing(len(told))

    def features(self, entry: Entry, engine: Engine, request: Any) -> Mapping[str, float]:
        """Of a request, as the form of the active version says: the same for every variant."""
        form = engine.form
        if not entry.watched or not hasattr(form, "features"):
            return {}
        try:
            found = form.features(request, engine.signature)
            return dict(islice(found.items(), FEATURES))
        except Exception as error:  # noqa: BLE001  # as above
            self._complain(f"{form.__name__}.features", error)
            return {}

    def identity(self, entry: Entry, place: int, scores: Scores) -> str:
        """The prediction_id of an answer. scores: of its predictions."""
        if self._ids is None:
            return os.urandom(16).hex()
        try:
            return self._ids.make(entry.stream.id, entry.minute, entry.buckets[place], scores)
        except (ValueError, TypeError, OverflowError, struct.error) as error:  # by no number
            self._complain(f"an answer of {entry.stream.version}", error)
            return os.urandom(16).hex()

    def log(
        self, entry: Entry, unit: str | None, request: Any, form: Form, answer: Mapping[str, Any],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Keep a request and its answer, if they are of the sample. form: the request's."""
        if self.sampler is None:
            return
        try:
            self.sampler.offer(entry.stream, unit, request, form.UNIT, answer, scores)
        except Exception as error:  # noqa: BLE001  # what cannot be written as JSON fails no answer
            self._complain(f"a request to {entry.stream.model}", error)

    def end(self, entry: Entry, seen: Sequence[Seen]) -> None:
        """seen: what came of each request of the entry, in order."""
        if self.on:
            self._ended.append((entry, seen))
            if len(self._ended) >= MANY and self._lock.acquire(blocking=False):
                try:
                    self._add_up()
                finally:
                    self._lock.release()

    def add(self, name: str, n: int) -> None:
        """Count something else, by name."""
        with self._lock:
            self._batch.counts[clock.second() // 60, name] += n

    def take(self) -> Batch:
        """What was counted since this was last called."""
        with self._lock:
            self._add_up()
            taken, self._batch = self._batch, Batch()
            loads, self._loads = self._loads, {}
        for stream, one in loads.items():
            for place, load in enumerate(map(Load, one.assigned, one.failed)):
                if any(load):
                    taken.loads[stream, place] = load
        if self.sampler:
            self.sampler.take(taken)
        return taken

    def _add_up(self) -> None:
        """All notes into the batch, under the lock."""
        together: dict[tuple[Stream, int], list[Seen]] = {}
        for entry in drained(self._begun):
            self._traffic(entry.stream, entry.minute).assigned += len(entry.buckets)
            if entry.stream.experiment:
                self._load(entry.stream).begun(entry.buckets)
                units = self._batch.units.setdefault(entry.stream.id, set())
                if len(units) < UNITS:
                    units.update(map(unit_hash, entry.named))
        for entry, seen in drained(self._ended):
            together.setdefault((entry.stream, entry.minute), []).extend(seen)
            if entry.stream.experiment:
                self._load(entry.stream).ended(entry.buckets, seen)
        for (stream, minute), all_seen in together.items():
            add(self._traffic(stream, minute), stream.kind, all_seen)

    def _complain(self, what: str, error: Exception) -> None:
        """Once, into the log."""
        if what not in self._complained:
            self._complained.add(what)
            log.warning("kt: %s fails, so it is not recorded: %r", what, error)

    def _watches(self, stream: Stream, second: int, requests: int) -> bool:
        last, so_far = self._watched.get(stream.id, (0, 0))
        if last != second:
            so_far = 0
        if so_far >= WATCHED:
            return False
        self._watched[stream.id] = second, so_far + requests
        return True

    def _traffic(self, stream: Stream, minute: int) -> Traffic:
        batch = self._batch
        found = batch.traffic.get((stream.id, minute))
        if found is None:
            batch.streams[stream.id] = stream
            found = batch.traffic[stream.id, minute] = Traffic()
        return found

    def _load(self, stream: Stream) -> "Loads":
        found = self._loads.get(stream.id)
        if found is None:
            self._batch.streams[stream.id] = stream
            found = self._loads[stream.id] = Loads()
        return found


class Loads:
    """How many requests of each bucket of units were assigned, and how many of them failed."""

    def __init__(self) -> None:
        self.assigned, self.failed = [0] * BUCKETS, [0] * BUCKETS

    def begun(self, buckets: Iterable[int]) -> None:
        for place in buckets:
            self.assigned[place] += 1

    def ended(self, buckets: Iterable[int], seen: Iterable[Seen]) -> None:
        for place, one in zip(buckets, seen, strict=True):
            if one.failure == REFUSED:
                self.assigned[place] -= 1
            elif one.failure:
                self.failed[place] += 1


T = TypeVar("T")


def drained(notes: deque[T]) -> Iterator[T]:
    """What others may be adding to: some of theirs too, and none twice."""
    with suppress(IndexError):
        while True:
            yield notes.popleft()


def add(traffic: Traffic, kind: str, seen: Sequence[Seen]) -> None:
    """Add what came of requests that were counted as assigned. kind: of what was predicted."""
    served = [one for one in seen if not one.failure]
    failed = [one for one in seen if one.failure and one.failure != REFUSED]
    for one in failed:
        name = FAILURES[one.failure]
        setattr(traffic, name, getattr(traffic, name) + 1)
        traffic.fallback += one.fallback
    traffic.served += len(served)
    traffic.assigned -= len(seen) - len(served) - len(failed)  # nobody was asked anything

    # who fails at once is not fast
    took = [one.took for one in served] + [one.took for one in failed if one.failure == "slow"]
    traffic.latency.extend(took)
    traffic.over_limit += sum(one > LIMIT for one in took)
    traffic.over_alert += sum(one > ALERT for one in took)
    values = list(chain.from_iterable(one.scores.values for one in served))
    if kind == "number":
        traffic.numbers.extend(values)
    elif kind != "none":
        traffic.scores.extend(values)
    columns: dict[str, list[float]] = {}
    for one in (*served, *failed):
        for name, value in one.features.items():
            columns.setdefault(name, []).append(value)
    for name, column in columns.items():
        traffic.features.setdefault(name, Sketch()).extend(column)


FAILURES = {"failed": "failed", "invalid": "invalid", "slow": "slow_out"}  # in Traffic


# Who answers


def kind(engine: Engine, predictions: Sequence[Mapping[str, Any]]) -> Kind:
    """What a version predicts, judged by an answer."""
    if not predictions or not hasattr(engine.form, "scored"):
        return NONE.kind
    try:
        found: Kind = engine.form.scored(predictions, engine.signature).kind
    except Exception as error:  # noqa: BLE001  # a form is foreign code, and its version can serve all the same
        log.warning(
            "kt: %s.scored fails, so no scores are recorded: %r", engine.form.__name__, error
        )
        return NONE.kind
    return found


def streams(model: str, route: Route, kinds: Mapping[str, Kind]) -> dict[str, Stream]:
    """The streams of a model: PLAIN, where nobody but the active version answers; while an experiment
    splits the traffic CONTROL, and each treatment by its version. kinds: of versions' predictions."""
    active = route.active.version

    def stream(version: str, variant: str, name: str, phase: int, share: float) -> Stream:
        kind = kinds[version]
        since = "" if name else route.since
        return Stream(model, version, variant, name, route.seq, phase, share, kind, since)

    found = {PLAIN: stream(active, "", "", route.seq, 100.0)}
    if trial := route.split:
        taken = sum(one.traffic for one in trial.treatments)
        found[CONTROL] = stream(active, CONTROL, trial.name, trial.phase, 100.0 - taken)
        for one in trial.treatments:
            found[one.version] = stream(
                one.version, "treatment", trial.name, trial.phase, one.traffic
            )
    return found


def pairs(streams: Mapping[str, Stream]) -> list[tuple[Stream, Stream]]:
    """Each treatment of a model with its control."""
    return [
        (one, streams[CONTROL]) for name, one in streams.items() if name not in (PLAIN, CONTROL)
    ]
