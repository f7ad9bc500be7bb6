"""A worker of kt serve: Granian's RSGI interface in front of the plain WSGI callable of app.py.

A request is read in Granian's event loop and only then answered, in a thread: a client that sends its
body slowly occupies nobody. What has no body (health, ready) is answered in the loop, also while
every thread is held up by a model. What needs the tables waits for them in a thread of its own.

Where nothing but kt's own code answers and lately took no more than QUICK, predictions are answered in the loop
too, in batches all the same: two threads that hand requests over cost a twentieth to a tenth more.

A plain prediction, which is nearly every request, does not pass through Falcon: its routing and its objects
cost as much as all else that a small model's request does (45 of 160 µs). Whatever there is to refuse or to
understand before the body is read as JSON, Falcon does. It is imported with all routes by the first request that
needs it: a tenth of a worker's start, and 5 MB of its memory.
"""

import asyncio
import functools
import gc
import logging
import math
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from granian._granian import RSGIProtocolClosed

from kt import http
from kt.config import Predictor
from kt.predictor import faults, predict, quarantine
from kt.predictor.brake import Brake
from kt.predictor.crowd import PATIENT, Answered
from kt.predictor.guard import guard_of
from kt.predictor.host import make_host
from kt.predictor.lanes import BATCH, Lanes
from kt.predictor.later import LATER, Deferred, bodies, one
from kt.predictor.loaded import NOTHING

log = logging.getLogger("kt")

LONGEST_PATH = 100  # characters that a refusal looks at
SMALL = 64_000  # bytes of a body that is read whatever the others are
BODIES = 100_000_000  # bytes of larger bodies that a worker holds at once
TABLES = ("/feedback", "/metrics")  # paths that need the tables
QUEUE = {False: 16, True: 32}  # requests that wait for the tables; with those of the patient
TOGETHER = 2.0  # seconds after which those of a batch are asked again, each alone
HUNG = 30.0  # seconds after which a call is hopeless, and its worker replaced once nobody waits
WATCH = 0.1  # seconds between looks at the lanes
QUICK = 0.01  # seconds of a core that a batch in the loop may take
AIM = 0.005  # seconds of a core that it is planned to take at most
MANY = 4 * BATCH  # requests that it may be of
LATE = 0.0  # stands for the time since when one waits that has been given up
CAREFUL = 20  # times as long as one took that took longer, none is answered there
GC = (50_000, 20, 100)  # a request makes hundreds of objects and no cycles

JSON = [("content-type", "application/json")]
CHUNKED = ["chunked"]  # the only coding of a body's transfer
UNANSWERED: http.Answer = 500, JSON, b""
PLAIN = re.compile(r"/predict|/models/([\w.-]+)/predict", re.ASCII)  # paths
Done = asyncio.Future[http.Answer]
Task = asyncio.Task[Any]


@dataclass(eq=False, slots=True)
class Waiting:
    """A request with its body, and who waits for its answer. scope: Granian's. pause: see crowd.py."""

    scope: Any
    data: bytes
    done: Done
    pause: int


class Front:
    """A worker: Granian's RSGI interface in front of the WSGI callable."""

    def __init__(
        self,
        root: Path,
        settings: Predictor,
        address: str,
        calls: quarantine.Calls,
        brake: Brake,
        keyed: bool = False,
    ) -> None:
        """keyed: whether there were keys when kt serve began, so that they are asked for whatever becomes of them."""
        self.settings = settings
        self.host = make_host(root, address)
        self.host.calls, self.host.brake = calls, brake
        # what the command line chose stands over kt.toml
        self.host.settings = self.host.settings.model_copy(update={"predictor": settings})
        self.lanes: Lanes[Waiting] = Lanes(
            self.answer_all, give_up, self.soon, pause_of, lambda: bool(self.reading)
        )
        self.answered = Answered()
        self.host.answering.crowded = lambda: self.lanes.waiting > BATCH
        self.host.start()
        self.guard = guard_of(self.host, keyed)
        self.pending: dict[Done, float] = {}  # when each began, the earliest first
        self.together: list[
            tuple[float, list[Waiting]]
        ] = []  # batches that run, the earliest first
        self.reading: dict[Task, float] = {}  # who waits for a body, and since when
        self.known = NOTHING  # of what a batch has been answered within QUICK
        self.careful = -math.inf  # until when, on the monotonic clock
        self.held = 0  # bytes of large bodies
        self.clerk = ThreadPoolExecutor(1, "kt-tables")
        self.queued = 0  # requests that the clerk has, or will have
        gc.freeze()
        gc.set_threshold(*GC)

    @functools.cached_property
    def app(self) -> http.App:
        """The WSGI callable with every route."""
        from kt.predictor.app import routes

        return routes(self.host, self.guard)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.home = loop, threading.get_ident()
        self.watch()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.host.close()

    def watch(self) -> None:
        self.host.calls.beat()
        limit = self.settings.predict_timeout
        late = time.monotonic() - limit
        for done, began in list(self.pending.items()):
            if began > late:
                break
            settle([done], [refuse(503, f"the model did not answer within {limit:g} s", "")])
        longest = max(self.lanes.longest, self.host.longest_aside)
        if self.lanes.watch() > limit or (longest > HUNG and not self.pending):
            self.replace()
        late = time.monotonic() - self.settings.body_timeout
        for task, began in list(self.reading.items()):
            if began > late:
                break
            self.reading[task] = LATE
            task.cancel()
        self.part()
        self.answered.forget(time.monotonic())
        self.loop.call_later(WATCH, self.watch)

    def replace(self) -> None:
        log.error("kt: a model does not come back: this worker is replaced")
        self.host.close()  # what it has counted is written
        os._exit(70)

    def part(self) -> None:
        """Ask those again, each alone, whose batch does not come back: one of them holds up the rest."""
        late = time.monotonic() - TOGETHER
        for began, waiting in list(self.together):
            if began > late:
                break
            with suppress(ValueError):  # it has come back just now
                self.together.remove((began, waiting))
            for each in waiting:
                if not each.done.done():
                    self.lanes.put(each)

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        length = scope.headers.get("content-length")
        codings = scope.headers.get_all("transfer-encoding")
        if codings and [one.lower() for one in codings] != CHUNKED:
            said = "of a Transfer-Encoding only chunked is read, once"
            status, headers, data = unclear(said, scope.path)
        elif length in (None, "0") and not codings:
            given = environ(scope, b"")
            waits = scope.path.rstrip("/") in TABLES
            status, headers, data = (
                await self.by_clerk(given, patient=False) if waits else self.answer(given)
            )
        else:
            client = scope.client
            pause = self.answered.pause(client, time.monotonic())
            try:
                if self.lanes.busy(pause):  # before anything is done: refusals must cost little
                    status, headers, data = busy(scope.path[:LONGEST_PATH])
                else:
                    status, headers, data = await self.read_and_answer(scope, proto, length, pause)
            except RSGIProtocolClosed:  # the client has gone in the middle of its body
                return
            self.answered.note(client, time.monotonic())
        proto.response_bytes(status, headers, data)

    async def read_and_answer(
        self, scope: Any, proto: Any, length: str | None, pause: int
    ) -> http.Answer:
        limit = self.settings.max_body
        if length is not None and not (length.isdecimal() and int(length[:20]) <= limit):
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        small = length is not None and int(length) <= SMALL
        try:
            data = await self.in_time(proto() if small else self.collect(proto, limit))
        except TimeoutError:
            late = f"the body did not arrive within {self.settings.body_timeout:g} s"
            return refuse(408, late, scope.path)
        except OverflowError:
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        except EOFError:
            return unclear("the body broke off, or trailers follow it", scope.path)
        except MemoryError:
            return busy(scope.path[:LONGEST_PATH])
        if scope.path.rstrip("/") in TABLES:
            return await self.by_clerk(environ(scope, data), patient=pause == PATIENT)
        return await self.in_lane(scope, data, pause, here=small and self.is_quick())

    async def in_time(self, body: Awaitable[bytes]) -> bytes:
        """A body, or TimeoutError where it is late. A timer for each would cost as much as the rest of this."""
        task = asyncio.current_task()
        assert task is not None
        self.reading[task] = time.monotonic()
        try:
            return await body
        except asyncio.CancelledError:
            if self.reading[task] != LATE:
                raise
            task.uncancel()
            raise TimeoutError from None
        finally:
            del self.reading[task]

    def is_quick(self) -> bool:
        """Whether requests may be answered in the loop itself."""
        loaded = self.host.current
        return loaded is self.known and loaded.bounded and time.monotonic() > self.careful

    async def collect(self, proto: Any, limit: int) -> bytes:
        """A body in parts. Raises OverflowError where it is longer than `limit`, MemoryError where
        this worker holds too many of them, EOFError where it has no end.

        Granian gives an empty part for the end, and one more before it for chunks that are none, a client that goes
        and trailers, whatever of the body there was.
        """
        parts: list[bytes] = []
        size = 0
        try:
            async for part in proto:
                parts.append(part)
                size += len(part)
                self.held += len(part)
                if size > limit:
                    raise OverflowError
                if self.held > BODIES:
                    raise MemoryError
            if parts.count(b"") > 1:
                raise EOFError
            return b"".join(parts)
        finally:
            self.held -= size

    async def in_lane(self, scope: Any, data: bytes, pause: int, *, here: bool) -> http.Answer:
        done: Done = self.loop.create_future()
        self.lanes.put(Waiting(scope, data, done, pause), here=here)
        self.pending[done] = time.monotonic()
        try:
            return await done
        finally:
            del self.pending[done]

    async def by_clerk(self, given: dict[str, Any], *, patient: bool) -> http.Answer:
        """Answer in a thread that may wait for the tables, while predictions go on."""
        if self.queued >= QUEUE[patient]:
            return busy(given["PATH_INFO"][:LONGEST_PATH])
        self.queued += 1
        try:
            return await self.loop.run_in_executor(self.clerk, self.answer, given)
        finally:
            self.queued -= 1

    def answer_all(self, waiting: list[Waiting]) -> None:
        """Answer what waited together; in a lane, or in the loop."""
        waiting = [each for each in waiting if not each.done.done()]
        batch, loaded, began = (time.monotonic(), waiting), self.host.current, time.thread_time()
        if len(waiting) > 1:
            self.together.append(batch)
        found = self.answers(waiting)
        with suppress(ValueError):  # parted meanwhile, or alone
            self.together.remove(batch)
        spent = time.thread_time() - began
        if spent > QUICK:
            self.careful = time.monotonic() + CAREFUL * spent
        else:
            self.known = loaded
        self.lanes.most = fitting(self.lanes.most, len(waiting), spent)
        done = [each.done for each in waiting]
        if threading.get_ident() == self.home:
            settle(done, found)
        else:
            self.loop.call_soon_threadsafe(settle, done, found)

    def soon(self, turn: Callable[[], None]) -> None:
        self.loop.call_soon(turn)

    def answers(self, waiting: list[Waiting]) -> list[http.Answer]:
        later: list[Deferred] = []
        places: list[int] = []
        found: list[http.Answer] = []
        for place, each in enumerate(waiting):
            found.append(self.begin(each.scope, each.data, later))
            if len(later) > len(places):
                places.append(place)
        for place, said in zip(places, self.predictions(later), strict=True):
            if isinstance(said, Exception):
                found[place] = failed(said, waiting[place].scope.path)
            else:
                found[place] = 200, JSON, orjson.dumps(said)
        return found

    def begin(self, scope: Any, data: bytes, later: list[Deferred]) -> http.Answer:
        """The answer to a request. To one that is put into `later` there is none yet."""
        plain = self.plain(scope)
        if plain is None:
            return self.answer(environ(scope, data) | {LATER: later})
        try:
            later.append(one(predict.ask(self.host, http.parse(data), plain[1])))
        except Exception as error:  # noqa: BLE001  # as Falcon catches all: nothing may pass here
            return failed(error, scope.path)
        return UNANSWERED

    def plain(self, scope: Any) -> re.Match[str] | None:
        """Of a plain prediction its path, by whose group 1 it names its model, if it does."""
        headers = scope.headers
        if scope.method != "POST" or scope.query_string:
            return None
        if headers.get("content-type") != "application/json":
            return None
        if not self.guard.stands_open(headers.get("host", "")):
            return None
        return PLAIN.fullmatch(scope.path)

    def predictions(self, later: list[Deferred]) -> Sequence[Any]:
        try:
            return bodies(self.host, later)
        except Exception as error:  # noqa: BLE001  # a lane must go on
            return [error] * len(later)

    def answer(self, given: dict[str, Any]) -> http.Answer:
        try:
            return http.call(self.app, given)
        except Exception as error:  # noqa: BLE001  # the callable answers its own; nothing may pass here
            return failed(error, given["PATH_INFO"])


def fitting(most: int, done: int, spent: float) -> int:
    """How many to answer in the loop at once after so many took so many seconds: as many as lanes do at least, and
    else no more than AIM allows, nor much more than before, since others may be asked for what costs more."""
    return max(BATCH, min(most + 1, MANY, int(done * AIM / max(spent, 1e-6))))


def settle(waiting: list[Done], found: list[http.Answer]) -> None:
    for done, answer in zip(waiting, found, strict=True):
        if not done.done():  # the client may have gone
            done.set_result(answer)


def pause_of(waiting: Waiting) -> int:
    return waiting.pause


def give_up(waiting: Waiting) -> None:
    """Refuse what has waited in vain; in the loop."""
    settle([waiting.done], [busy(waiting.scope.path[:LONGEST_PATH])])


@functools.lru_cache(64)
def busy(path: str) -> http.Answer:
    return refuse(503, "too many requests are waiting", path)


def failed(error: Exception, path: str) -> http.Answer:
    return as_answer(http.document(error, path), path)


def refuse(status: int, detail: str, path: str) -> http.Answer:
    return as_answer(http.problem(status, detail), path)


def unclear(detail: str, path: str) -> http.Answer:
    """Refuse what a proxy before this server may take to end elsewhere, and with it all that follows."""
    status, headers, data = refuse(400, detail, path)
    return status, [*headers, ("connection", "close")], data


def as_answer(document: dict[str, Any], path: str) -> http.Answer:
    kind, shaped = faults.shaped(path, document)
    headers = [("content-type", kind)]
    if document["status"] == 503:
        headers.append(("retry-after", http.RETRY_AFTER))
    return document["status"], headers, orjson.dumps(shaped)


def environ(scope: Any, data: bytes) -> dict[str, Any]:
    """The WSGI environment of an RSGI request."""
    # Granian has decoded the path, with � for what is no UTF-8; WSGI has its bytes as Latin-1
    path = scope.path.encode().decode("latin-1")
    found = http.environ(scope.method, path, data, "")
    found["QUERY_STRING"] = scope.query_string
    found["SERVER_PROTOCOL"] = f"HTTP/{scope.http_version}"
    found["SERVER_NAME"], _, found["SERVER_PORT"] = scope.server.rpartition(":")
    found["REMOTE_ADDR"] = scope.client.rpartition(":")[0]
    for name, value in scope.headers.items():
        if name == "content-type":
            found["CONTENT_TYPE"] = value
        elif name != "content-length":
            found[f"HTTP_{name.upper().replace('-', '_')}"] = value
    return found
