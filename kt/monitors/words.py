"""Metrics as people read them: values in their units, levels, windows."""

from kt.monitors.thresholds import RETRAINING, Levels

SHARES = ("error_rate", "labelled", "guardrail")
COUNTS = ("recording", "dropped", "refused")
OUTCOMES = ("accuracy", "auc", "brier", "ece", "mae")
HOUR, DAY = 60, 1_440  # minutes


def value(metric: str, found: float | None) -> str:
    """A value in its unit; "-" for none."""
    if found is None:
        return "-"
    if metric in SHARES:
        return f"{found * 100:.3g} %"
    if metric == "latency":
        return f"{found:.3g} ms"
    if metric.startswith(RETRAINING):
        return f"{found:.0f} in a row"
    return f"{found:.3g}" if metric in COUNTS else f"{found:.3f}"


def level(held: Levels, found: float | None) -> str:
    """A level that a metric is held to, with the side on which it is crossed; nothing for none."""
    return f"{'<' if held.higher else '>'} {value(held.metric, found)}" if found is not None else ""


def unit(metric: str) -> str:
    """What is counted."""
    if metric in OUTCOMES:
        return "outcomes"
    return "answers" if metric in ("error_rate", "latency") else "predictions"


def span(minutes: int) -> str:
    if minutes < HOUR:
        return f"{minutes} min"
    if minutes <= DAY:
        return f"{minutes / HOUR:.3g} h"
    return f"{minutes / DAY:.3g} d"
