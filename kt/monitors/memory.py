"""What a check remembers for the next one, in the tables: how many evaluations were bad in a row, what was told."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from kt.config import Settings
from kt.monitors.alerts import Key, Told, Watch
from kt.store import states
from kt.store.database import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection


LATE = 3  # intervals without an evaluation


@dataclass(frozen=True)
class Memory:
    """evaluated: when each kind of evaluation was made last, in seconds."""

    watches: Mapping[Key, Watch]
    told: Mapping[Key, Told]
    evaluated: Mapping[str, int]


def late(settings: Settings, memory: Memory, now: int) -> float:
    """Seconds since the last evaluation, where that is longer ago than it should be; else 0."""
    last = memory.evaluated.get("fast", now)
    return now - last if now - last > LATE * settings.monitor.interval else 0


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
            }
        )
        for key in sorted({*memory.watches, *memory.told})
    }
    states.save(connection, documents, memory.evaluated, now)
