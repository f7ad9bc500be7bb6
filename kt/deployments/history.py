"""The fold: what is deployed now is a pure function of what has happened.

    state = fold(events)

Rollback, audit, `kt status --at` and `kt verify` are this one function on different slices of one
list. `apply` is the transition table; `plan.py` asks the same table before an event exists, so an
impossible step in a history means that the history is damaged.

  now               deploy v   start x     ramp x   promote x   end x   roll back
  serves nothing    push v     -           -        -           -       -
  serves a          push v     begin x     -        -           -       drop a, or down to the named
  experiment x      -          -           set      push, end   end     end x (and down to the named)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

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
from kt.event import Impossible


@dataclass(frozen=True, slots=True)
class Held:
    """A version that takes, or took, all the traffic of its model."""

    version: str
    sha256: str
    since: str  # ISO 8601
    seq: int  # the event that gave it the traffic


@dataclass(frozen=True, slots=True)
class Experiment:
    name: str
    version: str  # the treatment; the control is the active version
    sha256: str
    traffic: float  # percent
    since: str
    phase: int  # seq of the event that last set the traffic
    changed: str  # when that was, ISO 8601
    canary: Canary | None = None
    shadow: bool = False  # gets a copy of every request, and no traffic


@dataclass(frozen=True, slots=True)
class Serving:
    """One model. stack: those that held all the traffic, the active one last."""

    stack: tuple[Held, ...] = ()
    experiment: Experiment | None = None
    left: Held | None = None  # the version that was active before the last change
    past: Mapping[str, Held] = field(default_factory=dict)  # every version that was ever active
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by version
    bad: frozenset[str] = frozenset()  # marked by a rollback; cleared by a new deployment
    forced: frozenset[str] = frozenset()  # deployed past a gate's refusal
    trusted: Mapping[str, str] = field(default_factory=dict)  # by version: why its code was run
    finished: tuple[str, str] | None = (
        None  # the last experiment and how it finished: an event's kind
    )

    @property
    def active(self) -> Held | None:
        return self.stack[-1] if self.stack else None


@dataclass(frozen=True, slots=True)
class State:
    """seq and head: number and digest of the last event that is folded in."""

    seq: int = 0
    head: str = ""
    models: Mapping[str, Serving] = field(default_factory=dict)

    def serving(self, model: str) -> Serving:
        return self.models.get(model, Serving())


EMPTY = State()


def fold(events: Iterable[AnyEvent], state: State = EMPTY) -> State:
    """The state after `events`. Its `head` is the reader's to fill in: digests are the journal's."""
    models = dict(state.models)
    seq = state.seq
    for event in events:
        models[event.model] = apply(models.get(event.model, Serving()), event)
        seq = event.seq
    return State(seq, state.head, models)


def apply(serving: Serving, event: AnyEvent) -> Serving:
    """One step of one model. Raises Impossible."""
    match event:
        case Deployed():
            return deployed(serving, event)
        case ExperimentStarted():
            return started(serving, event)
        case TrafficChanged():
            experiment = running(serving, event.experiment)
            changed = replace(
                experiment,
                traffic=event.traffic,
                shadow=event.shadow,
                phase=event.seq,
                changed=event.at,
            )
            return replace(serving, experiment=changed)
        case Promoted():
            return promoted(serving, event)
        case ExperimentEnded():
            running(serving, event.experiment)
            return replace(serving, experiment=None, finished=(event.experiment, event.kind))
        case RolledBack():
            return rolled_back(serving, event)


def running(serving: Serving, name: str) -> Experiment:
    if serving.experiment is None or serving.experiment.name != name:
        raise Impossible(f"no experiment {name} is running")
    return serving.experiment


def no_experiment(serving: Serving) -> None:
    if serving.experiment is not None:
        raise Impossible(f"experiment {serving.experiment.name} is running")


def push(serving: Serving, held: Held) -> Serving:
    return replace(
        serving,
        stack=(*serving.stack, held),
        left=serving.active,
        past={**serving.past, held.version: held},
        experiment=None,
    )


def deployed(serving: Serving, event: Deployed) -> Serving:
    no_experiment(serving)
    if serving.active and serving.active.version == event.version:
        raise Impossible(f"{event.version} is active already")
    after = push(marked(serving, event), Held(event.version, event.sha256, event.at, event.seq))
    return replace(after, bad=serving.bad - {event.version})


def marked(serving: Serving, event: Deployed | ExperimentStarted) -> Serving:
    """What a version was let past, or that it was not."""
    forced, trusted = serving.forced - {event.version}, dict(serving.trusted)
    trusted.pop(event.version, None)
    if event.forced:
        forced |= {event.version}
    if event.trusted:
        trusted[event.version] = event.trusted
    return replace(serving, forced=forced, trusted=trusted)


def started(serving: Serving, event: ExperimentStarted) -> Serving:
    no_experiment(serving)
    if serving.active is None:
        raise Impossible("nothing is active: an experiment needs a control")
    if serving.active.version == event.version:
        raise Impossible(f"{event.version} is active already")
    experiment = Experiment(
        name=event.experiment,
        version=event.version,
        sha256=event.sha256,
        traffic=event.traffic,
        since=event.at,
        phase=event.seq,
        changed=event.at,
        canary=event.canary,
        shadow=event.shadow,
    )
    return replace(marked(serving, event), experiment=experiment)


def promoted(serving: Serving, event: Promoted) -> Serving:
    experiment = running(serving, event.experiment)
    if experiment.version != event.version:
        raise Impossible(f"the treatment of {experiment.name} is {experiment.version}")
    labels = {
        **serving.labels,
        event.version: (*serving.labels.get(event.version, ()), event.label),
    }
    after = push(serving, Held(experiment.version, experiment.sha256, event.at, event.seq))
    return replace(after, labels=labels, finished=(event.experiment, event.kind))


def rolled_back(serving: Serving, event: RolledBack) -> Serving:
    active = serving.active
    if active is None:
        raise Impossible("nothing is active")
    if event.ended:
        running(serving, event.ended)
    else:
        no_experiment(serving)
    left = serving.experiment.version if serving.experiment else active.version
    bad = serving.bad | {left} if event.bad else serving.bad
    if event.version == active.version:
        if not event.ended:
            raise Impossible(f"{event.version} is active already")
        return replace(serving, experiment=None, bad=bad)
    if event.version not in serving.past:
        raise Impossible(f"{event.version} was never active")
    lower = [held.version for held in serving.stack[:-1]]
    if event.version in lower:
        # down to the topmost place it holds: what is above it is undone
        depth = len(lower) - lower[::-1].index(event.version)
        stack = (
            *serving.stack[: depth - 1],
            replace(serving.stack[depth - 1], since=event.at, seq=event.seq),
        )
    else:
        stack = (
            *serving.stack,
            replace(serving.past[event.version], since=event.at, seq=event.seq),
        )
    return replace(serving, stack=stack, left=active, experiment=None, bad=bad - {event.version})
