"""The report on an experiment, in words and as JSON. Pure."""

import math
from dataclasses import asdict
from typing import Any

from kt.monitors.variants import Guardrail, Variant
from kt.monitors.verdict import SMALLER_IS_BETTER, Interval, Report

WORDS = {"right": "accuracy", "error": "error", "outcome": "outcome"}


def line(report: Report) -> str:
    """How an experiment stands, in one line."""
    about = report.subject
    return f"{about.name} on {about.model}: {state(report)}"


def state(report: Report, *, ended: bool = False) -> str:
    """How it stands, and the command that follows from it; how it stood, where it has ended."""
    name = report.subject.name
    match report.state:
        case "treatment_better" if report.verdict == "better":
            better = f"the treatment is better: {effect(report)}"
            return better if ended else f"{better}: kt promote {name}"
        case "treatment_worse" | "invalid" | "treatment_better":
            return against(report) if ended else f"{against(report)}: kt end {name}"
        case "no_difference":
            return f"no difference: {effect(report)}"
        case _:
            broken = f"{against(report)}; " if report.broken else ""
            return f"{broken}undecided: {missing(report)}"


def missing(report: Report) -> str:
    """What a verdict lacks, in numbers; empty where there is one."""
    match report.state:
        case "treatment_better" | "treatment_worse" | "invalid":
            return ""
        case "no_difference":
            within = difference(report, report.settings.indifference).lstrip("+")
            return f"the variants do not differ by more than {within}: {effect(report)}"
        case "expired":
            return f"it has had its {report.settings.most:g} days: {effect(report)}"
    if not report.control.outcomes and not report.treatment.outcomes:
        return "no outcomes are recorded yet"
    if report.interval and report.interval.empty:
        return f"{effect(report)} is not what earlier looks saw: the effect changes over time"
    least = report.settings.least * 24
    wait = [f"it has run {least - report.hours:.0f} of {least:g} hours"] if report.hours else []
    what = [*report.lacks, *wait] or [to_come(report)]
    return "; ".join([effect(report), *what] if report.effect else what)


def to_come(report: Report) -> str:
    if report.more is None:
        return "the variants are too alike to tell when"
    more = f"about {rounded(report.more):,} more outcomes to a verdict"
    if report.days is None:
        return f"{more}, and none came of late"
    return f"{more}, {time(report.days)} at {report.per_day:,.0f} a day"


def time(days: float) -> str:
    """In whole days, or hours where it is less than one."""
    n, unit = (math.ceil(days), "day") if days > 1 else (math.ceil(days * 24), "hour")
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


def rounded(n: float) -> int:
    """To two digits, upwards."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(n, 1))) - 1)
    return math.ceil(n / unit) * unit


def against(report: Report) -> str:
    """What speaks against a promotion, whatever else is so; empty where nothing does."""
    out = []
    if report.state == "treatment_worse":
        out.append(f"the treatment is worse: {effect(report)}")
    if report.broken:
        out.append(f"a guardrail is broken, {guardrail(report, report.broken)}")
    if report.ratio.broken:
        out.append(f"{ratio(report)}: something loses some, and what is left cannot be compared")
    return "; ".join(out)


def ratio(report: Report) -> str:
    """9.9 % of 2,003 units are the treatment's, 10.0 % were planned."""
    found = report.ratio
    total = found.control + found.treatment
    if not total:
        return "nobody was assigned yet"
    share = f"{found.treatment / total:.1%} of {total:,} {found.of} are the treatment's"
    return f"{share}, {found.expected:.1%} were planned".replace("%", " %")


def guardrail(report: Report, one: Guardrail) -> str:
    """errors: 31 of 212 requests to the treatment, 3 of 1,904 to the control."""
    return (
        f"{one.name}: {one.treatment:,} of {report.treatment.assigned:,} requests to the treatment,"
        f" {one.control:,} of {report.control.assigned:,} to the control"
    )


def effect(report: Report) -> str:
    """+1.8 pp accuracy [+0.4, +3.1]."""
    if report.effect is None or report.interval is None:
        return "nothing to compare"
    ends = report.interval if not report.interval.empty else report.effect.interval
    shown = ", ".join(difference(report, end, unit="") for end in (ends.lower, ends.upper))
    return (
        f"{difference(report, report.effect.difference)} {WORDS[report.settings.metric]} [{shown}]"
    )


def equation(report: Report) -> str:
    """v3 − v2 = +1.8 pp accuracy [+0.4, +3.1], n = 4,212 / 37,904."""
    control, treatment = report.control, report.treatment
    return (
        f"{treatment.version} − {control.version} = {effect(report)},"
        f" n = {treatment.outcomes:,} / {control.outcomes:,}"
    )


def difference(report: Report, value: float, unit: str = " pp") -> str:
    """Of shares in percentage points, of other metrics as it is."""
    share = report.settings.metric == "right"
    text = f"{value * 100:+.1f}{unit}" if share else f"{value:+.3g}"
    return text.replace("-", "−")


def summary(report: Report) -> dict[str, Any]:
    """For programs, and as evidence in an event. Keys are only ever added."""
    about, found = report.subject, report.effect
    return {
        "model": about.model,
        "experiment": about.name,
        "phase": about.phase,
        "control": variant(report.control),
        "treatment": variant(report.treatment),
        "metric": report.settings.metric,
        "smaller_is_better": report.settings.metric in SMALLER_IS_BETTER,
        "state": report.state,
        "verdict": report.verdict,
        "difference": found and found.difference,
        "standard_error": found and found.error,
        "interval": ends(report.interval),
        "interval_of_this_look": ends(found.interval if found else None),
        "log_e": found and found.log_e,
        "alpha": report.alpha,
        "missing": missing(report) or None,
        "against": against(report) or None,
        "outcomes_to_a_verdict": report.more,
        "outcomes_a_day": report.per_day,
        "days_to_a_verdict": report.days,
        "ratio": asdict(report.ratio),
        "guardrails": [asdict(one) for one in report.guardrails],
        "labelled_apart": report.labelled_apart,
    }


def variant(one: Variant) -> dict[str, Any]:
    return asdict(one) | {"labelled": one.labelled}


def ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.lower, interval.upper]
