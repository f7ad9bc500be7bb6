"""The threads that answer: one as long as it keeps up, another as soon as one is held up.

A lane takes all that waits, up to BATCH, to be answered together. On one core two threads that both
compute take turns at the interpreter's lock and lose a tenth of the throughput to it, so requests
queue for one. A call that holds its lane for longer than HELD_UP (a large model, or one that hangs)
opens the next lane for those behind it. While one is held up the others take requests one by one: what
holds it up may wait among them, and must not hold up those that it would be answered with.

What takes no time to speak of needs no thread of its own: it is done `here`, in the thread that puts it, at
that thread's next turn and together with what came until then. Handing it over would cost as much as doing it.

A queue that has been FULL is more than a burst: all but the newest are given up, and it is kept SHORT
until nobody had to be turned away for a while. Whoever is still taken is then answered about as soon
as ever; in a long queue every answer would be late.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

HELD_UP = 0.25  # seconds
MOST = 8  # lanes
BATCH = 8  # requests: more cost a transformer what they spare a loop
FULL = 128  # requests that wait
SHORT = BATCH  # enough for the next call
CALM = 1.0  # seconds without a refusal


class Lanes(Generic[T]):
    """work: called in a lane with what waited. give_up: called with what is not done after all. Both
    must raise nothing. soon: has the thread that puts call a function at its next turn. watch() must be
    called a few times a second."""

    def __init__(
        self,
        work: Callable[[list[T]], None],
        give_up: Callable[[T], None] = lambda _: None,
        soon: Callable[[Callable[[], None]], object] = lambda turn: turn(),
    ) -> None:
        self._do, self._give_up, self._soon = work, give_up, soon
        self._shed = 0.0  # until when the queue is kept short, on the monotonic clock
        self._work: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._here: deque[T] = deque()
        self._since: dict[int, float] = {}  # lane -> start of its call, or inf where it waits
        self._names = iter(range(1_000_000_000))

    def put(self, work: T, *, here: bool = False) -> None:
        """From one thread alone. Where they are `busy` something is given up for it."""
        if here:
            self._here.append(work)
            if len(self._here) == 1:
                self._soon(self._turn)
        else:
            if not self._since:
                self._open()
            self._work.put(work)
        if self.busy():
            with suppress(queue.Empty):  # the lanes took the rest
                while self.waiting > SHORT:
                    self._give_up(self._oldest())

    def _oldest(self) -> T:
        return self._here.popleft() if self._here else self._work.get_nowait()

    def _turn(self) -> None:
        work = [self._here.popleft() for _ in range(min(BATCH, len(self._here)))]
        if self._here:
            self._soon(self._turn)
        if work:  # it may all have been given up
            self._do(work)

    def busy(self) -> bool:
        """Whether whoever asks is to be turned away."""
        now = time.monotonic()
        busy = self.waiting >= (SHORT if now < self._shed else FULL)
        if busy:
            self._shed = now + CALM
        return busy

    @property
    def waiting(self) -> int:
        return self._work.qsize() + len(self._here)

    def watch(self) -> float:
        """Open a lane where all are held up and work waits. How long the latest to begin has been at it,
        where no further lane can be opened."""
        held = min(self._held(), default=0.0)
        if held > HELD_UP and self._work.qsize() and len(self._since) < MOST:
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
        taken = [self._work.get()]
        with suppress(queue.Empty):
            while len(taken) < BATCH and self.longest <= HELD_UP:
                taken.append(self._work.get_nowait())
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
