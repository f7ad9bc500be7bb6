"""kt canary: the next steps of plans that deployments were given."""

from typing import TYPE_CHECKING, Annotated

import typer

from kt.cli import complete, options, output
from kt.cli.changes import report, tell
from kt.cli.options import (
    DryRun,
    ExitCode,
    Json,
    Quiet,
    Reason,
)

if TYPE_CHECKING:
    from kt.deployments.deploy import Done
    from kt.deployments.plan import Stamp
    from kt.workspace import Workspace


def canary(
    action: Annotated[
        str, typer.Argument(metavar="step", help="step: take the next step of what is due.")
    ],
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="[EXPERIMENT]",
            help="One canary; all that run without.",
            autocompletion=complete.experiments,
        ),
    ] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Also before the step has lasted its time.")
    ] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Advance canaries by the plans that `kt deploy --canary` stored: by hand, or every minute from cron.

    A canary whose guardrail is broken is not advanced: it ends, and the control takes all the traffic.

    Example: kt canary step
    """
    from kt.deployments import audit
    from kt.errors import Invalid

    if action != "step":
        raise Invalid(f"there is no kt canary {action[:40]}", do="kt canary step")
    workspace = options.workspace()
    _, state = audit.read(workspace)
    running = [
        serving.experiment.name
        for serving in state.models.values()
        if serving.experiment and serving.experiment.canary
    ]
    stamp = options.stamp(reason or "canary")
    taken = [
        step(workspace, name, stamp, early=now, dry_run=dry_run)
        for name in ([experiment] if experiment else running)
    ]
    advanced = [done for done in taken if done.event]
    if len(advanced) == 1:
        report(advanced[0], dry_run=dry_run, exit_code=exit_code, nothing="")
        return
    lines = [tell(done.event, done)[0] for done in advanced if done.event]
    result = {"events": [done.event for done in advanced], "running": running, "dry_run": dry_run}
    output.emit(result, lines or "nothing to do: no step of a canary is due")


def step(
    workspace: "Workspace", name: str, stamp: "Stamp", *, early: bool, dry_run: bool
) -> "Done":
    """The next step of a canary, if it is due; its end where a guardrail is broken."""
    from kt import clock
    from kt.deployments import audit, courses
    from kt.deployments import deploy as room
    from kt.monitors import enforce
    from kt.store import connect

    course = courses.of(audit.read(workspace)[0].events, name)
    if course is not None and course.end is None:
        store = connect.peek(workspace.root, workspace.settings)
        ended = enforce.guard(workspace, store, course, clock.now(), dry_run=dry_run)
        if ended is not None:
            return ended
    return room.step(workspace, name, stamp, early=early, dry_run=dry_run)
