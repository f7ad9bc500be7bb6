"""reproduce: a version trained again from its record, bit for bit or with what differs."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json, Quiet, Registered

if TYPE_CHECKING:
    from kt.jobs.reproduce import Plan, Reproduced

SHOWN = 5  # tensors


def reproduce(
    what: Registered,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Where its data are, if not where they were; may be given again.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a version again from its record and compare: exit 0 if all weights are the same, else 3.

    The record of what kt train or a job of kt retrain made says what it came from: the files with their
    digests, settings, seed, code, libraries. A file that has grown since is read as far as it went then;
    one that is gone or has changed is told before any training. With the same code, libraries and kind
    of processor all weights are the same, bit for bit (of one thread, as is usual); where they are not,
    what has changed is told, and by how much weights and scores differ. Nothing is registered.

    Example: kt reproduce tutor@v2
    """
    from kt.cli import progress
    from kt.errors import Refused
    from kt.jobs import reproduce as room
    from kt.registry import record

    model, version = options.version_of(what)
    workspace = options.workspace()
    metric = record.read(workspace, model, version).scores.get("metric", "metric")

    def told(plan: "Plan") -> None:
        files = [file.name for file in (*plan.origin.files, *plan.origin.valid)]
        output.step("data", f"{', '.join(files)}: as they were")
        for one in plan.changed:
            output.step("changed", one)

    with progress.epochs(metric) as (on_epoch, on_batch):
        done = room.reproduce(
            workspace,
            model,
            version,
            data or (),
            on_plan=told,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
    output.emit({"version": what} | asdict(done), lines(what, done))
    if not done.same:
        raise typer.Exit(Refused.code)


def lines(what: str, done: "Reproduced") -> Iterator[str]:
    if done.same:
        despite = f", although changed: {'; '.join(done.changed)}" if done.changed else ""
        yield f"{what}: the same weights, bit for bit{despite}"
        return
    yield (
        f"{what}: other weights"
        if done.weights
        else f"{what}: the same weights, calibrated otherwise"
    )
    for one in done.weights[:SHOWN]:
        by = "another shape" if one.difference is None else f"by up to {one.difference:.2g}"
        yield f"  {one.tensor:<24} {by}"
    if len(done.weights) > SHOWN:
        yield f"  … and {len(done.weights) - SHOWN} more"
    for name, (then, now) in done.scores.items():
        yield f"  {name:<24} {shown(now)}, was {shown(then)}"
    yield f"  changed                  {'; '.join(done.changed) or 'nothing that kt knows of'}"


def shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
