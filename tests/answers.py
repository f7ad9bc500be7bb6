"""Our statistics under the names of the published vectors:

    python check_vectors.py DIR answers:answer

None where there is nothing of ours to ask.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any

import numpy as np

from kt.deployments.manifest import fraction
from kt.jobs.decide import decide
from kt.jobs.facts import Facts
from kt.jobs.triggers import age, alert, samples
from kt.models import calibrate
from kt.monitors import alerts, recalibration, thresholds
from kt.monitors.alerts import Seen, Watch
from kt.monitors.thresholds import DEFAULTS, Sample
from kt.stats import (
    arms,
    bandit,
    calibration,
    drift,
    estimate,
    guardrail,
    paired,
    planner,
    ratio,
    sequential,
    stratified,
)
from kt.stats.adwin import Adwin
from kt.stats.arms import Arm
from kt.stats.latency import Sketch
from kt.stats.linucb import Arm as Learning
from kt.stats.linucb import choose
from kt.stats.moments import Moments
from kt.stats.page_hinkley import PageHinkley
from kt.stats.ranking import auc

Case = dict[str, Any]
INSUFFICIENT: Case = {"status": "insufficient"}


def answer(family: str, given: Case) -> Case | None:
    asked = FAMILIES.get(family)
    return asked(given) if asked else None


def numbers(values: Sequence[Any]) -> list[float]:
    """As floats: JSON writes what is not finite as text."""
    return [float(value) for value in values]


def moments_of(values: Sequence[Any]) -> Moments:
    found = Moments()
    for value in numbers(values):
        found.add(value)
    return found


def moments_of_sums(given: Case) -> Moments:
    mean = given["sum"] / given["n"] if given["n"] else 0.0
    return Moments(given["n"], mean, max(given["sumsq"] - given["n"] * mean**2, 0.0))


def arm_of(given: Case) -> Arm:
    if given["kind"] == "binary":
        return Arm.of_share(given["sum"], given["n"])
    return Arm.of(moments_of_sums(given))


def bars_of(values: Sequence[Any]) -> list[tuple[float, int]]:
    ordered = sorted(value for value in numbers(values) if math.isfinite(value))
    return [(value, len(list(group))) for value, group in itertools.groupby(ordered)]


def moments_merge(given: Case) -> Case:
    whole = stratified.merged(moments_of(part) for part in given["parts"])
    values = [value for part in given["parts"] for value in numbers(part)]
    return {
        "n": whole.n,
        "mean": whole.mean,
        "m2": whole.m2,
        "n_nonfinite": sum(not math.isfinite(value) for value in values),
    }


def latency_quantiles(given: Case) -> Case:
    """Of the parts merged: every third value is a part. Durations below zero there are none."""
    n, normal = given["n"], NormalDist()
    values = [
        round(math.exp(given["mu"] + given["sigma"] * normal.inv_cdf((i + 0.5) / n)), 3)
        for i in range(n)
    ] + numbers(given["extra"])
    whole = Sketch()
    for part in range(3):
        held = Sketch()
        for value in values[part::3]:
            held.add(value if value >= 0 else math.nan)
        whole.merge(Sketch.load(held.dump()))
    found = [whole.quantile(q) for q in given["quantiles"]]
    return {"quantiles": found, "exact": found, "count": whole.count, "sum": whole.total}


def compare_binary(given: Case) -> Case:
    a, b = ((given[name]["successes"], given[name]["n"]) for name in "ab")
    found = arms.shares(a, b, given["alpha"])
    if found is None:
        return INSUFFICIENT
    z = NormalDist().inv_cdf(1 - given["alpha"] / 2)
    return {
        "mean_a": a[0] / a[1],
        "mean_b": b[0] / b[1],
        "difference": found.difference,
        "z": found.statistic,
        "p_value": found.p_value,
        "newcombe": list(found.interval or ()),
        "wilson_a": list(arms.wilson(*a, z)),
        "wilson_b": list(arms.wilson(*b, z)),
    }


def compare_continuous(given: Case) -> Case:
    a, b = (Arm.of(Moments(**given[name])) for name in "ab")
    found = arms.means(a, b, given["alpha"])
    if found is None:
        return INSUFFICIENT
    return {
        "difference": found.difference,
        "t": found.statistic,
        "df": found.dof,
        "p_value": found.p_value,
        "ci95": list(found.interval or (None, None)),
    }


def compare_relative(given: Case) -> Case:
    found = arms.uplift(arm_of(given["a"]), arm_of(given["b"]))
    if found is None or found.interval is None:
        return INSUFFICIENT
    return {
        "uplift": found.difference,
        "ci95": list(found.interval),
        "p_value": found.p_value,
    }


def always_valid_difference(given: Case) -> Case:
    a, b = arm_of(given["a"]), arm_of(given["b"])
    error = math.sqrt(a.error2 + b.error2)
    found = sequential.difference(
        b.mean - a.mean, error, a.n + b.n, given["alpha"], given["n_star"]
    )
    if found is None or not a.n or not b.n:
        return INSUFFICIENT
    return {
        "difference": found.difference,
        "ci": [found.lower, found.upper],
        "p_value": found.p_value,
        "standard_error": found.error,
    }


def normal_mixture(given: Case) -> Case:
    side = {"one_sided": given["one_sided"]}
    rho = sequential.scale(given["v_opt"], given["alpha"], **side)
    bound = sequential.bound(given["v"], rho, given["alpha"], **side)
    return {
        "log_e": sequential.log_mixture(given["s"], given["v"], rho, **side),
        "bound": bound if given["v"] else None,
    }


def stratified_difference(given: Case) -> Case:
    arms_of = [tuple(moments_of_sums(phase[name]) for name in "ab") for phase in given["phases"]]
    if "buckets" in given["phases"][0]["a"]:
        found = stratified.clustered(
            [(buckets_of(phase["a"]), buckets_of(phase["b"])) for phase in given["phases"]]
        )
    else:
        found = stratified.independent(arms_of)
    if found is None:
        return INSUFFICIENT
    return {"difference": found.difference, "standard_error": found.error}


def buckets_of(given: Case) -> dict[int, Moments]:
    """Of answers that were right or wrong."""
    return {
        place: Moments(n, total / n, max(total * (1 - total / n), 0.0))
        for place, (n, total) in enumerate(given["buckets"])
        if n
    }


def guardrail_evalue(given: Case) -> Case:
    found = guardrail.log_e(given["bad_a"], given["bad_b"], given["share_b"], given["k"])
    return {"log_e": found, "abort": found >= math.log(1 / given["alpha"])}


def multinomial_evalue(given: Case) -> Case:
    found = ratio.log_e(given["counts"], given["shares"], given["k"])
    return {"log_e": found, "p_value": min(1.0, math.exp(-found))}


def srm_chi2(given: Case) -> Case:
    p, flag = ratio.chi_square(given["counts"], given["shares"])
    return {"p_value": p, "flag": flag}


def sample_size(given: Case) -> Case:
    asked = {key: given[key] for key in ("alpha", "power", "ratio")}
    if given["kind"] == "binary":
        found = planner.of_shares(given["p_a"], given["p_b"], **asked)
    else:
        found = planner.of_means(given["difference"], given["sd"], **asked)
    return {"status": "invalid"} if found is None else {"n_a": found[0], "n_b": found[1]}


def thompson(given: Case) -> Case:
    counts = [(arm["successes"], arm["failures"]) for arm in given["arms"]]
    p_best = bandit.best(counts, lowest=given["lower_is_better"])
    return {"p_best": p_best, "allocation": bandit.allocation(p_best, given["floor"])}


def linucb(given: Case) -> Case:
    learned = []
    for history in given["history"]:
        arm = Learning(len(given["x"]), given["lambda"])
        for seen in history:
            arm.learn(seen["x"], seen["reward"])
        learned.append(arm)
    scores = [arm.score(given["x"], given["alpha"]) for arm in learned]
    return {
        "theta": [arm.theta for arm in learned],
        "scores": scores,
        "arm": choose(scores),
    }


def assignment_sha256(given: Case) -> Case:
    u = fraction(given["salt"], given["unit"])
    return {"u": u, "arm": "candidate" if u < given["candidate_share"] else "control"}


def model_metrics(given: Case) -> Case:
    name = "scores" if given["kind"] == "binary" else "predictions"
    pairs = list(zip(numbers(given[name]), numbers(given["labels"]), strict=True))
    held = [pair for pair in pairs if math.isfinite(pair[0])]
    n, failed = len(held), len(pairs) - len(held)
    found: Case = {"n": n, "failed": failed, "error_rate": failed / len(pairs) if pairs else None}
    if given["kind"] != "binary":
        errors = moments_of([abs(p - y) for p, y in held])
        within = sum(abs(p - y) <= given["tolerance"] for p, y in held)
        return found | {
            "mae": errors.mean if n else None,
            "within_tolerance": within / n if n else None,
        }
    right = sum((p >= given["threshold"]) == (y == 1) for p, y in held)
    scores = sorted({p for p, _ in held})
    sides = [[sum(p == at and y == label for p, y in held) for at in scores] for label in (1, 0)]
    return found | {"accuracy": right / n if n else None, "auc": auc(*sides)}


def auc_histogram(given: Case) -> Case:
    return {"auc": auc(given["positives"], given["negatives"])}


def brier(given: Case) -> Case:
    p, y = given["probabilities"], given["labels"]
    if isinstance(p[0], list):
        pairs = [(v, k == at) for row, at in zip(p, y, strict=True) for k, v in enumerate(row)]
    else:
        pairs = list(zip(p, y, strict=True))
    sums = (
        math.fsum(value * value for value, _ in pairs),
        math.fsum(value for value, was in pairs if was),
        sum(was for _, was in pairs),
    )
    return {"brier": calibration.brier(len(y), *sums)}


def confidence_of(given: Case) -> tuple[list[float], list[bool]]:
    """Confidence and whether it was right."""
    if given["confidence"] == "positive":
        return given["probabilities"], [label == 1 for label in given["labels"]]
    tops = [max(row) for row in given["probabilities"]]
    rows = zip(given["probabilities"], tops, given["labels"], strict=True)
    return tops, [row.index(top) == label for row, top, label in rows]


def calibration_error(given: Case) -> Case:
    return calibration.errors(
        calibration.equal_width(*confidence_of(given), given["bins"])
    )._asdict()


def adaptive_ece(given: Case) -> Case:
    bins = calibration.equal_mass(*confidence_of(given), given["bins"])
    return {"ece": calibration.errors(bins).ece}


def psi(given: Case) -> Case:
    reference, current = given["reference"], given["current"]
    found = drift.psi(reference, current)
    if found is None:
        return INSUFFICIENT
    return {
        "psi": found,
        "null999": drift.chance(len(reference), sum(reference), sum(current)),
    }


def ks(given: Case) -> Case:
    if "reference" not in given:
        sides = given["reference_counts"], given["current_counts"]
        bars = [list(enumerate(map(int, counts))) for counts in sides]
        return {"statistic": drift.kolmogorov_smirnov(*bars)}
    reference, current = bars_of(given["reference"]), bars_of(given["current"])
    statistic = drift.kolmogorov_smirnov(reference, current)
    if statistic is None:
        return INSUFFICIENT
    n, m = (sum(count for _, count in bars) for bars in (reference, current))
    return {"statistic": statistic, "p_value": ks_p_value(statistic, n, m)}


def ks_p_value(statistic: float, n: int, m: int) -> float:
    """Exact: the share of the paths of n steps right and m steps up that leave the band."""
    row: list[float] = []
    for i in range(n + 1):
        row = row or [1.0] + [0.0] * m
        for j in range(m + 1):
            ways = (row[j] * i + (row[j - 1] * j if j else 0.0)) / (i + j) if i + j else 1.0
            row[j] = 0.0 if abs(i / n - j / m) > statistic - 1e-9 else ways
    return 1 - row[m]


def wasserstein(given: Case) -> Case:
    if "centres" in given:
        sides = (given["reference_counts"], given["current_counts"])
        reference, current = (list(zip(given["centres"], side, strict=True)) for side in sides)
    else:
        reference, current = bars_of(given["reference"]), bars_of(given["current"])
    found = drift.wasserstein(reference, current)
    if found is None:
        return INSUFFICIENT
    return {"distance": found, "normed": found / drift.spread(reference)}


def js_distance(given: Case) -> Case:
    return {"distance": drift.jensen_shannon(given["reference"], given["current"])}


def page_hinkley(given: Case) -> Case:
    watch = PageHinkley(
        given["threshold"], given["min_instances"], given["delta"], given["alpha"], given["mode"]
    )
    found = [place for place, value in enumerate(given["stream"]) if watch.add(float(value))]
    return {"first_detection": found[0] if found else None, "detections": found}


def adwin(given: Case) -> Case:
    watch, change = Adwin(given["delta"]), given["change_at"]
    found = [place for place, value in enumerate(given["stream"]) if watch.add(float(value))]
    return {
        "detected": change is not None and any(place >= change for place in found),
        "false_alarms": sum(change is None or place < change for place in found),
    }


def cbpe(given: Case) -> Case:
    bars = bars_of(given["probabilities"])
    found = estimate.of_positive(
        [n for _, n in bars], [value * n for value, n in bars], given["threshold"]
    )
    return vars_of(found) if found else INSUFFICIENT


def vars_of(found: estimate.Estimate) -> Case:
    return {name: getattr(found, name) for name in found.__slots__}


def platt(given: Case) -> Case:
    found = calibrate.platt(np.array(given["scores"]), np.array(given["labels"]))
    if found is None:
        return INSUFFICIENT
    return {"outputs": found.of(np.array(given["query"])).tolist(), "a": found.a, "b": found.b}


def isotonic(given: Case) -> Case:
    """The blocks as levels with lines between them, which scikit-learn draws; kt draws one line."""
    blocks = calibrate.pooled(np.array(given["scores"]), np.array(given["labels"]))
    ends = [end for block in blocks for end in (block.lowest, block.highest)]
    values = np.repeat([block.value for block in blocks], 2)
    return {"outputs": np.interp(given["query"], ends, values).tolist()}


def temperature(given: Case) -> Case:
    logits, labels = np.array(given["logits"]), np.array(given["labels"])
    found = calibrate.temperature(logits, labels)
    p = found.apply(np.exp(logits - logits.max(1, keepdims=True)))
    chosen = p[np.arange(len(labels)), labels]
    return {"temperature": found.temperature, "nll": float(-np.log(chosen).mean())}


def metric_state(given: Case) -> Case:
    levels = DEFAULTS[given["metric"]]
    seen = sample_of(given["metric"], given["window"])
    status = thresholds.status(levels, seen)
    return {"status": status, "estimate": None if status == "no_data" else seen.value}


def sample_of(metric: str, window: Case) -> Sample:
    """What a window holds of a metric."""
    n = window["n"]
    match metric:
        case "accuracy":
            return thresholds.share(window["good"], n)
        case "error_rate":
            found = thresholds.share(window["bad"], n)
            return Sample(n, found.value, found.lower, found.upper, window["bad"])
        case "latency":
            sure = window["over_alert"] >= thresholds.slow_for_sure(n)
            return Sample(n, window["p95"], lower=window["p95"] if sure else None)
        case _:
            return thresholds.drifted(n, window["psi"], window["null999"])


def alert_machine(given: Case) -> Case:
    watch: Watch | None = None
    statuses, events = [], []
    for each in given["observations"]:
        levels, value = DEFAULTS[each["metric"]], each["estimate"]
        cleared = value is not None and not levels.worse(value, levels.clear)
        seen = Seen(each["t"], each["deployment"], each["status"], cleared)
        watch, said = alerts.step(
            watch, seen, given["interval"], fire=given["n_fire"], clear=given["n_clear"]
        )
        statuses.append(watch.phase)
        events.append(list(said))
    return {"statuses": statuses, "events": events}


def health(given: Case) -> Case:
    found = thresholds.health(
        (one["status"], one["alert"] == "firing", DEFAULTS[metric].severity)
        for metric, one in given["metrics"].items()
    )
    return {"health": found, "exit_code": thresholds.NAGIOS[found]}


def recalibration_decision(given: Case) -> Case:
    found = recalibration.decide(given["n"], given["ece"], given["baseline_ece"])
    return {"decision": found}


def promotion_gate(given: Case) -> Case:
    found = paired.compare(given["n"], given["new_only_right"], given["old_only_right"])
    if found is None:
        return INSUFFICIENT
    return {"accept": found.accept, "difference": found.difference, "lower95": found.lower}


def retrain_decision(given: Case) -> Case:
    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    facts = Facts(
        now=datetime.fromtimestamp(given["now"], UTC),
        last_success=at(given["last_success_at"]),
        last_attempt=at(given["last_attempt_at"]),
        failures=given["failures"],
        samples=given["new_samples"],
        alerts=("accuracy",) if given["quality_critical"] else (),
        running="somebody" if given["running"] else "",
        held="somebody" if given["held"] else "",
    )
    usual = {"time": age, "data": samples, "health": alert}
    asked = [(name, trigger, trigger.Settings()) for name, trigger in usual.items()]
    found = decide(facts, asked, force=given["force"])
    return {"should": found.yes, "reasons": [*found.reasons], "blocked": [*found.blocked]}


FAMILIES: dict[str, Callable[[Case], Case]] = {
    ask.__name__: ask
    for ask in (
        moments_merge,
        latency_quantiles,
        compare_binary,
        compare_continuous,
        compare_relative,
        always_valid_difference,
        normal_mixture,
        stratified_difference,
        guardrail_evalue,
        multinomial_evalue,
        srm_chi2,
        sample_size,
        thompson,
        linucb,
        assignment_sha256,
        model_metrics,
        auc_histogram,
        brier,
        calibration_error,
        adaptive_ece,
        psi,
        ks,
        wasserstein,
        js_distance,
        page_hinkley,
        adwin,
        cbpe,
        platt,
        isotonic,
        temperature,
        metric_state,
        alert_machine,
        health,
        recalibration_decision,
        promotion_gate,
        retrain_decision,
    )
}
