"""What a change of traffic came to, for people and as JSON."""

from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from kt.cli import output

if TYPE_CHECKING:
    from kt.deployments.deploy import Done
    from kt.deployments.manifest import Route


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
    before = done.before.models.get(event["model"])
    turn = Turn(event, done.after.models[event["model"]].active.version, before)
    return TOLD[event["kind"]](turn)


class Turn(NamedTuple):
    """An event, what is active after it, and who was served before it."""

    event: dict[str, Any]
    active: str
    before: "Route | None"

    @property
    def model(self) -> str:
        return str(self.event["model"])

    @property
    def was(self) -> str:
        return self.before.active.version if self.before else "nothing"


def deployed(of: Turn) -> list[str]:
    undo = "Undo: kt rollback." if of.before else "Serve it: kt serve."
    return [f"{of.model}: {of.was} → {of.active}, 100 % of traffic.", undo]


def started(of: Turn) -> list[str]:
    name, version = of.event["experiment"], of.event["version"]
    if of.event.get("shadow"):
        return [
            f"shadow {name}: {of.model} {of.active} answers · {version} gets a copy, never returned.",
            f"Undo: kt rollback.  Compare: kt status -w.  Then: kt ramp {name} 10.",
        ]
    share = of.event["traffic"]
    return [
        f"experiment {name}: {of.model} {of.active} {100 - share:g} % · {version} {share:g} %, sticky by unit.",
        "Undo: kt rollback.  Watch: kt status -w.",
    ]


def ramped(of: Turn) -> list[str]:
    name, trial = of.event["experiment"], of.before.experiment if of.before else None
    now = f"experiment {name}: {of.event.get('traffic', 0):g} %"
    if of.event.get("shadow"):
        now = f"shadow {name}: a copy"
    undo = f"kt ramp {name} {trial.treatments[0].traffic:g}" if trial else "kt rollback"
    if trial and trial.shadow:
        undo = f"kt deploy {of.model}@{trial.treatments[0].version} --shadow --ab-test {name}"
    return [f"{now} of traffic.", f"Undo: {undo}."]


def promoted(of: Turn) -> list[str]:
    label = of.event["label"]
    return [
        f"{of.model}: {of.was} → {of.active}, 100 % of traffic; {label}.",
        "Undo: kt rollback.",
    ]


def ended(of: Turn) -> list[str]:
    name, now = of.event["experiment"], f"{of.model} {of.active} takes 100 % of traffic."
    if why := of.event.get("aborted"):
        return [f"experiment {name} aborted, {why}: {now}", f"Why: kt experiment {name}."]
    again = f"Again: kt deploy {of.model}@VERSION --ab-test NAME."
    return [f"experiment {name} ended: {now}", again]


def rolled_back(of: Turn) -> list[str]:
    over = f"experiment {of.event['ended']} ended; " if of.event["ended"] else ""
    if of.was == of.active:
        now = f"{of.model} {of.active} takes 100 % of traffic."
        return [over + now, "Once more goes back a version: kt rollback."]
    undo = f"Undo: kt rollback {of.was} --model {of.model}."
    return [f"{over}{of.model}: {of.was} → {of.active}.", undo]


TOLD = {
    "deployed": deployed,
    "experiment_started": started,
    "traffic_changed": ramped,
    "promoted": promoted,
    "experiment_ended": ended,
    "rolled_back": rolled_back,
}


def difference(done: "Done") -> list[str]:
    """The manifest's change, as a unified diff."""
    import difflib

    from kt.deployments import manifest

    old, new = (manifest.dump(side).decode().splitlines() for side in (done.before, done.after))
    return list(
        difflib.unified_diff(old, new, manifest.MANIFEST, manifest.MANIFEST, lineterm="", n=2)
    )
