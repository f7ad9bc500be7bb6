"""deploy, ramp, canary, promote, end, rollback: who serves whom, changed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
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
    from kt.deployments.plan import Candidate, Stamp
    from kt.workspace import Workspace

Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT", help="A running experiment.", autocompletion=complete.experiments
    ),
]


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
        float, typer.Option("--timeout", metavar="S", min=1, help="With --wait: seconds at most.")
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
    from kt.deployments import deploy as room

    workspace = options.workspace()
    stamp = options.stamp(reason)
    experiment = name_of_experiment(ab_test, traffic)
    refuse_share(shadow, traffic, canary)
    plan = canary_of(canary, every, traffic)
    share = 10.0 if traffic is None and ab_test else traffic
    if share == 100 and not ab_test:
        share = None  # all the traffic is a deployment, not an experiment
    if force and not reason:
        from kt.errors import Invalid

        raise Invalid(
            "a forced deployment needs a reason",
            where="--reason",
            do="say why: --force --reason TEXT",
        )

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

    from kt.cli.registry import prepared, tell_gain

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
        return Canary(steps=shares, every=seconds(every))
    except (ValueError, ValidationError) as error:
        raise Invalid(
            f"{steps[:60]!r} are no shares", where="--canary", do="write them as 10,25,50,100"
        ) from error


def seconds(text: str, option: str = "--every") -> int:
    """A duration as people write it: 30s, 10m, 1h, 2d."""
    from kt.errors import Invalid

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if not text.isascii() or not text[:-1].isdecimal() or text[-1:] not in units or len(text) > 9:
        raise Invalid(
            f"{text[:20]!r} is no duration", where=option, do="write it as 30s, 10m, 1h or 2d"
        )
    return int(text[:-1]) * units[text[-1]]


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
        nothing=f"{experiment} has {traffic:g} % already",
    )


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
        raise Invalid("name a version or a record, not both", where="--to-record")
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


def report(done: "Done", *, dry_run: bool, exit_code: bool, nothing: str) -> None:
    """What a change did, as one line of what is so now and one of how to undo it."""
    from kt.errors import ACTION_NEEDED

    for text in (*done.notes, *done.warnings):
        output.warn(text)
    event = done.event
    result = {
        "changed": event is not None and not dry_run,
        "dry_run": dry_run,
        "event": event,
        "record": done.record or None,
        "commit": done.commit or None,
        "manifest": done.after.model_dump(mode="json"),
        "diff": difference(done) if dry_run else None,
    }
    if event is None:
        output.emit(result, f"nothing to do: {nothing}")
        return
    told = tell(event, done)
    if dry_run:
        output.emit(result, [f"would: {line}" for line in told[:1]] + difference(done))
        if exit_code:
            raise typer.Exit(ACTION_NEEDED)
        return
    output.emit(
        result, [told[0], f"{told[1]}  Recorded as event {event['seq']}, {done.record[:7]}."]
    )


def tell(event: dict[str, Any], done: "Done") -> list[str]:
    """An event for people: what is so now, and what to do next."""
    model, kind = event["model"], event["kind"]
    route = done.after.models[model]
    active = route.active.version
    before = done.before.models.get(model)
    was = before.active.version if before else "nothing"
    share = f"{event.get('traffic', 0):g} %"
    match kind:
        case "deployed":
            undo = "Undo: kt rollback." if before else "Serve it: kt serve."
            return [f"{model}: {was} → {active}, 100 % of traffic.", undo]
        case "experiment_started" if event.get("shadow"):
            return [
                f"shadow {event['experiment']}: {model} {active} answers · {event['version']} gets a copy, never returned.",
                f"Undo: kt rollback.  Compare: kt status -w.  Then: kt ramp {event['experiment']} 10.",
            ]
        case "experiment_started":
            rest = f"{100 - event['traffic']:g} %"
            return [
                f"experiment {event['experiment']}: {model} {active} {rest} · {event['version']} {share}, sticky by unit.",
                "Undo: kt rollback.  Watch: kt status -w.",
            ]
        case "traffic_changed":
            name, trial = event["experiment"], before.experiment if before else None
            now = f"shadow {name}: a copy" if event.get("shadow") else f"experiment {name}: {share}"
            undo = f"kt ramp {name} {trial.treatments[0].traffic:g}" if trial else "kt rollback"
            if trial and trial.shadow:
                undo = f"kt deploy {model}@{trial.treatments[0].version} --shadow --ab-test {name}"
            return [f"{now} of traffic.", f"Undo: {undo}."]
        case "promoted":
            return [
                f"{model}: {was} → {active}, 100 % of traffic; {event['label']}.",
                "Undo: kt rollback.",
            ]
        case "experiment_ended" if event.get("aborted"):
            return [
                f"experiment {event['experiment']} aborted, {event['aborted']}:"
                f" {model} {active} takes 100 % of traffic.",
                f"Why: kt experiment {event['experiment']}.",
            ]
        case "experiment_ended":
            return [
                f"experiment {event['experiment']} ended: {model} {active} takes 100 % of traffic.",
                f"Again: kt deploy {model}@VERSION --ab-test NAME.",
            ]
        case _:
            ended = f"experiment {event['ended']} ended; " if event["ended"] else ""
            moved = (
                f"{model}: {was} → {active}."
                if was != active
                else f"{model} {active} takes 100 % of traffic."
            )
            undo = (
                f"Undo: kt rollback {was} --model {model}."
                if was != active
                else "Once more goes back a version: kt rollback."
            )
            return [ended + moved, undo]


def difference(done: "Done") -> list[str]:
    """The manifest's change, as a unified diff."""
    import difflib

    from kt.deployments import manifest

    old, new = (manifest.dump(side).decode().splitlines() for side in (done.before, done.after))
    return list(
        difflib.unified_diff(old, new, manifest.MANIFEST, manifest.MANIFEST, lineterm="", n=2)
    )
