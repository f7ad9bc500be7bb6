"""kt evaluate: a checkpoint or a version scored on held-out data."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import output
from kt.cli.models import (
    Files,
    Plot,
    What,
    compute,
    drawn,
    lines,
    opened,
    refuse_untrainable,
    warn_of_leaks,
    warn_of_no_gain,
)
from kt.cli.options import Json

if TYPE_CHECKING:
    from kt.models.task import Data, Leak


def evaluate(
    what: What,
    data: Files,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            "--train",
            metavar="PATH",
            help="Answers to fit references on, where --data has only students kept for testing; may be given again.",
        ),
    ] = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Score a checkpoint or a version on held-out answers, with intervals over students.

    Each answer is predicted from the same student's answers before it; first answers are not scored.
    Students kept for testing are scored where the data has such, otherwise all are. A warning tells
    where scores are too good: copied rows, or students or whole histories that were trained on.

    The references (marginal, irt, pfa, best_lr) are fitted on the other students of the data, or on those
    of --train, and the gain over the best of them is shown.

    Example: kt evaluate sakt@v2 --data answers/test.csv --train answers/train.csv
    """
    from kt.models import plots, task
    from kt.models.evaluate import evaluate as score
    from kt.models.references import beside

    if plot:
        plots.require()
    code, module, signature, training = opened(what)
    refuse_untrainable(code, what)
    room = task.of(code)
    found = room.read(data)
    held_out = room.only_test(found)
    part = "test" if len(held_out.units) < len(found.units) else "all"
    scores = score(code, module, signature, held_out, how=compute())
    summary = scores.summary()
    rest = room.read(train) if train else found if part == "test" else None
    others = room.without_test(rest) if rest is not None else None
    if others is not None:
        refuse_shared_units(others, held_out)
        if compared := beside(code, scores, signature, others, held_out):
            summary |= compared.summary()
        elif train:
            output.warn(
                "no references: the model has too many categories for them, or a task without"
            )
    leaks = [asdict(leak) for leak in task.leaks(code, others, held_out)]
    leaks += [asdict(leak) for leak in seen(training, held_out) if part == "all"]
    warn_of_leaks(leaks)
    warn_of_no_gain(summary)
    result = {
        "evaluated": what,
        "data": {"name": found.source, "sha256": found.sha256, "part": part},
        "leaks": leaks,
        "scores": summary,
    }
    if plot:
        result["pictures"] = drawn(
            plot, plots.predicted(scores.predicted), plots.traced(module, signature, held_out)
        )
    output.emit(result, [f"{what} on {found.source}", *lines(summary, part)])


def refuse_shared_units(train: "Data", held_out: "Data") -> None:
    """Raises Invalid where a reference would be fitted on those it is scored on, or on nobody."""
    from kt.errors import Invalid

    shared = sorted(set(train.units) & set(held_out.units))
    if shared or not train.units:
        _, whose = train.counts
        raise Invalid(
            f"{len(shared)} {whose} are in --data too ({shared[0]}, ...)"
            if shared
            else f"all its {whose} are kept for testing",
            where=f"--train {train.source}",
            do="give others: those that the model was trained on",
        )


def seen(training: dict[str, Any], data: "Data") -> "Iterator[Leak]":
    """The leak that these are the data of training, as a checkpoint tells of it."""
    from kt.models.task import Leak

    told = training.get("data")
    if isinstance(told, dict) and told.get("sha256") == data.sha256:
        *_, count = data.counts.values()
        yield Leak("seen", count, count, "the model was trained on these very data: give others")
