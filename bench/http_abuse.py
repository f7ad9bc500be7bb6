"""What strangers and accidents cost: slow clients, bad requests, too many requests, killed workers.

    python bench/http_abuse.py [slow] [bad] [overload] [kills] [--clients 256] [--requests 100000]

slow      clients that send their headers or their body a byte at a time, send nothing, or do not read
          what they asked for, while good requests go on, ten a second
bad       requests that are refused, of every kind, over 16 connections
overload  three times as many requests as can be answered, each over whichever connection is free. The server has
          one core for its threads, so that the latency is also what their turns at it take
kills     a worker killed every second under load; a request is lost where it was inside that worker

One SAKT, one worker on one core, the load on the other. Exits 1 where a bar is not met.
"""

import argparse
import itertools
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from load import Connection, free_port, load, memory, once, percentile, request, server, show, tree
from serving import sakt_bodies, serves_sakt

HERE = Path(__file__).parent
Row = dict[str, object]
WRITTEN = 12.0  # seconds in which the tables are written at least once
Asked = list[tuple[int, float]]  # status (0: none) and seconds of each request


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["slow", "bad", "overload", "kills"])
    parser.add_argument("--clients", type=int, action="append")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    good = [request("/predict", body) for body in sakt_bodies(50, 10)]
    met = True
    for what in options.what:
        with predictor(good[0]) as (pid, port, log):
            match what:
                case "slow":
                    rows = [
                        slow(port, kind, count, good, options.seconds)
                        for count in options.clients or (64, 256)
                        for kind in KINDS
                    ]
                case "bad":
                    rows = [bad(pid, port, log, good, options.requests)]
                case "overload":
                    large = [request("/predict", body) for body in sakt_bodies(50, 100)]
                    rows = [overload(port, large, options.seconds)]
                case "kills":
                    rows = [kills(pid, port, good)]
                case _:
                    raise SystemExit(f"there is no {what}")
        show(rows)
        met = met and all(row["met"] for row in rows)
    sys.exit(not met)


@contextmanager
def predictor(what: bytes) -> Iterator[tuple[int, int, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        serves_sakt(Path(folder))
        port, log = free_port(), Path(folder) / "serve.log"
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "KT_WORKSPACE": folder}
        command = [sys.executable, "-m", "kt", "serve", "--port", str(port)]
        with (
            log.open("wb") as errors,
            server(command, port, what, env=environment, stderr=errors) as (pid, _),
        ):
            yield pid, port, log


# Slow clients


def headers(connection: socket.socket, good: bytes) -> None:
    connection.sendall(good[:40])


def body(connection: socket.socket, good: bytes) -> None:
    connection.sendall(good[: good.index(b"\r\n\r\n") + 6])


def idle(connection: socket.socket, good: bytes) -> None:
    pass


def unread(connection: socket.socket, good: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(0.2)
    try:
        for _ in range(400):
            connection.sendall(good)
    except OSError:
        return


KINDS: dict[str, Callable[[socket.socket, bytes], None]] = {
    "headers": headers,
    "body": body,
    "idle": idle,
    "unread": unread,
}
DRIPS = {"headers": b"x", "body": b" "}


def slow(port: int, kind: str, count: int, good: list[bytes], seconds: float) -> Row:
    stop = threading.Event()

    def misbehave() -> None:
        connections = []
        for what in itertools.islice(itertools.cycle(good), count):
            connections.append(socket.create_connection(("127.0.0.1", port)))
            KINDS[kind](connections[-1], what)
        while not stop.wait(0.5):
            for connection in connections:
                try:
                    connection.send(DRIPS.get(kind, b""))
                except OSError:
                    continue
        for connection in connections:
            connection.close()

    thread = threading.Thread(target=misbehave)
    thread.start()
    asked = steadily(port, good, rate=10, seconds=seconds)
    stop.set()
    thread.join()
    late = sum(status != 200 or took > 2 for status, took in asked)
    return {
        "slow clients": f"{count} {kind}",
        "good requests": len(asked),
        "over 2 s or lost": late,
        "longest ms": 1000 * max(took for _, took in asked),
        "met": late == 0,
    }


def steadily(port: int, good: list[bytes], rate: float, seconds: float) -> Asked:
    """Requests at a steady rate, each over a connection of its own, whatever became of those before."""
    asked: Asked = []

    def ask(what: bytes) -> None:
        began = time.monotonic()
        answer = once(port, what)
        asked.append((answer[0] if answer else 0, time.monotonic() - began))

    threads = []
    for what in itertools.islice(itertools.cycle(good), int(rate * seconds)):
        threads.append(threading.Thread(target=ask, args=(what,)))
        threads[-1].start()
        time.sleep(1 / rate)
    for thread in threads:
        thread.join()
    return asked


# Bad requests


def refused(good: bytes) -> list[bytes]:
    """Requests of every kind that is refused with an answer and the connection kept."""
    json = [
        b"{",
        b"[" * 10_000,
        b"null",
        b'{"answers": NaN, "items": []}',
        b'{"answers": 7, "items": ["1"]}',
        b'{"answers": [], "answers": [], "items": []}',
        b'{"answers": [{"item": "1", "response": 7}], "items": ["1"]}',
        b'{"answers": [{"item": "1", "response": 1e999}], "items": ["1"]}',
        b'{"answers": [{"item": "\xff", "response": 1}], "items": ["1"]}',
        b'{"answers": ' + b"9" * 6_000 + b"}",
        b'{"model": "nobody", "answers": [], "items": []}',
        b'{"answers": [], "items": [], "more": "' + b"x" * 20_000 + b'"}',
    ]
    return [
        *(request("/predict", body) for body in json),
        request("/nothing", b"{}"),
        request("/predict", b"{}").replace(b"application/json", b"text/plain"),
        request("/predict", b"{}").replace(b"POST", b"PATCH"),
        request("/predict", b"{}").replace(b"Host: 127.0.0.1", b"Host: elsewhere.example"),
    ]


def bad(pid: int, port: int, log: Path, good: list[bytes], count: int) -> Row:
    worst = refused(good[0])
    quiet = load(port, itertools.cycle(good), 5.0)
    # what is made once is made now: room for what is collected seldom, and what writes the tables
    send(port, worst, count // 5)
    while not (log.parent / "kt.db").exists():
        time.sleep(1)
    load(port, itertools.cycle(good), WRITTEN)
    held, open_files, logged = memory(pid, "Pss_Anon:"), descriptors(pid), log.stat().st_size
    asked = send(port, worst, count)
    after = load(port, itertools.cycle(good), 5.0)
    time.sleep(1)
    grown, leaked = memory(pid, "Pss_Anon:") / held, descriptors(pid) - open_files
    log_grew = log.stat().st_size - logged
    others = asked.total() - sum(n for status, n in asked.items() if 400 <= status < 500)
    return {
        "bad requests": asked.total(),
        "not 4xx": others,
        "memory": grown,
        "descriptors": leaked,
        "log bytes": log_grew,
        "p99 before ms": quiet.percentile(99),
        "p99 after ms": after.percentile(99),
        "met": not others and grown <= 1.05 and leaked <= 0 and log_grew < 100_000,
    }


def send(port: int, requests: list[bytes], count: int) -> Counter[int]:
    """So many of them, in turn. By status."""
    asked = Counter[int]()

    def each(began: float, ended: float, status: int, body: bytes) -> None:
        asked[status] += 1

    load(port, itertools.cycle(requests), 3_600.0, each=each, until=lambda: asked.total() >= count)
    return asked


def descriptors(pid: int) -> int:
    return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in tree(pid))


# Overload


def overload(port: int, good: list[bytes], seconds: float) -> Row:
    """Quiet: 16 connections, each with one request at a time."""
    load(port, itertools.cycle(good), 1.0)
    quiet = load(port, itertools.cycle(good), seconds)
    rate = 3 * quiet.rate
    statuses, took, without = arriving(port, good, rate, seconds)
    p99 = percentile(took, 99)
    refused = statuses[503]
    return {
        "capacity /s": quiet.rate,
        "offered /s": sum(statuses.values()) / seconds,
        "answered /s": statuses[200] / seconds,
        "503": refused,
        "no Retry-After": without,
        "others": sum(statuses.values()) - statuses[200] - refused,
        "p99 quiet ms": quiet.percentile(99),
        "p99 answered ms": p99,
        "met": refused > 0 and not without and p99 <= 2 * quiet.percentile(99),
    }


def arriving(
    port: int, good: list[bytes], rate: float, seconds: float
) -> tuple[Counter[int], list[float], int]:
    """Requests that arrive at a rate whatever became of those before. Statuses, the seconds of each
    200, and how many 503 did not say when to come back."""
    requests = itertools.cycle(good)
    free: list[Connection] = []
    busy: dict[int, Connection] = {}
    statuses, took, without = Counter[int](), [], 0
    poll = select.epoll()
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic()) < start + seconds or (busy and now < start + seconds + 5):
        due = min(int((now - start) * rate) - sent, 20) if now < start + seconds else 0
        for _ in range(due):
            connection = free.pop() if free else Connection(port)
            number = connection.socket.fileno()
            if number not in busy:
                poll.register(number, select.EPOLLIN)
            busy[number] = connection
            connection.send(next(requests))
            sent += 1
        for number, _ in poll.poll(0 if due else 0.001):
            connection = busy[number]
            answer = connection.receive()
            if answer is None:
                continue
            statuses[answer[0]] += 1
            if answer[0] == 200:
                took.append(time.monotonic() - connection.began)
            elif answer[0] == 503 and b"retry-after" not in connection.data.lower():
                without += 1
            del busy[number]
            poll.unregister(number)
            free.append(connection)
    for connection in [*free, *busy.values()]:
        connection.socket.close()
    return statuses, took, without


# Killed workers


def kills(pid: int, port: int, good: list[bytes], count: int = 20) -> Row:
    """16 connections; a kill may lose what they have in that worker, one request each, and no more."""
    stop = threading.Event()

    def kill() -> None:
        for _ in range(count):
            time.sleep(1)
            for worker in tree(pid)[1:]:
                os.kill(worker, signal.SIGKILL)
        time.sleep(1)
        stop.set()

    thread = threading.Thread(target=kill)
    thread.start()
    measured = load(port, itertools.cycle(good), 600.0, until=stop.is_set)
    thread.join()
    others = sum(n for status, n in measured.statuses.items() if status != 200)
    return {
        "kills": count,
        "answers": len(measured.latencies),
        "not 200": others,
        "lost": measured.broken,
        "inside": 16 * count,
        "longest ms": measured.percentile(100),
        "met": not others and measured.broken <= 16 * count,
    }


if __name__ == "__main__":
    main()
