"""What is counted of answers, in memory. No database here: a predictor counts without loading one."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Self

from kt.stats.latency import Sketch
from kt.stats.scores import Histogram
from kt.store.tally import Key, Tally

# Distributions, by their names in the tables
LATENCY = "latency"
SCORES = "scores"  # probabilities
NUMBERS = "numbers"  # what was predicted, where it is a number
FEATURE = "feature:"  # and its name

COUNTS = (
    "assigned",
    "served",
    "failed",
    "slow_out",
    "invalid",
    "fallback",
    "over_limit",
    "over_alert",
)


@dataclass(frozen=True)
class Stream:
    """variant: "control" or "treatment", "" where no experiment splits the traffic.

    deployment: the seq of the event that made the active version active. phase: the seq of the event
    that last changed the experiment's traffic, else the deployment's.
    share: percent of the units. kind: of what it predicts: probability, category, number or none.
    since: when the phase began (ISO 8601), "" where nobody knows.
    """

    model: str
    version: str
    variant: str
    experiment: str
    deployment: int
    phase: int
    share: float = 100.0
    kind: str = "none"
    since: str = ""

    @cached_property
    def id(self) -> int:
        """The same on every machine, for who answers alone: 63 bits."""
        names = (self.model, self.version, self.variant, self.experiment)
        text = "\0".join((*names, str(self.deployment), str(self.phase)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) & (2**63 - 1)


class Load(NamedTuple):
    assigned: int
    failed: int


class Logged(NamedTuple):
    """A request and its answer, as they are kept. id: of the answer, 10 bytes. at: seconds since the epoch.

    unit: a labelled pseudonym, empty where nobody was named. request, answer: JSON, of the fields that
    kt.toml names.
    """

    id: bytes
    stream: int
    at: float
    unit: bytes
    request: str
    answer: str

    @property
    def size(self) -> int:
        return len(self.request) + len(self.answer)


@dataclass(slots=True)
class Traffic:
    """Sums, which merge.

    assigned: counted before the model is called. slow_out: a treatment that overran its time. invalid:
    answers that were not finite. fallback: answered by the control in its place. over_limit and
    over_alert: slower than the two levels of the latency metric. latency: milliseconds of the model.
    scores: of predictions that are probabilities or categories; numbers: those that are numbers.
    """

    assigned: int = 0
    served: int = 0
    failed: int = 0
    slow_out: int = 0
    invalid: int = 0
    fallback: int = 0
    over_limit: int = 0
    over_alert: int = 0
    latency: Sketch = field(default_factory=Sketch)
    scores: Histogram = field(default_factory=Histogram)
    numbers: Sketch = field(default_factory=Sketch)
    features: dict[str, Sketch] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        return self.failed + self.slow_out + self.invalid

    @property
    def error_rate(self) -> float | None:
        """Of what was assigned; None where nothing was."""
        return self.bad / self.assigned if self.assigned else None

    def merge(self, other: Self) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latency.merge(other.latency)
        self.scores.merge(other.scores)
        self.numbers.merge(other.numbers)
        for name, sketch in other.features.items():
            self.features.setdefault(name, Sketch()).merge(sketch)

    def put(self, name: str, sketch: Sketch | Histogram) -> None:
        """Merge a distribution by its name in the tables."""
        match sketch:
            case Histogram():
                self.scores.merge(sketch)
            case _ if name == LATENCY:
                self.latency.merge(sketch)
            case _ if name == NUMBERS:
                self.numbers.merge(sketch)
            case _:
                self.features.setdefault(name.removeprefix(FEATURE), Sketch()).merge(sketch)

    def parts(self) -> Iterator[tuple[str, Sketch | Histogram]]:
        """The distributions that hold something, by their names in the tables."""
        if self.latency.count or self.latency.odd:
            yield LATENCY, self.latency
        if self.scores.count or self.scores.odd:
            yield SCORES, self.scores
        if self.numbers.count or self.numbers.odd:
            yield NUMBERS, self.numbers
        for name, sketch in self.features.items():
            yield FEATURE + name, sketch


@dataclass(slots=True)
class Batch:
    """What a process has seen since its last one.

    traffic: by stream and minute. loads: by stream and bucket of units. units: hashes (8 bytes) by
    stream. counts: by minute and name. logged: a sample of the requests themselves.
    shadows: what copies of requests showed of each.
    """

    streams: dict[int, Stream] = field(default_factory=dict)
    traffic: dict[tuple[int, int], Traffic] = field(default_factory=dict)
    loads: dict[tuple[int, int], Load] = field(default_factory=dict)
    units: dict[int, set[bytes]] = field(default_factory=dict)
    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    logged: list[Logged] = field(default_factory=list)
    shadows: dict[Key, Tally] = field(default_factory=dict)

    def __bool__(self) -> bool:
        counted = self.traffic or self.loads or self.units or self.counts
        return bool(counted or self.logged or self.shadows)

    def merge(self, other: Self) -> None:
        self.streams |= other.streams
        for place, traffic in other.traffic.items():
            self.traffic.setdefault(place, Traffic()).merge(traffic)
        for bucket, load in other.loads.items():
            before = self.loads.get(bucket, Load(0, 0))
            self.loads[bucket] = Load(before.assigned + load.assigned, before.failed + load.failed)
        for stream, hashes in other.units.items():
            self.units.setdefault(stream, set()).update(hashes)
        self.counts += other.counts
        self.logged += other.logged
        for shadow, tally in other.shadows.items():
            self.shadows[shadow] = self.shadows.get(shadow, Tally()) + tally
