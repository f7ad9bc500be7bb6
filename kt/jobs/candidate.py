"""What becomes of a candidate: kept out, registered, or given traffic; on what evidence."""

from typing import Any

from kt.deployments import audit, deploy
from kt.deployments.events import Canary
from kt.deployments.history import State
from kt.deployments.plan import Stamp
from kt.jobs.asked import Asked, Tell, Trainer, title, trial
from kt.jobs.runs import Comparison, Finished
from kt.jobs.written import common
from kt.registry import gate, register


def outcome(asked: Asked, training: Trainer, number: int, tell: Tell) -> Finished:
    """Train, compare with what is active now, and give the candidate what it has earned. Raises Failure."""
    scores = training.train()
    _, state = audit.read(asked.workspace)
    active = state.serving(asked.model).active
    known = (asked.model, active.version, active.sha256) if active else ()
    compared = training.compare(known)
    common_fields = {
        **common(asked, None),
        "run": number,
        "scores": compared["scores"] or scores,
    }
    found = compared["comparison"]
    comparison = Comparison.model_validate(found) if found else None
    if comparison:
        tell("compared", sentence(comparison))
        if not better(comparison, asked.job.margin):
            why = (
                f"not better by {asked.job.margin:g} beyond chance:"
                f" {comparison.metric} {comparison.gain:+.4f}"
            )
            return Finished(
                **{**common_fields, "reason": why}, outcome="kept", comparison=comparison
            )
    return adopted(asked, training, state, {**common_fields, "comparison": comparison}, tell)


def better(comparison: Comparison, margin: float) -> bool:
    """By the margin or more, and surely by more than nothing."""
    return comparison.gain >= margin and comparison.low > 0


def sentence(found: Comparison) -> str:
    return (
        f"{found.metric} {found.candidate:.4f} against {found.active:.4f} of the active version,"
        f" {found.gain:+.4f} (surely more than {found.low:+.4f}) on {found.units:,} held-out units"
    )


def adopted(
    asked: Asked, training: Trainer, state: State, fields: dict[str, Any], tell: Tell
) -> Finished:
    """Through the door and the gates into the registry, and where it was asked for into traffic. One that
    a gate refuses is kept out: to train the same again would not mend it."""
    workspace = asked.workspace
    request = register.Request(
        training.out,
        model=asked.model,
        by=asked.by,
        at=asked.at,
        reason=title(asked, fields["run"]),
    )
    active = {name: held.active.version for name, held in state.models.items() if held.active}
    try:
        with asked.admit(workspace, request, active, tell) as ready:
            return taken_in(asked, ready, state, fields)
    except gate.NotPassed as refusal:
        return Finished(**{**fields, "reason": refusal.what}, outcome="kept")


def taken_in(
    asked: Asked, ready: register.Prepared, state: State, fields: dict[str, Any]
) -> Finished:
    """What becomes of a candidate that passed the gates."""
    why_not = refused(asked, state)
    if asked.deploy and not why_not:
        done = give_traffic(asked, ready, state, int(fields["run"]))
        event = done.event or {}
        said = {"version": done.version, "experiment": str(event.get("experiment", ""))}
        return Finished(**{**fields, **said}, outcome="deployed")
    done = deploy.register(asked.workspace, ready, dry_run=False)
    fields = {**fields, "reason": why_not, "version": done.version}
    return Finished(**fields, outcome="registered")


def refused(asked: Asked, state: State) -> str:
    """Why a candidate that is better gets no traffic, or nothing."""
    running = state.serving(asked.model).experiment
    if not asked.deploy or asked.job.then == "register":
        return "the job registers only" if asked.deploy else ""
    return f"experiment {running.name} is running" if running else ""


def give_traffic(asked: Asked, ready: register.Prepared, state: State, number: int) -> deploy.Done:
    """An experiment or a canary; all of it where the model serves nothing yet."""
    job = asked.job
    first = state.serving(asked.model).active is None
    canary = None if first or job.then != "canary" else Canary(steps=job.steps, every=job.every)
    share = None if first or canary else job.traffic
    stamp = Stamp(asked.by, asked.at, asked.reason or title(asked, number))
    return deploy.deploy(
        asked.workspace,
        ready,
        stamp,
        traffic=share,
        experiment="" if first else trial(asked, number),
        canary=canary,
        dry_run=False,
    )
