"""A shadow: a version that gets a copy of each answered request. What it says is compared, never returned.

Answers come first. A copy is taken when its answer is there, waits for a pause in which nobody is
being answered, and is run in a thread of its own. Where there is no pause copies get a tenth of the
time, and where requests queue they get none. What waits is bounded: the oldest are dropped and counted.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from kt.deployments.manifest import Trial
from kt.models.family import Arrays
from kt.predictor.aside import IDLE, Aside
from kt.predictor.engine import Engine
from kt.predictor.lanes import BATCH
from kt.predictor.run import Predictions, explain, run, validated
from kt.store.tally import Report, Tally, bucket

MOST = 256  # copies that wait
BYTES = 8_000_000  # of them
QUIET = 0.002  # seconds without an answer make a pause
PATIENCE = 0.05  # seconds that copies wait for one at least
BUSY = 9  # times as long as the last ones took they wait where there is none
CLOSE = 0.01  # numbers agree within this, absolute or relative
FAILED = {"failed": Tally(failed=1), "invalid": Tally(invalid=1), "slow": Tally(slow=1)}


class Answering:
    """with answering: …requests are being answered. crowded: whether many more wait."""

    def __init__(self) -> None:
        self.crowded: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        self._now = 0
        self._ended = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._now -= 1
            self._ended = time.monotonic()

    def wait_for_pause(self, patience: float) -> None:
        """No longer than `patience` seconds, unless it is crowded."""
        until = time.monotonic() + patience
        while self._now or time.monotonic() - self._ended < QUIET:
            if time.monotonic() >= until and not self.crowded():
                return
            time.sleep(QUIET / 2)


class Shadow:
    """A version that runs copies of the requests that another one has answered.

    form: of the version that answers. timeout: seconds after which copies that run together are
    given up; a version that hangs costs one thread.
    """

    def __init__(
        self,
        model: str,
        trial: Trial,
        engine: Engine,
        aside: Aside,
        form: Any,
        answering: Answering,
        timeout: float,
    ) -> None:
        self.model, self.trial = model, trial
        self._engine, self._form, self._timeout = engine, form, timeout
        self._aside, self._answering = aside, answering
        self._tally, self._dropped = Tally(), 0  # all that was found
        self._fresh, self._given = Tally(), 0  # since take(); as many drops as it has given away
        # fields, predictions and prediction_id as JSON: what waits has a size, and is shared with nobody
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._running = False
        self._changed = threading.Condition()  # guards all of it

    @property
    def report(self) -> Report:
        (version,) = (one.version for one in self.trial.treatments)
        tally = self._tally + Tally(dropped=self._dropped)
        return Report(self.model, self.trial.name, version, self.trial.phase, tally)

    def take(self) -> Tally:
        """What was found since it was last taken."""
        with self._changed:
            fresh = self._fresh + Tally(dropped=self._dropped - self._given)
            self._fresh, self._given = Tally(), self._dropped
        return fresh

    def offer(self, answered: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """The fields of requests and their answers. From any thread; returns at once."""
        copies = (
            [] if self._answering.crowded() else [copy for one in answered if (copy := text(*one))]
        )
        with self._changed:
            self._dropped += len(answered) - len(copies)
            self._waiting.extend(copies)
            self._bytes += sum(map(len, copies))
            while len(self._waiting) > MOST or self._bytes > BYTES:
                self._bytes -= len(self._waiting.popleft())
                self._dropped += 1
            if not self._running and self._waiting:
                self._running = True
                threading.Thread(target=self._work, name="kt-shadow", daemon=True).start()
            self._changed.notify()

    def _work(self) -> None:
        """Until nothing has waited for a while."""
        patience = PATIENCE
        try:
            while self._wait():
                self._answering.wait_for_pause(patience)
                began = time.monotonic()
                found = self._run([orjson.loads(copy) for copy in self._take()])
                with self._changed:
                    self._tally += found
                    self._fresh += found
                patience = max(PATIENCE, BUSY * (time.monotonic() - began))
        except BaseException:  # for want of memory: the next copy starts another thread
            self._running = False
            raise

    def _wait(self) -> bool:
        with self._changed:
            self._running = self._changed.wait_for(lambda: bool(self._waiting), IDLE)
            return self._running

    def _take(self) -> list[bytes]:
        """As many as are answered together."""
        with self._changed:
            taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._bytes -= sum(map(len, taken))
            return taken

    def _run(self, copies: Sequence[tuple[dict[str, Any], Predictions, str]]) -> Tally:
        """What comes of copies that are run together."""
        began = time.monotonic()
        try:
            said = self._aside.call(
                lambda: each(self._engine, [fields for fields, _, _ in copies]), self._timeout
            )
        except Exception as error:  # noqa: BLE001  # a shadow may raise anything; it is counted
            said = [error] * len(copies)
        place = bucket(time.monotonic() - began)
        total = Tally()
        for (_, answered, name), one in zip(copies, said, strict=True):
            total += self._judged(answered, one, name, place)
        return total

    def _judged(
        self, answered: Predictions, said: Predictions | Exception, name: str, place: int
    ) -> Tally:
        if isinstance(said, Exception):
            return FAILED[explain(said)[0]]
        try:
            found = compare(
                tensors(self._form, answered),
                tensors(self._engine.form, said),
                self._form.PROBABILITIES,
            )
        except Exception:  # noqa: BLE001  # a form is foreign code
            return Tally(failed=1)
        cases = ((found.worst, name),) if found.worst else ()
        return replace(
            found, compared=1, worst_id=name if cases else "", cases=cases, took={place: 1}
        )


def text(fields: dict[str, Any], answer: dict[str, Any]) -> bytes:
    """Nothing where a number has more than 64 bits."""
    try:
        return orjson.dumps((fields, answer["predictions"], answer["prediction_id"]))
    except TypeError:
        return b""


def each(engine: Engine, fields: Sequence[dict[str, Any]]) -> list[Predictions | Exception]:
    """Bodies through an engine, which may refuse some of them."""
    requests: list[Any] = []
    for one in fields:
        try:
            requests.append(validated(engine, one))
        except Exception as error:  # noqa: BLE001  # a form is foreign code
            requests.append(error)
    good = [one for one in requests if not isinstance(one, Exception)]
    ran = iter(run(engine, good) if good else ())
    return [one if isinstance(one, Exception) else next(ran) for one in requests]


def tensors(form: Any, predictions: Predictions) -> Arrays:
    """None where the form does not tell."""
    found: Arrays = form.tensors(predictions) if hasattr(form, "tensors") and predictions else {}
    return found


def compare(answered: Arrays, said: Arrays, probabilities: Collection[str]) -> Tally:
    """Two answers to one request, name by name; where there are probabilities, these alone.

    Predictions agree on the likeliest category; other outputs agree number by number, where they are CLOSE.
    """
    likeliest = [name for name in answered if name in probabilities]
    total = Tally()
    for name in likeliest or answered:
        total += beside(answered[name], np.asarray(said.get(name)), likeliest=bool(likeliest))
    return total


def beside(ours: np.ndarray, theirs: np.ndarray, *, likeliest: bool) -> Tally:
    count = ours[..., 0].size if likeliest else ours.size
    if ours.shape != theirs.shape:
        return Tally(predictions=count)
    if "O" in (ours.dtype.kind, theirs.dtype.kind):  # text
        return Tally(predictions=count, agreed=int((ours == theirs).sum()))
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    same = (
        ours.argmax(-1) == theirs.argmax(-1)
        if likeliest
        else np.isclose(theirs, ours, CLOSE, CLOSE)
    )
    apart = np.abs(ours - theirs)
    return Tally(
        predictions=count,
        agreed=int(same.sum()),
        numbers=apart.size,
        difference=float(apart.sum()),
        worst=float(apart.max(initial=0.0)),
    )
