"""The threads that answer: one as long as it keeps up, another as soon as one is held up.

A lane takes all that waits, up to BATCH, to be answered together. On one core two threads that both
compute take turns at the interpreter's lock and lose a tenth of the throughput to it, so requests
queue for one. A call that holds its lane for longer than HELD_UP (a large model, or one that hangs)
opens the next lane for those behind it. While one is held up the others take requests one by one: what
holds it up may wait among them, and must not hold up those that it would be answered with.

What takes no time to speak of needs no thread of its own: it is done `here`, in the thread that puts it, at
that thread's next turn and together with what came until then. Handing it over would cost as much as doing it.
Where more is coming it waits for that a moment, in which whoever brings it gets the core and the interpreter's
lock: what a small model costs is its calls, however many they answer. What comes alone after what came alone
waits for nobody.

A queue that has been FULL is more than a burst: all but the newest are given up, and it is kept SHORT
until nobody had to be turned away for a while. Whoever is still taken is then answered about as soon
as ever; in a long queue every answer would be late. Who gives way: crowd.py.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from kt.predictor.crowd import PATIENT, hastiest, is_hastiest

T = TypeVar("T")

HELD_UP = 0.25  # seconds
MOST = 8  # lanes
BATCH = 8  # requests: more cost a transformer what they spare a loop
GATHER = 0.0001  # seconds that what is here waits for the next that is coming
FULL = 128  # requests that wait
SHORT = {False: BATCH, True: 2 * BATCH}  # enough for the next call; with those of the patient
CALM = 1.0  # seconds without a refusal


class Lanes(Generic[T]):
    """work: called in a lane with what waited. give_up: called with what is not done after all. Both
    must raise nothing. soon: has the thread that puts call a function at its next turn. pause: that of
    who asks for something (crowd.py). coming: whether more is about to be put. most: how many are done here at
    once, which is for whoever knows their cost to set. watch() must be called a few times a second."""

    def __init__(
        self,
        work: Callable[[list[T]], None],
        give_up: Callable[[T], None] = lambda _: None,
        soon: Callable[[Callable[[], None]], object] = lambda turn: turn(),
        pause: Callable[[T], int] = lambda _: 0,
        coming: Callable[[], bool] = lambda: False,
    ) -> None:
        self._do, self._give_up, self._soon, self._pause = work, give_up, soon, pause
        self._coming, self.most = coming, BATCH
        self._until = 0.0  # when the next has been waited for enough, on the monotonic clock
        self._seen = 1  # of what is here: what more there is gives hope of yet more
        self._shed = 0.0  # until when the queue is kept short, on the monotonic clock
        self._work: deque[T] = deque()
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each of these
        self._here: deque[T] = deque()
        self._since: dict[int, float] = {}  # lane -> start of its call, or inf where it waits
        self._names = iter(range(1_000_000_000))

    def put(self, work: T, *, here: bool = False) -> None:
        """From one thread alone. Where it finds them full something is given up."""
        if here:
            self._here.append(work)
            if len(self._here) == 1:
                self._begin()
        else:
            if not self._since:
                self._open()
            self._work.append(work)
            self._calls.put(None)
        if self.waiting > BATCH and self._full(self._pause(work) == PATIENT):
            for patient, most in SHORT.items():
                for each in hastiest(self._rivals(patient), self._pause, most):
                    self._drop(each)

    def busy(self, pause: int) -> bool:
        """Whether who asks after such a pause is to be turned away."""
        patient = pause == PATIENT
        if self.waiting < BATCH or not self._full(patient):
            return False
        return is_hastiest(pause, map(self._pause, self._rivals(patient)))

    def _full(self, patient: bool) -> bool:
        """Whether no more may wait. What is full is kept short from now on."""
        now = time.monotonic()
        if now < self._shed:
            full = len(self._rivals(patient)) >= SHORT[patient]
        else:
            full = self.waiting >= FULL
        if full:
            self._shed = now + CALM
        return full

    def _rivals(self, patient: bool) -> list[T]:
        """What waits, the oldest first: the patient give way to nobody else."""
        waiting = [*self._here, *self._work]
        return waiting if patient else [each for each in waiting if self._pause(each) < PATIENT]

    def _drop(self, work: T) -> None:
        for waiting in (self._here, self._work):
            with suppress(ValueError):  # it is in the other one, or a lane took it
                waiting.remove(work)
                self._give_up(work)

    def _begin(self) -> None:
        self._until = time.monotonic() + GATHER
        self._soon(self._turn)

    def _turn(self) -> None:
        here, now = len(self._here), time.monotonic()
        came, self._seen = here > self._seen, here
        if came:
            self._until = now + GATHER
        if here < self.most and (came or (now < self._until and self._coming())):
            os.sched_yield()  # a turn of the loop alone lets nobody in who waits for this core
            self._soon(self._turn)
            return
        work = [self._here.popleft() for _ in range(min(self.most, len(self._here)))]
        self._seen = 0 if len(work) > 1 else 1
        if self._here:
            self._begin()
        if work:  # it may all have been given up
            self._do(work)

    @property
    def waiting(self) -> int:
        return len(self._work) + len(self._here)

    def watch(self) -> float:
        """Open a lane where all are held up and work waits. How long the latest to begin has been at it,
        where no further lane can be opened."""
        held = min(self._held(), default=0.0)
        if held > HELD_UP and self._work and len(self._since) < MOST:
            self._open()
        return max(held, 0.0) if len(self._since) >= MOST else 0.0

    @property
    def longest(self) -> float:
        """How long the earliest to begin has been at it."""
        return max(self._held(), default=0.0)

    def _held(self) -> list[float]:
        now = time.monotonic()
        return [now - since for since in list(self._since.values())]

    def _open(self) -> None:
        name = next(self._names)
        self._since[name] = float("inf")
        threading.Thread(target=self._run, args=(name,), name="kt-lane", daemon=True).start()

    def _take(self) -> list[T]:
        """One at least; no more while another lane is held up."""
        taken: list[T] = []
        while not taken:
            self._calls.get()
            with suppress(IndexError):  # it went with those before it, or was given up
                taken.append(self._work.popleft())
        with suppress(IndexError):
            while len(taken) < BATCH and self.longest <= HELD_UP:
                taken.append(self._work.popleft())
        return taken

    def _run(self, name: int) -> None:
        """Until another lane is free too: the one that was opened last need not be the one that stays."""
        while True:
            work = self._take()
            self._since[name] = time.monotonic()
            self._do(work)
            self._since[name] = float("inf")
            if any(
                since == float("inf") for other, since in list(self._since.items()) if other != name
            ):
                del self._since[name]
                return
