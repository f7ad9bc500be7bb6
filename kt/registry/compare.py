"""What differs between two versions: their records, entry by entry. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kt.registry.record import VersionRecord

# What tells two versions apart, in reading order; names, times and digests differ always.
PARTS = (
    "family",
    "form",
    "config",
    "signature",
    "parameters",
    "size",
    "scores",
    "gates",
    "training",
    "trusted",
)


@dataclass(frozen=True)
class Difference:
    """One entry: None where a side lacks it. difference: right - left of numbers, +in -out of lists."""

    entry: str  # dotted
    left: Any
    right: Any
    difference: float | str | None


def compare(left: VersionRecord, right: VersionRecord) -> list[Difference]:
    """Every entry that differs. Nothing for the same weights, trained and judged alike."""
    ours, theirs = dict(entries(left)), dict(entries(right))
    names = [*ours, *(name for name in theirs if name not in ours)]
    names.sort(key=lambda name: PARTS.index(name.partition(".")[0]))
    return [
        Difference(
            name, ours.get(name), theirs.get(name), between(ours.get(name), theirs.get(name))
        )
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def entries(known: VersionRecord) -> Iterator[tuple[str, Any]]:
    values = known.model_dump(mode="json")
    spec = values["spec"]
    gates = {gate["gate"]: {k: gate[k] for k in ("passed", "measured")} for gate in values["gates"]}
    parts = values | spec | {"gates": gates}
    for part in PARTS:
        yield from flat(part, parts.get(part))


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Tables as dotted names; a list stays whole."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}", inner)
    else:
        yield name, value


def between(left: Any, right: Any) -> float | str | None:
    if isinstance(left, list) and isinstance(right, list):
        if any(isinstance(one, float) for one in (*left, *right)):  # an interval
            return None
        try:
            out, into = len(set(left) - set(right)), len(set(right) - set(left))
        except TypeError:  # a list of tables
            return None
        return f"+{into} -{out}"
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    return right - left if numbers else None
