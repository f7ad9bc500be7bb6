"""kt experiment: how experiments stand, which there were, and how long one would take."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json

if TYPE_CHECKING:
    from kt.deployments.courses import Course
    from kt.monitors.verdict import Report
    from kt.workspace import Workspace


def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT|list|plan",
            help="One that runs or has ended; all there were; or how long one would take.",
            autocompletion=complete.courses,
        ),
    ] = "list",
    baseline: Annotated[
        float | None,
        typer.Option("--baseline", metavar="P", help="plan: the control's share of right ones."),
    ] = None,
    effect: Annotated[
        float | None,
        typer.Option("--effect", metavar="D", help="plan: the difference worth finding."),
    ] = None,
    traffic: Annotated[
        float, typer.Option("--traffic", "-t", metavar="P", help="plan: percent of the units.")
    ] = 10.0,
    per_day: Annotated[
        float | None,
        typer.Option("--per-day", metavar="N", help="plan: outcomes a day, of both variants."),
    ] = None,
    power: Annotated[
        float, typer.Option("--power", metavar="P", help="plan: how surely it is to be found.")
    ] = 0.8,
    json: Json = False,
) -> None:
    """How an experiment stands: its effect with an interval, a verdict or when to expect one, guardrails.

    The interval holds however often one looks. How long an experiment would take:
    kt experiment plan --baseline 0.8 --effect 0.03 --per-day 2000

    Example: kt experiment bigger-memory
    """
    if name == "list":
        listed()
    elif name == "plan":
        planned(baseline, effect, traffic, per_day, power)
    else:
        shown(name)


def listed() -> None:
    from kt import clock
    from kt.deployments import audit, courses
    from kt.monitors import experiment as room
    from kt.store import connect

    workspace = options.workspace()
    book, _ = audit.read(workspace)
    store = connect.peek(workspace.root, workspace.settings)
    rows = []
    for course in reversed(courses.courses(book.events)):
        state = course.how
        if course.end is None and not course.now.shadow:
            state = room.report(store, workspace.settings, course, clock.now()).state
        rows.append(described(course) | {"state": state or "shadow"})
    cells = [
        (
            row["experiment"],
            row["model"],
            row["control"],
            row["treatment"],
            f"{row['traffic'] * 100:g} %",
            row["begin"],
            row["state"].replace("_", " "),
        )
        for row in rows
    ]
    headers = ("EXPERIMENT", "MODEL", "CONTROL", "TREATMENT", "TRAFFIC", "BEGAN", "STATE")
    text = (
        output.table(headers, cells)
        if rows
        else "there was no experiment yet: kt deploy FILE --traffic 10 --ab-test NAME"
    )
    output.emit({"experiments": rows}, text)


def described(course: "Course") -> dict[str, Any]:
    """An experiment as the history tells of it."""
    return {
        "experiment": course.name,
        "model": course.model,
        "control": course.control,
        "treatment": course.treatment,
        "traffic": course.now.share / 100,  # a fraction
        "shadow": course.now.shadow,
        "begin": course.begin,
        "ended": course.how or None,
        "end": course.end["at"] if course.end else None,
        "why": (course.end.get("aborted") or course.end["reason"] or None) if course.end else None,
        "phases": [
            {"seq": one.seq, "begin": one.begin, "traffic": one.share / 100, "shadow": one.shadow}
            for one in course.phases
        ],
    }


def shown(name: str) -> None:
    from kt import clock
    from kt.deployments import audit, courses
    from kt.errors import Invalid
    from kt.monitors import experiment as room
    from kt.monitors import told
    from kt.store import connect

    workspace = options.workspace()
    book, _ = audit.read(workspace)
    course = courses.of(book.events, name)
    if course is None:
        raise Invalid(f"there was no experiment {name[:64]}", do="see them: kt experiment list")
    shadow = beside(workspace, course) if course.now.shadow else None
    store = connect.peek(workspace.root, workspace.settings)
    report = room.report(store, workspace.settings, course, clock.now())
    result = described(course) | {"report": told.summary(report), "comparison": shadow}
    lines = [head(course, report)]
    if shadow:
        from kt.cli import status

        lines += ["", *status.beside(shadow)]
        lines += [
            f"{'' if n else 'worst':<11} {one['difference']:.3g} apart in {one['prediction_id']}"
            for n, one in enumerate(shadow["worst_cases"])
        ]
    if course.split:
        lines += ["", table(course, report), "", *details(course, report)]
    output.emit(result, lines)


def beside(workspace: "Workspace", course: "Course") -> dict[str, Any]:
    """What a shadow was found to say."""
    from kt.cli.standing import found_of_shadows, tables_of
    from kt.store.tally import Report, Tally

    nothing = Report(course.model, course.name, course.treatment, course.now.seq, Tally())
    found = found_of_shadows(workspace, tables_of(workspace))
    known = [one for one in found if one.shadow == nothing.shadow]
    return (known or [nothing])[0].summary()


def head(course: "Course", report: "Report") -> str:
    from kt.monitors import told

    if course.end is None:
        if course.now.shadow:
            return f"shadow {course.name} on {course.model}: {course.treatment} beside {course.control}"
        return f"experiment {told.line(report)}"
    why = course.end.get("aborted") or course.end["reason"]
    ended = f"{course.how} {course.end['at']} by {course.end['by']}" + (f": {why}" if why else "")
    return f"experiment {course.name} on {course.model}: {ended}"


def table(course: "Course", report: "Report") -> str:
    """Both variants, in all phases together."""
    from kt.monitors import told

    share = course.now.share
    rows = []
    for name, one, traffic in (
        ("control", report.control, 100 - share),
        ("treatment", report.treatment, share),
    ):
        labelled = "-" if one.labelled is None else f"{one.labelled:.0%}".replace("%", " %")
        mean = "-" if one.mean is None else f"{one.mean:.4f}"
        counts = [f"{n:,}" for n in (one.units, one.assigned, one.outcomes)]
        rows.append((name, one.version, f"{traffic:g} %", *counts, labelled, mean))
    metric = told.WORDS[report.settings.metric].upper()
    headers = ("VARIANT", "VERSION", "TRAFFIC", "UNITS", "REQUESTS", "OUTCOMES", "LABELLED", metric)
    return output.table(headers, rows)


def details(course: "Course", report: "Report") -> list[str]:
    from kt.monitors import told

    lines = []
    if report.effect:
        lines.append(f"effect       {told.effect(report)}, alpha {report.alpha:g}")
    lines.append(f"ratio        {told.ratio(report)}")
    for one in report.guardrails:
        word = "BROKEN: " if one.broken else ""
        lines.append(f"guardrail    {word}{told.guardrail(report, one)}")
    phases = [
        f"{'copy' if one.shadow else f'{one.share:g} %'} from {one.begin}" for one in course.phases
    ]
    lines.append(f"phases       {', '.join(phases)}")
    if report.labelled_apart:
        lines.append(
            "WARNING      outcomes came for another share of the treatment's answers than of the"
            " control's: those that are missing may be of another kind"
        )
    return lines


def planned(
    baseline: float | None,
    effect: float | None,
    traffic: float,
    per_day: float | None,
    power: float,
) -> None:
    """How many outcomes it takes to find a difference, and how long."""
    from kt.errors import Invalid
    from kt.stats import planner

    if baseline is None or effect is None:
        raise Invalid(
            "say what the control has and what is worth finding",
            where="--baseline" if baseline is None else "--effect",
            do="kt experiment plan --baseline 0.8 --effect 0.03",
        )
    if not 0 < traffic < 100 or not 0 < power < 1:
        where = "--power" if 0 < traffic < 100 else "--traffic"
        bounds = "0 and 1" if where == "--power" else "0 and 100"
        raise Invalid(
            f"it must lie between {bounds}",
            where=where,
            do=f"give a number between {bounds}, without the two themselves",
        )
    alpha = options.workspace().settings.experiment.alpha
    once = planner.of_shares(baseline, baseline + effect, alpha, power, traffic / (100 - traffic))
    if once is None:
        raise Invalid(
            f"shares of right ones of {baseline:g} and {baseline + effect:g} cannot be told apart",
            where="--effect",
            do="both lie between 0 and 1, and they differ",
        )
    control, treatment = (math.ceil(n * planner.SEQUENTIAL) for n in once)
    days = (control + treatment) / per_day if per_day else None
    result = {
        "baseline": baseline,
        "effect": effect,
        "traffic": traffic / 100,
        "power": power,
        "alpha": alpha,
        "outcomes": {"control": control, "treatment": treatment},
        "once": {"control": once[0], "treatment": once[1]},
        "days": days,
    }
    whole, half = control + treatment, sum(once)
    lines = [
        f"{baseline:g} and {baseline + effect:g} are told apart in {power * 100:g} % of experiments after"
        f" {whole:,} outcomes: {treatment:,} of the treatment at {traffic:g} % of traffic, or sooner.",
        f"In half of them after {half:,}: the verdict comes as soon as it is sure.",
        f"At {per_day:,.0f} outcomes a day that is {whole / per_day:.1f} days, in half of them {half / per_day:.1f}."
        if per_day
        else "How long that is: --per-day N, outcomes of both variants.",
    ]
    output.emit(result, lines)
