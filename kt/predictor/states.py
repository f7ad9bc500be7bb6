"""What a worker remembers of units, so that a request with one more event costs one step and no whole history.

A state is kept with the events that it stands for, under its version and unit. A request takes it up
whose own history is those events and perhaps a few more, compared event by event; any other history is
run in full. So what is remembered decides what an answer costs and never what it says.

One pass over a short history costs no more than a step, and a state is for nothing where nobody comes
back: one is begun at a unit's second request, from a length on that the model knows to pay.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from kt.models.family import Arrays
from kt.predictor.engine import Incremental, Key
from kt.predictor.quarantine import Noted

FURTHER = 2  # events beyond a state that it is taken up for: more cost as much as the whole history
APART = 1_000  # bytes of what is remembered of a unit besides its arrays

LARGE = 16  # bytes of an event, beyond which it is remembered as a digest of so many

Past = tuple[bytes, ...]  # the events of a history, each array of it as bytes


class Kept(NamedTuple):
    """past: the events that the state stands for. Of a unit that has come once there is neither."""

    past: Past = ()
    state: Arrays | None = None

    @property
    def size(self) -> int:
        arrays = self.state.values() if self.state else ()
        return APART + sum(map(len, self.past)) + sum(array.nbytes for array in arrays)


class States:
    """most: bytes; what was not asked for the longest is forgotten first. Threads may use it at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self._kept: OrderedDict[tuple[Key, str], Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, unit: str) -> Kept | None:
        with self._lock:
            found = self._kept.get((key, unit))
            if found:
                self._kept.move_to_end((key, unit))
            return found

    def put(self, key: Key, unit: str, kept: Kept) -> None:
        with self._lock:
            self._drop((key, unit))
            self._kept[key, unit] = kept
            self.size += kept.size + len(unit)
            while self.size > self.most:
                self._drop(next(iter(self._kept)))

    def only(self, keys: Collection[Key]) -> None:
        """Forget what was kept for any other version."""
        with self._lock:
            for one in [one for one in self._kept if one[0] not in keys]:
                self._drop(one)

    def _drop(self, one: tuple[Key, str]) -> None:
        if kept := self._kept.pop(one, None):
            self.size -= kept.size + len(one[1])


class Row(NamedTuple):
    """A row of a batch. how: FULL, BEGIN, or how many events it has beyond the state."""

    place: int
    unit: str | None
    past: Past
    state: Arrays | None
    how: int


FULL, BEGIN = -2, -1


@dataclass(frozen=True)
class Remembering(Noted):
    """An engine that goes on from where it left a unit."""

    engine: Incremental
    key: Key
    states: States

    def resume(self, arrays: Arrays, units: Sequence[str | None]) -> dict[str, np.ndarray]:
        """What `run` gives, within 1e-5. units: whom each row is about."""
        rows = [self._row(arrays, place, unit) for place, unit in enumerate(units)]
        groups: dict[tuple[int, tuple[str, ...]], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.how, tuple(row.state or ())), []).append(row)
        with self.note:
            told = [self._told(how, group, arrays) for (how, _), group in groups.items()]
        return in_order(told, [row.place for group in groups.values() for row in group])

    def _row(self, arrays: Arrays, place: int, unit: str | None) -> Row:
        length = int(arrays["lengths"][place])
        past = tuple(told_apart(arrays[name][place, :length]) for name in self.form.HISTORY)
        kept = self.states.get(self.key, unit) if unit is not None else None
        if kept is None:
            if unit is not None:
                self.states.put(self.key, unit, Kept())
            return Row(place, unit, past, None, FULL)
        window, slides = self.signature.window, self.engine.slides
        if kept.state:
            steps = further(kept.past, past, length, window if slides else math.inf)
            if steps is not None:
                return Row(place, unit, past, kept.state, steps)
        begins = length >= self.engine.pays and (slides or length < window)
        return Row(place, unit, past, None, BEGIN if begins else FULL)

    def _told(self, how: int, rows: Sequence[Row], arrays: Arrays) -> dict[str, np.ndarray]:
        """The outputs of rows that are answered alike. What they leave is kept."""
        part = dict(arrays)
        if len(rows) < len(arrays["lengths"]):
            part = {name: array[[row.place for row in rows]] for name, array in arrays.items()}
        if how == FULL:
            return self.engine.run(part)
        lengths = part.pop("lengths")
        history = {name: part.pop(name) for name in self.form.HISTORY}
        if how == BEGIN:
            longest = int(lengths.max())
            history = {name: array[:, :longest] for name, array in history.items()}
            outputs, states = self.engine.begin(history | {"lengths": lengths}, part)
        else:
            last = [(np.arange(len(rows)), lengths - step) for step in range(how, 0, -1)]
            events = [{name: array[at] for name, array in history.items()} for at in last]
            before = [row.state for row in rows if row.state]
            outputs, states = self.engine.go_on(before, events, part)
        if how:
            for row, own in zip(rows, states, strict=True):
                assert row.unit is not None
                self.states.put(self.key, row.unit, Kept(row.past, own))
        return outputs


def told_apart(events: np.ndarray) -> bytes:
    """Events (T, ...) as bytes, as many of each, that are another's only if it is the same."""
    if events[:1].nbytes <= LARGE:
        return events.tobytes()
    return b"".join(blake2b(event, digest_size=LARGE).digest() for event in events)


def further(before: Past, now: Past, events: int, window: float) -> int | None:
    """How many events `now`, of so many, has beyond `before`; None where it does not go on from it so soon.

    Both are the last `window` events of their histories; with math.inf none has left.
    """
    if not events:
        return None
    width = [len(one) // events for one in now]
    had = len(before[0]) // width[0]
    for steps in range(FURTHER + 1):
        shared = events - steps
        if events == min(had + steps, window) and all(
            new[: shared * size] == old[len(old) - shared * size :]
            for new, old, size in zip(now, before, width, strict=True)
        ):
            return steps
    return None


def in_order(told: Sequence[Arrays], places: Sequence[int]) -> dict[str, np.ndarray]:
    """The outputs of groups of rows as those of the batch. places: of their rows, one group after another."""
    if len(told) == 1:
        return dict(told[0])
    order = np.argsort(places)
    return {name: np.concatenate([one[name] for one in told])[order] for name in told[0]}
