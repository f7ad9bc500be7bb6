"""Versions that end the process that runs them are not loaded any more, and the one before them serves.

    .kt/quarantine.json   the deaths of late and what they were put down to; remove it to forget

A worker notes which version it runs in memory that it shares with the process that forked it, which
reads it when the worker is dead. MOST deaths within WITHIN hold a version back until an event gives
it traffic anew.

A crash or a hang can only be the version's. A SIGKILL may be anybody's: it counts where the kernel has
run out of memory, or where the worker had hardly begun with the version.
"""

import mmap
import signal
import struct
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from kt import files
from kt.errors import KtError
from kt.models.family import Arrays
from kt.predictor.engine import Engine, Key

if TYPE_CHECKING:  # the process that forks the workers reads no manifest
    from kt.deployments.manifest import Manifest, Route, Version

FILE = "quarantine.json"
MOST = 3  # deaths
WITHIN = timedelta(minutes=10)
HARDLY = 50  # calls
KEPT = 100  # versions held back that are remembered


# What a worker runs

SEQ = struct.Struct("<Q")  # of the manifest that it serves or loads
BEATS = struct.Struct("<Q")  # after it: how often its event loop has come by
NOTE = struct.Struct("<II")  # calls that run now, calls begun
PLACE = 256  # bytes of each version: the note, whether it is a shadow, then its name
NAME = NOTE.size + 1
PLACES = 63
LOOK = 1.0  # seconds between looks at a worker's pulse
STILL = 60  # looks after which one without a pulse is ended


class Ran(NamedTuple):
    """A version that was running when a worker died. begun: its calls in that worker."""

    key: Key
    begun: int
    shadow: bool = False


class Calls:
    """What a worker runs. Made before the fork; the worker writes, the process that forked it reads."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACE * (PLACES + 1))
        self._notes: dict[Key, Note] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Before another worker begins."""
        self._memory[:] = bytes(len(self._memory))

    @property
    def seq(self) -> int:
        return int(SEQ.unpack_from(self._memory)[0])

    @seq.setter
    def seq(self, seq: int) -> None:
        SEQ.pack_into(self._memory, 0, seq)

    @property
    def beats(self) -> int:
        return int(BEATS.unpack_from(self._memory, SEQ.size)[0])

    def beat(self) -> None:
        """The event loop has come by."""
        BEATS.pack_into(self._memory, SEQ.size, self.beats + 1)

    def note(self, key: Key) -> "Note":
        """The note of a version; of one too many, a note that nobody reads."""
        if key not in self._notes:
            place = PLACE * (len(self._notes) + 1)
            if place > PLACE * PLACES:
                return Note(bytearray(NOTE.size), 0, self._lock)
            name = " ".join(key).encode()[: PLACE - NAME]
            self._memory[place + NAME : place + NAME + len(name)] = name
            self._notes[key] = Note(self._memory, place, self._lock)
        return self._notes[key]

    def mark(self, shadows: Collection[Key]) -> None:
        """Which of the versions that are noted are shadows."""
        for key, note in self._notes.items():
            self._memory[note.place + NOTE.size] = key in shadows

    def running(self) -> list[Ran]:
        found = []
        for place in range(PLACE, len(self._memory), PLACE):
            running, begun = NOTE.unpack_from(self._memory, place)
            shadow = bool(self._memory[place + NOTE.size])
            name = self._memory[place + NAME : place + PLACE].rstrip(b"\0").decode()
            if running and name.count(" ") == 2:
                found.append(Ran(Key(*name.split(" ")), begun, shadow))
        return found


class Pulse:
    """Tells from one look to the next whether a worker's event loop stands still."""

    def __init__(self) -> None:
        self._beats, self._looks = 0, 0

    def stopped(self, beats: int) -> bool:
        """Whether it has stood still for STILL looks. Looks, not seconds: all may have been suspended.
        A loop that has not begun does not stand still."""
        self._looks = self._looks + 1 if beats and beats == self._beats else 0
        self._beats = beats
        return self._looks >= STILL


@dataclass(frozen=True)
class Note:
    """with note: …runs the version. Some 0.6 µs."""

    memory: Any  # a writable buffer
    place: int
    lock: threading.Lock

    def __enter__(self) -> None:
        self.add(1, 1)

    def __exit__(self, *error: object) -> None:
        self.add(-1, 0)

    def add(self, running: int, begun: int) -> None:
        with self.lock:
            before, calls = NOTE.unpack_from(self.memory, self.place)
            NOTE.pack_into(self.memory, self.place, before + running, (calls + begun) % 2**32)


@dataclass(frozen=True)
class Noted:
    """An engine whose calls are noted."""

    engine: Engine
    form: Any
    signature: Any
    note: Note

    @property
    def runtime(self) -> str:
        return self.engine.runtime

    @property
    def bounded(self) -> bool:
        return self.engine.bounded

    def run(self, arrays: Arrays) -> dict[str, np.ndarray]:
        with self.note:
            return self.engine.run(arrays)


# What was put down to it


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Death(Part):
    """seq: of the manifest that the worker served."""

    key: Key
    seq: int
    at: datetime
    how: str


class Held(Part):
    """A version that is held back, but for an event later than seq."""

    key: Key
    seq: int
    since: datetime
    why: str


class Book(Part):
    kt: Literal[1] = 1
    deaths: tuple[Death, ...] = ()
    held: tuple[Held, ...] = ()

    def dump(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"

    def holds(self, key: Key, seq: int) -> Held | None:
        """Whether a version that event `seq` gave its traffic is held back."""
        return next((one for one in self.held if one.key == key and one.seq >= seq), None)


def blamed(ran: Sequence[Ran], code: int, no_memory: bool) -> list[Key]:
    """The versions that a death is put down to. code: the exit code, or a signal's negative number.

    Whoever ran beside a shadow is spared: if it was not the shadow, it dies again without one.
    """
    if code in (-signal.SIGTERM, -signal.SIGINT):
        return []
    anybody = code == -signal.SIGKILL and not no_memory
    suspects = [one for one in ran if one.shadow] or ran
    return [one.key for one in suspects if not anybody or one.begun < HARDLY]


def added(book: Book, deaths: Sequence[Death], now: datetime) -> Book:
    """The book with these deaths, and with whom they make too many."""
    late = [*(death for death in book.deaths if now - death.at < WITHIN), *deaths]
    held = list(book.held)
    for death in deaths:
        same = [one for one in late if one.key == death.key]
        if len(same) >= MOST:
            why = f"it ended {len(same)} workers ({death.how})"
            held.append(Held(key=death.key, seq=death.seq, since=now, why=why))
            late = [one for one in late if one.key != death.key]
    return Book(deaths=tuple(late), held=tuple(held[-KEPT:]))


def without(what: "Manifest", book: Book) -> "tuple[Manifest, str]":
    """A manifest without the versions that are held back, and why; empty where none is."""
    why: list[str] = []
    models = {name: spared(name, route, book, why) for name, route in what.models.items()}
    return what.model_copy(update={"models": models}), "; ".join(why)


def spared(model: str, route: "Route", book: Book, why: list[str]) -> "Route":
    def holds(version: "Version", seq: int) -> Held | None:
        return book.holds(Key(model, version.version, version.sha256), seq)

    trial, active, previous = route.experiment, route.active, route.previous
    if previous and holds(previous, 0):
        previous = None
    if held := holds(active, route.seq):
        if previous:
            active = previous
            why.append(said(model, held, f"{active.version} is served"))
        else:
            why.append(said(model, held, "there is no version before it, so it is served"))
    if trial:
        good = []
        for one in trial.treatments:
            if held := holds(one, trial.phase):
                why.append(said(model, held, f"{active.version} is served"))
            else:
                good.append(one)
        trial = trial.model_copy(update={"treatments": tuple(good)}) if good else None
    return route.model_copy(update={"active": active, "previous": previous, "experiment": trial})


def said(model: str, held: Held, instead: str) -> str:
    return (
        f"{model} {held.key.version} is in quarantine: {held.why}; {instead};"
        " deploy it anew, or: kt doctor --fix"
    )


def read(local: Path) -> Book:
    """The book; an empty one where there is none that can be read."""
    try:
        return Book.model_validate_json(files.read(local / FILE))
    except (FileNotFoundError, KtError, ValidationError):
        return Book()


def bury(local: Path, calls: Calls, code: int, no_memory: bool, now: datetime) -> list[str]:
    """Write down whom a worker's death is put down to. Returns a line for each."""
    how = f"exit {code}" if code >= 0 else signal.strsignal(-code) or f"signal {-code}"
    deaths = [
        Death(key=key, seq=calls.seq, at=now, how=how)
        for key in blamed(calls.running(), code, no_memory)
    ]
    if deaths:
        files.write_whole(local / FILE, added(read(local), deaths, now).dump())
    return [
        f"a worker ended ({how}) while it ran {one.key.model} {one.key.version}" for one in deaths
    ]


def out_of_memory() -> int:
    """How often the kernel has ended a process for want of memory."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return int(counts.partition("\noom_kill ")[2].partition("\n")[0] or 0)


def release(local: Path) -> bool:
    """Forget everything. Whether there was anything."""
    there = bool(read(local).held)
    files.discard(local / FILE)
    return there
