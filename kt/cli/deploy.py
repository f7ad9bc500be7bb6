"""kt deploy: a version gets traffic, a share of it, or a copy."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options
from kt.cli.changes import report
from kt.cli.options import (
    Config,
    DryRun,
    Example,
    ExitCode,
    Family,
    Force,
    Json,
    Model,
    Quiet,
    Reason,
    Trust,
    Version,
)

if TYPE_CHECKING:
    from kt.deployments.deploy import Done
    from kt.deployments.events import Canary
    from kt.deployments.plan import Candidate
    from kt.workspace import Workspace


def deploy(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|MODEL@VERSION",
            help="A model file, or a registered version.",
            autocompletion=complete.versions,
        ),
    ],
    model: Model = "",
    version: Version = "",
    traffic: Annotated[
        float | None,
        typer.Option(
            "--traffic",
            "-t",
            metavar="P",
            help="Percent of the units, as an experiment beside the active version.",
        ),
    ] = None,
    ab_test: Annotated[
        str,
        typer.Option(
            "--ab-test", metavar="X", help="The experiment's name; the version's without."
        ),
    ] = "",
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow", help="A copy of the requests instead of traffic, compared, never returned."
        ),
    ] = False,
    family: Family = "",
    config: Config = None,
    example: Example = None,
    trust_code: Trust = None,
    canary: Annotated[
        str,
        typer.Option(
            "--canary", metavar="P,P,…", help="Shares to take one after the other: 10,25,50,100."
        ),
    ] = "",
    every: Annotated[
        str, typer.Option("--every", metavar="T", help="How long each lasts: 30s, 10m, 1h, 2d.")
    ] = "1h",
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Until every running predictor serves it; undone if one cannot."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="S", min=1, max=86_400, help="With --wait: seconds at most."
        ),
    ] = 60.0,
    force: Force = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Give a version traffic: all of it, a share as an A/B test, or a copy of it as a shadow.

    A shadow (`kt deploy model.pt --shadow`) is an experiment whose version answers nobody: predictors
    run it on copies of the requests, and `kt status` says how far its answers are from those that were
    returned. `kt ramp X 10` makes it an ordinary experiment, `kt promote X --force --reason TEXT` the
    active version, `kt end X` ends it.

    A file that is code (a pickled module, TorchScript, joblib) needs somebody's word:
    kt deploy net.pt --trust-code "trained by us" --example request.json

    Example: kt deploy model.pt --traffic 10 --ab-test bigger-memory
    """
    from kt.cli.registry import prepared, tell_gain
    from kt.deployments import deploy as room

    workspace = options.workspace()
    stamp = options.stamp(reason)
    experiment = name_of_experiment(ab_test, traffic)
    refuse_share(shadow, traffic, canary)
    refuse_unexplained(force, reason)
    plan = canary_of(canary, every, traffic)
    share = 10.0 if traffic is None and ab_test else traffic
    if share == 100 and not ab_test:
        share = None  # all the traffic is a deployment, not an experiment

    def run(candidate: Any) -> "Done":
        return room.deploy(
            workspace,
            candidate,
            stamp,
            traffic=share,
            experiment=experiment,
            canary=plan,
            shadow=shadow,
            dry_run=dry_run,
        )

    if named := version_named(workspace, what, model):
        from kt.registry import record

        tell_gain(record.read(workspace, named.model, named.version).scores)
        done = run(named)
    else:
        with prepared(
            workspace,
            Path(what),
            stamp,
            trust_code,
            model=model,
            version=version,
            family=family,
            config=config,
            example=example,
            force=force,
        ) as candidate:
            done = run(candidate)
    if wait and done.event and not dry_run:
        wait_for_predictors(workspace, done, timeout)
    has = "is a shadow" if shadow else "has that traffic"
    report(done, dry_run=dry_run, exit_code=exit_code, nothing=f"{what} {has} already")


def refuse_share(shadow: bool, traffic: float | None, canary: str) -> None:
    from kt.errors import Invalid

    if shadow and (traffic is not None or canary):
        raise Invalid(
            "a shadow gets a copy of the requests and no traffic",
            where="--shadow",
            do="leave --traffic and --canary out; give it traffic later: kt ramp X P",
        )


def refuse_unexplained(force: bool, reason: str) -> None:
    from kt.errors import Invalid

    if force and not reason:
        raise Invalid(
            "a forced deployment needs a reason",
            where="--reason",
            do="say why: --force --reason TEXT",
        )


def canary_of(steps: str, every: str, traffic: float | None) -> "Canary | None":
    """A canary's plan, as it is written on the command line."""
    from pydantic import ValidationError

    from kt.deployments.events import Canary
    from kt.errors import Invalid

    if not steps:
        return None
    if traffic is not None:
        raise Invalid("the steps of a canary set the traffic", where="--traffic", do="leave it out")
    try:
        shares = [float(step) for step in steps.split(",")]
        return Canary(steps=shares, every=options.seconds(every))
    except (ValueError, ValidationError) as error:
        raise Invalid(
            f"{steps[:60]!r} are no shares", where="--canary", do="write them as 10,25,50,100"
        ) from error


def wait_for_predictors(workspace: "Workspace", done: "Done", timeout: float) -> None:
    """Return when all serve it. Raises Refused, the change undone, where one cannot."""
    from kt.deployments import deploy as room
    from kt.errors import Refused
    from kt.predictor import presence

    problem = presence.wait(workspace, done.after.seq, timeout)
    if not problem:
        return
    undone = room.undo(workspace, done, options.stamp(f"undone: {problem}"[:200]))
    raise Refused(
        f"{problem}; the deployment is undone"
        + (f" (event {undone.event['seq']})" if undone.event else ""),
        do="see what the predictor says: kt status",
    )


def name_of_experiment(ab_test: str, traffic: float | None) -> str:
    from kt.config import check_name
    from kt.deployments.plan import check_traffic

    if traffic is not None:
        check_traffic(traffic)
    return check_name(ab_test, "an experiment") if ab_test else ""


def version_named(workspace: "Workspace", what: str, model: str) -> "Candidate | None":
    """MODEL@VERSION as a candidate; None for a file."""
    from kt.config import check_name
    from kt.deployments.deploy import version_of
    from kt.errors import Invalid

    if "@" not in what or os.path.lexists(what):
        return None
    name, _, version = what.partition("@")
    if model and model != name:
        raise Invalid(f"{what} is no version of {model}", where="--model", do="leave --model out")
    return version_of(workspace, check_name(name, "a model"), check_name(version, "a version"))
