"""One metric over one window: is it well, degraded, alerting, or is there no data to say so?

The level decides the state and the metric decides the severity. Beyond its limit a metric is degraded:
shown, and nobody is told. It is alerting where it is beyond its alert level for sure: where even the
95 % bound on the healthy side (one-sided) is. Levels are crossed strictly: 0.75 exactly is fine. With
fewer observations than the least, or a value that is no number, there is no data, which is no answer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from kt.errors import Invalid
from kt.stats.arms import ONE_SIDED, wilson

Status = Literal["ok", "degraded", "alerting", "no_data"]
Severity = Literal["warning", "critical"]
Health = Literal["ok", "warning", "critical", "unknown"]

SLOW = 0.05  # the share of answers above a p95
NAGIOS: dict[Health, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
DAY = 1_440  # minutes
RETRAINING = "retraining_"  # and a job's name: the metric of an alert that kt/jobs opens and ends


@dataclass(frozen=True)
class Levels:
    """What a metric is held to. window: minutes. failures: so many at least, or it is not alerting.

    higher: whether higher values are better. eased: the part of the alert level where an alert ends, of
    a metric whose two levels are one; else it ends in the middle between them.
    """

    metric: str
    higher: bool = False
    limit: float | None = None
    alert: float | None = None
    severity: Severity = "warning"
    window: int = DAY
    min_n: int = 200
    failures: int = 0
    eased: float = 1.0

    def worse(self, value: float, level: float | None) -> bool:
        """Whether a value is strictly on the wrong side of a level."""
        if level is None:
            return False
        return value < level if self.higher else value > level

    @property
    def clear(self) -> float | None:
        """Where an alert ends."""
        if self.alert is None or self.limit is None or self.limit == self.alert:
            return None if self.alert is None else self.alert * self.eased
        return (self.alert + self.limit) / 2


DEFAULTS = {
    levels.metric: levels
    for levels in (
        Levels("accuracy", True, 0.80, 0.75, "critical"),
        Levels("auc", True),
        Levels("brier"),
        Levels("ece", limit=0.1, min_n=1_000),
        Levels("mae"),
        Levels("error_rate", False, 0.01, 0.05, "critical", window=5, min_n=100, failures=5),
        Levels("latency", False, 100.0, 200.0, window=5, min_n=100),
        Levels("drift", False, 0.1, 0.1, min_n=500, eased=0.8),
        Levels("labelled", True, min_n=100),
        Levels("estimated_accuracy", True),
        # the watching itself: minutes that a predictor has recorded nothing, answers that were not recorded
        # and outcomes that were no one's, of the last hour
        Levels("recording", alert=5.0, min_n=1),
        Levels("dropped", alert=0.0, window=60, min_n=1),
        Levels("refused", alert=0.0, window=60, min_n=1),
    )
}
BELOW = 0.05, 0.10  # an evaluated version's limit and alert lie so far below its accuracy then


class Table(Protocol):
    """A `[[threshold]]` of kt.toml; what it does not say is None."""

    @property
    def metric(self) -> str: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def alert(self) -> float | None: ...
    @property
    def severity(self) -> Severity | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def min_n(self) -> int | None: ...


@dataclass(frozen=True)
class Sample:
    """What a window holds of a metric: the value, its one-sided bounds where they are known.

    n: observations; bad: how many of them failed, of a metric that counts failures.
    """

    n: int
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    bad: int = 0


def levels(metric: str, tables: Iterable[Table], baseline: float | None = None) -> Levels:
    """A metric's levels: its own, those that follow from `baseline`, then what each table says.

    baseline: the version's accuracy when it was evaluated. Raises Invalid where the two levels lie the
    wrong way round.
    """
    found = replace(DEFAULTS["drift" if metric.startswith("drift_") else metric], metric=metric)
    if metric == "accuracy" and baseline is not None:
        found = replace(found, limit=baseline - BELOW[0], alert=baseline - BELOW[1])
    for table in tables:
        if table.metric == metric:
            found = replace(
                found,
                limit=found.limit if table.limit is None else table.limit,
                alert=found.alert if table.alert is None else table.alert,
                severity=table.severity or found.severity,
                window=table.window or found.window,
                min_n=table.min_n or found.min_n,
            )
    if found.alert is not None and found.limit is not None:
        refuse_crossed(found)
    return found


def refuse_crossed(found: Levels) -> None:
    assert found.limit is not None
    if found.worse(found.limit, found.alert):
        side = "above" if found.higher else "below"
        raise Invalid(
            f"threshold {found.metric}: its limit is {found.limit:g} and its alert {found.alert:g}",
            where="kt.toml",
            do=f"{found.metric} is better {'high' if found.higher else 'low'}: the limit lies {side} the alert",
        )


def status(levels: Levels, sample: Sample) -> Status:
    """How a metric stands."""
    value = sample.value
    if sample.n < levels.min_n or value is None or not math.isfinite(value):
        return "no_data"
    if sure(levels, sample):
        return "alerting"
    beyond = levels.worse(value, levels.limit) or levels.worse(value, levels.alert)
    return "degraded" if beyond else "ok"


def sure(levels: Levels, sample: Sample) -> bool:
    """Whether even the bound on the healthy side is beyond the alert level."""
    bound = sample.upper if levels.higher else sample.lower
    if bound is None or not math.isfinite(bound) or sample.bad < levels.failures:
        return False
    return levels.worse(bound, levels.alert)


def cleared(levels: Levels, sample: Sample) -> bool:
    """Whether a value speaks for the end of an alert. None does not."""
    if status(levels, sample) == "no_data" or levels.clear is None:
        return False
    assert sample.value is not None
    return not levels.worse(sample.value, levels.clear)


def health(metrics: Iterable[tuple[Status, bool, Severity]]) -> Health:
    """Of metrics as (status, whether its alert is open, severity)."""
    seen = list(metrics)
    if any(firing and severity == "critical" for _, firing, severity in seen):
        return "critical"
    if any(firing or status in ("degraded", "alerting") for status, firing, _ in seen):
        return "warning"
    if all(status == "no_data" for status, _, _ in seen):
        return "unknown"
    return "ok"


def share(part: int, n: int) -> Sample:
    """A share and its Wilson bounds."""
    if n <= 0:
        return Sample(0)
    lower, upper = wilson(part, n, ONE_SIDED)
    return Sample(n, part / n, lower, upper)


def drifted(n: int, distance: float, chance: float) -> Sample:
    """A distance between distributions. chance: what it exceeds one time in 1,000 where there is none.

    Within chance it may as well be 0.
    """
    return Sample(n, distance, lower=distance if distance > chance else 0.0)


def slow_for_sure(n: int) -> int:
    """The least number out of `n` answers above a level that shows the p95 to be above it."""
    low, high = 0, n + 1
    while low < high:
        middle = (low + high) // 2
        if middle > n or wilson(middle, n, ONE_SIDED)[0] > SLOW:
            high = middle
        else:
            low = middle + 1
    return low
