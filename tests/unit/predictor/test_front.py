"""A plain prediction takes a short way past Falcon, and gets the answer that Falcon gives."""

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from predictors import Made, make, within

from kt import http
from kt.config import Predictor
from kt.predictor import front
from kt.predictor.aside import Overrun
from kt.predictor.brake import Brake
from kt.predictor.crowd import PATIENT
from kt.predictor.front import Front, Waiting, environ
from kt.predictor.loaded import NOTHING
from kt.predictor.quarantine import Calls


class Scope(NamedTuple):
    """As Granian gives it."""

    method: str = "POST"
    path: str = "/predict"
    query_string: str = ""
    headers: dict[str, str] = {"host": "127.0.0.1:8000", "content-type": "application/json"}  # noqa: RUF012  # as is
    http_version: str = "1.1"
    server: str = "127.0.0.1:8000"
    client: str = "127.0.0.1:50000"

    def but(self, **headers: str) -> "Scope":
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._replace(headers=self.headers | changed)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    made = make(tmp_path_factory.mktemp("w"))
    made.add("v1")
    made.add("sick", does="raise", model="sick")
    made.settings('[store]\nurl = ""\n')
    made.deploy(1, toy=made.route("v1"), sick=made.route("sick"))
    with started(made) as worker:
        yield worker


@contextmanager
def started(made: Made) -> Iterator[Front]:
    before = gc.get_threshold()
    worker = Front(made.root, Predictor(), "http://127.0.0.1:8000", Calls(), Brake())
    yield worker
    worker.host.close()
    gc.unfreeze()
    gc.set_threshold(*before)


def said(answer: http.Answer) -> tuple[int, str, Any]:
    status, headers, data = answer
    body = json.loads(data)
    return (
        status,
        dict(headers)["content-type"],
        {**body, "prediction_id": "", "id": "", "hint": ""},
    )


def waits(scope: Scope, data: bytes) -> Waiting:
    return Waiting(scope, data, None, PATIENT)  # type: ignore[arg-type]  # nobody does


def deep(levels: int) -> bytes:
    return b'{"model": "toy", "x": ' + b"[" * levels + b"]" * levels + b"}"


WIDE = b'{"model": "toy", "x": [' + b"[0],[1], " * 20
BODIES = {
    "good": (200, b'{"model": "toy", "x": [0.25, 1e-3], "student_id": "s-1"}'),
    "no model named": (422, b'{"x": [0.25]}'),
    "an unknown model": (404, b'{"model": "nope", "x": [0.25]}'),
    "a model that is none": (422, b'{"model": 7, "x": [0.25]}'),
    "too much for the model": (422, b'{"model": "toy", "x": [10.0]}'),
    "an unknown field": (422, b'{"model": "toy", "x": [0.25], "y": 1}'),
    "a wrong type": (422, b'{"model": "toy", "x": ["a"]}'),
    "a model that fails": (500, b'{"model": "sick", "x": [0.75]}'),
    "no object": (422, b"[1]"),
    "no JSON": (400, b'{"model": '),
    "nothing": (400, b""),
    "a key twice": (400, b'{"model": "toy", "x": [0.25], "x": [0.5]}'),
    "NaN": (400, b'{"model": "toy", "x": [NaN]}'),
    "overflow": (400, b'{"model": "toy", "x": [1e999]}'),
    "overflow, in capitals": (400, b'{"model": "toy", "x": [1E999]}'),
    "overflow, digit by digit": (400, b'{"model": "toy", "x": [' + b"9" * 400 + b".0]}"),
    "a long whole number": (400, b'{"model": "toy", "x": [' + b"9" * 401 + b"]}"),
    "at the depth": (422, deep(32)),
    "too deep": (400, deep(33)),
    "wide": (422, WIDE + b"[0]]}"),
    "wide and too deep": (400, WIDE + b"[" * 32 + b"]" * 32 + b"]}"),
    "too deep between texts": (400, WIDE + b'"],[", ' + b"[" * 32 + b"]" * 32 + b', "},{"]}'),
    "a lone surrogate": (400, b'{"model": "toy", "x": [0.25], "student_id": "\\ud800"}'),
}


def test_falcon_is_there_once_a_request_needs_it(tmp_path: Path) -> None:
    made = make(tmp_path)
    made.add("v1")
    made.settings('[store]\nurl = ""\n')
    made.deploy(1, toy=made.route("v1"))
    with started(made) as worker:
        (answer,) = worker.answers([waits(Scope(), BODIES["good"][1])])
        assert answer[0] == 200
        assert "app" not in vars(worker)
        health = environ(Scope("GET", "/health"), b"")
        assert worker.answer(health)[0] == 200
        assert "app" in vars(worker)


@pytest.mark.parametrize("path", ["/predict", "/models/toy/predict", "/models/nope/predict"])
@pytest.mark.parametrize("name", BODIES)
def test_both_ways_say_the_same(worker: Front, name: str, path: str) -> None:
    scope, (status, data) = Scope(path=path), BODIES[name]
    assert worker.plain(scope)
    (short,) = worker.answers([waits(scope, data)])
    assert said(short) == said(http.call(worker.app, environ(scope, data)))
    assert path != "/predict" or short[0] == status


@pytest.mark.parametrize(
    "scope",
    [
        Scope(method="GET"),
        Scope(path="/predict/"),
        Scope(path="/models/to%79/predict"),
        Scope(path="/v2/models/toy/infer"),
        Scope(query_string="a=b"),
        Scope().but(content_type="application/json; charset=utf-8"),
        Scope().but(content_type="text/plain"),
        Scope().but(host="evil.example"),
    ],
)
def test_all_else_is_for_falcon(worker: Front, scope: Scope) -> None:
    assert worker.plain(scope) is None


@pytest.mark.parametrize("name", ["\ufffd", "é", "%79", "\x00"])
def test_a_path_is_what_granian_has_decoded(worker: Front, name: str) -> None:
    scope = Scope(path=f"/models/to{name}/predict")
    status, _, data = worker.answer(environ(scope, BODIES["good"][1]))
    assert (status, json.loads(data)["detail"]) == (404, f"there is no model to{name}")


def test_where_keys_or_a_pace_are_asked_for_falcon_sees_to_it(
    worker: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.guard.ring, "asked", True)
    assert worker.plain(Scope()) is None
    monkeypatch.setattr(worker.guard.ring, "asked", False)
    assert worker.plain(Scope())
    monkeypatch.setattr(worker.guard, "settings", Predictor(rate=5.0))
    assert worker.plain(Scope()) is None


def test_a_bad_request_spoils_none_that_waits_with_it(worker: Front) -> None:
    names = ["good", "no JSON", "a model that fails", "too much for the model", "good"]
    waiting = [waits(Scope(), BODIES[name][1]) for name in names]
    waiting.append(waits(Scope(path="/predict/"), BODIES["good"][1]))
    assert [answer[0] for answer in worker.answers(waiting)] == [200, 400, 500, 422, 200, 200]


@pytest.mark.parametrize("waits", [False, True])
def test_a_worker_whose_treatment_does_not_come_back_is_replaced_once_nobody_waits(
    worker: Front, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    (ready, *_) = worker.host.current.ready.values()
    gate, ended = threading.Event(), list[int]()
    with pytest.raises(Overrun):
        ready.aside.call(gate.wait, 0.01)
    monkeypatch.setattr(front, "HUNG", 0.0)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(worker.host, "close", lambda: None)
    monkeypatch.setattr(worker, "pending", {object(): time.monotonic()} if waits else {})
    monkeypatch.setattr(worker, "loop", SimpleNamespace(call_later=lambda *_: None), raising=False)
    worker.watch()
    assert ended == ([] if waits else [70])
    gate.set()
    within(lambda: not worker.host.longest_aside)
    worker.watch()
    assert len(ended) == (not waits)


def threads_of(worker: Front, monkeypatch: pytest.MonkeyPatch, requests: int) -> list[bool]:
    """Whether each of some requests, one after the other, was answered in the event loop."""
    found, answers = list[bool](), worker.answers

    def seen(waiting: list[Waiting]) -> list[http.Answer]:
        found.append(threading.get_ident() == worker.home)
        return answers(waiting)

    async def proto() -> bytes:
        return BODIES["good"][1]

    async def ask() -> None:
        worker.loop, worker.home = asyncio.get_running_loop(), threading.get_ident()
        for _ in range(requests):
            answer = await worker.read_and_answer(
                Scope(), proto, str(len(BODIES["good"][1])), PATIENT
            )
            assert answer[0] == 200

    monkeypatch.setattr(worker, "answers", seen)
    monkeypatch.setattr(worker, "known", NOTHING)
    monkeypatch.setattr(worker, "careful", float("-inf"))
    asyncio.run(ask())
    return found


@pytest.mark.parametrize(("pause", "status"), [(0, 503), (PATIENT - 1, 503), (PATIENT, 409)])
def test_the_tables_too_have_more_room_for_the_patient(
    worker: Front, monkeypatch: pytest.MonkeyPatch, pause: int, status: int
) -> None:
    monkeypatch.setattr(worker, "queued", front.QUEUE[False])

    async def proto() -> bytes:
        return b"[1]"

    async def tell() -> int:
        worker.loop = asyncio.get_running_loop()
        return (await worker.read_and_answer(Scope(path="/feedback"), proto, "3", pause))[0]

    assert asyncio.run(tell()) == status


def test_what_is_quick_is_answered_in_the_loop_once_that_is_known(
    worker: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert threads_of(worker, monkeypatch, 3) == [False] * 3  # the family is the user's own
    monkeypatch.setattr(front, "QUICK", float("inf"))
    monkeypatch.setitem(vars(worker.host.current), "bounded", True)
    assert threads_of(worker, monkeypatch, 3) == [False, True, True]
    monkeypatch.setattr(front, "QUICK", -1.0)
    assert threads_of(worker, monkeypatch, 3) == [False] * 3


@pytest.mark.parametrize(
    ("most", "done", "spent", "found"),
    [
        (8, 4, 0.0004, 9),  # 50 would fit: a step at a time
        (32, 8, 0.0008, 32),
        (32, 8, 0.004, 10),
        (32, 8, 0.01, 8),
        (8, 0, 0.0, 8),
    ],
)
def test_as_many_are_answered_in_the_loop_at_once_as_are_quick_together(
    most: int, done: int, spent: float, found: int
) -> None:
    assert front.fitting(most, done, spent) == found


def test_after_one_that_takes_long_none_is_answered_in_the_loop_for_twenty_times_as_long(
    worker: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1.0, 1.25])
    monkeypatch.setattr(front.time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(worker, "home", threading.get_ident())
    monkeypatch.setattr(worker, "careful", float("-inf"))
    before = time.monotonic()
    worker.answer_all([])
    assert before + 5 <= worker.careful <= time.monotonic() + 5
