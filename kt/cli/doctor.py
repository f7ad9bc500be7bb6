"""kt doctor: is this machine set up."""

from typing import Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")
    ] = False,
    json: Json = False,
) -> None:
    """Whether this machine is set up: what is installed, git, the disk, locks, what killed commands left.

    Exits 11 where something may become a problem, 12 where something is one.

    Example: kt doctor --fix
    """
    from kt import clock
    from kt import doctor as room
    from kt.errors import CRITICAL, WARNING, Invalid

    try:
        workspace = options.workspace()
    except Invalid:
        workspace = None
    if fix and workspace is not None:
        for note in room.mend(workspace):
            output.warn(note)
    found = room.examine(workspace, clock.now())
    rows = []
    for one in found:
        shout = "" if one.health == "ok" else f"{one.health.upper()}: "
        rows.append(f"{one.check:<12} {shout}{one.what}")
        if one.do:
            rows.append(f"{'':<12} {one.do}")
    worst = {one.health for one in found}
    result = {
        "health": "problem" if "problem" in worst else "warning" if "warning" in worst else "ok",
        "checks": [one.__dict__ for one in found],
    }
    output.emit(result, rows)
    if result["health"] != "ok":
        raise typer.Exit(CRITICAL if result["health"] == "problem" else WARNING)
