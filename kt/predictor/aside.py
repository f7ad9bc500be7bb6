"""Calls a function in a thread of its own, and waits for it no longer than asked.

A thread cannot be stopped. One that overruns is left to finish; until then every further call is
refused at once, so that a version that hangs costs one thread and one wait. The thread of one that never
finishes may keep a core busy for as long as its process lives: whoever can replace that sees when it began.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

IDLE = 3.0  # seconds after which a thread without work ends

Done = tuple[bool, Any]  # (True, value) or (False, exception)


class Overrun(Exception):
    """The call, or one before it, takes longer than it may."""


class Aside:
    """One thread, started when it is needed.

    begun: where it keeps the start of the call that runs, on the monotonic clock.
    """

    def __init__(self, begun: dict["Aside", float] | None = None) -> None:
        self._begun = {} if begun is None else begun
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Done]]] = (
            queue.SimpleQueue()
        )
        self._free = threading.Lock()  # held from a call's start to its end, by whichever thread
        self._running = False
        self._overrun = False

    def call(self, function: Callable[[], Any], timeout: float) -> Any:
        """function(), or whatever it raises, or Overrun after `timeout` seconds."""
        if self._overrun or not self._free.acquire(timeout=timeout):
            raise Overrun("a call before it has not ended")
        if not self._running:
            self._running = True
            threading.Thread(target=self._work, name="kt-aside", daemon=True).start()
        done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._calls.put((function, done))
        try:
            ok, value = done.get(timeout=timeout)
        except queue.Empty:
            self._overrun = True
            if not done.empty():  # it ended just now, and has cleared the mark before it was set
                self._overrun = False
            raise Overrun(f"no answer within {timeout:g} s") from None
        if not ok:
            raise value
        return value

    def _work(self) -> None:
        while True:
            try:
                function, done = self._calls.get(timeout=IDLE)
            except queue.Empty:
                if self._free.acquire(blocking=False):  # so nobody can be putting a call now
                    self._running = False
                    self._free.release()
                    return
                continue
            self._begun[self] = time.monotonic()
            try:
                result: Done = (True, function())
            except Exception as error:  # noqa: BLE001  # handed to the caller, who decides
                result = (False, error)
            del self._begun[self]
            done.put(result)
            self._overrun = False
            self._free.release()
