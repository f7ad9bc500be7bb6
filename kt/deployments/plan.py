"""What a command would write: state + request -> events, or Refused. Pure.

Every plan asks `history.apply` whether its events may follow, so the plan and the fold read one
transition table; what is added here is the way out that a refusal names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from kt.deployments.events import (
    AnyEvent,
    Canary,
    Deployed,
    ExperimentEnded,
    ExperimentStarted,
    Promoted,
    RolledBack,
    TrafficChanged,
)
from kt.deployments.history import Experiment, Serving, State
from kt.errors import Invalid, Refused, Undecided
from kt.event import LONGEST

WORDS = {"list", "plan"}  # kt experiment takes them in the place of a name


@dataclass(frozen=True)
class Stamp:
    """Who, when, why: the part of an event that a plan cannot know."""

    by: str
    at: str  # ISO 8601, UTC
    reason: str = ""


@dataclass(frozen=True)
class Candidate:
    """The version that a command is about."""

    model: str
    version: str
    sha256: str
    forced: bool = False  # past a gate's refusal
    trusted: str = ""  # why the code in its file was run


def deploy(state: State, candidate: Candidate, stamp: Stamp) -> list[AnyEvent]:
    """All the traffic for the candidate. Nothing to do where it has it already."""
    serving = state.serving(candidate.model)
    refuse_experiment(candidate.model, serving)
    if serving.active and serving.active.version == candidate.version:
        return []
    return [
        Deployed(
            **common(state, candidate.model, stamp),
            version=candidate.version,
            sha256=candidate.sha256,
            forced=candidate.forced,
            trusted=candidate.trusted,
        )
    ]


def experiment(
    state: State, candidate: Candidate, name: str, traffic: float, stamp: Stamp
) -> list[AnyEvent]:
    """A share of the units for the candidate. The running experiment's own name changes its traffic."""
    check_traffic(traffic)
    serving = state.serving(candidate.model)
    if serving.active is None:
        raise Refused(
            f"{candidate.model} serves nothing yet: an experiment needs a control",
            do="the first deployment takes 100 %: leave --traffic and --ab-test out",
        )
    running = serving.experiment
    if running and running.name == name and running.version == candidate.version:
        return ramp(state, name, traffic, stamp)
    return start(state, candidate, name, stamp, traffic=traffic)


def shadow(state: State, candidate: Candidate, name: str, stamp: Stamp) -> list[AnyEvent]:
    """A copy of the requests for the candidate, and no traffic. Under the running experiment's own
    name its treatment becomes a shadow."""
    serving = state.serving(candidate.model)
    if serving.active is None:
        raise Refused(
            f"{candidate.model} serves nothing yet: there is nothing to shadow",
            do="the first deployment takes 100 %: leave --shadow out",
        )
    running = serving.experiment
    if running and running.name == name and running.version == candidate.version:
        if running.canary:  # its next step would give the traffic back
            refuse_experiment(candidate.model, serving)
        return ramp(state, name, 0, stamp, shadow=True)
    return start(state, candidate, name, stamp, traffic=0, shadow=True)


def start(
    state: State, candidate: Candidate, name: str, stamp: Stamp, **share: Any
) -> list[AnyEvent]:
    """A new experiment beside the active version. share: how much it gets, as the event says it."""
    serving = state.serving(candidate.model)
    refuse_experiment(candidate.model, serving)
    if name in WORDS:
        raise Invalid(f"an experiment cannot be called {name}", do="name it: --ab-test NAME")
    if serving.active and serving.active.version == candidate.version:
        raise Refused(
            f"{candidate.model}@{candidate.version} is active already", do="deploy another version"
        )
    if other := next(
        (
            model
            for model, held in state.models.items()
            if held.experiment and held.experiment.name == name
        ),
        None,
    ):
        raise Refused(
            f"an experiment {name} is running on {other}",
            do="give this one another name: --ab-test NAME",
        )
    return [
        ExperimentStarted(
            **common(state, candidate.model, stamp),
            experiment=name,
            version=candidate.version,
            sha256=candidate.sha256,
            forced=candidate.forced,
            trusted=candidate.trusted,
            **share,
        )
    ]


def canary(
    state: State, candidate: Candidate, name: str, plan: Canary, stamp: Stamp
) -> list[AnyEvent]:
    """An experiment that begins at the plan's first step and is advanced by `step`."""
    rising = all(one < next_one for one, next_one in pairwise(plan.steps))
    if not rising:
        raise Invalid(
            "the steps of a canary must rise", where="--canary", do="write them as 10,25,50,100"
        )
    refuse_experiment(candidate.model, state.serving(candidate.model))
    return [
        event.model_copy(update={"canary": plan})
        for event in experiment(state, candidate, name, plan.steps[0], stamp)
    ]


def step(state: State, name: str, stamp: Stamp, *, early: bool = False) -> list[AnyEvent]:
    """The next step of a canary, once this one has lasted; nothing before. early: at once."""
    model, running = find(state, name)
    if running.canary is None:
        raise Refused(f"{name} is no canary", do=f"change its traffic by hand: kt ramp {name} P")
    if not early and stamp.at < due_at(running):
        return []
    later = [share for share in running.canary.steps if share > running.traffic]
    if later and later[0] < 100:
        return [TrafficChanged(**common(state, model, stamp), experiment=name, traffic=later[0])]
    if not later and running.canary.steps[-1] < 100:
        return []  # a plan that ends below 100 leaves the promotion to a person
    return [
        Promoted(
            **common(state, model, stamp),
            experiment=name,
            version=running.version,
            label=f"canary-{name}",
            evidence={
                "verdict": "canary",
                "steps": running.canary.steps,
                "every": running.canary.every,
            },
        )
    ]


def due_at(running: Experiment) -> str:
    """When a canary's present step has lasted, ISO 8601."""
    assert running.canary is not None
    began = datetime.fromisoformat(running.changed)
    lasts = min(running.canary.every, LONGEST)  # a history may hold more
    return (began + timedelta(seconds=lasts)).strftime("%Y-%m-%dT%H:%M:%SZ")


def ramp(
    state: State, name: str, traffic: float, stamp: Stamp, *, shadow: bool = False
) -> list[AnyEvent]:
    """Another share for a running experiment. A shadow becomes an ordinary treatment, unless `shadow`."""
    check_traffic(traffic)
    model, running = find(state, name)
    if (running.traffic, running.shadow) == (traffic, shadow):
        return []
    return [
        TrafficChanged(
            **common(state, model, stamp), experiment=name, traffic=traffic, shadow=shadow
        )
    ]


def promote(
    state: State, name: str, stamp: Stamp, *, evidence: dict[str, Any] | None, force: bool
) -> list[AnyEvent]:
    """All the traffic for the treatment, on evidence or by force.

    evidence: the experiment's report. Its `verdict` says better, worse or undecided, `missing` what
    would decide it, `against` what speaks against a promotion whatever the verdict is.
    """
    if finished(state, name, "promoted"):
        return []
    model, running = find(state, name)
    if not force:
        judge(running, evidence)
    if force and not stamp.reason:
        raise Invalid(
            "a forced promotion needs a reason",
            where="--reason",
            do=f"kt promote {name} --force --reason TEXT",
        )
    return [
        Promoted(
            **common(state, model, stamp),
            experiment=name,
            version=running.version,
            label=f"shadow-{name}" if running.shadow else f"ab-winner-{name}",
            evidence=evidence,
            forced=force,
        )
    ]


def judge(running: Experiment, evidence: Mapping[str, Any] | None) -> None:
    """Refuse a promotion that the evidence does not support."""
    name = running.name
    if running.shadow:
        raise Undecided(
            f"{name} is undecided: nobody saw a shadow's answers, so they have no outcomes",
            do=f"give it traffic (kt ramp {name} 10), end it (kt end {name}), or promote without"
            f" evidence: kt promote {name} --force --reason TEXT",
        )
    found = evidence or {"missing": "no outcomes have been recorded"}
    against = found.get("against") or (
        "the treatment is worse than the control" if found.get("verdict") == "worse" else ""
    )
    if against:
        raise Refused(
            f"{name} is not promoted: {against}",
            do=f"end it: kt end {name}, or promote it all the same: kt promote {name} --force --reason TEXT",
        )
    missing = found.get("missing", "not enough outcomes")
    if found.get("phase", running.phase) != running.phase:
        missing = "its traffic was changed while the report was made; run the same command again"
    elif found.get("verdict") == "better":
        return
    raise Undecided(
        f"{name} is undecided: {missing}",
        do=f"wait, end it (kt end {name}), or promote without evidence: kt promote {name} --force --reason TEXT",
    )


def end(state: State, name: str, stamp: Stamp) -> list[AnyEvent]:
    """The control takes the treatment's traffic back."""
    if finished(state, name, "experiment_ended"):
        return []
    model, _ = find(state, name)
    return [ExperimentEnded(**common(state, model, stamp), experiment=name)]


def abort(
    state: State, name: str, phase: int, why: str, stamp: Stamp, evidence: dict[str, Any]
) -> list[AnyEvent]:
    """The control takes the traffic back because a guardrail is broken.

    phase: the one in which it broke. Nothing to do where it is over: somebody was faster.
    """
    model = within(state, name, phase)
    if model is None:
        return []
    return [
        ExperimentEnded(
            **common(state, model, stamp), experiment=name, aborted=why, evidence=evidence
        )
    ]


def reweight(state: State, name: str, phase: int, traffic: float, stamp: Stamp) -> list[AnyEvent]:
    """Another share for a running experiment, unless somebody changed it since `phase` began."""
    return [] if within(state, name, phase) is None else ramp(state, name, traffic, stamp)


def within(state: State, name: str, phase: int) -> str | None:
    """The model whose experiment of this name is in this phase."""
    for model, serving in state.models.items():
        running = serving.experiment
        if running and (running.name, running.phase) == (name, phase):
            return model
    return None


def roll_back(
    state: State, model: str, stamp: Stamp, *, version: str = "", bad: bool = False
) -> list[AnyEvent]:
    """Undo the last change of traffic, or go back to a version that was active before.

    With an experiment running and no version named, only the experiment ends: a second rollback goes
    back a version. bad: mark the version that is left, so that no rollback returns to it by itself.
    """
    serving = state.serving(model)
    active = serving.active
    if active is None:
        raise Refused(
            f"{model} serves nothing: there is nothing to roll back",
            do="see what there is: kt models",
        )
    ended = serving.experiment.name if serving.experiment else ""
    target = version or (active.version if ended else before(model, serving))
    if target == active.version and not ended:
        return []
    if target not in serving.past:
        raise Refused(
            f"{model}@{target} was never active",
            do=f"those that were: {', '.join(serving.past)}; or deploy it: kt deploy {model}@{target}",
        )
    return [RolledBack(**common(state, model, stamp), version=target, ended=ended, bad=bad)]


def before(model: str, serving: Serving) -> str:
    """The last different version that was active before and is not marked bad."""
    assert serving.active is not None
    for held in reversed(serving.stack[:-1]):
        if held.version != serving.active.version and held.version not in serving.bad:
            return held.version
    marked = ", ".join(sorted(serving.bad & set(serving.past)))
    raise Refused(
        f"{model}@{serving.active.version} has no version before it to go back to"
        + (f" ({marked} is marked bad)" if marked else ""),
        do=f"name one: kt rollback VERSION --model {model}, or deploy another: kt deploy FILE",
    )


def finished(state: State, name: str, kind: str) -> bool:
    """Whether this is what happened last to an experiment: the same command again has nothing to do."""
    return any(
        serving.finished == (name, kind) and not serving.experiment
        for serving in state.models.values()
    )


def find(state: State, name: str) -> tuple[str, Experiment]:
    """The model and the experiment that is running under this name."""
    running = {
        serving.experiment.name: (model, serving.experiment)
        for model, serving in state.models.items()
        if serving.experiment
    }
    if name not in running:
        raise Refused(
            f"no experiment {name} is running",
            do=f"running: {', '.join(sorted(running))}"
            if running
            else "none is; start one: kt deploy FILE --traffic 10 --ab-test NAME",
        )
    return running[name]


def refuse_experiment(model: str, serving: Serving) -> None:
    if serving.experiment:
        name = serving.experiment.name
        raise Refused(
            f"experiment {name} is running on {model}",
            do=f"promote or end it first: kt promote {name} | kt end {name}",
        )


def check_traffic(traffic: float) -> None:
    if not 0 <= traffic <= 100:
        raise Invalid(
            f"traffic is {traffic:g}, it must lie between 0 and 100 percent",
            do="give a percentage: 10",
        )


def common(state: State, model: str, stamp: Stamp) -> dict[str, Any]:
    """The fields that every event has."""
    return {
        "seq": state.seq + 1,
        "prev": state.head,
        "at": stamp.at,
        "by": stamp.by,
        "model": model,
        "reason": stamp.reason,
    }
