"""How traffic and outcomes went over time: rows of the tables into slots, slots into points. Pure.

A slot is a step of time. A point looks back over one slot or several, as the monitor does, and only at
rows of its own version. Minutes count from the epoch.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from kt.monitors import thresholds
from kt.monitors.dashboard.facts import ACTIVE, TREATMENT, Bin, Line, Point, Reliability, Shape
from kt.monitors.thresholds import Sample
from kt.stats import calibration, drift
from kt.stats.arms import TWO_SIDED, wilson
from kt.stats.drift import Bars
from kt.store.batch import Stream, Traffic
from kt.store.labels import Labels

LEAST = 30  # outcomes; a share of fewer is mostly chance
BARS = 20  # of a histogram
EDGE = 0.005  # of a spread, on either side, that its histogram puts in the outermost bars


class Who(NamedTuple):
    """Whose line it is."""

    role: str
    version: str


def who(stream: Stream) -> Who:
    return Who(TREATMENT if stream.variant == TREATMENT else ACTIVE, stream.version)


@dataclass(slots=True)
class Seen:
    """What was recorded in a while: sums, which merge."""

    traffic: Traffic = field(default_factory=Traffic)
    labels: Labels = field(default_factory=Labels)

    def merge(self, other: "Seen") -> None:
        self.traffic.merge(other.traffic)
        self.labels.merge(other.labels)


Slots = dict[Who, dict[int, Seen]]  # by the number of the slot
Measure = Callable[[Who, Seen, int], Sample]  # of whom, what was seen, in how many minutes


@dataclass(frozen=True, slots=True)
class Grid:
    """Slots from minute `start` to `end`, of `step` minutes each; the last one may be shorter."""

    start: int
    end: int
    step: int

    @classmethod
    def back(cls, end: int, minutes: int, step: int) -> "Grid":
        """Over so many minutes before `end`; slots begin at multiples of `step`."""
        return cls((end - minutes) // step * step, end, step)

    def slot(self, minute: int) -> int:
        """Negative before the start."""
        return (minute - self.start) // self.step

    def ends(self, slot: int) -> int:
        return min(self.end, self.start + (slot + 1) * self.step)

    @property
    def slots(self) -> range:
        return range(-(-(self.end - self.start) // self.step))


def fill(
    grid: Grid,
    streams: Mapping[int, Stream],
    traffic: Iterable[tuple[int, int, int, Traffic]],
    labels: Iterable[tuple[int, int, int, Labels]] = (),
) -> Slots:
    """Rows of the tables in their slots. A row that is longer than a slot counts where it begins."""
    slots: Slots = defaultdict(lambda: defaultdict(Seen))
    for stream, minute, _, row in traffic:
        slots[who(streams[stream])][grid.slot(minute)].traffic.merge(row)
    for stream, minute, _, outcomes in labels:
        slots[who(streams[stream])][grid.slot(minute)].labels.merge(outcomes)
    return slots


@dataclass(frozen=True, slots=True)
class While:
    """What a point looks back at."""

    at: str  # its end
    minutes: int
    seen: Seen


def whiles(grid: Grid, slots: Slots, over: int) -> dict[Who, list[While]]:
    """For every slot the `over` slots that end with it."""
    return {
        whose: [
            While(
                iso(grid.ends(slot)),
                grid.ends(slot) - grid.start - (slot - over + 1) * grid.step,
                merged(held[each] for each in range(slot - over + 1, slot + 1) if each in held),
            )
            for slot in grid.slots
        ]
        for whose, held in slots.items()
    }


def merged(parts: Iterable[Seen]) -> Seen:
    whole = Seen()
    for part in parts:
        whole.merge(part)
    return whole


def lines(over_time: Mapping[Who, Sequence[While]], of: Measure) -> tuple[Line, ...]:
    """A line for each version that has values, from its first to its last."""
    found = []
    for whose, looks in over_time.items():
        samples = [of(whose, look.seen, look.minutes) for look in looks]
        known = [place for place, sample in enumerate(samples) if sample.value is not None]
        if known:
            points = [
                Point(look.at, sample.value, sample.n, sample.lower, sample.upper)
                for look, sample in zip(looks, samples, strict=True)
            ]
            found.append(Line(*whose, tuple(points[known[0] : known[-1] + 1])))
    return tuple(sorted(found, key=lambda line: (line.role, line.points[0].at)))


def requests(_: Who, seen: Seen, minutes: int) -> Sample:
    """An hour. None where a version was not asked at all: it was not there, or nobody was."""
    n = seen.traffic.assigned
    return Sample(n, n * 60 / minutes if n else None)


def errors(_: Who, seen: Seen, __: int) -> Sample:
    return plain(thresholds.share(seen.traffic.bad, seen.traffic.assigned))


def latency(_: Who, seen: Seen, __: int) -> Sample:
    sketch = seen.traffic.latency
    return Sample(sketch.count, sketch.quantile(0.95))


def plain(sample: Sample) -> Sample:
    """Without bounds."""
    return replace(sample, lower=None, upper=None)


def outcome(of: Callable[[Labels], Sample], least: int = LEAST) -> Measure:
    """A metric of outcomes; no value of fewer than `least`."""

    def measured(_: Who, seen: Seen, __: int) -> Sample:
        found = of(seen.labels)
        return found if found.n >= least else Sample(found.n)

    return measured


def drifted(references: Mapping[Who, Bars], bars: Callable[[Traffic], Bars], least: int) -> Measure:
    """PSI from the version's own reference; no value of one without, or of fewer than `least`."""

    def measured(whose: Who, seen: Seen, _: int) -> Sample:
        now, before = bars(seen.traffic), references.get(whose, ())
        n = count(now)
        if n < least or count(before) < least:
            return Sample(n)
        return Sample(n, drift.psi(*drift.parts(before, now)))

    return measured


def count(bars: Bars) -> int:
    return sum(n for _, n in bars)


def reliability(whose: Who, seen: Labels, least: int) -> Reliability:
    """least: outcomes that a calibration error needs."""
    bins = calibration.of_outcomes(seen.positives, seen.negatives)
    n = sum(each.n for each in bins)
    return Reliability(
        *whose,
        n=n,
        ece=calibration.errors(bins).ece if n >= least else None,
        bins=tuple(
            Bin(
                each.n,
                each.confidence / each.n,
                each.right / each.n,
                *wilson(each.right, each.n, TWO_SIDED),
            )
            for each in bins
            if each.n
        ),
    )


def shape(
    name: str, whose: Who, reference: str, before: Bars, now: Bars, psi: float | None, status: str
) -> Shape:
    """Two spreads over the same bars of equal width."""
    low, high = reach(before, now) if name != "score" else (0.0, 1.0)
    width = (high - low) / BARS
    return Shape(
        of=name,
        role=whose.role,
        version=whose.version,
        reference=reference,
        edges=tuple(low + k * width for k in range(BARS + 1)),
        before=shares(before, low, width),
        now=shares(now, low, width),
        n_before=count(before),
        n_now=count(now),
        psi=psi,
        status=status,
    )


def reach(*spreads: Bars) -> tuple[float, float]:
    """From where to where the bars go: all but the farthest values of each spread."""
    ends = [
        end
        for bars in spreads
        if bars
        for end in (from_below(bars, EDGE), from_below(bars, 1 - EDGE))
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def from_below(bars: Bars, share: float) -> float:
    left = share * count(bars)
    for value, n in bars:
        left -= n
        if left <= 0:
            return value
    return bars[-1][0]


def shares(bars: Bars, low: float, width: float) -> tuple[float, ...]:
    held = [0] * BARS
    for value, n in bars:
        held[min(BARS - 1, max(0, int((value - low) / width)))] += n
    return tuple(n / max(1, sum(held)) for n in held)


def iso(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
