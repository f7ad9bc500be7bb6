"""What a check leaves in the tables: for the next one how many evaluations were bad in a row and what was told,
and for /metrics what it measured."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from kt.config import Settings
from kt.monitors.alerts import Key, Told, Watch
from kt.store import states
from kt.store.database import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection


LATE = 3  # intervals without an evaluation


@dataclass(frozen=True)
class Last:
    """What was measured of a version, from how many observations; value: None where those were too few."""

    version: str
    value: float | None
    n: int
    status: str


@dataclass(frozen=True)
class Memory:
    """evaluated: when each kind of evaluation was made last, in seconds. measured: by the last one, which
    no check reads again."""

    watches: Mapping[Key, Watch]
    told: Mapping[Key, Told]
    evaluated: Mapping[str, int]
    measured: Mapping[Key, Last] = field(default_factory=dict)


def late(settings: Settings, memory: Memory, now: int) -> float:
    """Seconds since the last evaluation, where that is longer ago than it should be; else 0.

    Infinite where it lies as far ahead: a monitor that runs looks anew once the clock was set back.
    """
    gone, most = now - memory.evaluated.get("fast", now), LATE * settings.monitor.interval
    return math.inf if gone < -most else gone if gone > most else 0


def load(store: Store) -> Memory:
    watches, told = {}, {}
    documents, evaluated = states.load(store)
    for text, document in documents.items():
        model, slot, metric = json.loads(text)
        known = json.loads(document)
        if known["watch"]:
            watches[model, slot, metric] = Watch(**known["watch"])
        if known["told"]:
            told[model, slot, metric] = Told(**known["told"])
    return Memory(watches, told, evaluated)


def save(connection: "Connection", memory: Memory, now: int) -> None:
    """In place of what was remembered."""
    documents = {
        json.dumps(key): json.dumps(
            {
                "watch": asdict(memory.watches[key]) if key in memory.watches else None,
                "told": asdict(memory.told[key]) if key in memory.told else None,
                "measured": asdict(memory.measured[key]) if key in memory.measured else None,
            }
        )
        for key in sorted({*memory.watches, *memory.told, *memory.measured})
    }
    states.save(connection, documents, memory.evaluated, now)
