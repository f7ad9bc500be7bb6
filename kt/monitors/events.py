"""What can happen to an alert, as it stands in monitors/history.json, and what is open now.

An alert is known by the number of the event that opened it. An event is never changed and its fields
are never removed; a reader keeps what it does not know.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

HISTORY = "monitors/history.json"
Name = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,63})?$")]
Variant = Literal["active", "control", "treatment", ""]


def check_time(at: str) -> str:
    datetime.fromisoformat(at)  # raises ValueError: a 31st of February
    return at


Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"), AfterValidator(check_time)
]


class Event(BaseModel):
    """model: empty where it is about the watching itself, or about every model."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    seq: int = Field(ge=1)
    at: Time  # shown, never used for order
    by: str
    model: Name
    metric: str
    reason: str = ""
    prev: str = Field(pattern=r"^([0-9a-f]{64})?$")  # empty in the first event


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


class Impossible(ValueError):
    """An event that cannot follow those before it."""


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
    """An event as it is appended, in reading order; number and chain are the journal's."""
    values = event.model_dump(mode="json")
    first = {key: values.pop(key) for key in ("at", "by", "model", "kind")}
    return first | {key: value for key, value in values.items() if key not in ("seq", "prev")}


def describe(event: Mapping[str, Any]) -> str:
    """An event in a few words."""
    match event["kind"]:
        case "opened":
            return f"{event['severity']}: {event['metric']} {event['value']:.4g} (alert {event['level']:g})"
        case "silenced":
            return f"silence {event['metric']} until {event['until']}"
        case kind:
            return f"{event['metric']} {kind}"
