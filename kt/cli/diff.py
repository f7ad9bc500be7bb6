"""kt diff: two versions, or two states of what is deployed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json

if TYPE_CHECKING:
    from kt.deployments.history import State
    from kt.journal import Journal
    from kt.workspace import Workspace


def diff(
    left: Annotated[
        str,
        typer.Argument(
            metavar="R1",
            help="A version, MODEL@VERSION; or a state: an event's number or digest, or a time.",
            autocompletion=complete.versions,
        ),
    ],
    right: Annotated[
        str,
        typer.Argument(
            metavar="[R2]",
            help="The same again; without, the model's active version, or the state now.",
            autocompletion=complete.versions,
        ),
    ] = "",
    json: Json = False,
) -> None:
    """What differs: between two versions, or in what is deployed between two events or times.

    Example: kt diff sakt@v1 sakt@v2
    """
    from kt.errors import Invalid

    workspace = options.workspace()
    if right and ("@" in left) != ("@" in right):
        raise Invalid(
            f"{left[:64]!r} and {right[:64]!r} cannot be compared",
            do="name two versions (MODEL@VERSION), or two events or times",
        )
    if "@" in left:
        diff_versions(workspace, left, right)
    else:
        diff_states(workspace, left, right)


def diff_versions(workspace: "Workspace", left: str, right: str) -> None:
    from kt.deployments import audit
    from kt.errors import Invalid
    from kt.registry import record
    from kt.registry.compare import compare

    model, version = options.version_of(left)
    ours = record.read(workspace, model, version)
    if not right:
        active = audit.read(workspace)[1].serving(model).active
        if active is None:
            raise Invalid(
                f"nothing of {model} is active", do=f"name a second version: kt models {model}"
            )
        ours, theirs = record.read(workspace, model, active.version), ours
    else:
        theirs = record.read(workspace, *options.version_of(right))
    rows = compare(ours, theirs)
    names = [f"{known.model}@{known.version}" for known in (ours, theirs)]
    result = {
        "kind": "versions",
        "left": names[0],
        "right": names[1],
        "same_weights": ours.sha256 == theirs.sha256,
        "differences": [row.__dict__ for row in rows],
    }
    cells = [(row.entry, cell(row.left), cell(row.right), change(row.difference)) for row in rows]
    table = output.table(("", *names, "DIFFERENCE"), cells)
    weights = "the same weights" if ours.sha256 == theirs.sha256 else "other weights"
    output.emit(
        result,
        [table, weights] if rows else f"{' and '.join(names)}: nothing differs but {weights}",
    )


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        if len(value) > 4 or any(isinstance(one, dict | list) for one in value):
            return "1 entry" if len(value) == 1 else f"{len(value)} entries"
        return ", ".join(map(cell, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def change(value: float | str | None) -> str:
    if isinstance(value, int | float):
        return f"{value:+,}" if isinstance(value, int) else f"{value:+.4g}"
    return value or ""


def diff_states(workspace: "Workspace", left: str, right: str) -> None:
    from kt.cli.changes import difference
    from kt.deployments import audit
    from kt.deployments.deploy import Done
    from kt.deployments.events import describe
    from kt.deployments.manifest import manifest

    book, now = audit.read(workspace)
    before = state_at(book, left)
    after = state_at(book, right) if right else now
    first, last = sorted((before.seq, after.seq))
    between = book.events[first:last]
    lines = difference(Done(None, manifest(before), manifest(after)))
    result = {
        "kind": "states",
        "left": before.seq,
        "right": after.seq,
        "manifests": {"left": manifest(before), "right": manifest(after)},
        "events": between,
        "diff": lines,
    }
    sign = "+" if before.seq <= after.seq else "-"
    told = [f"{sign} event {e['seq']}  {e['at']}  {e['model']}: {describe(e)}" for e in between]
    output.emit(result, [*told, *lines] if told else f"both are event {after.seq}: nothing differs")


def state_at(book: "Journal", reference: str) -> "State":
    """The state after an event, or at a time; 0 is the state before everything."""
    from kt.deployments import audit

    if reference == "0":
        return audit.fold(book.head_to(0))
    if "-" in reference:
        return audit.fold(audit.at_time(book, reference))
    return audit.fold(book.head_to(audit.find_record(book, reference, "")))
