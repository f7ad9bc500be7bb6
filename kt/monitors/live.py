"""Who answers now, as the tables know them: the active version, and a treatment while an experiment splits the traffic.

One thing that answers may have had several phases: the stream is that of the present one. An alert is
about the deployment and outlives a change of traffic.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from kt.deployments.history import Serving, State
from kt.store.batch import Stream

Slot = Literal["active", "treatment"]


@dataclass(frozen=True)
class Live:
    """slot: what an alert is about: the control of an experiment is the active version still.

    began: when the version came to answer in this deployment or experiment, ISO 8601.
    """

    stream: Stream
    slot: Slot
    began: str

    @property
    def variant(self) -> Literal["active", "control", "treatment"]:
        if self.slot == "treatment":
            return "treatment"
        return "control" if self.stream.variant else "active"

    @property
    def deployment(self) -> str:
        """What is watched: another one is watched anew."""
        stream = self.stream
        trial = f"{stream.experiment}/" if self.slot == "treatment" else ""
        return f"{stream.deployment}/{trial}{stream.version}"


def live(state: State, known: Iterable[Stream] = ()) -> list[Live]:
    """Of every model, in order. known: the streams that have answered, which tell what they predict."""
    kinds = {stream.id: stream.kind for stream in known}
    found = [each for model, serving in sorted(state.models.items()) for each in of(model, serving)]
    return [
        replace(each, stream=replace(each.stream, kind=kinds.get(each.stream.id, "none")))
        for each in found
    ]


def of(model: str, serving: Serving) -> list[Live]:
    """Who answers for a model. A shadow answers nobody."""
    active, trial = serving.active, serving.experiment
    if active is None:
        return []

    def side(slot: Slot, version: str, variant: str, began: str, share: float) -> Live:
        name, phase, since = ("", active.seq, active.since)
        if trial is not None and variant:
            name, phase, since = trial.name, trial.phase, trial.changed
        stream = Stream(model, version, variant, name, active.seq, phase, share=share, since=since)
        return Live(stream, slot, began)

    if trial is None or trial.shadow:
        return [side("active", active.version, "", active.since, 100)]
    return [
        side("active", active.version, "control", active.since, 100 - trial.traffic),
        side("treatment", trial.version, "treatment", trial.since, trial.traffic),
    ]
