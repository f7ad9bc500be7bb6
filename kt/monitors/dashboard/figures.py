"""The charts of the page: each a picture with its words, and the table behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from kt.monitors.dashboard import charts
from kt.monitors.dashboard.facts import (
    TREATMENT,
    Bin,
    Dashboard,
    Line,
    Look,
    Mark,
    Now,
    Point,
    Reliability,
    Shape,
    Trend,
    Trial,
)
from kt.monitors.dashboard.wording import AXES, OUTCOMES, Measure, between, measure, minute, write


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


def trend(of: Dashboard, trend: Trend, marks: Sequence[Mark], key: str) -> Chart:
    about = measure(trend.metric)
    roles = list(dict.fromkeys(line.role for line in trend.lines))
    cells: dict[str, dict[str, str]] = {}
    for line in trend.lines:
        for point in line.points:
            if point.value is not None:
                cells.setdefault(point.at, {})[line.role] = cell(line, point, about.unit)
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


def cell(line: Line, point: Point, unit: str) -> str:
    about = [line.version, f"n {point.n:,}"]
    if point.lower is not None:
        about.append(between(point.lower, point.upper, unit))
    return f"{write(point.value, unit)} ({', '.join(about)})"


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
