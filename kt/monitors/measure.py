"""The tables' rows over a window, as the values of each metric of what answers now.

A window ends at the last closed minute and holds one phase alone: what answered before with other
traffic is another stream. One of outcomes or drift is stretched back, at most so many days, until it
holds enough; outcomes count when their predictions are mature.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from kt.config import Settings
from kt.errors import KtError
from kt.monitors import recalibration, thresholds
from kt.monitors.alerts import Key
from kt.monitors.live import Live
from kt.monitors.thresholds import Levels, Sample, Status
from kt.registry import record
from kt.stats import calibration, drift, estimate, ranking
from kt.stats.arms import ONE_SIDED
from kt.stats.latency import Sketch
from kt.stats.scores import BINS
from kt.store import labels, traffic
from kt.store.batch import FEATURE, LATENCY, NUMBERS, SCORES, Stream, Traffic
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.rows import HOUR
from kt.store.streams import streams
from kt.workspace import Workspace

FAST = ("error_rate", "latency")
SELF = "kt"  # what is watched where it is the watching
DAY = thresholds.DAY
COUNTED = SCORES, NUMBERS  # what tells how many predictions
ASKED = *COUNTED, FEATURE  # what drifts
SCORED = "probability", "category"  # kinds of predictions that are a probability


@dataclass(frozen=True)
class Measured:
    """A metric of what answers; of the watching itself, where that is nobody.

    window: minutes that were looked at. note: what a reader must know.
    """

    who: Live | None
    levels: Levels
    sample: Sample
    window: int
    note: str = ""

    @property
    def key(self) -> Key:
        if self.who is None:
            return "", "", self.levels.metric
        return self.who.stream.model, self.who.slot, self.levels.metric

    @property
    def deployment(self) -> str:
        return self.who.deployment if self.who else SELF

    @property
    def status(self) -> Status:
        return thresholds.status(self.levels, self.sample)

    @property
    def judged(self) -> bool:
        """Whether it is held to something; an estimate never is."""
        return self.levels.limit is not None or self.levels.alert is not None

    @property
    def fast(self) -> bool:
        """Whether it is judged every minute."""
        return self.who is None or self.levels.metric in FAST


def measure(store: Store, workspace: Workspace, lives: Sequence[Live], end: int) -> list[Measured]:
    """Every metric of everything that answers. end: the minute that is not closed yet."""
    return [one for who in lives for one in Gauge(store, workspace, who, end).all()]


@dataclass
class Gauge:
    """What is known of one that answers, read from the tables once each."""

    store: Store
    workspace: Workspace
    who: Live
    end: int
    _labels: dict[tuple[int, int], tuple[int, Labels]] = field(default_factory=dict)

    @property
    def stream(self) -> Stream:
        return self.who.stream

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    def all(self) -> Iterator[Measured]:
        yield self.errors()
        yield self.latency()
        yield from self.outcomes()
        yield from self.drifts()

    def levels(self, metric: str) -> Levels:
        settings, model = self.settings, self.stream.model
        tables = [*settings.threshold, *settings.of(model).threshold]
        return thresholds.levels(metric, tables, self.baseline)

    @cached_property
    def record(self) -> record.VersionRecord | None:
        """None where it cannot be read: that is somebody else's to tell."""
        try:
            return record.read(self.workspace, self.stream.model, self.stream.version)
        except KtError:
            return None

    @property
    def baseline(self) -> float | None:
        """The version's accuracy before it was deployed; of a number there is none."""
        known = self.record.reference if self.record else None
        return known.accuracy if known and self.stream.kind in SCORED else None

    # Of answers

    def traffic(self, start: int, *parts: str) -> Traffic:
        return traffic.total(self.store, [self.stream.id], start, self.end, parts)[self.stream.id]

    def errors(self) -> Measured:
        levels = self.levels("error_rate")
        seen = self.traffic(self.end - levels.window, "counts")
        found = thresholds.share(seen.bad, seen.assigned)
        sample = Sample(found.n, found.value, found.lower, found.upper, seen.bad)
        return Measured(self.who, levels, sample, levels.window)

    def latency(self) -> Measured:
        levels = self.levels("latency")
        sketch = self.traffic(self.end - levels.window, LATENCY).latency
        enough = thresholds.slow_for_sure(sketch.count)
        sample = Sample(sketch.count, sketch.quantile(0.95), lower=from_above(sketch, enough))
        return Measured(self.who, levels, sample, levels.window)

    # Of outcomes

    def outcomes(self) -> Iterator[Measured]:
        kind = self.stream.kind
        yield self.labelled()
        yield self.outcome("accuracy", lambda seen: thresholds.share(seen.right, seen.n))
        if kind == "number":
            yield self.outcome("mae", mean_error)
        if kind in SCORED:
            yield self.outcome("brier", mean_error)
            yield self.calibration()
        if kind == "probability":
            yield self.outcome("auc", area)

    def calibration(self) -> Measured:
        found = self.outcome("ece", calibration_error)
        known = self.record.reference if self.record else None
        if found.sample.value is None:
            return found
        said = recalibration.decide(
            found.sample.n, found.sample.value, known.ece if known else None
        )
        due = "recalibrate it: kt calibrate" if said == "recalibrate" else ""
        return replace(found, note=due)

    def outcome(self, metric: str, of: Callable[[Labels], Sample]) -> Measured:
        levels = self.levels(metric)
        window, seen = self.labels(levels)
        return Measured(self.who, levels, of(seen), window)

    def labels(self, levels: Levels) -> tuple[int, Labels]:
        """How many minutes back, and the outcomes of predictions since then."""
        key = levels.window, levels.min_n
        if key not in self._labels:
            self._labels[key] = self._stretched(*key)
        return self._labels[key]

    def _stretched(self, window: int, least: int) -> tuple[int, Labels]:
        end = self.end - round(self.settings.monitor.mature * 60)
        seen = labels.total(self.store, [self.stream.id], end - window, end)[self.stream.id]
        if seen.n >= least:
            return window, seen
        longest = max(window, round(self.settings.monitor.longest * DAY))
        rows = labels.series(self.store, [self.stream.id], end - longest, end, ("counts",))
        start = back_to(least, [(minute, row.n) for _, minute, _, row in rows], end - longest)
        if start >= end - window:
            return window, seen
        return end - start, labels.total(self.store, [self.stream.id], start, end)[self.stream.id]

    def labelled(self) -> Measured:
        """The share of predictions whose outcome is known."""
        levels = self.levels("labelled")
        end = self.end - round(self.settings.monitor.mature * 60)
        ids, start = [self.stream.id], end - levels.window
        # predictions are kept by the hour
        start, end = start - start % HOUR, -(-end // HOUR) * HOUR
        known = labels.total(self.store, ids, start, end, ("counts",))[self.stream.id].n
        seen = traffic.total(self.store, ids, start, end, ("counts", *COUNTED))[self.stream.id]
        n = predictions(seen)
        sample = thresholds.share(min(known, n), n)
        return Measured(self.who, levels, sample, levels.window)

    # Of what is asked and predicted

    def drifts(self) -> Iterator[Measured]:
        levels = self.levels("drift")
        window, seen, note, reference = self.compared(levels)
        if self.stream.kind != "none":
            yield self.drift(levels, window, scores(reference), scores(seen), note)
        for name in sorted(reference.features or seen.features):
            own = self.levels(f"drift_{name}")
            before, now = (each.features.get(name, Sketch()) for each in (reference, seen))
            yield self.drift(own, window, list(before.bars()), list(now.bars()), note)
        if self.stream.kind in SCORED:
            yield self.estimated(seen, window)

    def drift(
        self, levels: Levels, window: int, reference: drift.Bars, current: drift.Bars, note: str
    ) -> Measured:
        n, m = (sum(count for _, count in bars) for bars in (reference, current))
        if n < levels.min_n:
            note = f"{n:,} of {levels.min_n:,} for a reference"
            return Measured(self.who, levels, Sample(0), window, note)
        before, now = drift.parts(reference, current)
        distance = drift.psi(before, now)
        if distance is None:
            return Measured(self.who, levels, Sample(0), window, note)
        chance = drift.chance(len(before), n, m)
        return Measured(self.who, levels, thresholds.drifted(m, distance, chance), window, note)

    def compared(self, levels: Levels) -> tuple[int, Traffic, str, Traffic]:
        """How many minutes back, what was seen since then, and what it is compared with."""
        reference, until, note = self.reference(levels.min_n)
        start = max(self.end - levels.window, until)
        seen = self.traffic(start, *ASKED)
        if predictions(seen) < levels.min_n:
            longest = self.end - round(self.settings.monitor.longest * DAY)
            rows = traffic.series(self.store, [self.stream.id], longest, self.end, COUNTED)
            counts = [(minute, predictions(row)) for _, minute, _, row in rows if minute >= until]
            start = min(start, back_to(levels.min_n, counts, max(longest, until)))
            seen = self.traffic(start, *ASKED)
        return self.end - start, seen, note, reference

    def reference(self, least: int) -> tuple[Traffic, int, str]:
        """What drift is measured from, the minute until which it was taken, and what it is.

        That of the record, taken as the version was evaluated, if that is of enough; else its first answers of this deployment.
        """
        known = self.record.reference if self.record else None
        if known is not None and known.n >= least and self.stream.kind in SCORED:
            features = {name: known.sketch(name) for name in known.features}
            held = Traffic(scores=known.histogram(), features=features)
            return held, 0, f"against its {known.source}"
        stream, since = self.stream, minute_of(self.who.began)
        ids = [
            each.id
            for each in streams(self.store, stream.model)
            if (each.version, each.deployment) == (stream.version, stream.deployment)
        ]
        out, until = Traffic(), since
        for _, minute, span, row in traffic.series(self.store, ids, since, since + DAY, ASKED):
            if predictions(out) >= least and minute >= until:
                break
            out.merge(row)
            until = max(until, minute + span)
        return out, until, f"against its first {predictions(out):,}"

    def estimated(self, seen: Traffic, window: int) -> Measured:
        """The accuracy that the scores promise, if they are calibrated: an estimate, never a trigger."""
        counts, sums = seen.scores.counts, seen.scores.sums
        if self.stream.kind == "probability":
            found = estimate.of_positive(counts, sums)
            value = found.accuracy if found else None
        else:
            value = estimate.of_top(counts, sums)
        levels = self.levels("estimated_accuracy")
        return Measured(self.who, levels, Sample(seen.scores.count, value), window, "an estimate")


def predictions(seen: Traffic) -> int:
    """How many, as far as they have a score or are a number; else how many answers."""
    return seen.scores.count + seen.numbers.count or seen.served


def from_above(sketch: Sketch, place: int) -> float | None:
    """The value that so many reach; None where there are fewer."""
    for value, n in reversed(list(sketch.bars())):
        place -= n
        if place <= 0:
            return value
    return None


def back_to(least: int, counts: Sequence[tuple[int, int]], earliest: int) -> int:
    """The latest minute from which on there are at least so many; `earliest` where there are not."""
    for minute, n in reversed(counts):
        least -= n
        if least <= 0:
            return max(minute, earliest)
    return earliest


def minute_of(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp()) // 60


def mean_error(seen: Labels) -> Sample:
    """A mean and its bounds."""
    n, mean = seen.error.n, seen.error.mean
    if not n:
        return Sample(0)
    half = ONE_SIDED * math.sqrt(seen.error.variance / n)
    return Sample(n, mean, mean - half, mean + half)


def calibration_error(seen: Labels) -> Sample:
    """Of the confidence in the positive, or in the likeliest. It has no bound: the least n is high."""
    bins = calibration.of_outcomes(seen.positives, seen.negatives)
    n = sum(each.n for each in bins)
    if not n:
        return Sample(0)
    ece = calibration.errors(bins).ece
    return Sample(n, ece, ece, ece)


def area(seen: Labels) -> Sample:
    positives, negatives = seen.positives.counts, seen.negatives.counts
    value = ranking.auc(positives, negatives)
    if value is None:
        return Sample(0)
    half = ONE_SIDED * ranking.error(value, sum(positives), sum(negatives))
    return Sample(sum(positives) + sum(negatives), value, value - half, value + half)


def scores(seen: Traffic) -> drift.Bars:
    """Scores or numbers as bars."""
    if seen.numbers.count:
        return list(seen.numbers.bars())
    return [((place + 0.5) / BINS, n) for place, n in enumerate(seen.scores.counts)]
