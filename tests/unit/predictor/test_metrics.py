"""GET /metrics, read by Prometheus's own parser: what is told, and that totals only rise."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from predictors import make_three
from prometheus_client.parser import text_string_to_metric_families

from kt import clock
from kt.config import Settings
from kt.predictor import metrics
from kt.predictor.app import routes
from kt.predictor.host import make_host
from kt.stats.scored import Scores
from kt.store import answered, connect, secret, states
from kt.store.batch import Batch, Stream, Traffic
from kt.store.database import Store
from kt.store.ids import Ids
from kt.store.outcomes import Outcome
from kt.store.rollup import roll_up
from kt.store.traffic import append

CONTROL = Stream("toy", "v1", "control", "trial", 1, 1, 90.0, "probability")
LATER = Stream(
    "toy", "v1", "control", "trial", 1, 2, 50.0, "probability"
)  # the traffic was changed
V1 = {"model": "toy", "version": "v1", "variant": "control", "experiment": "trial"}
NOW = clock.now()
M = int(NOW.timestamp()) // 60


class Face:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store: Store = connect.open(root, Settings())
        self.batches = 0
        self.client = self.restarted()

    def restarted(self) -> testing.TestClient:
        host = make_host(self.root)
        host.open()
        self.client = testing.TestClient(routes(host))
        return self.client

    def answer(self, stream: Stream, minute: int, served: int, **more: int) -> None:
        seen = Traffic(assigned=served + sum(more.values()), served=served, **more)
        for _ in range(served):
            seen.latency.add(50.0)
        self.batches += 1
        batch = Batch({stream.id: stream}, {(stream.id, minute): seen})
        append(self.store, "test", self.batches, batch, M)

    def told(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        answer = self.client.simulate_get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.told().get((name, frozenset(labels.items())))


@pytest.fixture
def face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Face:
    monkeypatch.setattr(metrics, "FRESH", -1.0)
    monkeypatch.setattr(clock, "now", lambda: NOW)  # however long the tests before took
    return Face(make_three(tmp_path / "w").root)


def test_what_was_answered_is_told_of_everybody_over_all_phases(face: Face):
    face.answer(CONTROL, M - 90, 5, failed=1, slow_out=2)
    face.answer(LATER, M - 2, 10, invalid=3)
    told = face.told()

    def value(name: str, **more: str) -> float:
        return told[name, frozenset((V1 | more).items())]

    assert value("kt_predictions_assigned_total") == 21
    assert value("kt_predictions_served_total") == 15
    assert value("kt_predictions_failed_total", kind="exception") == 1
    assert value("kt_predictions_failed_total", kind="timeout") == 2
    assert value("kt_predictions_failed_total", kind="not_finite") == 3
    assert value("kt_prediction_duration_seconds_bucket", le="+Inf") == 17
    assert value("kt_prediction_duration_recent_seconds", quantile="0.95") == pytest.approx(0.05, rel=0.02)  # fmt: skip
    assert face.value("kt_tables_up") == 1
    assert face.value("kt_served_seq") == 5


def test_outcomes_and_what_was_refused(face: Face):
    face.answer(CONTROL, M - 2, 5)
    ids = Ids(secret.ensure(face.root, NOW))
    some = [
        Outcome(ids.read(ids.make(CONTROL.id, minute, 3, Scores("probability", [0.75]))), 0, value)
        for minute, value in ((M - 5, 1.0), (M - 5, 0.0), (M - 99_999, 1.0))
    ]
    answered.ingest(face.store, some, clock.now(), answered.rules(Settings()))
    assert face.value("kt_outcomes_total", **V1) == 2
    assert face.value("kt_accuracy_ratio", **V1) == 0.5
    assert face.value("kt_outcomes_refused", reason="late") == 1


def test_open_alerts(face: Face):
    documents = {
        json.dumps(["toy", "active", metric]): json.dumps({"watch": {"phase": phase}, "told": None})
        for metric, phase in (("accuracy", "firing"), ("drift", "pending"))
    }
    with face.store.write() as connection:
        states.save(connection, documents, {"fast": 1_700_000_000}, 1_700_000_000)
    assert face.value("kt_alerts_open") == 1
    assert face.value("kt_alert_firing", model="toy", slot="active", metric="accuracy") == 1
    assert face.value("kt_last_check_timestamp_seconds") == 1_700_000_000


def test_what_the_monitors_found_last(face: Face):
    def document(value: float | None, status: str, version: str = "v1") -> str:
        last = {"version": version, "value": value, "n": 250, "status": status}
        return json.dumps({"watch": None, "told": None, "measured": last})

    documents = {
        json.dumps(["toy", "active", "accuracy"]): document(0.79, "degraded"),
        json.dumps(["toy", "active", "drift"]): document(None, "no_data"),
        json.dumps(["", "", "health"]): document(1, "warning", ""),
    }
    with face.store.write() as connection:
        states.save(connection, documents, {}, 1_700_000_000)
    of = {"model": "toy", "slot": "active", "version": "v1"}
    told = {
        (name, dict(labels).get("metric")): value for (name, labels), value in face.told().items()
    }
    assert face.value("kt_metric", **of, metric="accuracy") == 0.79
    assert face.value("kt_metric_observations", **of, metric="drift") == 250
    assert face.value("kt_metric_status", **of, metric="accuracy") == 1
    assert ("kt_metric", "drift") not in told
    assert ("kt_metric_status", "drift") not in told
    assert face.value("kt_health") == 1


def totals(told: dict[Any, float]) -> dict[Any, float]:
    return {key: value for key, value in told.items() if key[0].endswith(("_total", "_bucket"))}


def test_totals_never_fall_over_roll_ups_and_restarts(face: Face):
    for age in (0, 20, 60, 3 * 1_440, 3 * 1_440 + 1, 100 * 1_440):
        face.answer(CONTROL, M - age, 4, failed=1)
    before = totals(face.told())
    assert len(before) > 6
    roll_up(face.store, NOW)
    face.restarted()
    assert totals(face.told()) == before
    roll_up(face.store, NOW + timedelta(days=200))
    assert totals(face.told()) == before


def test_what_is_told_is_repeated_for_less_than_an_interval_of_scrapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    face = Face(make_three(tmp_path / "w").root)
    face.answer(CONTROL, M, 4)
    assert face.value("kt_predictions_served_total", **V1) == 4
    face.answer(CONTROL, M, 4)
    assert face.value("kt_predictions_served_total", **V1) == 4
    monkeypatch.setattr(metrics, "FRESH", -1.0)
    assert face.value("kt_predictions_served_total", **V1) == 8


def test_without_tables_the_process_tells_of_itself(face: Face):
    for path in face.root.glob("kt.db*"):
        path.unlink()
    (face.root / "kt.db").write_bytes(b"no database" * 1_000)
    assert face.value("kt_tables_up") == 0
    assert face.value("kt_served_seq") == 5
    assert not totals(face.told())


def test_hostile_names_are_escaped(face: Face):
    odd = Stream('a"b', "v\\1", "x\ny", "", 1, 1)
    face.answer(odd, M, 1)
    labels = {"model": 'a"b', "version": "v\\1", "variant": "x\ny", "experiment": ""}
    assert face.value("kt_predictions_served_total", **labels) == 1
