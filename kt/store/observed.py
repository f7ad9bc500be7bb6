"""All that is observed of everybody who has answered, for those who collect numbers: sums over all phases of each."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from kt.store import counters, labels, states, streams, traffic
from kt.store.batch import LATENCY, Traffic
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.rows import DAY, HOUR

RECENT = 5  # minutes

T = TypeVar("T", Traffic, Labels)


class Who(NamedTuple):
    """variant and experiment are empty where nothing splits the traffic."""

    model: str
    version: str
    variant: str
    experiment: str


class Measured(NamedTuple):
    """What the monitors found last of a metric, and from how many observations; of the watching itself and
    of all together, as "health", where model and slot are empty."""

    model: str
    slot: str
    version: str
    metric: str
    value: float | None
    n: int
    status: str


@dataclass(frozen=True)
class Observed:
    """ever: the counts of all time. recent: latencies of the last RECENT closed minutes.

    outcomes, day: of all time, and of the last day's predictions. hour: what else was counted, by name.
    firing: the model, "active" or "treatment", and the metric of each alert. measured: by the last
    check. checked: when the
    monitors looked last, seconds since the epoch; 0 where they never did.
    """

    ever: Mapping[Who, Traffic] = field(default_factory=dict)
    recent: Mapping[Who, Traffic] = field(default_factory=dict)
    outcomes: Mapping[Who, Labels] = field(default_factory=dict)
    day: Mapping[Who, Labels] = field(default_factory=dict)
    hour: Counter[str] = field(default_factory=Counter)
    firing: Collection[tuple[str, str, str]] = ()
    measured: Collection[Measured] = ()
    checked: int = 0


def read(store: Store, now: int) -> Observed:
    """now: the minute that is not closed yet. Raises Unavailable or Corrupt."""
    who = {
        one.id: Who(one.model, one.version, one.variant, one.experiment)
        for one in streams.streams(store)
    }
    end = now + DAY  # clocks differ, and nothing may be left out of what only rises
    texts, made = states.load(store)
    documents = {tuple(json.loads(key)): json.loads(text) for key, text in sorted(texts.items())}
    return Observed(
        by(who, traffic.total(store, who, 0, end, ("counts",)), Traffic),
        by(who, traffic.total(store, who, now - RECENT, now, (LATENCY,)), Traffic),
        by(who, labels.total(store, who, 0, end, ("counts",)), Labels),
        by(who, labels.total(store, who, now - DAY, now, ("counts",)), Labels),
        counters.counters(store, now - HOUR, now + 1),
        [key for key, known in documents.items() if is_firing(known)],
        [
            measured(key, known["measured"])
            for key, known in documents.items()
            if known.get("measured")
        ],
        max(made.values(), default=0),
    )


def by(who: Mapping[int, Who], sums: Mapping[int, T], empty: type[T]) -> dict[Who, T]:
    out: dict[Who, T] = {}
    for stream, one in sums.items():
        out.setdefault(who[stream], empty()).merge(one)
    return out


def is_firing(known: Mapping[str, Any]) -> bool:
    return bool(known["watch"]) and known["watch"]["phase"] == "firing"


def measured(key: tuple[str, str, str], last: Mapping[str, Any]) -> Measured:
    model, slot, metric = key
    return Measured(model, slot, last["version"], metric, last["value"], last["n"], last["status"])
