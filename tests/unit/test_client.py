"""kt.client: what is tried again and what is not, and what an answer or an error becomes."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from kt.client import Answer, Client, Counted, Problem
from kt.errors import Invalid, Unavailable
from kt.store.outcomes import NAMES

COUNTS = tuple(one.name for one in fields(Counted))

ANSWER = {
    "model": "m", "version": "v1", "variant": None, "experiment": None, "prediction_id": "9f",
    "predictions": [{"p": 0.5}], "news": "of a newer predictor",
}  # fmt: skip


@dataclass
class Stub:
    """Answers what it is told to, in turn; the last for good. seen: path, headers and body of each request."""

    says: list[tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    url: str = ""


@contextmanager
def stub(*says: tuple[int, dict[str, str], Any]) -> Iterator[Stub]:
    told = [
        (status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())
        for status, headers, body in says
    ]
    made = Stub(told)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            made.connections += 1
            super().setup()

        def do_GET(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.seen.append((self.path, dict(self.headers), data))
            status, headers, body = made.says.pop(0) if len(made.says) > 1 else made.says[0]
            if status == 0:
                self.close_connection = True  # nothing is said
                return
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_answer_has_its_types_and_connections_are_kept() -> None:
    with stub((200, {}, ANSWER)) as there, Client(there.url + "/", key="kt_1_2") as client:
        for _ in range(3):
            answer = client.predict({"x": 1}, model="m")
            assert answer == Answer("m", "v1", "9f", [{"p": 0.5}])
        assert client.predict({"x": 1}).version == "v1"
    assert there.connections == 1
    path, headers, body = there.seen[0]
    assert (path, json.loads(body)) == ("/models/m/predict", {"x": 1})
    assert headers["Authorization"] == "Bearer kt_1_2"
    assert headers["Content-Type"] == "application/json"
    assert there.seen[-1][0] == "/predict"


def test_an_error_is_a_problem_with_its_document() -> None:
    document = {"status": 422, "detail": "field required", "field": "x", "hint": "send it"}
    with (
        stub((422, {}, document)) as there,
        Client(there.url) as client,
        pytest.raises(Problem) as caught,
    ):
        client.predict({})
    error = caught.value
    assert (error.status, error.code, error.document) == (422, Invalid.code, document)
    assert (error.what, error.where, error.do) == ("field required", "x", "send it")
    assert len(there.seen) == 1


@pytest.mark.parametrize("status", [502, 503])
def test_who_says_when_to_come_again_is_asked_again(status: int) -> None:
    busy = (status, {"Retry-After": "0"}, {"detail": "busy"})
    with stub(busy, busy, (200, {}, ANSWER)) as there, Client(there.url) as client:
        assert client.predict({}).version == "v1"
    assert len(there.seen) == 3


@pytest.mark.parametrize(
    "says",
    [
        (503, {}, {"detail": "no time is named"}),
        (500, {"Retry-After": "0"}, {"detail": "a bug"}),
        (429, {"Retry-After": "0"}, {"detail": "too many"}),
        (0, {}, b""),
    ],
)
def test_nothing_else_is_asked_twice(says: tuple[int, dict[str, str], Any]) -> None:
    with stub(says) as there, Client(there.url) as client, pytest.raises((Problem, Unavailable)):
        client.predict({})
    assert len(there.seen) == 1


def test_it_gives_up_after_as_many_tries_as_it_has() -> None:
    busy = (503, {"Retry-After": "0"}, {"detail": "busy"})
    with (
        stub(busy) as there,
        Client(there.url, retries=2) as client,
        pytest.raises(Problem, match="busy") as caught,
    ):
        client.predict({})
    assert caught.value.code == Unavailable.code
    assert len(there.seen) == 3


def test_nobody_there_is_unavailable() -> None:
    with stub((200, {}, ANSWER)) as there:
        pass
    with pytest.raises(Unavailable, match="does not answer"):
        Client(there.url, retries=1).predict({})
    with pytest.raises(Invalid):
        Client("ftp://127.0.0.1")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_what_is_no_predictor_is_told_from_one(body: bytes) -> None:
    with stub((200, {}, body)) as there, Client(there.url) as client:
        for ask in (lambda: client.predict({}), client.health):
            with pytest.raises(Unavailable):
                ask()


def test_a_redirect_is_not_followed() -> None:
    with (
        stub((302, {"Location": "/elsewhere"}, {})) as there,
        Client(there.url) as client,
        pytest.raises(Problem),
    ):
        client.predict({})
    assert len(there.seen) == 1


def test_nothing_that_is_no_number_is_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Client("http://127.0.0.1:9").predict({"x": float("nan")})


def test_outcomes_are_told_one_or_many_and_what_became_of_them_is_typed() -> None:
    said = dict.fromkeys(COUNTS, 0) | {"accepted": 2, "news": 1}
    with stub((200, {}, said)) as there, Client(there.url) as client:
        assert client.feedback("AQE", 1).accepted == 2
        client.feedback("AQE", [1, None])
        client.feedback("AQE", True, place=1)
        many = client.feedback_all([{"prediction_id": "AQE", "outcome": 1}] * 2_001)
        assert many.accepted == 6
        assert client.feedback_all([]).accepted == 0
    bodies = [json.loads(body) for _, _, body in there.seen]
    assert bodies[:3] == [
        [{"prediction_id": "AQE", "outcome": 1}],
        [{"prediction_id": "AQE", "outcome": [1, None]}],
        [{"prediction_id": "AQE", "outcome": True, "place": 1}],
    ]
    assert [len(body) for body in bodies[3:]] == [1_000, 1_000, 1]


def test_an_outcome_that_found_the_tables_locked_is_sent_again() -> None:
    problem = {"status": 503, "detail": "the tables did not answer"}
    said = dict.fromkeys(COUNTS, 0) | {"accepted": 1}
    first = (503, {"Retry-After": "0"}, problem)
    with stub(first, (200, {}, said)) as there, Client(there.url) as client:
        assert client.feedback("AQE", 1).accepted == 1
    assert len(there.seen) == 2


def test_the_counts_are_those_that_the_store_tells() -> None:
    assert COUNTS == NAMES
