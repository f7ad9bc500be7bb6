"""What a sink is told: the alerts of one deployment that one check found changed, as one message."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kt.monitors.alerts import Item
from kt.monitors.thresholds import Severity

WORDS = {"opened": "", "open": "still open", "resolved": "resolved", "superseded": "superseded"}


@dataclass(frozen=True)
class Message:
    """at: ISO 8601. key: the same for the same message, however often it is sent.

    severity: of the worst alert that is open; None where all have ended.
    """

    key: str
    at: str
    model: str
    version: str
    deployment: int
    items: Sequence[Item]
    test: bool = False

    @property
    def severity(self) -> Severity | None:
        found = {item.alert.severity for item in self.items if item.ended is None}
        return "critical" if "critical" in found else "warning" if found else None

    @property
    def title(self) -> str:
        """The message in one line."""
        about = f"{self.model}@{self.version}" if self.model else "kt"
        head = f"{'TEST ' if self.test else ''}{(self.severity or 'resolved').upper()} {about}"
        return plain(f"{head}: {'; '.join(map(said, self.items))}")

    @property
    def text(self) -> str:
        """The title, then a line on each alert."""
        return "\n".join([self.title, *(plain(detail(item)) for item in self.items)])

    def document(self) -> dict[str, Any]:
        """As JSON. Keys are only ever added."""
        return {
            "kt": 1,
            "key": self.key,
            "at": self.at,
            "model": self.model or None,
            "version": self.version or None,
            "deployment": self.deployment,
            "severity": self.severity,
            "test": self.test,
            "text": self.text,
            "alerts": [row(item) for item in self.items],
        }


def plain(line: str) -> str:
    """Names and reasons come from others: nobody's text moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def said(item: Item) -> str:
    metric, word = item.alert.metric.replace("_", " "), WORDS[item.kind]
    value = number(item.ended.value if item.ended else item.alert.value)
    return " ".join(part for part in (metric, value, word) if part)


def detail(item: Item) -> str:
    """An alert in a line of its own."""
    alert, ended = item.alert, item.ended
    where = f"{alert.variant}, " if alert.variant not in ("", "active") else ""
    line = (
        f"- {alert.metric} ({where}alert {alert.level:g}): {alert.value:.4g} at {alert.at}, "
        f"n = {alert.n:,}"
    )
    if ended is not None:
        line += f"; {ended.kind} at {ended.at}"
        line += f", {ended.value:.4g}" if ended.value is not None else ""
        line += f": {ended.reason}" if ended.reason else ""
    if item.changes:
        line += f"; flapping, {item.changes} changes within an hour"
    return line


def row(item: Item) -> dict[str, Any]:
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


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def grouped(items: Iterable[Item], at: str) -> list[Message]:
    """One message for each deployment, in the order in which it is first named."""
    groups: dict[tuple[str, str, int], list[Item]] = {}
    for item in items:
        about = item.alert.model, item.alert.version, item.alert.deployment
        groups.setdefault(about, []).append(item)
    return [
        Message(key_of(found, at), at, model, version, deployment, found)
        for (model, version, deployment), found in groups.items()
    ]


def key_of(items: Sequence[Item], at: str) -> str:
    """What tells messages apart: which alerts, and what of them. A repetition also by its time."""
    parts = [
        f"{item.kind}-{item.alert.seq}" + (f"-{at}" if item.kind == "open" else "")
        for item in items
    ]
    return ",".join(parts)
