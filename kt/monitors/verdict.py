"""What an experiment's numbers say: an effect, its interval, a verdict. Pure.

Variants are compared within phases of constant traffic, by buckets of units: the world changes while
shares do, and the outcomes of one unit go together. The interval holds whenever one looks: whoever looks
each minute and stops as soon as it excludes 0 is wrong in a share alpha of experiments without an effect.

    collecting          the interval still holds 0 and more, or too little is known for one
    treatment_better    it lies on the better side of 0
    treatment_worse     on the other
    no_difference       within the indifference around 0
    invalid             the variants did not get the units that their shares promise
    expired             no verdict in the time it has
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import and_
from typing import Literal, Protocol

from kt.monitors import variants
from kt.monitors.variants import Guardrail, Ratio, Stretch, Variant
from kt.stats import effect as effects
from kt.stats import sequential, stratified
from kt.stats.moments import Moments

State = Literal[
    "collecting", "treatment_better", "treatment_worse", "no_difference", "invalid", "expired"
]
Verdict = Literal["better", "worse", "undecided"]
SMALLER_IS_BETTER = {"error"}

FARTHEST = 1e4  # times the outcomes there are: no use in telling when


class Rules(Protocol):
    """[experiment] of kt.toml: what the fields mean stands in kt/config.py."""

    @property
    def metric(self) -> str: ...
    @property
    def alpha(self) -> float: ...
    @property
    def least(self) -> float: ...
    @property
    def most(self) -> float: ...
    @property
    def indifference(self) -> float: ...
    @property
    def reweight(self) -> float: ...


@dataclass(frozen=True)
class Subject:
    """The experiment that is judged. until: when it ended; now while it runs."""

    model: str
    name: str
    control: str  # versions
    treatment: str
    phase: int
    begin: datetime
    until: datetime
    treatments: int = 1


@dataclass(frozen=True)
class Interval:
    """Of the difference of means, treatment minus control."""

    lower: float
    upper: float

    def __and__(self, other: "Interval") -> "Interval":
        return Interval(max(self.lower, other.lower), min(self.upper, other.upper))

    @property
    def empty(self) -> bool:
        return self.lower > self.upper


@dataclass(frozen=True)
class Effect:
    """The difference of means, treatment minus control. error: its standard error. n: outcomes it rests
    on, as many as there would be if they did not go together. log_e: of the evidence that it is not 0."""

    difference: float
    error: float
    n: float
    interval: Interval
    log_e: float


@dataclass(frozen=True)
class Report:
    """interval: what this look and the earlier ones leave. lacks: of outcomes, before an interval means
    anything; hours: to go before there is a verdict. more: outcomes to one, if the effect stays as it is;
    None where that is too far to tell. per_day: outcomes of late. labelled_apart: whether one variant
    has outcomes for more of its answers.
    """

    subject: Subject
    settings: Rules
    alpha: float
    state: State
    control: Variant
    treatment: Variant
    effect: Effect | None
    interval: Interval | None
    ratio: Ratio
    guardrails: tuple[Guardrail, ...]
    lacks: tuple[str, ...]
    hours: float
    more: float | None
    per_day: float
    labelled_apart: bool

    @property
    def verdict(self) -> Verdict:
        if self.state == "treatment_worse":
            return "worse"
        sound = self.state == "treatment_better" and self.broken is None
        return "better" if sound else "undecided"

    @property
    def broken(self) -> Guardrail | None:
        """The guardrail that is broken, if one is."""
        return next((one for one in self.guardrails if one.broken), None)

    @property
    def days(self) -> float | None:
        """To a verdict, at the rate of late."""
        return self.more / self.per_day if self.more is not None and self.per_day else None


def judge(
    subject: Subject,
    stretches: Sequence[Stretch],
    before: Sequence[Interval],
    settings: Rules,
    per_day: float,
) -> Report:
    """The report on what was recorded. before: what earlier looks found."""
    alpha = settings.alpha / subject.treatments
    control = variants.variant(subject.control, [one.control for one in stretches])
    treatment = variants.variant(subject.treatment, [one.treatment for one in stretches])
    ratio = variants.sample_ratio(stretches)
    effect, lacks = measured(stretches, alpha)
    interval = left(effect, before)
    lasted = (subject.until - subject.begin) / timedelta(days=1)
    hours = max(0.0, settings.least - lasted) * 24
    times = times_more(effect, settings.indifference, alpha) if effect else None
    return Report(
        subject=subject,
        settings=settings,
        alpha=alpha,
        state=decided(
            None if lacks or hours else interval, ratio, settings, over=lasted >= settings.most
        ),
        control=control,
        treatment=treatment,
        effect=effect,
        interval=interval,
        ratio=ratio,
        guardrails=variants.guardrails(stretches),
        lacks=lacks,
        hours=hours,
        more=None if times is None else (times - 1) * (control.outcomes + treatment.outcomes),
        per_day=per_day,
        labelled_apart=variants.labelled_apart(control, treatment),
    )


def measured(stretches: Sequence[Stretch], alpha: float) -> tuple[Effect | None, tuple[str, ...]]:
    """The effect, None before there are outcomes of both variants that vary; and what it lacks to be judged."""
    pairs = [(one.control.outcomes, one.treatment.outcomes) for one in stretches]
    control, treatment = (
        stratified.merged(moments for pair in pairs for moments in pair[side].values())
        for side in (0, 1)
    )
    binary = is_binary(control) and is_binary(treatment)
    found = stratified.clustered(pairs)
    judged = effects.judge(found, control, treatment, binary, alpha, sequential.N_STAR)
    seen = judged.evidence
    if found is None or seen is None:
        return None, judged.missing
    interval = Interval(seen.lower, seen.upper)
    return Effect(found.difference, found.error, found.n, interval, seen.log_e), judged.missing


def left(effect: Effect | None, before: Sequence[Interval]) -> Interval | None:
    """What no look has excluded: if the effect is one and the same, all of them hold it."""
    found = [effect.interval, *before] if effect else before
    return reduce(and_, found) if found else None


def decided(interval: Interval | None, ratio: Ratio, settings: Rules, *, over: bool) -> State:
    """interval: None where it is too early for a verdict. over: whether its time is."""
    if ratio.broken:
        return "invalid"
    if interval and not interval.empty:
        if interval.lower > 0 or interval.upper < 0:
            higher_is_better = settings.metric not in SMALLER_IS_BETTER
            better = (interval.lower > 0) == higher_is_better
            return "treatment_better" if better else "treatment_worse"
        if max(-interval.lower, interval.upper) <= settings.indifference:
            return "no_difference"
    return "expired" if over else "collecting"


def is_binary(values: Moments) -> bool:
    """Whether all are 0 or 1, which their moments give away."""
    return math.isclose(
        values.m2, values.n * values.mean * (1 - values.mean), rel_tol=1e-9, abs_tol=1e-9
    )


def times_more(effect: Effect, indifference: float, alpha: float) -> float | None:
    """How many times the outcomes there are until the interval excludes 0, or lies within the
    indifference, if the difference stays as it is; None where that is too far to tell."""
    wanted = max(abs(effect.difference), indifference - abs(effect.difference))

    def half(times: float) -> float:
        found = sequential.difference(0.0, effect.error / math.sqrt(times), effect.n * times, alpha)
        return found.upper if found else math.inf

    low, high = 1.0, FARTHEST
    if half(high) > wanted:
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if half(middle) <= wanted else (middle, high)
    return high
