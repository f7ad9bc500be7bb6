"""What the two variants of an experiment got and did, and whether that was fair and safe. Pure.

A guardrail is broken where the treatment has more errors, or more slow answers, than its share explains:
of all bad events each falls on it with the probability of its share if the variants are equal. A sample
ratio is broken where the variants did not get the units that their shares promise: something loses some,
and what is left cannot be compared. Both tests hold whenever one looks (kt/stats).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kt.stats import arms, guardrail, ratio
from kt.stats.moments import Moments
from kt.stats.stratified import merged

REQUESTS = 10  # to the treatment, before a guardrail may break
BREAKS = math.log(20)  # log e-value of a guardrail
MISMATCH = math.log(ratio.LOOKED)  # of a sample ratio
BY_CHANCE = 0.001  # labelled shares differ where chance alone would do so less often
APART = 0.02  # and by this much at least


@dataclass(frozen=True)
class Side:
    """One variant in one phase.

    assigned: requests. bad: those that failed, were not finite or overran their time. slow: answers
    over the limit; spells: minutes with any, each split between the variants as its slow answers are.
    units: distinct ones, or the same sample of them in both variants. answered: requests that
    got an answer. outcomes: the metric, by bucket of units.
    """

    assigned: int = 0
    bad: int = 0
    slow: int = 0
    spells: float = 0.0
    units: int = 0
    answered: int = 0
    outcomes: Mapping[int, Moments] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretch:
    """Both variants in one phase. share: of the treatment, in (0, 1)."""

    phase: int
    share: float
    control: Side
    treatment: Side


@dataclass(frozen=True)
class Variant:
    """One of them over all phases. mean: of the metric over the outcomes."""

    version: str
    assigned: int
    units: int
    answered: int
    outcomes: int
    mean: float | None

    @property
    def labelled(self) -> float | None:
        """The share of its answers with an outcome; None where they have several each."""
        return self.outcomes / self.answered if self.outcomes <= self.answered > 0 else None


@dataclass(frozen=True)
class Guardrail:
    """name: errors | slow answers, counted in control and treatment. log_e: of the evidence that the
    treatment has too many."""

    name: str
    control: int
    treatment: int
    log_e: float
    broken: bool


@dataclass(frozen=True)
class Ratio:
    """of: what is counted in control and treatment, units or requests. expected: share of the treatment."""

    of: str
    control: int
    treatment: int
    expected: float
    log_e: float
    broken: bool


def variant(version: str, sides: Sequence[Side]) -> Variant:
    all_of = merged(bucket for side in sides for bucket in side.outcomes.values())
    return Variant(
        version=version,
        assigned=sum(side.assigned for side in sides),
        units=sum(side.units for side in sides),
        answered=sum(side.answered for side in sides),
        outcomes=all_of.n,
        mean=all_of.mean if all_of.n else None,
    )


def guardrails(stretches: Sequence[Stretch]) -> tuple[Guardrail, ...]:
    """Errors count one by one: a treatment's failure is told from the request's own (the control would
    fail too). Slow answers come in spells, which say nothing of a version: a minute counts once.
    """
    return (
        guarded("errors", stretches, lambda side: side.bad, lambda side: side.bad),
        guarded("slow answers", stretches, lambda side: side.slow, lambda side: side.spells),
    )


def guarded(
    name: str,
    stretches: Sequence[Stretch],
    shown: Callable[[Side], int],
    counted: Callable[[Side], float],
) -> Guardrail:
    """The evidence of phases is multiplied: each begins anew."""
    log_e = math.fsum(
        guardrail.log_e(counted(one.control), counted(one.treatment), got(one)) for one in stretches
    )
    enough = sum(one.treatment.assigned for one in stretches) >= REQUESTS
    return Guardrail(
        name=name,
        control=sum(shown(one.control) for one in stretches),
        treatment=sum(shown(one.treatment) for one in stretches),
        log_e=log_e,
        broken=enough and log_e >= BREAKS,
    )


def got(stretch: Stretch) -> float:
    """The share of the requests that were the treatment's: more is expected of it where its units ask
    more often; not less, by chance or since it was taken out, where they ask less."""
    total = stretch.control.assigned + stretch.treatment.assigned
    return max(stretch.share, stretch.treatment.assigned / total) if total else stretch.share


def sample_ratio(stretches: Sequence[Stretch]) -> Ratio:
    """Of distinct units; of requests where none names a unit, since those of one unit go together.

    The evidence of phases is averaged: a unit that returns in the next one is the same unit.
    """
    named = any(one.control.units or one.treatment.units for one in stretches)

    def counts(one: Stretch) -> tuple[int, int]:
        pair = one.control, one.treatment
        control, treatment = (side.units if named else side.assigned for side in pair)
        return control, treatment

    total = [sum(column) for column in zip(*map(counts, stretches), strict=True)] or [0, 0]
    found = [ratio.log_e(counts(one), (1 - one.share, one.share)) for one in stretches]
    expected = sum(sum(counts(one)) * one.share for one in stretches)
    log_e = log_mean(found)
    return Ratio(
        of="units" if named else "requests",
        control=total[0],
        treatment=total[1],
        expected=expected / sum(total) if sum(total) else stretches[-1].share if stretches else 0,
        log_e=log_e,
        broken=log_e >= MISMATCH,
    )


def log_mean(logs: Sequence[float]) -> float:
    """ln of the mean of e^x; 0 of none."""
    if not logs:
        return 0.0
    top = max(logs)
    return top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))


def labelled_apart(control: Variant, treatment: Variant) -> bool:
    """Whether outcomes came for another share of one variant's answers than of the other's.

    Not told where answers hold several predictions, each with an outcome of its own.
    """
    if control.labelled is None or treatment.labelled is None:
        return False
    found = arms.shares(
        (control.outcomes, control.answered), (treatment.outcomes, treatment.answered)
    )
    if found is None or found.p_value is None:
        return False
    return abs(found.difference) >= APART and found.p_value < BY_CHANCE
