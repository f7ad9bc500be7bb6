"""Puts what this process has counted into the tables, from a thread of its own: no answer waits for a database.

What cannot be written is kept and tried again, in order, each batch as it was: it may have been written
although nobody said so, and the tables know a batch by its number. After KEEP seconds it is given up; so
many answers are then unrecorded, which the tables are told with the next batch that they take, and people
at once: `recording` is on the card of this process and in /health.

SQLAlchemy is imported in this thread: a worker that records nothing never loads it.
"""

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kt import clock
from kt.config import Settings
from kt.errors import KtError
from kt.predictor.record import Recorder
from kt.predictor.sampler import UNLOGGED
from kt.store import connect, secret
from kt.store.batch import Batch
from kt.store.database import Store
from kt.store.secret import Secret
from kt.store.tally import Key, Tally

log = logging.getLogger("kt")

KEEP = 600.0  # seconds that a batch is tried to be written
TOGETHER = 60.0  # seconds: what waits behind another batch is put together for so long
ENOUGH = 8.0  # seconds to write the last batch in
ROLL_UP = 3600.0  # seconds between two roll-ups by one worker, the first of them after as long
NICE = 10  # of the thread
DROPPED = "dropped"  # answers that were not recorded, among the tables' counters


@dataclass(frozen=True)
class Recording:
    """How it goes. state: ok, behind (what was counted waits to be written) or off. since: ISO 8601.

    waiting: answers that are not written, as far as they are late; dropped: answers that were given up.
    """

    state: str = "off"
    reason: str = ""
    since: str = ""
    waiting: int = 0
    dropped: int = 0

    def card(self) -> dict[str, Any]:
        return asdict(self)


def now() -> str:
    return clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Waiting:
    """A batch to be written. born: when it was taken, on the monotonic clock."""

    number: int
    batch: Batch
    born: float

    @property
    def answers(self) -> int:
        return sum(traffic.assigned for traffic in self.batch.traffic.values())


class Writer:
    """The thread that writes what a recorder takes down. shadows: what was found of each since it was last asked."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        recorder: Recorder,
        shadows: Callable[[], dict[Key, Tally]] = dict,
    ) -> None:
        self.root, self.settings, self.recorder = root, settings, recorder
        self.shadows = shadows
        self.recording = Recording()
        self.name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._waiting: deque[Waiting] = deque()  # the first of them may have been tried
        self._number = 0
        self._dropped = 0
        self._store: Store | None = None
        self._rolled_up: float | None = None
        self._secret: Secret | None = None
        self._complained = ""
        self._gives_way = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Learn the secret, and write from now on. Raises nothing."""
        self.recording = Recording("ok", "", now())
        self._learn()
        self._thread = threading.Thread(target=self._run, name="kt-record", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left, or give it up after ENOUGH seconds."""
        self._stop.set()
        if self._thread:
            self._thread.join(ENOUGH)
            self._thread = None
            if left := sum(one.answers for one in self._waiting):
                why = self.recording.reason or f"the tables did not take them within {ENOUGH:g} s"
                log.error("kt: %d answers are not recorded: %s", left, why)

    def _run(self) -> None:
        while not self._stop.wait(self.settings.predictor.flush):
            self.turn(time.monotonic())
            self._give_way()
        self.turn(time.monotonic())

    def _give_way(self) -> None:
        """To all other threads, once the tables are open: whoever gives way imports SQLAlchemy for minutes where
        a machine is busy, and nothing is recorded meanwhile."""
        if (
            self._store and not self._gives_way and sys.platform == "linux"
        ):  # there it is this thread's alone
            os.nice(NICE)
            self._gives_way = True

    def turn(self, at: float) -> None:
        """Write what waits and what is new. at: on the monotonic clock. Raises nothing."""
        try:
            self._learn()
            self._take(at)
            self._write()
            self._roll_up(at)
            reason = ""
        except KtError as error:
            reason = str(error)
        except Exception as error:  # the thread must outlive whatever a database does
            log.exception("kt: what was answered cannot be recorded")
            reason = f"{type(error).__name__}: {error}"
        if reason:
            self._store = None  # a file that was deleted, or mended, is opened anew
        self._tell(reason)

    def _learn(self) -> None:
        """The secret: made where there is none yet, and read anew where it has changed."""
        try:
            # never made anew: what was signed by one that is lost must not pass for forged
            found = (
                secret.read(self.root) if self._secret else secret.ensure(self.root, clock.now())
            )
        except KtError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.warning("kt: outcomes may not be told of what is answered now: %s", error)
            return
        if found != self._secret:
            self._secret = found
            self.recorder.know(found)

    def _take(self, at: float) -> None:
        """What is new waits too; what is too old waits no more."""
        while self._waiting and at - self._waiting[0].born > KEEP:
            lost = self._waiting.popleft()
            self._dropped += lost.answers
            self.recorder.add(DROPPED, lost.answers)
            self._done_with(lost)
            if unlogged := len(lost.batch.logged):
                self.recorder.add(UNLOGGED, unlogged)
        batch = self.recorder.take()
        batch.shadows = self.shadows()
        if not batch:
            return
        last = self._waiting[-1] if len(self._waiting) > 1 else None
        if last and at - last.born < TOGETHER:
            last.batch.merge(batch)
        else:
            self._number += 1
            self._waiting.append(Waiting(self._number, batch, at))

    def _write(self) -> None:
        from kt.store.traffic import append

        while self._waiting:
            one = self._waiting[0]
            self._store = self._store or connect.open(self.root, self.settings)
            append(self._store, self.name, one.number, one.batch, clock.second() // 60)
            self._done_with(self._waiting.popleft())

    def _done_with(self, one: Waiting) -> None:
        if self.recorder.sampler:
            self.recorder.sampler.release(one.batch.logged)

    def _roll_up(self, at: float) -> None:
        """Keep the tables small. What several workers do at once is done once."""
        self._rolled_up = at if self._rolled_up is None else self._rolled_up
        if self._store is None or at - self._rolled_up < ROLL_UP:
            return
        from kt.store.rollup import roll_up

        self._rolled_up = at
        roll_up(self._store, clock.now(), *self.settings.store.kept)

    def _tell(self, reason: str) -> None:
        """A line in the log where something has changed."""
        before = self.recording
        state = "behind" if reason else "ok"
        waiting = sum(one.answers for one in self._waiting)
        since = before.since if state == before.state else now()
        self.recording = Recording(state, reason, since, waiting, self._dropped)
        if (before.state, before.reason) != (state, reason):
            log.warning("kt: %s", f"not recording: {reason}" if reason else "recording again")
        if before.dropped != self._dropped:
            log.error("kt: %d answers were given up", self._dropped - before.dropped)
