"""How the page writes metrics, numbers and times."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Measure:
    """How a metric is written. unit: percent, ms, number or count. group: the part of the page it is in."""

    title: str
    unit: str
    meaning: str
    group: str
    below: bool = False  # it is bad when it falls


TRAFFIC, QUALITY, DRIFT, WATCHING = "Traffic", "Quality", "Drift", "Watching"
MEASURES = {
    "requests": Measure("Requests", "count", "Requests an hour.", TRAFFIC),
    "error_rate": Measure(
        "Errors", "percent", "Failed, too slow or not finite, of the requests assigned.", TRAFFIC
    ),
    "latency": Measure("Latency, p95", "ms", "95 % of answers took the model less.", TRAFFIC),
    "accuracy": Measure(
        "Accuracy", "percent", "Right, of those whose outcome is known.", QUALITY, below=True
    ),
    "estimated_accuracy": Measure(
        "Accuracy, estimated",
        "percent",
        "What the scores promise, before outcomes are known; true only while they are calibrated.",
        QUALITY,
        below=True,
    ),
    "auc": Measure(
        "AUC", "number", "How often the right one of two is ranked higher.", QUALITY, below=True
    ),
    "brier": Measure("Brier score", "number", "Mean squared error of the probabilities.", QUALITY),
    "ece": Measure("Calibration error", "number", "Mean gap to what came true (ECE).", QUALITY),
    "mae": Measure("Mean error", "number", "Mean absolute error of the numbers.", QUALITY),
    "labelled": Measure(
        "Outcomes", "percent", "Predictions whose outcome is known.", QUALITY, below=True
    ),
    "recording": Measure("Minutes without recording", "count", "", WATCHING),
    "dropped": Measure("Numbers lost", "count", "", WATCHING),
    "refused": Measure("Outcomes refused", "count", "", WATCHING),
    "drift": Measure(
        "Drift of scores", "number", "PSI of the scores against the reference.", DRIFT
    ),
}
OUTCOMES = {"right": "accuracy", "error": "the error", "outcome": "the outcome"}  # of an experiment
AXES = {  # by unit, in the words of d3
    "percent": ".3~p",
    "points": "+~r",
    "number": ".3~g",
    "ms": "~s",
    "count": "~s",
}
WORDS = {
    "ok": "healthy",
    "no_data": "too little data",
    "unknown": "nothing judged yet",
    "collecting": "still collecting",
    "treatment_better": "the treatment is better",
    "treatment_worse": "the treatment is worse",
    "no_difference": "no difference that matters",
    "shadow": "answers nobody",
    "shadow_fails": "answers nobody, and fails",
}
COUNTS = {
    "dropped": "numbers lost before they were stored",
    "duplicate": "outcomes sent twice",
    "corrected": "outcomes corrected",
    "refused_forged": "outcomes refused: not kt's id",
    "refused_unknown": "outcomes refused: unknown id",
    "refused_late": "outcomes refused: too late",
}


def measure(metric: str) -> Measure:
    """How a metric is written; `drift_` and a feature's name is that feature's drift."""
    feature = metric.removeprefix("drift_")
    if feature != metric:
        return Measure(
            f"Drift of {feature}", "number", "PSI of the feature against the reference.", DRIFT
        )
    return MEASURES.get(metric) or Measure(metric, "number", "", QUALITY)


def write(value: float | None, unit: str) -> str:
    """A number as a person reads it."""
    if value is None:
        return "–"
    match unit:
        case "percent":
            digits = 3 if value < 0.99 else 4  # 99.95 % is not 100 %
            return f"{value * 100:.{digits}g} %"
        case "points":
            return f"{value * 100:+.1f} points"
        case "ms":
            return f"{value:.3g} ms"
        case "count":
            return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2g}"
        case _:
            return f"{value:.3g}"


def shown(value: float, metric: str) -> str:
    return write(value, measure(metric).unit)


def between(lower: float | None, upper: float | None, unit: str) -> str:
    return f"{write(lower, unit)} to {write(upper, unit)}"


def seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()


def minute(at: str) -> str:
    return f"{datetime.fromisoformat(at):%-d %b %H:%M}"


def ago(since: str, until: str) -> str:
    """How long from one time to another, in its largest unit."""
    left = max(0, int(seconds(since, until)))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if left >= 2 * size or (unit == "min" and left >= size):
            return f"{left // size} {unit}"
    return f"{left} s"
