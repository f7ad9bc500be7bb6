"""calibrate: probabilities that hold again, as a new version."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kt.cli import models, options, output
from kt.cli.options import DryRun, ExitCode, Json, Quiet, Reason, Registered
from kt.cli.registry import prepared

if TYPE_CHECKING:
    from kt.registry.load import Loaded
    from kt.registry.recalibrate import Evidence
    from kt.registry.record import VersionRecord
    from kt.workspace import Workspace


def calibrate(
    what: Registered,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Held-out answers, as for kt evaluate; the outcomes of its live answers without.",
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "platt", "isotonic", "temperature"],
        typer.Option(
            "--method",
            help="auto: platt below 5,000 answers, isotonic from there on; temperature for more than two categories.",
        ),
    ] = "auto",
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Calibrate a version anew: the same weights with another calibrator, as a new version without traffic.

    What its probabilities go through is fitted on the older 70 % of what came true (of --data the first
    70 % of its students), 1,000 answers at least, and judged on the rest. It is kept only if both the
    calibration error and the Brier score are lower there.

    Example: kt calibrate sakt@v2 --data answers/test.csv
    """
    from kt.errors import ACTION_NEEDED
    from kt.registry import load, recalibrate, record

    workspace = options.workspace()
    model, version = options.version_of(what)
    known = record.read(workspace, model, version)
    loaded = load.load(workspace.root, model, version, known.sha256)
    recalibrate.refuse_unable(what, loaded, method)
    evidence = recalibrate.of_data(loaded, data) if data else outcomes(workspace, loaded, known)
    tried = recalibrate.attempt(evidence, method)
    output.step(
        "answers",
        f"{evidence.on}: {tried.fitted_on:,} fitted on, {tried.judged_on:,} newer ones judged on",
    )
    output.step("calibration", models.calibrated(tried.summary()))
    result: dict[str, Any] = {
        "model": model,
        "of": version,
        "version": None,
        "changed": False,
        "dry_run": dry_run,
        "calibration": tried.summary(),
    }
    if not tried.helps:
        output.emit(result, f"{what} stays as it is: that helps on no other answers")
        return
    if dry_run:
        output.emit(result, f"{what} would become a new version")
        if exit_code:
            raise typer.Exit(ACTION_NEEDED)
        return
    with TemporaryDirectory(prefix="kt-") as folder:
        path = Path(folder) / f"{model}-{version}-{tried.calibrator.method}.pt"
        recalibrate.write(path, known, loaded, evidence, tried)
        result |= registered(workspace, path, known, reason or f"{what} calibrated anew")
    name = f"{model}@{result['version']}"
    output.emit(result, f"{name} is {what} with another calibrator.  Next: kt deploy {name}")


def outcomes(workspace: "Workspace", loaded: "Loaded", known: "VersionRecord") -> "Evidence":
    """Those of the tables that are mature."""
    from kt import clock
    from kt.registry import recalibrate
    from kt.store import connect

    store = connect.peek(workspace.root, workspace.settings)
    mature = round(60 * workspace.settings.monitor.mature)
    end = int(clock.now().timestamp()) // 60 - mature
    return recalibrate.of_outcomes(store, loaded, known, end)


def registered(
    workspace: "Workspace", path: Path, known: "VersionRecord", reason: str
) -> dict[str, Any]:
    """The file as a version, past the gates as any other; whose code was run, of that it is remembered."""
    from dataclasses import replace

    from kt.deployments import deploy as room

    stamp = options.stamp(reason)
    with prepared(workspace, path, stamp, None, model=known.model) as ready:
        if known.trusted and not ready.existing:
            draft = ready.draft.model_copy(update={"trusted": known.trusted})
            ready = replace(ready, draft=draft)
        done = room.register(workspace, ready, dry_run=False)
    for text in (*done.notes, *done.warnings):
        output.warn(text)
    return {"version": done.version, "changed": not ready.existing}
