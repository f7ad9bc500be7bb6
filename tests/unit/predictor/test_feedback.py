"""POST /feedback: outcomes are counted; what is wrong is named; the tables may fail, a client's input may not."""

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from predictors import Made, make_three

from kt import clock
from kt.config import Settings
from kt.predictor.app import routes
from kt.predictor.host import make_host
from kt.stats.scored import Scores
from kt.store import connect, database, labels, secret
from kt.store.ids import Ids
from kt.store.outcomes import NAMES
from kt.store.streams import Stream, remember

STREAM = Stream("toy", "v1", "", "", 1, 1, 100.0, "probability")
NONE = dict.fromkeys(NAMES, 0)


class Face:
    """A predictor's app, and ids that it would have given."""

    def __init__(self, made: Made) -> None:
        self.root = made.root
        self.client = testing.TestClient(routes(make_host(made.root)))
        self.ids = Ids(secret.ensure(made.root, clock.now()))
        with connect.open(made.root, Settings()).write() as connection:
            remember(connection, [STREAM])

    def id(self, count: int = 1, stream: Stream = STREAM, ago: int = 0) -> str:
        minute = int(clock.now().timestamp()) // 60 - ago
        return self.ids.make(stream.id, minute, 3, Scores("probability", [0.75] * count))

    def post(self, body: Any) -> Any:
        data = json.dumps(body).encode()
        return self.client.simulate_post("/feedback", body=data, content_type="application/json")

    def counts(self, body: Any) -> dict[str, int]:
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return {name: n for name, n in answer.json.items() if n}

    def right(self) -> tuple[int, int]:
        store = connect.open(self.root, Settings())
        end = int(clock.now().timestamp()) // 60 + 60
        found = labels.total(store, [STREAM.id], 0, end)[STREAM.id]
        return found.n, found.right


@pytest.fixture
def face(tmp_path: Path) -> Face:
    return Face(make_three(tmp_path / "w"))


def test_an_outcome_is_counted_and_the_answer_says_so(face: Face):
    entry = {"prediction_id": face.id(), "outcome": 1}
    assert face.post(entry).json == NONE | {"accepted": 1}
    assert face.counts(entry) == {"duplicate": 1}
    assert face.counts(entry | {"outcome": 0}) == {"corrected": 1}
    assert face.right() == (1, 0)


def test_many_at_once(face: Face):
    answer = {"prediction_id": face.id(3), "outcome": [1, None, 0]}
    one = {"prediction_id": face.id(3), "outcome": True, "place": 1}
    assert face.counts([answer, one, answer]) == {"accepted": 3, "duplicate": 2}
    assert face.right() == (3, 2)


def test_what_cannot_be_used_is_counted_and_the_rest_is_used(face: Face, tmp_path: Path):
    good = face.id()
    lost = Stream("gone", "v1", "", "", 1, 1, 100.0, "probability")
    entries = [
        {"prediction_id": text, "outcome": 1}
        for text in (
            good, "nonsense", good[:-1] + ("A" if good[-1] != "A" else "Q"), good[:-4], good + "AAAA",
            face.id(ago=31 * 24 * 60), face.id(ago=-9), face.id(stream=lost, ago=60),
        )
    ]  # fmt: skip
    found = face.counts(entries)
    assert found.pop("forged") + found.pop("malformed") == 4
    assert found == {"accepted": 1, "late": 1, "early": 1, "unknown": 1}
    assert face.right() == (1, 1)


def test_an_entry_that_is_wrong_is_named_and_nothing_of_the_body_is_counted(face: Face):
    good = {"prediction_id": face.id(), "outcome": 1}
    answer = face.post([good, good | {"outcome": 0.5}])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["field"] == "1.outcome"
    assert face.post(good | {"outcome": "1"}).json["field"] == "outcome"
    assert (
        face.post([good, {"prediction_id": face.id(2), "outcome": [1, 7]}]).json["field"]
        == "1.outcome.1"
    )
    assert face.post([]).status_code == face.post([good] * 1_001).status_code == 422
    assert face.right() == (0, 0)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"outcome": NaN}', b'[{"outcome": 1, "outcome": 2}]']
)
def test_what_is_no_json_is_400(face: Face, body: bytes):
    answer = face.client.simulate_post("/feedback", body=body, content_type="application/json")
    assert answer.status_code == 400


def test_only_post_and_only_json(face: Face):
    assert face.client.simulate_get("/feedback").status_code == 405
    form = {"body": b"{}", "content_type": "text/plain"}
    assert face.client.simulate_post("/feedback", **form).status_code == 415


def test_without_the_secret_outcomes_are_refused_loudly(face: Face):
    entry = {"prediction_id": face.id(), "outcome": 1}
    (face.root / secret.FILE).unlink()
    answer = face.post(entry)
    assert answer.status_code == 409
    assert "secret.json" in answer.json["detail"]
    face.ids = Ids(secret.ensure(face.root, clock.now()))
    assert face.counts(entry) == {"forged": 1}, "another secret does not know the id"
    assert face.counts(entry | {"prediction_id": face.id()}) == {"accepted": 1}


def test_a_rotation_is_followed_and_old_ids_are_read(face: Face):
    before = {"prediction_id": face.id(), "outcome": 1}
    assert face.counts(before) == {"accepted": 1}
    held = secret.read(face.root)
    changed = secret.rotate(held, clock.now(), timedelta(days=30))
    secret.write(face.root, changed)
    face.ids = Ids(changed)
    assert face.counts([before, {"prediction_id": face.id(), "outcome": 1}]) == {
        "accepted": 1, "duplicate": 1,
    }  # fmt: skip


def test_locked_tables_are_503_and_the_same_again_is_counted(
    face: Face, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "WAIT", 0.05)
    entry = {"prediction_id": face.id(), "outcome": 1}
    holder = sqlite3.connect(face.root / "kt.db")
    holder.execute("BEGIN IMMEDIATE")
    answer = face.post(entry)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    holder.rollback()
    holder.close()
    assert face.counts(entry) == {"accepted": 1}


def test_damaged_tables_are_503_until_they_are_moved_away(face: Face):
    entry = {"prediction_id": face.id(), "outcome": 1}
    assert face.counts(entry) == {"accepted": 1}
    for path in face.root.glob("kt.db*"):
        path.unlink()
    (face.root / "kt.db").write_bytes(b"no database" * 1_000)
    assert face.post(entry).status_code == 503
    (face.root / "kt.db").unlink()
    assert face.counts(entry) == {"accepted": 1}, "a new one is made"


def test_without_tables_nothing_can_be_counted(face: Face):
    (face.root / "kt.toml").write_text('[store]\nurl = ""\n')
    client = testing.TestClient(routes(make_host(face.root)))
    answer = client.simulate_post("/feedback", json={"prediction_id": face.id(), "outcome": 1})
    assert answer.status_code == 409


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["prediction_id", "outcome", "place", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(JSON, st.integers(1, 3))
def test_nothing_that_is_sent_is_answered_5xx(face: Face, value: Any, count: int):
    signed = {"prediction_id": face.id(count), "outcome": value}
    for body in (value, signed, [signed, value]):
        answer = face.post(body)
        assert answer.status_code in (200, 400, 422), answer.text
        assert len(answer.content) < 2_000
