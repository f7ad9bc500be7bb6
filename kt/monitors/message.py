"""What a sink is told: the alerts of one deployment that one check found changed, as one message."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kt.monitors.alerts import Item
from kt.monitors.thresholds import Severity
from kt.monitors.words import value

FORMAT = 1
WORDS = {"opened": "", "open": "still open", "resolved": "resolved", "superseded": "superseded"}


@dataclass(frozen=True)
class Message:
    """key: the same for the same message, however often it is sent. at: ISO 8601.

    severity: of the worst alert that is open; None where all have ended. title: one line; text: the
    title, then a line on each alert. model: empty where it is about the watching itself.
    """

    key: str
    at: str
    model: str
    version: str
    deployment: int
    severity: Severity | None
    title: str
    text: str
    alerts: Sequence[Mapping[str, Any]]
    test: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON, for whoever receives it. Keys are only ever added."""
        return {"kt": FORMAT, **asdict(self)}


def load(document: Mapping[str, Any]) -> Message:
    return Message(**{name: document[name] for name in Message.__dataclass_fields__})


def trial(at: str) -> Message:
    """A message that tells nothing: whether it is heard."""
    text = "TEST kt: a message to see whether it is heard; nothing is wrong"
    return Message(f"test-{at}", at, "", "", 0, None, text, text, [], test=True)


def grouped(items: Iterable[Item], at: str) -> list[Message]:
    """One message for each deployment, in the order in which it is first named."""
    groups: dict[tuple[str, str, int], list[Item]] = {}
    for item in items:
        whose = item.alert.model, item.alert.version, item.alert.deployment
        groups.setdefault(whose, []).append(item)
    return [about(found, at) for found in groups.values()]


def about(items: Sequence[Item], at: str) -> Message:
    """A message on alerts of one deployment."""
    first, worst = items[0].alert, severity(items)
    whose = f"{first.model}@{first.version}" if first.model else "kt"
    what = "; ".join(map(said, items))
    title = plain(f"{(worst or 'resolved').upper()} {whose}: {what}")
    return Message(
        key=",".join(key(item, at) for item in items),
        at=at,
        model=first.model,
        version=first.version,
        deployment=first.deployment,
        severity=worst,
        title=title,
        text="\n".join([title, *(plain(detail(item)) for item in items)]),
        alerts=[row(item) for item in items],
    )


def severity(items: Sequence[Item]) -> Severity | None:
    found = {item.alert.severity for item in items if item.ended is None}
    return "critical" if "critical" in found else "warning" if found else None


def key(item: Item, at: str) -> str:
    """What tells messages apart: which alert, and what of it; a repetition also by its time."""
    return f"{item.kind}-{item.alert.seq}" + (f"-{at}" if item.kind == "open" else "")


def plain(line: str) -> str:
    """Names and reasons come from others: nobody's text moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def said(item: Item) -> str:
    """An alert in a few words."""
    found = item.ended.value if item.ended else item.alert.value
    shown = "" if found is None else value(item.alert.metric, found)
    name = item.alert.metric.replace("_", " ")
    return " ".join(part for part in (name, shown, WORDS[item.kind]) if part)


def detail(item: Item) -> str:
    """An alert in a line of its own."""
    alert, ended = item.alert, item.ended
    where = f"{alert.variant}, " if alert.variant not in ("", "active") else ""
    line = (
        f"- {alert.metric} ({where}alert {value(alert.metric, alert.level)}): "
        f"{value(alert.metric, alert.value)} at {alert.at}, "
        f"n = {alert.n:,}"
    )
    line += f"; {alert.reason}" if alert.reason else ""
    if ended is not None:
        line += f"; {ended.kind} at {ended.at}"
        line += f", {value(alert.metric, ended.value)}" if ended.value is not None else ""
        line += f": {ended.reason}" if ended.reason else ""
    if item.changes:
        line += f"; flapping, {item.changes} changes within an hour"
    return line


def row(item: Item) -> dict[str, Any]:
    """An alert as JSON. id: the number of the event that opened it."""
    alert, ended = item.alert, item.ended
    return {
        "id": alert.seq,
        "kind": item.kind,
        "metric": alert.metric,
        "variant": alert.variant or None,
        "experiment": alert.experiment or None,
        "severity": alert.severity,
        "value": alert.value,
        "level": alert.level,
        "n": alert.n,
        "opened": alert.at,
        "ended": ended.at if ended else None,
        "value_at_end": ended.value if ended else None,
        "changes": item.changes or None,
        "reason": (ended.reason if ended else alert.reason) or None,
    }
