"""A load generator and a look at a server's processes, for the programs in this folder.

One thread, non-blocking sockets, no parsing beyond the status and the length: 20 µs a request.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Measured:
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds
    ended: list[float] = field(default_factory=list)  # on the monotonic clock
    statuses: dict[int, int] = field(default_factory=dict)
    broke: list[tuple[float, float]] = field(default_factory=list)  # connections that ended before
    # their answer: when it was asked for, and when they ended

    @property
    def broken(self) -> int:
        return len(self.broke)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, p: float) -> float:
        """Milliseconds."""
        return percentile(self.latencies, p)


def percentile(latencies: list[float], p: float) -> float:
    ordered = sorted(latencies)
    return 1000 * ordered[min(len(ordered) - 1, int(p / 100 * len(ordered)))] if ordered else 0.0


def request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection:
    def __init__(self, port: int) -> None:
        self.port = port
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.data = b""
        self.began = 0.0

    def send(self, what: bytes) -> None:
        self.data = b""
        self.began = time.monotonic()
        self.socket.sendall(what)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body, once they are all there. Raises ConnectionError."""
        try:
            part = self.socket.recv(1 << 18)
        except BlockingIOError:
            return None
        if not part:
            raise ConnectionError
        self.data += part
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        return (int(head[9:12]), body) if len(body) >= length else None


def load(
    port: int,
    requests: Iterator[bytes],
    seconds: float,
    connections: int = 16,
    each: Callable[[float, float, int, bytes], None] | None = None,
    until: Callable[[], bool] | None = None,
    pause: float = 0.0,
) -> Measured:
    """Keep every connection busy. each(began, ended, status, body) sees every answer."""
    measured = Measured()
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = Connection(port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(next(requests))
    start = time.monotonic()
    end = start + seconds
    while time.monotonic() < end and not (until and until()):
        for ready, _ in selector.select(0.1):
            connection = ready.data
            try:
                answer = connection.receive()
            except OSError:
                measured.broke.append((connection.began, time.monotonic()))
                selector.unregister(connection.socket)
                connection.socket.close()
                connection.open()
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.send(next(requests))
                continue
            if answer is None:
                continue
            status, body = answer
            now = time.monotonic()
            measured.latencies.append(now - connection.began)
            measured.ended.append(now)
            measured.statuses[status] = measured.statuses.get(status, 0) + 1
            if each:
                each(connection.began, now, status, body)
            if pause:
                time.sleep(pause)
            connection.send(next(requests))
    measured.seconds = time.monotonic() - start
    for ready in list(selector.get_map().values()):
        ready.data.socket.close()
    return measured


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu(pid: int) -> float:
    """Seconds that a process tree has computed."""
    total = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid: int, kind: str = "Pss:") -> float:
    """MB that a process tree holds, shared pages counted once. kind: "Pss_Anon:" leaves out the
    libraries, whose share depends on who else has them mapped."""
    total = 0
    for one in tree(pid):
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith(kind):
                total += int(line.split()[1])
    return total / 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def once(port: int, what: bytes) -> tuple[int, bytes] | None:
    """One request over a connection of its own; None where nobody answers."""
    try:
        connection = Connection(port)
        connection.socket.settimeout(10)
        connection.send(what)
        while (answer := connection.receive()) is None:
            pass
        connection.socket.close()
        return answer
    except OSError:
        return None


@contextmanager
def server(
    command: list[str], port: int, what: bytes, core: int | None = 0, **options: object
) -> Iterator[tuple[int, float]]:
    """A server's pid, and the seconds from its start to its first 200; it is ended afterwards."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    began = time.monotonic()
    process = subprocess.Popen(  # type: ignore[call-overload]
        [*pin, *command], stdout=subprocess.DEVNULL, start_new_session=True, **options
    )
    try:
        while True:
            answer = once(port, what)
            if answer and answer[0] == 200:
                break
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode}")
            if time.monotonic() - began > 60:
                raise SystemExit(f"{command} does not answer: {answer}")
            time.sleep(0.005)
        yield process.pid, time.monotonic() - began
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(ProcessLookupError):  # some leave their workers behind
            os.killpg(process.pid, signal.SIGKILL)


def show(rows: list[dict[str, object]]) -> None:
    """A table, and the same as one JSON line."""
    names = list(rows[0])
    table = [
        names,
        *(
            [f"{row[n]:.2f}" if isinstance(row[n], float) else str(row[n]) for n in names]
            for row in rows
        ),
    ]
    widths = [max(len(line[i]) for line in table) for i in range(len(names))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(json.dumps(rows))
