"""The dashboard's facts as HTML: one file that loads nothing, or a page that is served with its own style and script.

What is one file carries its policy with it, with the hashes of the style and the script in it; what is
served has it as a header (app.py). Names and reasons come from other people: they are escaped by the
template, and control and direction characters in them shown as escapes.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from kt import __version__
from kt.monitors.dashboard import charts
from kt.monitors.dashboard.facts import (
    TREATMENT,
    WINDOWS,
    Bin,
    Dashboard,
    Look,
    Mark,
    Model,
    Now,
    Reliability,
    Shadow,
    Shape,
    Trend,
    Trial,
    Variant,
)

if TYPE_CHECKING:
    from jinja2 import Template

RENEW = 60  # seconds until a served page asks again


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


@dataclass(frozen=True, slots=True)
class Number:
    """A metric's value now, written. of: whose it is, and of how many."""

    role: str
    value: str
    of: str
    status: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with its words, and the table behind it: rows of (place from 0 to 1, cells)."""

    id: str
    title: str
    meaning: str
    course: str
    now: Sequence[Number]
    picture: Markup
    columns: Sequence[str]
    rows: Sequence[tuple[float, Sequence[str]]]
    left: int = charts.PADDING["left"]
    span: int = charts.WIDTH
    height: int = charts.PADDING["top"] + charts.HEIGHT


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


def one_file(of: Dashboard, window: str) -> str:
    """The whole page in one file, which opens from a disk and loads nothing."""
    style, script = asset("page.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{hashed(style)}'; script-src '{hashed(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    return page(of, [(window, True)], policy, Markup(style), Markup(script))  # noqa: S704  # our own files


def served(of: Dashboard, window: str) -> str:
    """The page as it is served, beside /page.css and /page.js."""
    return page(of, [(name, name == window) for name in WINDOWS])


def page(
    of: Dashboard,
    windows: Sequence[tuple[str, bool]],
    policy: str = "",
    style: str = "",
    script: str = "",
) -> str:
    text: str = template().render(
        of=of,
        windows=windows,
        policy=policy,
        style=style,
        script=script,
        version=__version__,
        renew=RENEW,
        fresh=freshness(of),
        open=[one for one in of.alerts if one.until is None],
        past=[one for one in of.alerts if one.until is not None],
        models=[section(of, model, place) for place, model in enumerate(of.models, 1)],
        counts=[(COUNTS.get(name, name), n) for name, n in sorted(of.counts.items()) if n],
    )
    return text


@cache
def template() -> "Template":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    env = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "words": lambda status: WORDS.get(status, status),
        "time": minute,
        "ago": ago,
        "shown": shown,
        "title_of": lambda metric: measure(metric).title,
    }
    return env.get_template("page.html")


@cache
def asset(name: str) -> str:
    return resources.files("kt.monitors.dashboard").joinpath(name).read_text()


def hashed(text: str) -> str:
    """As a policy names a style or a script that may be in the page."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def printable(value: Any) -> Any:
    """A text without characters that move a cursor or turn a line around; Markup is ours, and stays."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value
    )


def freshness(of: Dashboard) -> str:
    recorded = (
        f"Newest request recorded {ago(of.last, of.at)} ago" if of.last else "No request recorded"
    )
    return f"{recorded}; " + (
        f"judged {ago(of.checked, of.at)} ago." if of.checked else "not judged yet."
    )


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
    verdict = Verdict(trial.verdict, [trial.sentence, *checks], numbers_of(trial))
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
    numbers = [
        ("Answers compared", f"{of.compared:,}"),
        ("Predictions that agree", write(of.agreement, "percent")),
        ("Mean difference", write(of.mean_difference, "number")),
        ("Largest difference", write(of.worst_difference, "number")),
        ("Latency, p95", write(of.latency, "ms")),
        *(
            (name, f"{n:,}")
            for name, n in (
                ("Failed", of.failed),
                ("Gave no answer", of.invalid),
                ("Took too long", of.slow),
                ("Copies dropped", of.dropped),
            )
            if n
        ),
    ]
    verdict = Verdict("shadow_fails" if lost else "shadow", [sentence], numbers)
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


def numbers_of(trial: Trial) -> list[tuple[str, str]]:
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


def effect(
    of: Dashboard, trial: Trial, looks: Sequence[Look], marks: Sequence[Mark], key: str
) -> Chart:
    unit = "number" if trial.metric == "error" else "points"
    last = looks[-1]
    interval = between(last.lower, last.upper, unit)
    times = 100 if unit == "points" else 1
    spec = charts.effect(looks, marks, of.since, of.at, AXES[unit], times)
    return Chart(
        id=key,
        title=f"Treatment less control{', points' if unit == 'points' else ''}",
        meaning=f"Of {OUTCOMES[trial.metric]}, with an interval that holds at every look"
        f" ({1 - trial.alpha:.0%}): once it leaves zero, the difference is real.",
        course=f"Now {write(last.estimate, unit)}, {interval}.",
        now=[Number(TREATMENT, write(last.estimate, unit), interval, "ok")],
        picture=charts.draw(spec, key),
        columns=["Time", "difference", "interval", "outcomes of control", "of treatment"],
        rows=[
            (
                charts.place(look.at, of.since, of.at),
                [
                    minute(look.at),
                    write(look.estimate, unit),
                    between(look.lower, look.upper, unit),
                    f"{look.n_control:,}",
                    f"{look.n_treatment:,}",
                ],
            )
            for look in looks
        ],
    )


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


def trend(of: Dashboard, trend: Trend, marks: Sequence[Mark], key: str) -> Chart:
    about = measure(trend.metric)
    roles = list(dict.fromkeys(line.role for line in trend.lines))
    cells: dict[str, dict[str, str]] = {}
    for line in trend.lines:
        for point in line.points:
            if point.value is not None:
                told = f"{write(point.value, about.unit)} ({line.version}, n {point.n:,}"
                told += (
                    f", {between(point.lower, point.upper, about.unit)})"
                    if point.lower is not None
                    else ")"
                )
                cells.setdefault(point.at, {})[line.role] = told
    rows = [
        (
            round(charts.place(at, of.since, of.at), 4),
            [minute(at), *(told.get(role, "") for role in roles)],
        )
        for at, told in sorted(cells.items())
    ]
    said = charts.trend(trend, marks, of.since, of.at, AXES[about.unit])
    return Chart(
        id=key,
        title=about.title,
        meaning=" ".join(
            filter(None, (about.meaning, span_words(trend), level_words(trend, about)))
        ),
        course=" ".join(course(trend, about)),
        now=[number(now, about) for now in trend.now],
        picture=charts.draw(said, key),
        columns=["Time", *roles],
        rows=rows,
    )


def span_words(of: Trend) -> str:
    span = f"{of.over / 60:g} h" if of.over >= 60 else f"{of.over} min"
    return f"Each point is over {span}."


def level_words(of: Trend, about: Measure) -> str:
    side = "below" if about.below else "above"
    words = [
        f"{name} {side} {write(level, about.unit)}"
        for name, level in (("degraded", of.limit), ("alert", of.alert))
        if level is not None
    ]
    told = ", ".join(words)
    return f"{told[:1].upper()}{told[1:]}." if words else ""


def course(of: Trend, about: Measure) -> Iterator[str]:
    """Each line in words, for those who do not see it."""
    for line in of.lines:
        known = [point.value for point in line.points if point.value is not None]
        if known:
            low, high = write(min(known), about.unit), write(max(known), about.unit)
            first, last = write(known[0], about.unit), write(known[-1], about.unit)
            yield f"{line.role} {line.version}: from {first} to {last}, lowest {low}, highest {high}."


def number(of: Now, about: Measure) -> Number:
    if of.value is None:
        return Number(of.role, "–", f"{of.version}, {of.n:,} of {of.needed:,} needed", of.status)
    return Number(of.role, write(of.value, about.unit), f"{of.version}, n {of.n:,}", of.status)


def reliability(of: Sequence[Reliability], key: str) -> Chart:
    def cells(one: Reliability, b: Bin) -> list[str]:
        share = f"{b.observed:.3f} ({b.lower:.3f} to {b.upper:.3f})"
        return [f"{b.predicted:.3f}", f"{one.role} {one.version}", share, f"{b.n:,}"]

    return Chart(
        id=key,
        title="Calibration",
        meaning="Came true (up) of what was predicted (across). On the dashed line a probability"
        " means what it says; a larger dot stands for more predictions, its bar for chance (95 %).",
        course="",
        now=[
            Number(
                one.role,
                "–" if one.ece is None else f"{one.ece:.3f}",
                f"{one.version}, ECE, n {one.n:,}",
                "no_data" if one.ece is None else "ok",
            )
            for one in of
        ],
        picture=charts.draw(charts.reliability(of), key),
        columns=["Predicted", "Version", "Came true", "Predictions"],
        rows=[
            (round(b.predicted, 4), cells(one, b))
            for b, one in sorted(
                ((b, one) for one in of for b in one.bins), key=lambda pair: pair[0].predicted
            )
        ],
        height=charts.SQUARE["top"] + charts.HEIGHT,
    )


def shape(of: Shape, key: str) -> Chart:
    bins = len(of.now)
    return Chart(
        id=key,
        title=f"Spread of {of.of}",
        meaning=f"Now as bars ({of.n_now:,}), the reference as a line: {of.reference}"
        f" ({of.n_before:,}).",
        course="",
        now=[
            Number(
                of.role,
                "–" if of.psi is None else f"{of.psi:.3f}",
                f"{of.version}, PSI",
                of.status,
            )
        ],
        picture=charts.draw(charts.shape(of), key),
        columns=["From", "To", "Reference", "Now"],
        rows=[
            (
                round((n + 0.5) / bins, 4),
                [
                    f"{of.edges[n]:.4g}",
                    f"{of.edges[n + 1]:.4g}",
                    f"{of.before[n]:.1%}",
                    f"{of.now[n]:.1%}",
                ],
            )
            for n in range(bins)
        ],
    )


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
