"""kt serve: Granian with several workers; what a worker does with a request: front.py.

Workers are forked from a process that has imported what runs the models (torch, or ONNX Runtime where
every deployed version has a graph) and little else: they share its memory, and one that was killed is
back in a fraction of a second. What a worker alone uses is imported in it, since every page of it would
soon be its own copy. They also share one listening socket, so that connections wait for a worker that is
being replaced rather than being refused. What a worker ran when it died is written down: quarantine.py.
"""

import functools
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from granian._granian import ListenerSpec
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from kt import clock
from kt.config import Predictor
from kt.errors import KtError, Refused, Unavailable
from kt.predictor import brake, engine, keys, quarantine
from kt.predictor.address import bracketed, is_loopback
from kt.predictor.brake import Brake
from kt.workspace import Workspace

log = logging.getLogger("kt")

HEADERS = 10.0  # seconds until the headers of a request must have come
LARGEST_HEADERS = 64_000  # bytes
CONNECTIONS = 4_000  # that a worker holds; the next wait to be accepted
UNREAD = 20  # seconds until a client that does not read its answer is cut off
ANSWERS = 65_536  # bytes that the kernel holds of answers to a client; it would take megabytes
GRACE = 30  # seconds that a worker has to finish what it began
BACKOFF = (0.05, 1.0)  # seconds before a worker that died young is replaced: at first, at most
YOUNG = 5.0  # seconds


def serve(workspace: Workspace, settings: Predictor, said: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT. said: told the host and the port once they are listened on.

    Raises Unavailable where the address cannot be listened on.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("_granian", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    multiprocessing.set_start_method("fork", force=True)
    let_workers_end()
    allow_connections()
    port = claim(settings.host, settings.port)
    address = f"http://{bracketed(settings.host)}:{port}"
    server = Group(
        target="kt",
        address=settings.host,
        port=port,
        interface=Interfaces.RSGI,
        workers=settings.workers,
        loop=Loops.auto,  # uvloop, where it is installed: a fifth less of what the loop costs
        http=HTTPModes.http1,
        websockets=False,
        backpressure=CONNECTIONS,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(HEADERS * 1000), max_buffer_size=LARGEST_HEADERS
        ),
        log_level=LogLevels.error,  # on stdout, it warns of more workers than cores
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE,
    )

    def listening() -> None:
        said(settings.host, port)
        engine.prepare(workspace.root, settings)
        gc.freeze()  # what is here is never looked at again: its pages stay shared, and it holds no garbage

    keyed = (workspace.root / settings.keys).exists()
    server.on_startup(listening)
    server.watch_over(workspace.local, settings.workers)

    def front(calls: quarantine.Calls, brake: Brake) -> Any:
        from kt.predictor.front import Front

        return Front(workspace.root, settings, address, calls, brake, keyed)

    server.serve(target_loader=front, wrap_loader=False)


def let_workers_end() -> None:
    """Have a fork of this process end at once where it is told to before it listens for that: by what it inherits it
    would take the signal for ours, and lose it, and be waited for until GRACE is over."""
    ends = signal.SIGTERM, signal.SIGINT

    def in_child() -> None:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ends),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ends),
        after_in_child=in_child,
    )


def allow_connections() -> None:
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * CONNECTIONS:
        wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def claim(host: str, port: int, verb: str = "kt serve") -> int:
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
            do=f"choose another: {verb} --port N, or stop what listens there",
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


class Listening(MPServer):
    """Granian's server with one socket for all workers, which listens before any of them is there."""

    _shd: Any

    def _init_shared_socket(self) -> None:
        # as Granian does where there is no SO_REUSEPORT
        holder = ListenerSpec(self.bind_addr, self.bind_port, self.backlog).build()
        self._shd, self._sfd, self._ssp = holder, holder.get_fd(), None
        self._sso = socket.socket(fileno=self._sfd)
        self._sso.set_inheritable(True)
        # Connections inherit it; the kernel ends one whose answer nobody takes.
        self._sso.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD)
        self._sso.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ANSWERS)
        self._sso.listen(self.backlog)  # from now on, also while no worker accepts


class Group(Listening):
    """Has patience with workers that die: Granian gives up where one does so twice within six seconds."""

    _wait = BACKOFF[0]

    def watch_over(self, local: Path, workers: int) -> None:
        """Write down in .kt what workers ran when they died."""
        self.local = local
        self.calls = [quarantine.Calls() for _ in range(workers)]
        self.counts = brake.Shared(workers)
        self.starved = quarantine.out_of_memory()
        threading.Thread(target=self._watch_pulse, name="kt-pulse", daemon=True).start()

    def _watch_pulse(self) -> None:
        """End workers that stand still: what hangs in C code may hold the interpreter's lock, and then
        nothing in its process can see it."""
        pulses = [quarantine.Pulse() for _ in self.calls]
        while True:
            time.sleep(quarantine.LOOK)
            for worker in list(self.wrks):
                if pulses[worker.idx].stopped(self.calls[worker.idx].beats):
                    log.error("kt: a worker stands still: it is replaced")
                    pulses[worker.idx] = quarantine.Pulse()
                    with suppress(ProcessLookupError):
                        os.kill(worker.inner.pid, signal.SIGABRT)  # what it ran is to blame

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> Any:  # type: ignore[override]  # as MPServer's
        self.calls[idx].forget()
        front = functools.partial(callback_loader, self.calls[idx], Brake(self.counts, idx))
        return super()._spawn_worker(idx, target, front)

    def _respawn_workers(self, workers: list[int], *args: Any, **options: Any) -> None:
        for index in workers:
            self._bury(index, self.wrks[index].inner.exitcode or 0)
        young = any(time.monotonic() - self.wrks[index].birth < YOUNG for index in workers)
        self._wait = min(2 * self._wait, BACKOFF[1]) if young else BACKOFF[0]
        self.main_loop_interrupt.wait(self._wait)  # a signal to stop ends it
        super()._respawn_workers(workers, *args, **options)
        self.respawned_wrks.clear()
        if self.interrupt_signal:  # it may have come as Granian cleared what it waits for
            self.main_loop_interrupt.set()

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
