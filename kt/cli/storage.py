"""gc, push, pull: which weights lie on this machine."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import options, output
from kt.cli.options import DryRun, ExitCode, Json, Quiet

if TYPE_CHECKING:
    from kt.deployments.need import Stored


def gc(
    keep: Annotated[
        int,
        typer.Option(
            "--keep",
            metavar="N",
            min=1,
            help="Of each model the N newest versions and N steps of rollback stay.",
        ),
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Free space: remove the weights of versions that nothing needs, and what killed commands left.

    Needed is what the manifest, an experiment, a running predictor or a label names, what the next N
    rollbacks lead to, and the N newest versions of each model. Records stay; `kt pull MODEL@VERSION`,
    or registering the same file again, brings weights back.

    Example: kt gc --dry-run
    """
    from kt.deployments import gc as room
    from kt.errors import ACTION_NEEDED, Unavailable
    from kt.predictor import presence

    workspace = options.workspace()

    def served() -> set[tuple[str, str]]:
        return presence.served(workspace)

    if not dry_run:
        options.must_agree(yes)
    plan = room.look(workspace, served, keep)
    freed = sum(one.size for one in plan.remove) + plan.leftovers
    lines = listing(plan.remove)
    result: dict[str, Any] = {
        "dry_run": dry_run,
        "removed": [row(one) for one in plan.remove],
        "kept": [
            {"model": model, "version": version, "why": why}
            for (model, version), why in sorted(plan.kept.items())
        ],
        "leftovers": plan.leftovers,
        "freed": freed,
    }
    if dry_run or not freed:
        text = f"{output.bytes_of(freed)} would be freed" if freed else "nothing to remove"
        output.emit(result, [*lines, text])
        if dry_run and exit_code and freed:
            raise typer.Exit(ACTION_NEEDED)
        return
    question = f"remove the weights of {count(plan.remove)}, {output.bytes_of(freed)}?"
    options.agree(yes, lines, question)
    agreed = {one.key for one in plan.remove}
    done = room.collect(workspace, served, keep, agreed, options.stamp(""))
    for note in done.notes:
        output.warn(note)
    for error in done.failed:
        output.warn(str(error))
    result |= {"removed": [row(one) for one in done.removed], "freed": done.freed}
    output.emit(
        result,
        [
            *(lines if yes else []),
            f"removed the weights of {count(done.removed)}: {output.bytes_of(done.freed)} freed",
        ],
    )
    if done.failed:
        raise typer.Exit(Unavailable.code)


def row(one: "Stored") -> dict[str, Any]:
    return {"model": one.model, "version": one.version, "size": one.size}


def listing(remove: "list[Stored] | Any") -> list[str]:
    return [f"  {one.model}@{one.version}  {output.bytes_of(one.size)}" for one in remove]


def count(of: Any) -> str:
    return "1 version" if len(of) == 1 else f"{len(of)} versions"
