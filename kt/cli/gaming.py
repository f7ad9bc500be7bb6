"""kt gaming: who answers too fast to have thought, or asks for help again and again."""

from dataclasses import asdict
from typing import Annotated

import typer

from kt.cli import output
from kt.cli.models import Files
from kt.cli.options import Json


def gaming(
    data: Files,
    chance: Annotated[
        float,
        typer.Option(
            "--chance", min=0.0, max=1.0, help="The share that guesses get right: 1 / options."
        ),
    ] = 0.25,
    every: Annotated[
        bool, typer.Option("--all", help="Engaged students and those too little known, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Tell who guesses rapidly or abuses help, and on what evidence.

    Reads the columns seconds (how long an answer took) and help (how often it was asked for before it),
    where there are such. An answer is rapid within a tenth of the item's mean time, at most ten
    seconds. Rapid answers must be right no more often than guesses, otherwise the rule does not fit and nobody is
    named by it; of a student with fewer than ten answers nothing is known.

    Example: kt gaming --data answers.csv --chance 0.2
    """
    import numpy as np

    from kt.errors import Invalid
    from kt.models import data as room
    from kt.stats import gaming as stats

    found = room.read(data)
    if found.seconds is None and found.help is None:
        raise Invalid(
            "neither times nor help in it",
            where=found.source,
            do="give a CSV with the columns student_id,item,response and seconds or help",
        )
    unknown = np.full(found.events, np.nan)
    seconds = unknown if found.seconds is None else found.seconds
    helped = np.nan_to_num(unknown if found.help is None else found.help) > 0
    timed = ~np.isnan(seconds)
    limits = stats.thresholds(seconds, found.items, len(found.names))
    rapid = timed & (seconds < limits[found.items])
    earned = found.responses / (found.categories - 1)
    rule = stats.rule(rapid, earned, timed, chance)
    judged = stats.students(found.offsets, rapid, timed, helped, rule)
    rows = [
        {"student_id": name, **asdict(student)}
        for name, student in zip(found.students, judged, strict=True)
    ]
    rows.sort(key=lambda row: -(row["score"] or 0.0))
    named = [row for row in rows if row["verdict"] in ("rapid guessing", "help abuse")]
    result = {"rule": asdict(rule), "students": rows}
    cells = [
        [
            row["student_id"],
            row["verdict"],
            "" if row["score"] is None else f"{row['score']:.2f}",
            row["answers"],
            row["evidence"],
        ]
        for row in (rows if every else named)
    ]
    text = [
        f"rapid answers: {rule.rapid:,} of {rule.rapid + rule.others:,}, "
        f"right {share(rule.rapid_accuracy)}, the others {share(rule.others_accuracy)}, "
        f"chance {share(chance)}: the rule {rule.fit if rule.fit != 'unknown' else 'cannot be judged'}",
        f"{len(named):,} of {len(rows):,} students are named",
    ]
    if cells:
        text.append(output.table(["student", "verdict", "score", "answers", "evidence"], cells))
    output.emit(result, text)


def share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
