"""A real `kt serve` and what strangers, accidents and bad versions do to it. At scale: bench/http_abuse.py."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import BadStatusLine
from pathlib import Path

import pytest
from predictors import Made, Serving, make, serving, within

from kt.predictor import quarantine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

POISON = {"x": [0.75]}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path / "workspace")
    made.add("v1")
    made.add("v2", does="die")
    made.deploy(5, toy=made.route("v1"))
    return made


@pytest.fixture
def running(made: Made) -> Iterator[Serving]:
    with serving(made) as running:
        yield running


def post(body: bytes, length: int | None = None) -> bytes:
    said = len(body) if length is None else length
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {said}\r\n\r\n"
    return head.encode() + body


def poison(running: Serving) -> None:
    """A request that the worker does not survive; the next one has a worker again."""
    with suppress(ConnectionError, BadStatusLine):
        running.predict(**POISON)
    assert running.health()["pid"]


def test_a_version_that_ends_workers_is_held_back_and_the_one_before_it_serves(made: Made) -> None:
    made.deploy(6, toy=made.route("v2", previous="v1"))
    with serving(made, "--workers", "2") as running:
        assert running.version() == "v2"
        for _ in range(quarantine.MOST):
            poison(running)
        within(lambda: {running.version() for _ in range(8)} == {"v1"})
        for _ in range(4):
            health = running.health()
            assert health["status"] == "degraded"
            assert "toy v2 is in quarantine: it ended 3 workers" in health["reason"]
        assert running.predict(**POISON)[0] == 200
        assert "while it ran toy v2" in running.log.read_text()
        # deployed anew, it is tried anew
        made.deploy(7, toy=made.route("v2", previous="v1").model_copy(update={"seq": 7}))
        within(lambda: {running.version() for _ in range(8)} == {"v2"})
        assert running.health()["status"] == "ok"


def test_a_treatment_that_ends_workers_leaves_all_to_the_control(made: Made) -> None:
    made.deploy(6, toy=made.route("v1", "v2", traffic=100))
    with serving(made) as running:
        assert running.version() == "v2"
        for _ in range(quarantine.MOST):
            poison(running)
        within(lambda: running.version() == "v1")
        assert running.predict(**POISON)[0] == 200
        (made.root / ".kt" / quarantine.FILE).unlink()
        within(lambda: running.version() == "v2")


def test_workers_that_somebody_kills_hold_no_version_back(made: Made, running: Serving) -> None:
    for _ in range(quarantine.MOST + 1):
        (worker,) = within(running.workers)
        os.kill(worker, signal.SIGKILL)
        within(lambda worker=worker: running.workers() not in ([], [worker]))
        assert running.version() == "v1"
    assert running.health()["status"] == "ok"


def test_a_request_that_hangs_is_given_up_and_its_worker_replaced_once_all_do(made: Made) -> None:
    made.settings("[predictor]\npoll = 0.02\npredict_timeout = 1.0\n")
    made.add("slow", does="slow")
    made.deploy(6, toy=made.route("slow"))
    with serving(made) as running:
        first = running.workers()
        status, answer = running.predict(**POISON)
        assert status == 503
        assert "did not answer within 1 s" in answer["detail"]
        assert running.predict()[0] == 200
        # each holds one of eight lanes, until none is left
        while running.workers() == first:
            with suppress(ConnectionError, BadStatusLine):
                assert running.predict(**POISON)[0] == 503
        assert running.predict()[0] == 200


@pytest.mark.parametrize("kind", ["headers", "body", "idle", "unread"])
def test_slow_clients_are_in_nobodys_way(running: Serving, kind: str) -> None:
    whole = post(json.dumps({"x": [0.25] * 200}).encode())
    sent = {"headers": whole[:40], "body": whole[:-100], "idle": b"", "unread": whole * 50}[kind]
    slow = []
    for _ in range(32):
        slow.append(socket.create_connection(("127.0.0.1", running.port)))
        slow[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow[-1].setblocking(False)
        slow[-1].send(sent)
    for _ in range(10):
        assert running.predict()[0] == 200
    for connection in slow:
        connection.close()


def test_those_who_ask_without_end_and_read_nothing_do_not_keep_the_others_out(
    running: Serving,
) -> None:
    whole = post(json.dumps({"x": [0.25] * 200}).encode())
    with ExitStack() as stack:
        greedy = []
        for _ in range(200):  # more than may wait
            connection = socket.create_connection(("127.0.0.1", running.port), timeout=60)
            greedy.append(stack.enter_context(connection))
            connection.send(whole * 20)
        for connection in greedy:  # until they were answered once they are as good as any
            assert connection.recv(1, socket.MSG_PEEK)
        answers = [running.predict()[0] for _ in range(20)]
        assert answers.count(200) >= 15  # where the worker stands still some of them look patient
        assert any(b"HTTP/1.1 503" in connection.recv(100_000) for connection in greedy)


def test_bad_requests_leave_nothing_behind(made: Made, running: Serving) -> None:
    (worker,) = within(running.workers)
    files = Path(f"/proc/{worker}/fd")
    assert running.predict()[0] == 200
    before, logged = len(list(files.iterdir())), running.log.stat().st_size
    for body in (b"{", b"[" * 9_000, b'{"x": [NaN]}', b'{"x": [9e999]}', b'{"x": [99]}', b"null"):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", running.port)) as connection:
                connection.sendall(post(body))
                assert b" 4" in connection.recv(1000)[:12]
        for path in (b"/models/%ff/predict", b"/%2570redict"):
            with socket.create_connection(("127.0.0.1", running.port)) as connection:
                connection.sendall(post(body).replace(b"/predict", path, 1))
                assert b" 4" in connection.recv(1000)[:12]
        with socket.create_connection(("127.0.0.1", running.port)) as gone:
            gone.sendall(post(body, length=9_999))
    within(lambda: len(list(files.iterdir())) <= before)
    assert running.log.stat().st_size == logged
    assert running.workers() == [worker]


def test_more_requests_than_can_wait_are_refused_and_told_when_to_come_back(made: Made) -> None:
    made.settings("[predictor]\npredict_timeout = 2.0\n")
    made.add("slow", does="slow")
    made.deploy(6, toy=made.route("slow"))
    with serving(made) as running:
        many = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(700)]
        whole = post(json.dumps(POISON).encode())
        for connection in many:
            connection.sendall(whole)
        answers = []
        threads = [threading.Thread(target=lambda c=c: answers.append(answer_of(c))) for c in many]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
        assert len(refused) >= 100
        assert all(b"retry-after: 1" in answer for answer in refused)
        for connection in many:
            connection.close()


def answer_of(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4_000)
    except OSError:  # the worker was replaced
        return b""
