"""ramp, promote, end, rollback: who serves whom, changed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.changes import report
from kt.cli.options import (
    DryRun,
    ExitCode,
    Json,
    Model,
    Quiet,
    Reason,
)

if TYPE_CHECKING:
    from kt.workspace import Workspace

Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT", help="A running experiment.", autocompletion=complete.experiments
    ),
]


def ramp(
    experiment: Experiment,
    traffic: Annotated[float, typer.Argument(metavar="P", help="Percent of the units, 0 to 100.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Change an experiment's traffic. Raising it moves units only into the treatment.

    A shadow becomes an ordinary experiment with this traffic.

    Example: kt ramp bigger-memory 25
    """
    from kt.deployments import deploy as room

    done = room.ramp(
        options.workspace(), experiment, traffic, options.stamp(reason), dry_run=dry_run
    )
    report(
        done,
        dry_run=dry_run,
        exit_code=exit_code,
        nothing=f"{experiment} has {traffic:zg} % already",
    )


def promote(
    experiment: Experiment,
    force: Annotated[
        bool, typer.Option("--force", help="Without the evidence; needs --reason and is recorded.")
    ] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Give an experiment's treatment all the traffic, if its report (kt experiment X) says that it is better.

    Exits 7 while that is not sure, and says what is missing; 3 where it is worse or a guardrail is broken.

    Example: kt promote bigger-memory --force --reason "offline scores decided"
    """
    from kt.deployments import deploy as room

    workspace = options.workspace()
    done = room.promote(
        workspace,
        experiment,
        options.stamp(reason),
        evidence=evidence(workspace, experiment, force=force),
        force=force,
        dry_run=dry_run,
    )
    report(done, dry_run=dry_run, exit_code=exit_code, nothing=f"{experiment} is promoted already")


def evidence(workspace: "Workspace", name: str, *, force: bool) -> dict[str, Any] | None:
    """The report on an experiment that runs; told as a step. None where there is none to tell of.

    force: go on without it where the tables do not answer.
    """
    from kt import clock
    from kt.cli import experiments
    from kt.deployments import audit, courses
    from kt.errors import KtError
    from kt.monitors import experiment as room
    from kt.monitors import told
    from kt.store import connect

    course = courses.of(audit.read(workspace)[0].events, name)
    if course is None or course.end is not None:
        return None  # the plan says so
    if course.now.shadow:
        return {"comparison": experiments.beside(workspace, course)}
    try:
        store = connect.peek(workspace.root, workspace.settings)
        report = room.report(store, workspace.settings, course, clock.now())
    except KtError as error:
        if not force:
            raise
        output.warn(f"promoted without a report: {error}")
        return None
    if report.effect:
        output.step("evidence", told.equation(report))
    return told.summary(report)


def end(
    experiment: Experiment,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """End an experiment: the control takes the traffic back.

    Example: kt end bigger-memory --reason "no difference"
    """
    from kt.deployments import deploy as room

    done = room.end(options.workspace(), experiment, options.stamp(reason), dry_run=dry_run)
    report(done, dry_run=dry_run, exit_code=exit_code, nothing=f"{experiment} has ended already")


def rollback(
    version: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]",
            help="A version that was active before; the last one without.",
            autocompletion=complete.past,
        ),
    ] = "",
    model: Model = "",
    to_record: Annotated[
        str,
        typer.Option(
            "--to-record",
            metavar="N",
            help="The version that was active after this event: its number or digest.",
        ),
    ] = "",
    mark_bad: Annotated[
        bool,
        typer.Option("--mark-bad", help="No later rollback returns to the version that is left."),
    ] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Undo the last change of traffic, or go back to a version. Needs local files only.

    With an experiment running it ends the experiment; a second rollback goes back a version.

    Example: kt rollback
    """
    from kt.deployments import deploy as room
    from kt.deployments.history import State
    from kt.errors import Invalid

    workspace = options.workspace()
    if to_record and version:
        raise Invalid(
            "name a version or a record, not both",
            where="--to-record",
            do="leave one out: kt rollback VERSION, or kt rollback --to-record RECORD",
        )
    if to_record:
        version = active_after(workspace, model, to_record)

    def chosen(state: State) -> str:
        return options.choose(workspace, state, model)

    done = room.roll_back(
        workspace, chosen, options.stamp(reason), version=version, bad=mark_bad, dry_run=dry_run
    )
    report(done, dry_run=dry_run, exit_code=exit_code, nothing=f"{version} is active already")


def active_after(workspace: "Workspace", model: str, reference: str) -> str:
    """The version that was active after an event, named by its number or its digest."""
    from kt.deployments import audit
    from kt.errors import Invalid

    book, state = audit.read(workspace)
    name = options.choose(workspace, state, model)
    seq = audit.find_record(book, reference)
    then = audit.fold(book.head_to(seq)).serving(name).active
    if then is None:
        raise Invalid(
            f"{name} served nothing after event {seq}", where="--to-record", do="see: kt history"
        )
    return then.version
