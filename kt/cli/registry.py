"""register, models, show: which versions exist, and what each one is."""

from collections.abc import Iterator
from contextlib import contextmanager
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
    Registered,
    Trust,
    Version,
)

if TYPE_CHECKING:
    from kt.deployments.history import Serving
    from kt.deployments.plan import Stamp
    from kt.registry.record import VersionRecord
    from kt.registry.register import Prepared
    from kt.workspace import Workspace


@contextmanager
def prepared(
    workspace: "Workspace",
    path: Path,
    stamp: "Stamp",
    trust: str | None,
    **more: Any,
) -> "Iterator[Prepared]":
    """A file made ready to be a version, its steps told as they happen. more: fields of a Request."""
    from kt.deployments import audit
    from kt.registry import door
    from kt.registry.register import Request

    _, state = audit.read(workspace)
    active = {name: held.active.version for name, held in state.models.items() if held.active}
    request = Request(
        path,
        trust=options.vouched(trust),
        by=stamp.by,
        at=stamp.at,
        reason=stamp.reason,
        **more,
    )
    with door.prepared(workspace, request, active, output.step) as ready:
        for verdict in ready.draft.gates:
            if not ready.existing:
                output.step(
                    verdict.gate, ("" if verdict.passed else "NOT PASSED: ") + verdict.sentence
                )
        if not ready.existing:
            output.step("engines", ready.draft.engines)
        tell_gain(ready.draft.scores)
        yield ready


def tell_gain(scores: dict[str, Any]) -> None:
    """What a version gains over the references trained beside it, where that is known."""
    from kt.models import gain

    if found := gain.of(scores):
        output.step("references", str(found))
        if not found.is_sure:
            output.warn(found.warning)


def register(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A model file.", readable=False)],
    model: Model = "",
    version: Version = "",
    family: Family = "",
    config: Config = None,
    example: Example = None,
    trust_code: Trust = None,
    force: Force = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a file a version, without traffic. The same file again is the same version.

    A file that is code (a pickled module, TorchScript, joblib) needs somebody's word:
    kt register net.pt --trust-code "trained by us" --example request.json

    Example: kt register model.pt --model sakt
    """
    from kt.deployments import deploy as room
    from kt.errors import ACTION_NEEDED

    workspace = options.workspace()
    stamp = options.stamp(reason)
    with prepared(
        workspace,
        path,
        stamp,
        trust_code,
        model=model,
        version=version,
        family=family,
        config=config,
        example=example,
        force=force,
    ) as ready:
        done = room.register(workspace, ready, dry_run=dry_run)
    name = done.version
    for text in (*done.notes, *done.warnings):
        output.warn(text)
    result = {
        "model": ready.model,
        "version": name,
        "sha256": ready.sha256,
        "new": not ready.existing,
        "dry_run": dry_run,
    }
    known = (
        "is registered already"
        if ready.existing
        else "would be registered"
        if dry_run
        else "is registered, without traffic"
    )
    output.emit(result, f"{ready.model}@{name} {known}.  Next: kt deploy {ready.model}@{name}")
    if dry_run and exit_code and not ready.existing:
        raise typer.Exit(ACTION_NEEDED)


def models(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="One model's versions; all models without.",
            autocompletion=complete.models,
        ),
    ] = "",
    last: Annotated[
        int,
        typer.Option(
            "--last", "-n", metavar="N", min=0, help="Only the last N versions; 0 for all."
        ),
    ] = 20,
    json: Json = False,
) -> None:
    """The models, or one model's versions.

    Example: kt models sakt
    """
    from kt.config import check_name
    from kt.deployments import audit
    from kt.registry import record

    workspace = options.workspace()
    _, state = audit.read(workspace)
    if not model:
        summaries = [
            summary(name, record.versions(workspace, name), state.serving(name).active)
            for name in record.models(workspace)
        ]
        output.emit({"models": summaries}, table_of_models(summaries))
        return
    names = record.versions(workspace, check_name(model, "a model"))
    if not names:
        raise record.unknown(workspace, model, "")
    serving = state.serving(model)
    latest = reversed(names[-last:] if last else names)
    rows = [version_row(workspace, serving, record.read(workspace, model, each)) for each in latest]
    text = [table_of_versions(rows)]
    if len(rows) < len(names):
        text.append(f"{len(names) - len(rows)} earlier: kt models {model} --last 0")
    output.emit({"model": model, "versions": rows, "total": len(names)}, text)


def table_of_models(summaries: list[dict[str, Any]]) -> str:
    if not summaries:
        return "there are no models yet.  Next: kt deploy FILE"
    cells = [
        (row["model"], row["active"] or "-", row["latest"] or "-", row["versions"])
        for row in summaries
    ]
    return output.table(("MODEL", "ACTIVE", "LATEST", "VERSIONS"), cells)


def version_row(
    workspace: "Workspace", serving: "Serving", known: "VersionRecord"
) -> dict[str, Any]:
    """What `kt models MODEL` says of a version."""
    from kt.registry import absence, signing

    signed = signing.standing(workspace, known)
    name, trial = known.version, serving.experiment
    where = "active" if serving.active and serving.active.version == name else ""
    if trial and trial.version == name:
        where = f"treatment, {trial.traffic:g} %"
    return {
        "version": name,
        "serves": where,
        "family": known.spec.family,
        "size": known.size,
        "weights": absence.where(workspace, known.model, name),
        "parameters": known.parameters,
        "engine": "onnx" if known.graph.sha256 else "torch",
        "score": headline(known.scores),
        "created_at": known.created_at,
        "by": known.by,
        "labels": list(serving.labels.get(name, ())),
        "signed_by": signed.by or None,
        "signature_problem": signed.problem or None,
        "sha256": known.sha256,
    }


def table_of_versions(rows: list[dict[str, Any]]) -> str:
    """One line a version; without a column on signatures where there are none."""
    headers = (
        *("VERSION", "SERVES", "FAMILY", "SIZE", "SCORE", "CREATED", "BY", "LABELS"),
        "SIGNED",
    )
    cells = [
        (
            row["version"],
            row["serves"],
            row["family"],
            output.bytes_of(row["size"])
            + ("" if row["weights"] == "here" else f", {row['weights']}"),
            row["score"] or "-",
            row["created_at"],
            row["by"],
            ", ".join(row["labels"]),
            row["signed_by"] or ("NOT GOOD" if row["signature_problem"] else ""),
        )
        for row in rows
    ]
    if any(cell[-1] for cell in cells):
        return output.table(headers, cells)
    return output.table(headers[:-1], [cell[:-1] for cell in cells])


def summary(model: str, versions: list[str], active: Any) -> dict[str, Any]:
    return {
        "model": model,
        "active": active.version if active else None,
        "latest": versions[-1] if versions else None,
        "versions": len(versions),
    }


def headline(scores: dict[str, Any]) -> str | None:
    """The score that training stopped on, as trained."""
    metric = scores.get("metric")
    value = scores.get(metric) if isinstance(metric, str) else None
    return f"{metric} {value:.4f}" if isinstance(value, float) else None


def show(
    what: Registered,
    json: Json = False,
) -> None:
    """Everything that is known of a version: origin, configuration, scores, gates, life.

    Example: kt show sakt@v2
    """
    from kt.deployments import audit
    from kt.deployments.events import describe
    from kt.registry import absence, record, signing

    workspace = options.workspace()
    name, version = options.version_of(what)
    known = record.read(workspace, name, version)
    book, _ = audit.read(workspace)
    life = [
        event for event in book.events if event["model"] == name and event.get("version") == version
    ]
    weights = absence.where(workspace, name, version)
    signed = signing.standing(workspace, known)
    facts = {
        **known.model_dump(mode="json"),
        "reason": known.reason or None,
        "trusted": known.trusted or None,
        "graph": known.graph.model_dump(),
        "steps": known.steps.model_dump(),
        "reference": known.reference and known.reference.model_dump(),
        "signed_by": signed.by or None,
        "signature_problem": signed.problem or None,
        "weights": weights,
        "events": life,
    }
    away = absence.of(workspace, name, version)
    missing = "" if weights == "here" else away.sentence if away else weights
    events = [f"  event {each['seq']:<5} {each['at']} {describe(each)}" for each in life[-10:]]
    output.emit(facts, [f"{name}@{version}", *about(known, missing, str(signed)), *events])


def about(known: "VersionRecord", missing: str, signed: str) -> Iterator[str]:
    """A record, a line a fact. missing: where its weights are, if not here."""
    from kt.models import gain

    spec, source, made = known.spec, known.source, known.made_with
    size, of = output.bytes_of(known.size), output.bytes_of(source.size)
    yield f"  family      {spec.family}: {brief(spec.config)}".removesuffix(": ")
    yield f"  requests    {spec.form.rpartition('.')[2]}: {brief(spec.signature)}"
    yield f"  weights     {size}, {known.parameters:,} parameters, sha256 {known.sha256}"
    if missing:
        yield f"              not here: {missing}"
    yield f"  from        {output.safe(source.name)} ({source.format}, {of}, sha256 {source.sha256[:12]}…)"
    yield f"  engines     {known.engines}"
    if known.trusted:
        yield f"  trusted     its code was run to read it: {known.trusted}"
    after, versions = known.parent or "nothing", f"kt {made.get('kt')}, torch {made.get('torch')}"
    yield f"  registered  {known.created_at} by {known.by}, after {after}; {versions}"
    if signed:
        yield f"  signed      {signed}"
    if known.reason:
        yield f"  reason      {known.reason}"
    yield f"  scores      {brief(known.scores) or 'none are known'}"
    if found := gain.of(known.scores):
        yield f"  references  {found}"
    if held := calibration(known):
        yield f"  calibration {held}"
    for gate in known.gates:
        said = gate.sentence if gate.passed else f"NOT PASSED: {gate.sentence}"
        yield f"  gate        {gate.gate}: {said}"


def calibration(known: "VersionRecord") -> str:
    """What its probabilities go through, and how well they hold: platt, ECE 0.0123 on 4,210 predictions."""
    fitted = known.spec.signature.get("calibration")
    method = [fitted["method"]] if fitted else []
    held = known.reference
    on = "live outcomes" if held and held.source == "outcomes" else "held-out predictions"
    error = [f"ECE {held.ece:.4f} on {held.n:,} {on}"] if held else []
    return ", ".join([*method, *error])


def sign(
    what: Registered,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="Your ssh key; kt.toml's, [signing] key, without."
        ),
    ] = None,
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Sign a version's record with your ssh key: you stand for these weights.

    Example: kt sign sakt@v2 --key ~/.ssh/id_ed25519
    """
    from kt.deployments import deploy as room
    from kt.errors import ACTION_NEEDED, Invalid
    from kt.registry import record, signing

    workspace = options.workspace()
    settings = workspace.settings.signing
    model, version = options.version_of(what)
    if key is None and not settings.key:
        raise Invalid("which key?", where="--key", do="name yours: --key ~/.ssh/id_ed25519")
    chosen = key.expanduser() if key else workspace.root / Path(settings.key).expanduser()
    done = room.sign(workspace, model, version, chosen, dry_run=dry_run)
    if dry_run:
        said = "has this signature already" if done is None else "would be signed"
        output.emit({"model": model, "version": version, "changed": False}, f"{what} {said}")
        if exit_code and done is not None:
            raise typer.Exit(ACTION_NEEDED)
        return
    for text in room.pending(done) if done else ():
        output.warn(text)
    signed = signing.standing(workspace, record.read(workspace, model, version))
    if signed.problem:
        output.warn(f"{signed.problem}: add your key to {settings.allowed}")
    result = {
        "model": model,
        "version": version,
        "changed": done is not None,
        "signed_by": signed.by or None,
    }
    output.emit(result, f"{what} is signed" + (f" by {signed.by}." if signed.by else "."))


def brief(values: dict[str, Any]) -> str:
    """Names and values in one line; a few names as they are, other lists as their length, tables left out."""
    parts = []
    for key, value in values.items():
        if isinstance(value, list | tuple):
            named = [one.get("name") if isinstance(one, dict) else one for one in value]
            names = [name for name in named if isinstance(name, str)]
            few = len(names) == len(value) <= 3
            parts.append(f"{key} {' '.join(names)}" if few else f"{len(value)} {key}")
        elif isinstance(value, float):
            parts.append(f"{key} {value:.4g}")
        elif not isinstance(value, dict):
            parts.append(f"{key} {value}")
    return output.short(", ".join(parts), 160)
