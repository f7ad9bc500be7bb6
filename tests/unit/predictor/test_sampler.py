"""A sample of requests is kept: whole units, of them what kt.toml names, and never in an answer's way."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from predictors import Made, make_three

from kt.config import Settings
from kt.predictor import sampler as room
from kt.predictor.app import routes
from kt.predictor.host import make_host
from kt.predictor.record import Recorder
from kt.predictor.sampler import UNLOGGED, Sampler
from kt.predictor.writer import KEEP, Writer
from kt.stats.scored import Scores, nothing
from kt.store import connect, counters, database, requests
from kt.store.batch import Batch, Logged, Stream
from kt.store.ids import Ids, answer_id
from kt.store.pseudonym import Pseudonyms
from kt.store.secret import Secret, master

SECRET = Secret(keys=(master(7, datetime(2026, 11, 26, tzinfo=UTC), lambda size: b"s" * size),))
STREAM = Stream("toy", "v1", "", "", 1, 1, 100.0, "probability")
IDS = Ids(SECRET)


class Request:
    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


def sampler(share: float = 1.0, *fields: str, model: str = "toy") -> Sampler:
    table = {"log_inputs": share, "log_fields": list(fields)}
    made = Sampler(Settings.model_validate({"models": {model: table}}))
    made.know(Pseudonyms(SECRET))
    return made


def answer(scores: Scores) -> dict[str, Any]:
    name = IDS.make(STREAM.id, 1, 1, scores)
    said = [{"item": "7", "p": value} for value in scores.values]
    return {"version": "v1", "state": "all answers", "prediction_id": name, "predictions": said}


def offered(
    sampler: Sampler, unit: str | None = "s-1", request: Request | None = None
) -> list[Logged]:
    scores = Scores("probability", [0.75])
    request = request or Request(student_id=unit, x=[1.5])
    sampler.offer(STREAM, unit, request, "student_id", answer(scores), scores)
    batch = Batch()
    sampler.take(batch)
    assert batch.streams == ({STREAM.id: STREAM} if batch.logged else {})
    return batch.logged


def test_a_workspace_that_asks_for_nothing_has_no_sampler() -> None:
    assert not Sampler(Settings()).on
    assert Sampler(Settings.model_validate({"store": {"log_inputs": 1}})).on
    assert sampler(0.01).on
    assert not offered(sampler(1.0, model="another"))


def test_only_what_is_named_is_kept_and_never_the_unit() -> None:
    request = Request(student_id="s-1", x=[1.5], free_text="my name is s-1")
    (row,) = offered(sampler(1.0, "x", "student_id"), request=request)
    assert json.loads(row.request) == {"x": [1.5]}
    assert json.loads(row.answer) == {"version": "v1", "predictions": [{"probability": 0.75}]}
    assert row.unit == bytes([7]) + Pseudonyms(SECRET).of("s-1")
    (row,) = offered(sampler(1.0))
    assert row.request == "{}"
    (row,) = offered(sampler(1.0, "predictions"))
    assert json.loads(row.answer)["predictions"] == [{"item": "7", "p": 0.75}]
    assert row.request == "{}"


def test_whole_units_are_chosen_and_everywhere_the_same() -> None:
    here, there = sampler(0.25), sampler(0.25)
    units = [f"s-{n}" for n in range(2_000)]
    chosen = [unit for unit in units if offered(here, unit)]
    assert 400 < len(chosen) < 600
    assert [unit for unit in units if offered(there, unit)] == chosen
    assert all(len(offered(there, unit)) == 1 for unit in chosen[:20])
    more = sampler(0.5)
    assert all(offered(more, unit) for unit in chosen)


def test_who_names_nobody_is_chosen_by_the_answer() -> None:
    made = sampler(0.25)
    rows = [row for _ in range(2_000) for row in offered(made, None)]
    assert 400 < len(rows) < 600
    assert {row.unit for row in rows} == {b""}


def test_without_the_secret_nothing_is_kept() -> None:
    made = Sampler(Settings.model_validate({"store": {"log_inputs": 1}}))
    assert not offered(made)


def test_what_waits_takes_no_more_room_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "MOST", 1_000)
    made = sampler(1.0, "x")
    first, second = Batch(), Batch()
    asked = Request(x="x" * 300)
    said = answer(Scores("probability", [0.5]))
    for _ in range(20):
        made.offer(STREAM, "s-1", asked, "student_id", said, nothing(0))
    made.take(first)
    assert len(first.logged) == 2
    assert sum(first.counts.values()) == 18
    made.offer(STREAM, "s-1", asked, "student_id", said, nothing(0))
    made.take(second)
    assert not second.logged, "the first are not written yet"
    made.release(first.logged)
    assert offered(made)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_three(tmp_path / "w")
    made.settings('[store]\nlog_inputs = 1\nlog_fields = ["x"]\n[predictor]\nflush = 60\n')
    return made


def test_what_is_asked_over_http_comes_into_the_tables(made: Made) -> None:
    host = make_host(made.root)
    host.start()
    client = testing.TestClient(routes(host))
    body = {"student_id": "canary", "x": [0.25, 0.5]}
    told = client.simulate_post("/predict", json=body)
    assert told.status_code == 200
    client.simulate_post("/predict", json={"x": [-1.0]})  # refused: nothing was answered
    host.close()
    (row,) = requests.newest(connect.open(made.root, host.settings), 10)
    assert row.request == {"x": [0.25, 0.5]}
    assert row.id == answer_id(told.json["prediction_id"])
    assert (row.model, row.version) == ("toy", "v1")
    assert len(row.answer["predictions"]) == 2
    for path in made.root.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path


def test_what_cannot_be_kept_fails_no_answer(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("Integer exceeds 64-bit range")

    monkeypatch.setattr(Sampler, "offer", fail)
    host = make_host(made.root)
    host.start()
    client = testing.TestClient(routes(host))
    for _ in range(2):
        assert client.simulate_post("/predict", json={"x": [0.25]}).status_code == 200
    host.close()
    assert len([one for one in caplog.records if "64-bit" in one.getMessage()]) == 1


def test_what_cannot_be_written_is_given_up_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT", 0.05)
    (tmp_path / "kt.toml").touch()
    settings = Settings.model_validate({"store": {"log_inputs": 1}})
    writer = Writer(tmp_path, settings, Recorder(on=True, sampler=Sampler(settings)))
    store = connect.open(tmp_path, settings)
    writer.turn(0.0)

    def ask() -> None:
        entry = writer.recorder.begin(STREAM, ["s-1"])
        scores = Scores("probability", [0.5])
        name = writer.recorder.identity(entry, 0, scores)
        said = {"version": "v1", "prediction_id": name, "predictions": [{}]}
        form: Any = Request(UNIT="student_id")
        writer.recorder.log(entry, "s-1", Request(x=1), form, said, scores)

    held = sqlite3.connect(tmp_path / "kt.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    ask()
    writer.turn(10.0)
    assert writer.recording.state == "behind"
    writer.turn(10.0 + KEEP + 1)
    held.rollback()
    held.close()
    ask()
    writer.turn(10.0 + KEEP + 2)
    assert len(requests.newest(store, 10)) == 1
    assert counters.counters(store, 0, 2**31)[UNLOGGED] == 1
