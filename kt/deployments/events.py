"""What can happen to a deployment: six kinds of event, as they stand in the history."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from kt.event import Base, Name, Part, appended

HISTORY = "deployments/history.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# percent of the units, and no -0.0
Traffic = Annotated[float, Field(ge=0, le=100), AfterValidator(abs)]
Sparse = Field(exclude_if=lambda value: not value)  # written where it says something


class Event(Base):
    model: Name


class Deployed(Event):
    """A version takes all the traffic."""

    kind: Literal["deployed"] = "deployed"
    version: Name
    sha256: Sha256  # of its weights
    forced: bool = False
    trusted: Annotated[str, Sparse] = ""  # why the code in its file was run


class Canary(Part):
    """A plan for an experiment's traffic: the shares that it takes one after the other."""

    steps: list[Traffic] = Field(min_length=1)  # percent, rising; 100 promotes
    every: int = Field(ge=0)  # seconds that each step lasts at least


class ExperimentStarted(Event):
    """A version takes a share of the units, beside the active one.

    shadow: it gets a copy of every request and no traffic; what it says is compared, never returned.
    """

    kind: Literal["experiment_started"] = "experiment_started"
    experiment: Name
    version: Name
    sha256: Sha256
    traffic: Traffic
    forced: bool = False
    trusted: Annotated[str, Sparse] = ""  # why the code in its file was run
    canary: Annotated[Canary | None, Sparse] = None
    shadow: Annotated[bool, Sparse] = False


class TrafficChanged(Event):
    """shadow: it becomes one. A shadow that gets traffic is one no more."""

    kind: Literal["traffic_changed"] = "traffic_changed"
    experiment: Name
    traffic: Traffic
    shadow: Annotated[bool, Sparse] = False


class Promoted(Event):
    """The treatment takes all the traffic and the experiment ends; it is labelled ab-winner-X."""

    kind: Literal["promoted"] = "promoted"
    experiment: Name
    version: Name
    label: str
    evidence: dict[str, Any] | None  # the experiment's report; None where it was forced without one
    forced: bool = False


class ExperimentEnded(Event):
    """The control takes the treatment's traffic back.

    aborted: the guardrail that ended it, and how it was broken; empty where a person did.
    evidence: the experiment's report, or what a predictor's brake counted.
    """

    kind: Literal["experiment_ended"] = "experiment_ended"
    experiment: Name
    aborted: Annotated[str, Sparse] = ""
    evidence: Annotated[dict[str, Any] | None, Sparse] = None


class RolledBack(Event):
    """The last change of traffic is undone, or the model goes back to a version that it once served.

    version: active from here on. ended: the experiment that this ended, or empty.
    bad: the version that was left is marked, and no rollback goes back to it.
    """

    kind: Literal["rolled_back"] = "rolled_back"
    version: Name
    ended: str = ""
    bad: bool = False


AnyEvent = Deployed | ExperimentStarted | TrafficChanged | Promoted | ExperimentEnded | RolledBack
one = TypeAdapter[AnyEvent](Annotated[AnyEvent, Field(discriminator="kind")])


def body(event: AnyEvent) -> dict[str, Any]:
    """An event as it is appended."""
    return appended(event, "model")


def describe(event: Mapping[str, Any]) -> str:
    """An event in a few words."""
    past = ", forced" if event.get("forced") else ""
    past += ", code trusted" if event.get("trusted") else ""
    match event["kind"]:
        case "deployed":
            return f"deploy {event['version']}{past}"
        case "experiment_started":
            canary = " as a canary" if event.get("canary") else ""
            share = "as a shadow" if event.get("shadow") else f"at {event['traffic']:g} %{canary}"
            return f"start {event['experiment']}: {event['version']} {share}{past}"
        case "traffic_changed" if event.get("shadow"):
            return f"make {event['experiment']} a shadow"
        case "traffic_changed":
            return f"ramp {event['experiment']} to {event['traffic']:g} %"
        case "promoted":
            return f"promote {event['experiment']}: {event['version']}{past}"
        case "experiment_ended" if event.get("aborted"):
            return f"abort {event['experiment']}: {event['aborted']}"
        case "experiment_ended":
            return f"end {event['experiment']}"
        case _:
            ended = f", ends {event['ended']}" if event["ended"] else ""
            return f"roll back to {event['version']}{ended}" + (
                ", marked bad" if event["bad"] else ""
            )
