"""All that is observed of everybody who has answered, for those who collect numbers: sums over all phases of each."""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

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


@dataclass(frozen=True)
class Observed:
    """ever: the counts of all time. recent: latencies of the last RECENT closed minutes.

    outcomes, day: of all time, and of the last day's predictions. hour: what else was counted, by name.
    firing: the model, "active" or "treatment", and the metric of each alert. checked: when the
    monitors looked last, seconds since the epoch; 0 where they never did.
    """

    ever: Mapping[Who, Traffic] = field(default_factory=dict)
    recent: Mapping[Who, Traffic] = field(default_factory=dict)
    outcomes: Mapping[Who, Labels] = field(default_factory=dict)
    day: Mapping[Who, Labels] = field(default_factory=dict)
    hour: Counter[str] = field(default_factory=Counter)
    firing: Collection[tuple[str, str, str]] = ()
    checked: int = 0


def read(store: Store, now: int) -> Observed:
    """now: the minute that is not closed yet. Raises Unavailable or Corrupt."""
    who = {
        one.id: Who(one.model, one.version, one.variant, one.experiment)
        for one in streams.streams(store)
    }
    end = now + DAY  # clocks differ, and nothing may be left out of what only rises
    documents, made = states.load(store)
    return Observed(
        by(who, traffic.total(store, who, 0, end, ("counts",)), Traffic),
        by(who, traffic.total(store, who, now - RECENT, now, (LATENCY,)), Traffic),
        by(who, labels.total(store, who, 0, end, ("counts",)), Labels),
        by(who, labels.total(store, who, now - DAY, now, ("counts",)), Labels),
        counters.counters(store, now - HOUR, now + 1),
        [firing(key) for key, text in sorted(documents.items()) if is_firing(text)],
        max(made.values(), default=0),
    )


def by(who: Mapping[int, Who], sums: Mapping[int, T], empty: type[T]) -> dict[Who, T]:
    out: dict[Who, T] = {}
    for stream, one in sums.items():
        out.setdefault(who[stream], empty()).merge(one)
    return out


def is_firing(document: str) -> bool:
    watch = json.loads(document).get("watch")
    return bool(watch) and watch.get("phase") == "firing"


def firing(key: str) -> tuple[str, str, str]:
    model, slot, metric = json.loads(key)
    return model, slot, metric
