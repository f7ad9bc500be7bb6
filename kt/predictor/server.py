"""kt serve: Granian with several workers, each of which answers by the plain WSGI callable of app.py.

A request is read in Granian's event loop (its RSGI interface) and only then answered, in a thread:
a client that sends its body slowly occupies nobody. What has no body (health, ready) is answered in
the loop, also while every thread is held up by a model.

Workers are forked from a process that has imported torch and nothing else: they share its memory,
and one that was killed is back in a tenth of a second. They also share one listening socket, so that
connections wait for a worker that is being replaced rather than being refused. What a worker ran when
it died is written down: quarantine.py.
"""

import asyncio
import functools
import gc
import io
import logging
import multiprocessing
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
from granian._granian import ListenerSpec, RSGIProtocolClosed
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from kt import clock, http
from kt.config import Predictor
from kt.errors import KtError, Refused, Unavailable
from kt.predictor import engine, faults, keys, quarantine
from kt.predictor.app import make_host, routes
from kt.predictor.guard import is_loopback
from kt.predictor.lanes import BATCH, Lanes
from kt.predictor.later import LATER
from kt.predictor.predict import Asked, answers
from kt.workspace import Workspace

log = logging.getLogger("kt")

HEADERS = 10.0  # seconds until the headers of a request must have come
LARGEST_HEADERS = 64_000  # bytes
CONNECTIONS = 4_000  # that a worker holds; the next wait to be accepted
UNREAD = 20  # seconds until a client that does not read its answer is cut off
LONGEST_PATH = 100  # characters that a refusal looks at
SMALL = 64_000  # bytes of a body that is read whatever the others are
BODIES = 100_000_000  # bytes of larger bodies that a worker holds at once
TOGETHER = 2.0  # seconds after which those of a batch are asked again, each alone
HUNG = 30.0  # seconds after which a call is hopeless, and its worker replaced once nobody waits
WATCH = 0.1  # seconds between looks at the lanes
GRACE = 30  # seconds that a worker has to finish what it began
GC = (50_000, 20, 100)  # a request makes hundreds of objects and no cycles
BACKOFF = (0.05, 1.0)  # seconds before a worker that died young is replaced: at first, at most
YOUNG = 5.0  # seconds


JSON = [("content-type", "application/json")]
Done = asyncio.Future[http.Answer]
Waiting = tuple[dict[str, Any], Done]  # a request's environment, and who waits for its answer


def serve(workspace: Workspace, settings: Predictor, said: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT. said: told the host and the port once they are listened on.

    Raises Unavailable where the address cannot be listened on.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("_granian").setLevel(logging.WARNING)
    multiprocessing.set_start_method("fork", force=True)
    allow_connections()
    port = claim(settings.host, settings.port)
    address = f"http://{bracketed(settings.host)}:{port}"
    server = Group(
        target="kt",
        address=settings.host,
        port=port,
        interface=Interfaces.RSGI,
        workers=settings.workers,
        loop=Loops.asyncio,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(HEADERS * 1000), max_buffer_size=LARGEST_HEADERS
        ),
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE,
    )

    def listening() -> None:
        said(settings.host, port)
        engine.prepare(settings.threads)
        gc.collect()
        gc.freeze()  # what is here now is never looked at again, so that its pages stay shared

    server.on_startup(listening)
    server.watch_over(workspace.local, settings.workers)

    def front(calls: quarantine.Calls) -> Any:
        return Front(workspace.root, settings, address, calls)

    server.serve(target_loader=front, wrap_loader=False)


def allow_connections() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * CONNECTIONS:
        wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def claim(host: str, port: int) -> int:
    """The port, a free one for 0, where nobody listens on it: Granian itself would share it."""
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            found: int = probe.getsockname()[1]
            return found
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unavailable(
            f"cannot listen on {host}:{port}: {reason[:1].lower()}{reason[1:]}",
            do="choose another: kt serve --port N, or stop what listens there",
        ) from None


def check_exposure(workspace: Workspace, settings: Predictor, insecure: bool) -> None:
    """Raises Refused for an address that others can reach, where no key keeps them out."""
    if insecure or is_loopback(settings.host):
        return
    if not keys.read(workspace.root / settings.keys).keys:
        raise Refused(
            f"{settings.host} can be reached from other machines, and there are no keys",
            do="make one: kt key new, or let everybody in: kt serve --insecure",
        )


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Group(MPServer):
    """Granian's server with one listening socket for all workers, and patience with those that die.

    Granian gives up where a worker dies twice within six seconds; a predictor must not.
    """

    _shd: Any
    _wait = BACKOFF[0]

    def watch_over(self, local: Path, workers: int) -> None:
        """Write down in .kt what workers ran when they died."""
        self.local = local
        self.calls = [quarantine.Calls() for _ in range(workers)]
        self.starved = quarantine.out_of_memory()

    def _init_shared_socket(self) -> None:
        # as Granian does where there is no SO_REUSEPORT
        holder = ListenerSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._shd, self._sfd, self._ssp = holder, holder.get_fd(), None
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)
        # Connections inherit it; the kernel ends one whose answer nobody takes.
        self._sso.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD)
        self._sso.listen(self.backlog)  # from now on, also while no worker accepts

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> Any:  # type: ignore[override]  # as MPServer's
        self.calls[idx].forget()
        front = functools.partial(callback_loader, self.calls[idx])
        return super()._spawn_worker(idx, target, front)

    def _respawn_workers(self, workers: list[int], *args: Any, **options: Any) -> None:
        for index in workers:
            self._bury(index, self.wrks[index].inner.exitcode or 0)
        young = any(time.monotonic() - self.wrks[index].birth < YOUNG for index in workers)
        self._wait = min(2 * self._wait, BACKOFF[1]) if young else BACKOFF[0]
        self.main_loop_interrupt.wait(self._wait)  # a signal to stop ends it
        super()._respawn_workers(workers, *args, **options)
        self.respawned_wrks.clear()

    def _bury(self, index: int, code: int) -> None:
        starved = quarantine.out_of_memory()
        try:
            for line in quarantine.bury(
                self.local, self.calls[index], code, starved > self.starved, clock.now()
            ):
                log.error("kt: %s", line)
        except KtError as error:
            log.error("kt: %s", error)
        self.starved = starved


class Front:
    """A worker: Granian's RSGI interface in front of the WSGI callable."""

    def __init__(
        self, root: Path, settings: Predictor, address: str, calls: quarantine.Calls
    ) -> None:
        self.settings = settings
        self.host = make_host(root, address)
        self.host.calls = calls
        # what the command line chose stands over kt.toml
        self.host.settings = self.host.settings.model_copy(update={"predictor": settings})
        self.lanes: Lanes[Waiting] = Lanes(self.answer_all, give_up)
        self.host.answering.crowded = lambda: self.lanes.waiting > BATCH
        self.host.start()
        self.app: http.App = routes(self.host)
        self.pending: dict[Done, float] = {}  # when each began, the earliest first
        self.together: list[
            tuple[float, list[Waiting]]
        ] = []  # batches that run, the earliest first
        self.held = 0  # bytes of large bodies
        gc.freeze()
        gc.set_threshold(*GC)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.watch()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.host.close()

    def watch(self) -> None:
        limit = self.settings.predict_timeout
        late = time.monotonic() - limit
        for done, began in list(self.pending.items()):
            if began > late:
                break
            settle([done], [refuse(503, f"the model did not answer within {limit:g} s", "")])
        if self.lanes.watch() > limit or (self.lanes.longest > HUNG and not self.pending):
            log.error("kt: a model does not come back: this worker is replaced")
            os._exit(70)
        self.part()
        self.loop.call_later(WATCH, self.watch)

    def part(self) -> None:
        """Ask those again, each alone, whose batch does not come back: one of them holds up the rest."""
        late = time.monotonic() - TOGETHER
        for began, waiting in list(self.together):
            if began > late:
                break
            with suppress(ValueError):  # it has come back just now
                self.together.remove((began, waiting))
            for given, done in waiting:
                if not done.done():
                    self.lanes.put((again(given), done))

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        length = scope.headers.get("content-length")
        chunked = "transfer-encoding" in scope.headers
        if length in (None, "0") and not chunked:
            status, headers, data = self.answer(environ(scope, b""))
        elif self.lanes.busy:  # before anything is done for it: refusals must cost little
            status, headers, data = busy(scope.path[:LONGEST_PATH])
        else:
            try:
                status, headers, data = await self.read_and_answer(scope, proto, length)
            except RSGIProtocolClosed:  # the client has gone in the middle of its body
                return
        proto.response_bytes(status, headers, data)

    async def read_and_answer(self, scope: Any, proto: Any, length: str | None) -> http.Answer:
        limit = self.settings.max_body
        if length is not None and not (length.isdecimal() and int(length[:20]) <= limit):
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        small = length is not None and int(length) <= SMALL
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                data = await (proto() if small else self.collect(proto, limit))
        except TimeoutError:
            late = f"the body did not arrive within {self.settings.body_timeout:g} s"
            return refuse(408, late, scope.path)
        except OverflowError:
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        except MemoryError:
            return busy(scope.path[:LONGEST_PATH])
        return await self.in_lane(environ(scope, data))

    async def collect(self, proto: Any, limit: int) -> bytes:
        """A body in parts. Raises OverflowError where it is longer than `limit`, MemoryError where
        this worker holds too many of them."""
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
            return b"".join(parts)
        finally:
            self.held -= size

    async def in_lane(self, given: dict[str, Any]) -> http.Answer:
        done: Done = self.loop.create_future()
        self.lanes.put((given, done))
        self.pending[done] = time.monotonic()
        try:
            return await done
        finally:
            del self.pending[done]

    def answer_all(self, waiting: list[Waiting]) -> None:
        """Answer what waited together; in a lane."""
        waiting = [(given, done) for given, done in waiting if not done.done()]
        batch = (time.monotonic(), waiting)
        if len(waiting) > 1:
            self.together.append(batch)
        found = self.answers([given for given, _ in waiting])
        with suppress(ValueError):  # parted meanwhile, or alone
            self.together.remove(batch)
        self.loop.call_soon_threadsafe(settle, [done for _, done in waiting], found)

    def answers(self, given: list[dict[str, Any]]) -> list[http.Answer]:
        later: list[Asked] = []
        places: list[int] = []
        found: list[http.Answer] = []
        for place, environ in enumerate(given):
            environ[LATER] = later
            found.append(self.answer(environ))
            if len(later) > len(places):
                places.append(place)
        for place, said in zip(places, self.predictions(later), strict=True):
            if isinstance(said, Exception):
                path = given[place]["PATH_INFO"]
                found[place] = as_answer(http.document(said, path), path)
            else:
                found[place] = 200, JSON, orjson.dumps(said)
        return found

    def predictions(self, asked: list[Asked]) -> Sequence[Any]:
        try:
            return answers(self.host, asked) if asked else []
        except Exception as error:  # noqa: BLE001  # a lane must go on
            return [error] * len(asked)

    def answer(self, given: dict[str, Any]) -> http.Answer:
        try:
            return http.call(self.app, given)
        except Exception as error:  # noqa: BLE001  # the callable answers its own; nothing may pass here
            return as_answer(http.document(error, given["PATH_INFO"]), given["PATH_INFO"])


def again(given: dict[str, Any]) -> dict[str, Any]:
    """An environment whose body has not been read yet."""
    return given | {"wsgi.input": io.BytesIO(given["wsgi.input"].getvalue())}


def settle(waiting: list[Done], found: list[http.Answer]) -> None:
    for done, answer in zip(waiting, found, strict=True):
        if not done.done():  # the client may have gone
            done.set_result(answer)


def give_up(waiting: Waiting) -> None:
    """Refuse what has waited in vain; in the loop."""
    given, done = waiting
    settle([done], [busy(given["PATH_INFO"][:LONGEST_PATH])])


@functools.lru_cache(64)
def busy(path: str) -> http.Answer:
    return refuse(503, "too many requests are waiting", path)


def refuse(status: int, detail: str, path: str) -> http.Answer:
    return as_answer(http.problem(status, detail), path)


def as_answer(document: dict[str, Any], path: str) -> http.Answer:
    kind, shaped = faults.shaped(path, document)
    headers = [("content-type", kind)]
    if document["status"] == 503:
        headers.append(("retry-after", http.RETRY_AFTER))
    return document["status"], headers, orjson.dumps(shaped)


def environ(scope: Any, data: bytes) -> dict[str, Any]:
    """The WSGI environment of an RSGI request."""
    found = http.environ(scope.method, unquote(scope.path, "latin-1"), data, "")
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
