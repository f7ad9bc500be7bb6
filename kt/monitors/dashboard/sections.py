"""The parts of the page, as plain values for the template: a section for each model, and its groups.

A group without anything to show says why, and what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kt.monitors.dashboard.facts import TREATMENT, Dashboard, Mark, Model, Shadow, Trial, Variant
from kt.monitors.dashboard.figures import Chart, effect, reliability, shape, trend
from kt.monitors.dashboard.wording import DRIFT, QUALITY, TRAFFIC, measure, minute, write


@dataclass(frozen=True, slots=True)
class Empty:
    what: str
    commands: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an experiment stands."""

    status: str
    sentences: Sequence[str]
    numbers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that stands beside a verdict."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    title: str
    charts: Sequence[Chart] = ()
    verdict: Verdict | None = None
    table: Table | None = None
    empty: Empty | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A variant as its card shows it. share: of the traffic, 0 to 100."""

    role: str
    variant: str
    version: str
    share: float
    traffic: str
    since: str
    labels: Sequence[str]
    numbers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A model's part of the page. both: whether a treatment is drawn."""

    name: str
    variants: Sequence[Card]
    groups: Sequence[Group]
    trial: Trial | None
    drawn: bool
    both: bool


def section(of: Dashboard, model: Model, place: int) -> Section:
    key = f"m{place}"
    marks = [mark for mark in of.marks if mark.model == model.model]
    groups = [
        experiment(of, model, marks, key),
        *(trends(of, model, marks, key, title) for title in (TRAFFIC, QUALITY, DRIFT)),
    ]
    lines = [line for trend in model.trends for line in trend.lines]
    return Section(
        name=model.model,
        variants=[card(one) for one in model.variants],
        groups=groups,
        trial=model.trial,
        drawn=any(group.charts for group in groups),
        both=any(line.role == TREATMENT for line in lines),
    )


def card(of: Variant) -> Card:
    numbers = [
        ("Requests an hour", write(of.requests, "count")),
        ("Errors", write(of.error_rate, "percent")),
        ("Latency, p95", write(of.latency, "ms")),
        ("Accuracy", write(of.accuracy, "percent")),
        ("Outcomes", f"{of.labelled:,}"),
    ]
    return Card(
        role=TREATMENT if of.variant == TREATMENT else "active",
        variant=of.variant,
        version=of.version,
        share=of.traffic * 100,
        traffic=write(of.traffic, "percent"),
        since=of.since,
        labels=of.labels,
        numbers=numbers,
    )


def experiment(of: Dashboard, model: Model, marks: Sequence[Mark], key: str) -> Group:
    if model.shadow:
        return shadow(model.shadow, f"{key}-shadow")
    trial = model.trial
    if trial is None:
        start = f"kt deploy FILE --model {model.model} --traffic 10 --ab-test NAME"
        nothing = Empty("None runs. Compare a version with the active one:", [start])
        return Group(f"{key}-experiment", "Experiment", empty=nothing)
    looks = [look for look in trial.looks if of.since <= look.at <= of.at]
    checks = [check for check in trial.checks if check not in trial.sentence]
    verdict = Verdict(trial.verdict, [trial.sentence, *checks], numbers_of_trial(trial))
    title = named("Experiment", trial.experiment, trial.ended)
    if not looks:
        nothing = Empty(
            "Nobody has looked at it. Look every minute, by cron or so:", ["kt monitor"]
        )
        return Group(f"{key}-experiment", title, verdict=verdict, empty=nothing)
    chart = effect(of, trial, looks, marks, f"{key}-effect")
    return Group(f"{key}-experiment", title, [chart], verdict)


def named(kind: str, name: str, ended: str) -> str:
    return f"{kind} {name}, {ended}" if ended else f"{kind} {name}"


def shadow(of: Shadow, key: str) -> Group:
    title = named("Shadow", of.experiment, of.ended)
    sentence = (
        f"{of.version} gets copies of the requests that {of.control} answers;"
        " what it says is compared, and returned to nobody."
    )
    lost = of.failed + of.invalid + of.slow
    verdict = Verdict("shadow_fails" if lost else "shadow", [sentence], numbers_of_shadow(of))
    if not of.compared and not lost:
        nothing = Empty(
            "Nothing is compared yet: it takes an answered request.",
            ["kt serve", "kt predict --data JSON"],
        )
        return Group(key, title, verdict=verdict, empty=nothing)
    if not of.worst:
        return Group(key, title, verdict=verdict)
    rows = [[write(one.difference, "number"), one.prediction_id] for one in of.worst]
    cases = Table("Furthest apart", ["Differs by", "Prediction"], rows)
    return Group(key, title, verdict=verdict, table=cases)


def numbers_of_shadow(of: Shadow) -> list[tuple[str, str]]:
    lost = {
        "Failed": of.failed,
        "Gave no answer": of.invalid,
        "Took too long": of.slow,
        "Copies dropped": of.dropped,
    }
    return [
        ("Answers compared", f"{of.compared:,}"),
        ("Predictions that agree", write(of.agreement, "percent")),
        ("Mean difference", write(of.mean_difference, "number")),
        ("Largest difference", write(of.worst_difference, "number")),
        ("Latency, p95", write(of.latency, "ms")),
        *((name, f"{n:,}") for name, n in lost.items() if n),
    ]


def numbers_of_trial(trial: Trial) -> list[tuple[str, str]]:
    last = trial.looks[-1] if trial.looks else None
    outcomes = [
        (f"Outcomes of {version}", f"{n:,}")
        for version, n in (
            (trial.control, last.n_control if last else 0),
            (trial.treatment, last.n_treatment if last else 0),
        )
    ]
    return [
        ("Treatment", trial.treatment),
        ("Control", trial.control),
        ("Traffic", write(trial.traffic, "percent")),
        ("Since", minute(trial.since)),
        *outcomes,
    ]


EMPTY = {
    TRAFFIC: lambda model: Empty(
        "No request in this time. Start the predictor, and send one:",
        ["kt serve", f"kt predict {model} --data JSON"],
    ),
    QUALITY: lambda model: Empty(
        "No outcome in this time. Send what came true, by the prediction_id of the answer:",
        ["kt feedback --file FILE", "POST /feedback"],
    ),
    DRIFT: lambda model: Empty(
        "No drift measured yet: it needs a reference and 500 predictions. See what is missing:",
        ["kt monitor"],
    ),
}


def trends(of: Dashboard, model: Model, marks: Sequence[Mark], key: str, title: str) -> Group:
    found = [
        trend(of, each, marks, f"{key}-{n}")
        for n, each in enumerate(model.trends, 1)
        if measure(each.metric).group == title and each.lines
    ]
    if title == QUALITY and any(one.n for one in model.reliability):
        found.append(reliability(model.reliability, f"{key}-reliability"))
    if title == DRIFT:
        found += [shape(one, f"{key}-shape-{n}") for n, one in enumerate(model.shapes, 1)]
    empty = None if found else EMPTY[title](model.model)
    return Group(f"{key}-{title.lower()}", title, found, empty=empty)
