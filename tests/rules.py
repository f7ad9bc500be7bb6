"""Our rules as the published judges call them:

python judge_sequential.py --decide rules:decide
python judge_monitors.py srm --rule rules:srm
"""

from collections.abc import Sequence
from typing import Any

from answers import buckets_of, moments_of_sums, sample_of

from kt.monitors import alerts, thresholds
from kt.monitors.alerts import Seen
from kt.monitors.thresholds import DEFAULTS
from kt.stats import drift as drifts
from kt.stats import effect, ratio, stratified
from kt.stats.effect import Effect
from kt.stats.sequential import N_STAR
from kt.stats.stratified import Buckets


def decide(a: dict[str, Any], b: dict[str, Any], alpha: float = 0.05) -> str:
    """a or b, whichever has the higher mean for sure, else continue."""
    binary = a["kind"] == "binary"
    phases = list(zip(a["phases"], b["phases"], strict=True))
    if "buckets" in a:
        units = [(buckets_of(left), buckets_of(right)) for left, right in phases]
        found = of_units(units, binary=binary, alpha=alpha)
    else:
        arms = [(moments_of_sums(left), moments_of_sums(right)) for left, right in phases]
        whole = [stratified.merged(pair[side] for pair in arms) for side in (0, 1)]
        difference = stratified.independent(arms)
        found = effect.judge(difference, whole[0], whole[1], binary, alpha, N_STAR)
    return {"control": "a", "treatment": "b", None: "continue"}[found.higher]


def of_units(
    phases: Sequence[tuple[Buckets, Buckets]], *, binary: bool, alpha: float = 0.05
) -> Effect:
    """Of (control, treatment) in phases of constant traffic, by buckets of units."""
    a, b = (stratified.merged(m for pair in phases for m in pair[side].values()) for side in (0, 1))
    return effect.judge(stratified.clustered(phases), a, b, binary, alpha, N_STAR)


def alert(state: dict[str, Any] | None, seen: dict[str, Any]) -> dict[str, Any]:
    metric = seen["metric"]
    levels, found = DEFAULTS[metric], sample_of(metric, seen)
    interval = 60 if metric == "error_rate" else 900
    evaluation = Seen(
        seen["t"], "d1", thresholds.status(levels, found), thresholds.cleared(levels, found)
    )
    watch, _ = alerts.step(state and state["watch"], evaluation, interval)
    return {"status": watch.phase, "watch": watch}


def drift(reference: Sequence[int], current: Sequence[int]) -> bool:
    reference, current = list(map(int, reference)), list(map(int, current))
    found = drifts.psi(reference, current)
    if found is None:
        return False
    chance = drifts.chance(len(reference), sum(reference), sum(current))
    return found > max(0.1, chance)


def srm(counts: Sequence[int], shares: Sequence[float]) -> bool:
    return ratio.mismatch(counts, shares)
