"""What can happen to an alert, as it stands in monitors/history.json, and what is open now.

An alert is known by the number of the event that opened it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from kt.event import Base, Impossible, Time, appended

HISTORY = "monitors/history.json"
Name = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$")]
Variant = Literal["active", "control", "treatment", ""]


class Event(Base):
    """model: empty where it is about the watching itself, or about every model."""

    model: Name
    metric: str


class Opened(Event):
    """A metric is beyond its alert level for sure, three times in a row."""

    kind: Literal["opened"] = "opened"
    version: Name
    variant: Variant
    deployment: int  # the event in deployments/history.json that made the active version active
    experiment: Name = ""
    severity: Literal["warning", "critical"]
    value: float
    level: float  # the alert level
    n: int  # observations


class Ended(Event):
    """alert: the number of the event that opened it. value: what ended it, None where nothing is measured.

    resolved: the metric is well again. superseded: another version, or none, answers in its place.
    """

    kind: Literal["resolved", "superseded"]
    alert: int
    value: float | None = None
    n: int = 0


class Silenced(Event):
    """Nothing is told of a metric until then. It is watched, and what happens to it is kept, as ever.

    until: not after `at`, where a silence is taken back.
    """

    kind: Literal["silenced"] = "silenced"
    until: Time


AnyEvent = Opened | Ended | Silenced
one = TypeAdapter[AnyEvent](Annotated[AnyEvent, Field(discriminator="kind")])


@dataclass
class Alerts:
    """open: by the number of the event that opened it. all: every opening. ended: the end of each.

    silences: the last of each model and metric.
    """

    open: dict[int, Opened] = field(default_factory=dict)
    all: dict[int, Opened] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)
    silences: dict[tuple[str, str], Silenced] = field(default_factory=dict)

    def silence_on(self, alert: Opened, now: str) -> Silenced | None:
        """What silences an alert at a time, ISO 8601."""
        for model in (alert.model, ""):
            found = self.silences.get((model, alert.metric))
            if found and now < found.until:
                return found
        return None


def fold(events: Iterable[AnyEvent]) -> Alerts:
    """What is so after `events`. Raises Impossible."""
    alerts = Alerts()
    for event in events:
        apply(alerts, event)
    return alerts


def apply(alerts: Alerts, event: AnyEvent) -> None:
    match event:
        case Opened():
            alerts.open[event.seq] = alerts.all[event.seq] = event
        case Ended():
            if event.alert not in alerts.open:
                raise Impossible(f"no alert {event.alert} is open")
            del alerts.open[event.alert]
            alerts.ended[event.alert] = event
        case Silenced():
            alerts.silences[event.model, event.metric] = event


def body(event: AnyEvent) -> dict[str, Any]:
    """An event as it is appended."""
    return appended(event, "model", "metric")


def describe(event: Mapping[str, Any]) -> str:
    """An event in a few words."""
    match event["kind"]:
        case "opened":
            return f"{event['severity']}: {event['metric']} {event['value']:.4g} (alert {event['level']:g})"
        case "silenced" if event["until"] <= event["at"]:
            return f"silence {event['metric']} no more"
        case "silenced":
            return f"silence {event['metric']} until {event['until']}"
        case kind:
            return f"{event['metric']} {kind}"
