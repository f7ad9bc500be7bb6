"""The verbs about items: their parameters as a table, and which of them have drifted."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kt.cli import output
from kt.cli.models import What, opened
from kt.cli.options import Json

Csv = Annotated[bool, typer.Option("--csv", help="The table as CSV, whole numbers and all digits.")]


def items(
    what: What,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Answers, to tell how surely they would place each item; may be given again.",
        ),
    ] = None,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """Show the parameters of a model's items: difficulty, discrimination, guessing where it has it.

    Of more than two categories the difficulty is the mean of an item's steps. With --data each difficulty has the
    standard error that those answers leave it, with abilities held as the model sees them.

    Example: kt items tutor@v3 --csv > items.csv
    """
    from kt.models import items as room
    from kt.models import task

    code, module, signature, _ = opened(what)
    rows = room.parameters(code, module, signature)
    if data:
        error, answers = room.errors(code, module, signature, task.of(code).read(data))
        for row, e, n in zip(rows, error.tolist(), answers.tolist(), strict=True):
            row |= {"difficulty_error": None if e != e else e, "answered": n}
    show({"model": what, "items": rows}, rows, csv, [])


def drift(
    what: What,
    before: Annotated[
        list[Path],
        typer.Option("--before", metavar="PATH", help="Answers of the first period."),
    ],
    after: Annotated[
        list[Path],
        typer.Option("--after", metavar="PATH", help="Answers of the second."),
    ],
    worth: Annotated[
        float,
        typer.Option(
            "--worth",
            min=0.0,
            help="Logits: an item that could hide so much of a drift is not called stable.",
        ),
    ] = 0.6,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """Tell which items have become harder or easier from one period to the next, apart from who answers.

    Abilities are held as the model sees them; what moves all items alike is no item's drift. Of the items flagged one
    in twenty is false at most. In logits, above zero where an item has become harder; `smallest` is the
    drift that an item's answers would show, four times in five.

    Example: kt drift tutor@v3 --before spring.csv --after autumn.csv
    """
    from kt.models import items as room
    from kt.models import task

    code, module, signature, _ = opened(what)
    read = task.of(code).read
    rows = room.drift(code, module, signature, read(before), read(after), worth)
    counts = {
        verdict: sum(row["verdict"] == verdict for row in rows)
        for verdict in ("drifted", "stable", "unknown")
    }
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    show({"model": what, "items": rows, **counts}, rows, csv, [f"{len(rows)} items: {said}"])


def show(result: dict[str, Any], rows: list[dict[str, Any]], csv: bool, last: list[str]) -> None:
    """Rows for people, as CSV, or as JSON. A list in a cell (steps) is written with spaces between."""
    if csv and not output.run.json:
        output.emit(result, as_csv(rows))
        return
    cells = [[shown(value) for value in row.values()] for row in rows]
    output.emit(result, [output.table(list(rows[0]) if rows else [], cells), *last])


def as_csv(rows: list[dict[str, Any]]) -> list[str]:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0] if rows else [])
    for row in rows:
        writer.writerow([" ".join(map(str, v)) if isinstance(v, list) else v for v in row.values()])
    return text.getvalue().splitlines()


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return "" if value is None else str(value)
