"""The courses of experiments: each from its start to its end, with its phases, as the history tells.

A phase is a stretch of constant traffic. Outcomes are compared within phases, because a share that
grows while the world changes would otherwise look like an effect.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

ACTIVATE = {"deployed", "promoted", "rolled_back"}


@dataclass(frozen=True, slots=True)
class Phase:
    """seq: of the event that began it. share: percent of the units for the treatment."""

    seq: int
    begin: str  # ISO 8601
    share: float
    shadow: bool


@dataclass(frozen=True, slots=True)
class Course:
    """deployment: the event that made the control active. end: the one that ended it; None while it runs."""

    model: str
    name: str
    control: str  # versions
    treatment: str
    deployment: int
    phases: tuple[Phase, ...]
    canary: bool
    end: Mapping[str, Any] | None = None

    @property
    def now(self) -> Phase:
        """The phase that it is in, or ended in."""
        return self.phases[-1]

    @property
    def begin(self) -> str:
        return self.phases[0].begin

    @property
    def split(self) -> tuple[Phase, ...]:
        """The phases in which both variants answered."""
        return tuple(one for one in self.phases if not one.shadow and 0 < one.share < 100)

    @property
    def how(self) -> str:
        """How it ended: promoted | aborted | ended | rolled back; empty while it runs."""
        if self.end is None:
            return ""
        if self.end.get("aborted"):
            return "aborted"
        return {"promoted": "promoted", "experiment_ended": "ended"}.get(
            self.end["kind"], "rolled back"
        )


def courses(events: Iterable[Mapping[str, Any]]) -> list[Course]:
    """Every experiment that there was, oldest first. events: of a journal, which has been folded."""
    over: list[Course] = []
    active: dict[str, tuple[str, int]] = {}
    running: dict[str, Course] = {}
    for event in events:
        model, kind = event["model"], event["kind"]
        if kind == "experiment_started":
            control, deployment = active[model]
            running[model] = Course(
                model,
                event["experiment"],
                control,
                event["version"],
                deployment,
                (phase(event),),
                bool(event.get("canary")),
            )
        elif kind == "traffic_changed":
            now = running[model]
            running[model] = replace(now, phases=(*now.phases, phase(event)))
        elif model in running:  # whatever else may happen to a model ends its experiment
            over.append(replace(running.pop(model), end=event))
        if kind in ACTIVATE and event["version"] != active.get(model, ("", 0))[0]:
            active[model] = event["version"], event["seq"]
    return sorted([*over, *running.values()], key=lambda one: one.phases[0].seq)


def phase(event: Mapping[str, Any]) -> Phase:
    return Phase(event["seq"], event["at"], event["traffic"], event.get("shadow", False))


def of(events: Iterable[Mapping[str, Any]], name: str) -> Course | None:
    """The latest experiment of this name."""
    return next((one for one in reversed(courses(events)) if one.name == name), None)
