"""One model as the tables have it: traffic, outcomes and drift over time, and what the monitor measures now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from kt.monitors import measure, thresholds
from kt.monitors.check import Row
from kt.monitors.dashboard import series
from kt.monitors.dashboard.facts import (
    ACTIVE,
    TREATMENT,
    WINDOWS,
    Alert,
    Model,
    Now,
    Reliability,
    Shape,
    Span,
    Trend,
    Variant,
)
from kt.monitors.dashboard.series import Grid, Measure, Seen, While, Who
from kt.monitors.live import Live
from kt.monitors.measure import Gauge
from kt.monitors.thresholds import Levels
from kt.stats.drift import Bars
from kt.stats.latency import Sketch
from kt.store import labels, traffic
from kt.store.batch import FEATURE, LATENCY, NUMBERS, SCORES, Stream, Traffic
from kt.store.database import Store
from kt.store.streams import streams
from kt.workspace import Workspace

HOUR, DAY = 60, 1_440  # minutes
DISTRIBUTIONS = (SCORES, NUMBERS, FEATURE)

SCORE = "score"
OverTime = Mapping[Who, Sequence[While]]


@dataclass
class Recorded:
    """window: a name in WINDOWS. rows: what the monitor measures now. end: the minute that is not closed yet."""

    store: Store
    workspace: Workspace
    model: Model
    window: str
    rows: Sequence[Row]
    alerts: Sequence[Alert]
    end: int
    newest: int = 0  # the last minute with a request, once `model` was asked for
    known: dict[int, Stream] = field(init=False)

    def __post_init__(self) -> None:
        self.known = {one.id: one for one in streams(self.store, self.model.model)}
        self.rows = [
            row
            for row in self.rows
            if row.measured.who and row.measured.who.stream.model == self.model.model
        ]
        self.alerts = [one for one in self.alerts if one.model == self.model.model]

    def whole(self) -> Model:
        return replace(
            self.model,
            variants=tuple(map(self.variant, self.model.variants)),
            trends=tuple(self.trends()),
            reliability=tuple(self.reliability()),
            shapes=tuple(self.shapes()),
        )

    def variant(self, of: Variant) -> Variant:
        """With its numbers."""
        role = TREATMENT if of.variant == TREATMENT else ACTIVE
        ids = [each.stream.id for each in self.gauges if each.who.slot == role]
        hour = traffic.total(self.store, ids, self.end - HOUR, self.end, ("counts",))
        errors, latency, accuracy = (
            row.measured.sample if (row := self.row(metric, role)) else thresholds.Sample(0)
            for metric in ("error_rate", "latency", "accuracy")
        )
        return replace(
            of,
            requests=float(sum(seen.assigned for seen in hour.values())),
            error_rate=errors.value,
            latency=latency.value,
            accuracy=accuracy.value,
            labelled=accuracy.n,
        )

    @cached_property
    def gauges(self) -> list[Gauge]:
        """Of those that answer now."""
        found: dict[int, Live] = {}
        for row in self.rows:
            if row.measured.who:
                found.setdefault(row.measured.who.stream.id, row.measured.who)
        return [Gauge(self.store, self.workspace, who, self.end) for who in found.values()]

    # Over time

    def trends(self) -> Iterator[Trend]:
        _, step, _ = WINDOWS[self.window]
        yield self.trend("requests", step, self.traffic, series.requests)
        yield self.trend("error_rate", step, self.traffic, series.errors)
        yield self.trend("latency", step, self.traffic, series.latency)
        for metric, of in self.of_outcomes():
            yield self.trend(metric, DAY, self.outcomes, of)
        for metric, of in self.of_drift():
            yield self.trend(metric, DAY, self.outcomes, of)

    def of_outcomes(self) -> Iterator[tuple[str, Measure]]:
        kinds = {each.stream.kind for each in self.gauges}
        yield "accuracy", series.outcome(lambda seen: thresholds.share(seen.right, seen.n))
        if kinds & {"probability", "category"}:
            yield "estimated_accuracy", self.estimated
        if "probability" in kinds:
            yield "auc", series.outcome(measure.area)
        if kinds & {"probability", "category"}:
            yield "brier", series.outcome(measure.mean_error)
            yield "ece", series.outcome(measure.calibration_error, self.levels("ece").min_n)
        if "number" in kinds:
            yield "mae", series.outcome(measure.mean_error)

    def estimated(self, whose: Who, seen: Seen, minutes: int) -> thresholds.Sample:
        for each in self.gauges:
            if whose == series.who(each.stream) and seen.traffic.scores.count:
                return each.estimated(seen.traffic, minutes).sample
        return thresholds.Sample(0)

    def of_drift(self) -> Iterator[tuple[str, Measure]]:
        """Of the scores, then of each feature."""
        for name in self.spreads:
            references = {
                each.whose: spread(name, each.reference)
                for each in self.compared
                if name == SCORE or each.whose.role == ACTIVE
            }
            metric = metric_of(name)
            least = self.levels(metric).min_n
            yield metric, series.drifted(references, partial(spread, name), least)

    def trend(self, metric: str, over: int, seen: OverTime, of: Measure) -> Trend:
        levels = self.levels(metric) if metric != "requests" else Levels(metric)
        return Trend(
            metric,
            over,
            lines=series.lines(seen, of),
            now=tuple(
                now(row) for row in self.rows if row.measured.levels.metric == metric and shown(row)
            ),
            limit=levels.limit,
            alert=levels.alert,
            firing=tuple(Span(one.since, one.until) for one in self.alerts if one.metric == metric),
        )

    def levels(self, metric: str) -> Levels:
        """What the active version is held to."""
        return self.gauges[0].levels(metric)

    @cached_property
    def traffic(self) -> OverTime:
        back, step, _ = WINDOWS[self.window]
        grid = Grid.back(self.end, back, step)
        parts = ("counts", LATENCY)
        rows = list(traffic.series(self.store, list(self.known), grid.start, self.end, parts))
        self.newest = max(
            (min(minute + span, self.end) for _, minute, span, row in rows if row.assigned),
            default=0,
        )
        return series.whiles(grid, series.fill(grid, self.known, rows), 1)

    @cached_property
    def slots(self) -> tuple[Grid, series.Slots]:
        """Outcomes and distributions, from a day before the window on: that is how far a point looks back."""
        back, _, step = WINDOWS[self.window]
        grid = Grid.back(self.end, back, step)
        ids, start = list(self.known), grid.start - DAY
        asked = traffic.series(self.store, ids, start, self.end, DISTRIBUTIONS)
        answered = labels.series(self.store, ids, start, self.end)
        return grid, series.fill(grid, self.known, asked, answered)

    @cached_property
    def outcomes(self) -> OverTime:
        grid, slots = self.slots
        return series.whiles(grid, slots, DAY // grid.step)

    # Now

    def reliability(self) -> Iterator[Reliability]:
        """Over the whole window."""
        _, slots = self.slots
        least = self.levels("ece").min_n
        for each in self.gauges:
            if each.stream.kind in ("probability", "category"):
                whose = series.who(each.stream)
                held = slots.get(whose, {})
                seen = series.merged(held[slot] for slot in held if slot >= 0)
                yield series.reliability(whose, seen.labels, least)

    @cached_property
    def compared(self) -> list["Compared"]:
        found = []
        for each in self.gauges:
            _, seen, note, reference = each.compared(each.levels("drift"))
            found.append(Compared(series.who(each.stream), seen, note, reference))
        return found

    @cached_property
    def spreads(self) -> list[str]:
        """What can be seen to drift: the scores, and every feature."""
        scored = any(each.stream.kind != "none" for each in self.gauges)
        features = {
            name
            for each in self.compared
            for name in (*each.seen.features, *each.reference.features)
        }
        return [*([SCORE] if scored else []), *sorted(features)]

    def shapes(self) -> Iterator[Shape]:
        """Features of the active version alone: the requests of an experiment are shared out by chance."""
        for name in self.spreads:
            for each in self.compared:
                if name != SCORE and each.whose.role != ACTIVE:
                    continue
                before, after = spread(name, each.reference), spread(name, each.seen)
                if before and after:
                    row = self.row(metric_of(name), each.whose.role)
                    psi = row.measured.sample.value if row else None
                    status = row.measured.status if row else "no_data"
                    yield series.shape(name, each.whose, each.note, before, after, psi, status)

    def row(self, metric: str, role: str) -> Row | None:
        for row in self.rows:
            who = row.measured.who
            if who and who.slot == role and row.measured.levels.metric == metric:
                return row
        return None


@dataclass(frozen=True)
class Compared:
    """What a version saw of late, and what that is compared with."""

    whose: Who
    seen: Traffic
    note: str
    reference: Traffic


def spread(name: str, seen: Traffic) -> Bars:
    bars = measure.scores(seen) if name == SCORE else list(seen.features.get(name, Sketch()).bars())
    return bars if series.count(bars) else []


def metric_of(name: str) -> str:
    return "drift" if name == SCORE else f"drift_{name}"


def shown(row: Row) -> bool:
    """An empty row of what is held to nothing says nothing."""
    return row.measured.sample.value is not None or row.measured.judged


def now(row: Row) -> Now:
    one = row.measured
    assert one.who
    return Now(
        role=one.who.slot,
        version=one.who.stream.version,
        status=one.status,
        value=one.sample.value,
        n=one.sample.n,
        needed=one.levels.min_n,
        window=one.window,
        lower=one.sample.lower,
        upper=one.sample.upper,
    )
