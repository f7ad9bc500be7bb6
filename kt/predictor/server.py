"""kt serve: Granian with several workers, each of which answers by the plain WSGI callable of app.py.

A request is read in Granian's event loop (its RSGI interface) and only then answered, in a thread:
a client that sends its body slowly occupies nobody. What has no body (health, ready) is answered in
the loop, also while every thread is held up by a model.

Workers are forked from a process that has imported torch and nothing else: they share its memory,
and one that was killed is back in a tenth of a second. They also share one listening socket, so that
connections wait for a worker that is being replaced rather than being refused.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
from granian._granian import ListenerSpec
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from kt import http
from kt.config import Predictor
from kt.errors import Refused, Unavailable
from kt.predictor import engine, faults, keys
from kt.predictor.app import make_host, routes
from kt.predictor.guard import is_loopback
from kt.predictor.lanes import Lanes
from kt.predictor.later import LATER
from kt.predictor.predict import Asked, answers
from kt.workspace import Workspace

log = logging.getLogger("kt")

HEADERS = 10.0  # seconds until the headers of a request must have come
LARGEST_HEADERS = 64_000  # bytes
WAITING = 256  # requests that wait in a worker; the next is answered 503
HUNG = 30.0  # seconds after which a worker whose lanes are all held up is replaced
WATCH = 0.1  # seconds between looks at the lanes
GRACE = 30  # seconds that a worker has to finish what it began
GC = (50_000, 20, 100)  # a request makes hundreds of objects and no cycles
BACKOFF = (0.05, 5.0)  # seconds before a worker that died young is replaced: at first, at most
YOUNG = 5.0  # seconds


JSON = [("content-type", "application/json")]
Done = asyncio.Future[http.Answer]


def serve(workspace: Workspace, settings: Predictor, said: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT. said: told the host and the port once they are listened on.

    Raises Unavailable where the address cannot be listened on.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("_granian").setLevel(logging.WARNING)
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

    def front() -> Any:
        return Front(workspace.root, settings, address)

    server.serve(target_loader=front, wrap_loader=False)


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

    def _init_shared_socket(self) -> None:
        # as Granian does where there is no SO_REUSEPORT
        holder = ListenerSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._shd, self._sfd, self._ssp = holder, holder.get_fd(), None
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)
        self._sso.listen(self.backlog)  # from now on, also while no worker accepts

    def _respawn_workers(self, workers: list[int], *args: Any, **options: Any) -> None:
        young = any(time.monotonic() - self.wrks[index].birth < YOUNG for index in workers)
        self._wait = min(2 * self._wait, BACKOFF[1]) if young else BACKOFF[0]
        self.main_loop_interrupt.wait(self._wait)  # a signal to stop ends it
        super()._respawn_workers(workers, *args, **options)
        self.respawned_wrks.clear()


class Front:
    """A worker: Granian's RSGI interface in front of the WSGI callable."""

    def __init__(self, root: Path, settings: Predictor, address: str) -> None:
        self.settings = settings
        self.host = make_host(root, address)
        # what the command line chose stands over kt.toml
        self.host.settings = self.host.settings.model_copy(update={"predictor": settings})
        self.host.start()
        self.app: http.App = routes(self.host)
        self.lanes: Lanes[tuple[dict[str, Any], Done]] = Lanes(self.answer_all)
        gc.freeze()
        gc.set_threshold(*GC)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.watch()

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.host.close()

    def watch(self) -> None:
        if self.lanes.watch() > HUNG:
            log.error("kt: every thread has been held up for %g s: this worker is replaced", HUNG)
            os._exit(70)
        self.loop.call_later(WATCH, self.watch)

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        length = scope.headers.get("content-length")
        chunked = "transfer-encoding" in scope.headers
        if length in (None, "0") and not chunked:
            status, headers, data = self.answer(environ(scope, b""))
        else:
            status, headers, data = await self.read_and_answer(scope, proto, length)
        proto.response_bytes(status, headers, data)

    async def read_and_answer(self, scope: Any, proto: Any, length: str | None) -> http.Answer:
        limit = self.settings.max_body
        if length is not None and not (length.isdecimal() and int(length[:20]) <= limit):
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        if self.lanes.waiting >= WAITING:
            return refuse(503, "too many requests are waiting", scope.path)
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                data = await proto() if length is not None else await collect(proto, limit)
        except TimeoutError:
            late = f"the body did not arrive within {self.settings.body_timeout:g} s"
            return refuse(408, late, scope.path)
        if data is None:
            return refuse(413, f"the body is larger than {limit} bytes", scope.path)
        return await self.in_lane(environ(scope, data))

    async def in_lane(self, given: dict[str, Any]) -> http.Answer:
        done: Done = self.loop.create_future()
        self.lanes.put((given, done))
        return await done

    def answer_all(self, waiting: list[tuple[dict[str, Any], Done]]) -> None:
        """Answer what waited together; in a lane."""
        found = self.answers([given for given, _ in waiting])
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


def settle(waiting: list[Done], found: list[http.Answer]) -> None:
    for done, answer in zip(waiting, found, strict=True):
        if not done.done():  # the client may have gone
            done.set_result(answer)


async def collect(proto: Any, limit: int) -> bytes | None:
    """A body that does not say its length; None where it is longer than `limit`."""
    parts, size = [], 0
    async for part in proto:
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


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
