"""A real `kt serve`: processes, sockets, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from predictors import Made, Serving, make, make_three, serving, within

from kt.models import gpcm, sakt
from kt.predictor.presence import is_held
from kt.registry.record import weights

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_three(tmp_path / "workspace")


@pytest.fixture
def running(made: Made) -> Iterator[Serving]:
    with serving(made) as running:
        yield running


def kt(made: Made, *words: str, data: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kt", "-C", str(made.root), *words],
        input=data,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )


def test_it_follows_the_manifest_and_keeps_to_the_last_good_one(
    made: Made, running: Serving
) -> None:
    assert running.version() == "v1"
    made.deploy(6, toy=made.route("v2"))
    within(lambda: running.version() == "v2")
    made.write(b"{")
    within(lambda: running.health()["status"] == "degraded")
    assert running.version() == "v2"
    made.deploy(5, toy=made.route("v1"))  # a checkout
    within(lambda: "seq 5, 6 is served" in (running.health()["reason"] or ""))
    assert running.version() == "v2"
    weights(made.root, "toy", "v3").write_bytes(b"torn")
    made.deploy(7, toy=made.route("v3"))
    within(lambda: "seq 7 cannot be served" in (running.health()["reason"] or ""))
    assert running.version() == "v2"
    assert running.ask("GET", "/ready")[0] == 200
    made.deploy(8, toy=made.route("v1", "v2", traffic=10))
    within(lambda: running.health()["status"] == "ok")
    assert running.stop() == 0
    assert "serving seq 8: toy v1, v2 at 10 %" in running.log.read_text()
    assert not list((made.root / ".kt" / "predictors").iterdir())


def test_a_restart_remembers_what_was_served(made: Made, running: Serving) -> None:
    made.deploy(6, toy=made.route("v2"))
    within(lambda: running.version() == "v2")
    assert running.stop(signal.SIGINT) == 0
    made.deploy(5, toy=made.route("v1"))
    with serving(made) as second:
        assert second.version() == "v2"
        assert second.health()["status"] == "degraded"


def test_a_predictor_without_a_model_waits_for_its_first_one(made: Made) -> None:
    (made.root / "deployments" / "active.json").unlink()
    with serving(made) as running:
        assert running.ask("GET", "/ready")[0] == 503
        assert running.predict()[0] == 503
        made.deploy(1, toy=made.route("v1"))
        within(lambda: running.ask("GET", "/ready")[0] == 200)
        assert running.version() == "v1"


def test_workers_that_are_killed_come_back_and_no_request_is_refused(made: Made) -> None:
    with serving(made, "--workers", "2") as running:
        cards = made.root / ".kt" / "predictors"
        first = within(lambda: len(found := set(running.workers())) == 2 and found)
        within(lambda: {int(card.stem) for card in cards.glob("*.json") if is_held(card)} == first)
        for _ in range(3):  # more often than Granian would have patience for
            for pid in running.workers():
                os.kill(pid, signal.SIGKILL)
            assert within(
                lambda: running.predict()[0] == 200
            )  # a new connection waits for a worker
            within(lambda: len(running.workers()) == 2)
        within(
            lambda: (
                {int(card.stem) for card in cards.glob("*.json") if is_held(card)}
                == set(running.workers())
            )
        )
        assert not first & set(running.workers())
        made.deploy(6, toy=made.route("v2"))
        within(lambda: {running.version() for _ in range(10)} == {"v2"})
        assert running.stop() == 0


def test_a_treatment_that_hangs_is_answered_by_the_control(made: Made) -> None:
    made.add("slow", does="slow")
    made.deploy(6, toy=made.route("v1", "slow", traffic=100))
    with serving(made) as running:
        assert running.predict(x=[0.1])[1]["version"] == "slow"
        status, answer = running.predict(x=[0.75])
        assert (status, answer["version"], answer["fallback"]) == (200, "v1", True)
        assert running.health()["fallbacks"][0]["reason"] == "slow"
        running.process.kill()


def test_health_and_other_requests_are_answered_while_a_model_hangs(made: Made) -> None:
    made.add("slow", does="slow")
    made.deploy(6, toy=made.route("slow"))
    with serving(made) as running, ExitStack() as stack:
        body = b'{"x": [0.75]}'
        for _ in range(3):
            address = ("127.0.0.1", running.port)
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(post(len(body)) + body)
        assert running.health()["status"] == "ok"
        assert running.predict()[0] == 200


def test_those_that_wait_beside_one_that_hangs_are_answered(made: Made) -> None:
    """Whoever is taken together with it is asked again, alone."""
    made.add("slow", does="slow")
    made.deploy(6, toy=made.route("slow"))
    with serving(made) as running, ExitStack() as stack:
        good, bad = b'{"x": [0.25]}', b'{"x": [0.75]}'
        connections = []
        for body in (bad, good, good, bad, good, good):
            address = ("127.0.0.1", running.port)
            connections.append((body, stack.enter_context(socket.create_connection(address))))
        for body, connection in connections:
            connection.sendall(post(len(body)) + body)
        for body, connection in connections:
            if body == good:
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_clients_that_send_slowly_occupy_nobody_and_are_cut_off(made: Made) -> None:
    made.settings("[predictor]\npoll = 0.02\nbody_timeout = 0.5\n")
    with serving(made) as running:
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(64)]
        for connection in slow:
            connection.sendall(post(20) + b"{")
        for _ in range(10):
            assert running.predict()[0] == 200
        assert all(b" 408 " in connection.recv(1000) for connection in slow)
        for connection in slow:
            connection.close()


def post(length: int) -> bytes:
    return (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_a_body_over_the_limit_is_refused_before_it_is_sent_or_as_it_grows(made: Made) -> None:
    made.settings("[predictor]\nmax_body = 1000\n")
    with serving(made) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as said:
            said.sendall(post(100 * 2**30))
            assert b" 413 " in said.recv(1000)
        with socket.create_connection(("127.0.0.1", running.port)) as chunked:
            chunked.sendall(post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            chunked.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n" + b"2\r\n{}\r\n")
            assert b" 413 " in chunked.recv(1000)
        with socket.create_connection(("127.0.0.1", running.port)) as chunked:
            chunked.sendall(post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
            chunked.sendall(b'd\r\n{"x": [0.25]}\r\n0\r\n\r\n')
            assert b" 200 " in chunked.recv(1000)


UNCLEAR = {
    "said twice": (b"chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "twice in one": (b"chunked, chunked", b"0\r\n\r\n"),
    "another before it": (b"x, chunked", b"0\r\n\r\n"),
    "cut off": (b"chunked", b""),
    "no chunk": (b"chunked", b"-1\r\n"),
    "ended by half a line": (b"chunked", b"0\n\n"),
    "trailers": (b"chunked", b"0\r\nHost: elsewhere\r\n\r\n"),
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_a_body_whose_end_is_unclear_is_refused_with_what_follows(
    running: Serving, what: str
) -> None:
    coding, end = UNCLEAR[what]
    head = post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: " + coding)
    with socket.create_connection(("127.0.0.1", running.port)) as said:
        said.sendall(
            head
            + b'd\r\n{"x": [0.25]}\r\n'
            + end
            + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * bool(end)
        )
        said.shutdown(socket.SHUT_WR)
        heard = b"".join(iter(lambda: said.recv(65_536), b""))
    assert heard.startswith(b"HTTP/1.1 400 ")
    assert heard.count(b"HTTP/1.1") == 1


def test_swaps_under_load_lose_no_request(made: Made, running: Serving) -> None:
    stop, seen, bad = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            status, answer = running.predict(student_id=f"s-{len(seen)}")
            (seen if status == 200 else bad).append(answer["version"] if status == 200 else answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for seq in range(6, 36):
            version = f"v{seq % 3 + 1}"
            made.deploy(seq, toy=made.route(version))
            within(lambda seq=seq: running.health()["seq"] == seq)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert bad == []
    assert set(seen) == {"v1", "v2", "v3"}


def test_a_port_in_use_is_one_clear_line(made: Made, running: Serving) -> None:
    second = kt(made, "serve", "--port", str(running.port))
    assert second.returncode == 5
    assert "already in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_address_that_others_reach_is_refused_without_keys(made: Made) -> None:
    refused = kt(made, "serve", "--host", "0.0.0.0")
    assert refused.returncode == 3
    assert "--insecure" in refused.stderr


def test_a_request_from_the_shell_is_answered_by_the_running_predictor_or_here(
    made: Made, running: Serving
) -> None:
    body = '{"x": [0.25], "student_id": "s-1"}'
    there = kt(made, "predict", "toy", "--data", body, "--json")
    assert json.loads(there.stdout)["result"]["version"] == "v1"
    assert running.stop() == 0
    here = kt(made, "predict", "--json", data=body)
    assert (
        json.loads(here.stdout)["result"]["predictions"]
        == json.loads(there.stdout)["result"]["predictions"]
    )
    assert "v1" in kt(made, "predict", "--data", body).stdout
    for words, code in (
        (["toy", "--data", '{"x": 1}'], 2),
        (["nobody", "--data", body], 2),
        (["--url", "http://127.0.0.1:9", "--data", body], 5),
    ):
        failed = kt(made, "predict", *words)
        assert failed.returncode == code
        assert "Traceback" not in failed.stderr


def test_a_history_goes_on_by_a_state_and_by_what_is_remembered(tmp_path: Path) -> None:
    """Over a promotion and the death of a worker, by one student after the other."""
    made = make(tmp_path / "workspace")
    made.add_tutor("v1", gpcm, 1)
    made.add_tutor("v2", sakt, 2)
    made.deploy(1, tutor=made.route("v1"))
    answers = [{"item": str(n * n % 11), "response": n % 2} for n in range(160)]

    def probabilities(running: Serving, **fields: Any) -> tuple[list[float], str]:
        status, answer = running.ask("POST", "/predict", {"items": ["1", "2"]} | fields)
        assert status == 200, answer
        return [p for one in answer["predictions"] for p in one["probabilities"]], answer["state"]

    with serving(made) as running:
        _, state = probabilities(running, student_id="a", state=True, answers=answers[:140])
        for n in range(140, 160):
            if n == 150:
                made.deploy(2, tutor=made.route("v2"))
                within(lambda: running.health()["seq"] == 2)
            if n == 155:
                before = running.workers()
                os.kill(before[0], signal.SIGKILL)
                within(lambda before=before: running.workers() not in ([], before))
            given = {"student_id": "a", "state": state, "answers": answers[n : n + 1]}
            ours, state = probabilities(running, **given)
            theirs, _ = probabilities(running, state=True, answers=answers[: n + 1])
            assert ours == pytest.approx(theirs, abs=1e-5)
        status, problem = running.ask(
            "POST", "/predict", {"items": ["1"], "answers": [], "state": "x"}
        )
        assert (status, problem["field"]) == (422, "state")
