"""What is counted of answers, in memory."""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from predictors import Made, make

from kt import clock
from kt.predictor import predict
from kt.predictor.host import Host, make_host
from kt.predictor.record import MANY, REFUSED, UNITS, WATCHED, Recorder, Seen
from kt.stats.scored import Scores, nothing
from kt.store.batch import Batch, Stream, Traffic
from kt.store.ids import Ids
from kt.store.pseudonym import Pseudonyms, bucket, unit_hash
from kt.store.secret import Secret, master

SECRET = Secret(keys=(master(1, datetime(2026, 11, 26, tzinfo=UTC), lambda size: b"s" * size),))
PLAIN = Stream("toy", "v1", "", "", 1, 1, 100.0, "probability")
TREATMENT = Stream("toy", "v2", "treatment", "trial", 1, 3, 10.0, "probability")
NUMBERS = Stream("toy", "v3", "", "", 4, 4, 100.0, "number")


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder(on=True)
    recorder.know(SECRET)
    return recorder


def record(
    recorder: Recorder, *seen: Seen, stream: Stream = PLAIN, units: Sequence[str | None] = ()
) -> Batch:
    entry = recorder.begin(stream, units or [None] * len(seen))
    recorder.end(entry, seen)
    return recorder.take()


def traffic(batch: Batch) -> Traffic:
    total = Traffic()
    for one in batch.traffic.values():
        total.merge(one)
    return total


def test_what_is_assigned_is_counted_before_anything_came_of_it(recorder: Recorder) -> None:
    entry = recorder.begin(PLAIN, ["s-1", "s-2"])
    assert traffic(recorder.take()).assigned == 2
    recorder.end(entry, [Seen(1.0), Seen(1.0, "failed")])
    after = traffic(recorder.take())
    assert (after.assigned, after.served, after.failed) == (0, 1, 1)
    assert not recorder.take()


def test_each_failure_has_its_count_and_none_is_an_answer(recorder: Recorder) -> None:
    found = traffic(
        record(
            recorder,
            Seen(5.0, scores=Scores("probability", [0.75, 0.25])),
            Seen(150.0, scores=Scores("probability", [0.5])),
            Seen(0.1, "failed", fallback=True),
            Seen(0.1, "invalid"),
            Seen(1000.0, "slow", fallback=True),
            stream=TREATMENT,
        )
    )
    assert (found.assigned, found.served) == (5, 2)
    assert (found.failed, found.invalid, found.slow_out, found.fallback) == (1, 1, 1, 2)
    assert (found.over_limit, found.over_alert) == (2, 1)
    assert found.latency.count == 3  # who fails at once is not fast
    assert found.scores.count == 3
    assert found.error_rate == 0.6


def test_a_request_that_the_control_refuses_too_was_nobodys(recorder: Recorder) -> None:
    batch = record(recorder, Seen(0.1, REFUSED), Seen(1.0), stream=TREATMENT, units=["s-1", "s-2"])
    found = traffic(batch)
    assert (found.assigned, found.served, found.bad) == (1, 1, 0)
    assert sum(load.assigned for load in batch.loads.values()) == 1


def test_numbers_are_kept_as_such_and_what_has_no_score_is_not(recorder: Recorder) -> None:
    found = traffic(record(recorder, Seen(1.0, scores=Scores("number", [71.5])), stream=NUMBERS))
    assert (found.numbers.total, found.scores.count) == (71.5, 0)
    unscored = Stream("toy", "v9", "", "", 1, 1)
    found = traffic(record(recorder, Seen(1.0, scores=nothing(1)), stream=unscored))
    assert (found.served, found.numbers.count, found.scores.count) == (1, 0, 0)


def test_units_of_an_experiment_are_counted_once_and_by_pseudonym_alone(recorder: Recorder) -> None:
    names = ["s-1", "s-2", "s-1", None]
    batch = record(recorder, *[Seen(1.0)] * 4, stream=TREATMENT, units=names)
    of = Pseudonyms(SECRET).of
    assert batch.units == {TREATMENT.id: {unit_hash(of("s-1")), unit_hash(of("s-2"))}}
    assert batch.loads[TREATMENT.id, bucket(of("s-1"))].assigned >= 2
    assert sum(load.assigned for load in batch.loads.values()) == 4
    assert not record(recorder, Seen(1.0), units=["s-1"]).units  # no experiment, nothing to compare


def test_no_more_units_are_remembered_than_anybody_needs(recorder: Recorder) -> None:
    units = [f"s-{n}" for n in range(UNITS + 10)]
    recorder.begin(TREATMENT, units)
    recorder.begin(TREATMENT, ["another"])
    (held,) = recorder.take().units.values()
    assert len(held) <= len(units)


def test_features_are_taken_of_some_requests_a_second(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 1_700_000_000
    monkeypatch.setattr(clock, "second", lambda: second)
    entries = [recorder.begin(PLAIN, ["s"]) for _ in range(WATCHED + 5)]
    assert sum(entry.watched for entry in entries) == WATCHED
    assert recorder.begin(TREATMENT, ["s"]).watched
    second += 1
    assert recorder.begin(PLAIN, ["s"]).watched


def test_a_form_that_fails_to_tell_fails_no_answer(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise KeyError("no")

    engine: Any = SimpleNamespace(
        form=SimpleNamespace(__name__="sick", scored=fail, features=fail), signature=None
    )
    entry = recorder.begin(PLAIN, ["s"])
    for _ in range(3):
        assert recorder.scores(engine, [{}]) == nothing(1)
        assert recorder.features(entry, engine, None) == {}
    assert len(caplog.records) == 2  # once each


def test_what_is_not_finite_spoils_no_sum(recorder: Recorder) -> None:
    odd = {"x": float("nan"), "y": 1.0}
    found = traffic(record(recorder, Seen(1.0, scores=Scores("probability", [0.5]), features=odd)))
    assert found.features["x"].odd == 1
    assert found.features["y"].total == 1.0
    entry = recorder.begin(PLAIN, ["s-1"])
    for odd_one in (float("nan"), float("inf"), "text"):
        scores = Scores("probability", [0.5, odd_one])  # type: ignore[list-item]  # of a foreign form
        assert int(recorder.identity(entry, 0, scores), 16)


def test_an_id_says_what_was_recorded(recorder: Recorder) -> None:
    entry = recorder.begin(TREATMENT, ["s-1", "s-2"])
    ticket = Ids(SECRET).read(recorder.identity(entry, 1, Scores("probability", [0.75])))
    assert (ticket.stream, ticket.minute) == (TREATMENT.id, entry.minute)
    assert ticket.kind == "probability"
    assert ticket.bucket == bucket(Pseudonyms(SECRET).of("s-2"))


def test_without_a_secret_ids_say_nothing_and_all_else_goes_on() -> None:
    recorder = Recorder(on=True)
    entry = recorder.begin(TREATMENT, ["s-1"])
    assert int(recorder.identity(entry, 0, nothing(0)), 16)
    recorder.end(entry, [Seen(1.0)])
    batch = recorder.take()
    assert traffic(batch).served == 1
    assert batch.units == {TREATMENT.id: set()}


def test_switched_off_it_keeps_nothing() -> None:
    recorder = Recorder()
    recorder.know(SECRET)
    assert not record(recorder, Seen(1.0))


def test_threads_that_count_and_one_that_takes_lose_nothing(recorder: Recorder) -> None:
    taken: list[Batch] = []
    rounds = 4 * MANY

    def work() -> None:
        for _ in range(rounds):
            entry = recorder.begin(TREATMENT, ["s-1", None])
            recorder.end(entry, [Seen(1.0), Seen(1.0, "failed")])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(recorder.take())
    taken.append(recorder.take())
    total = Batch()
    for batch in taken:
        total.merge(batch)
    found = traffic(total)
    assert (found.assigned, found.served, found.failed) == (8 * rounds, 4 * rounds, 4 * rounds)
    assert sum(load.assigned for load in total.loads.values()) == 8 * rounds
    assert sum(load.failed for load in total.loads.values()) == 4 * rounds


# Through the predictor


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path)
    for name, does in {"v1": "answer", "sick": "raise", "nan": "nan", "slow": "slow"}.items():
        made.add(name, does=does)
    return made


def opened(made: Made) -> Host:
    host = make_host(made.root)
    host.recorder = Recorder(on=True)
    host.recorder.know(SECRET)
    host.open()
    return host


def by_variant(host: Host) -> dict[str, Traffic]:
    batch = host.recorder.take()
    found: dict[str, Traffic] = {}
    for (stream, _), one in batch.traffic.items():
        found.setdefault(batch.streams[stream].variant, Traffic()).merge(one)
    return found


@pytest.mark.parametrize(
    ("treatment", "count"), [("sick", "failed"), ("nan", "invalid"), ("slow", "slow_out")]
)
def test_a_treatment_that_fails_is_charged_and_the_control_that_answers_is_not(
    made: Made, treatment: str, count: str
) -> None:
    made.deploy(1, toy=made.route("v1", treatment, traffic=100))
    host = opened(made)
    answer = predict.predict(host, {"x": [0.75], "student_id": "s-1"})
    found = by_variant(host)
    assert list(found) == ["treatment"]
    one = found["treatment"]
    assert (one.assigned, one.served, getattr(one, count), one.fallback) == (1, 0, 1, 1)
    assert one.scores.count == 0  # nothing of its own
    ticket = Ids(SECRET).read(answer["prediction_id"])
    assert ticket.scored[0].value == pytest.approx(answer["predictions"][0]["p"][1], abs=1e-4)


def test_a_control_that_fails_is_charged_and_a_bad_request_is_nobodys(made: Made) -> None:
    made.deploy(1, toy=made.route("sick"))
    host = opened(made)
    asked = [predict.ask(host, {"x": [x]}) for x in (0.25, 0.75, 10.0)]
    good, failed, refused = predict.answers(host, asked)
    assert isinstance(good, dict)
    assert isinstance(failed, ValueError)
    assert isinstance(refused, Exception)
    one = by_variant(host)[""]
    assert (one.assigned, one.served, one.failed) == (2, 1, 1)
    assert one.features["x"].count == 2


def test_features_are_asked_of_no_request_that_is_refused(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a one may hold what no feature is made of, a number of 350 digits."""
    made.deploy(1, toy=made.route("v1"))
    host = opened(made)
    seen: list[Any] = []
    monkeypatch.setattr(host.recorder, "features", lambda _, __, one: seen.append(one.x) or {})
    predict.answers(host, [predict.ask(host, {"x": [x]}) for x in (0.25, 10.0)])
    assert seen == [[0.25]]


def test_units_go_to_their_variants_and_every_answer_is_counted(made: Made) -> None:
    made.deploy(1, toy=made.route("v1", "sick", traffic=40))
    host = opened(made)
    answers = predict.answers(
        host, [predict.ask(host, {"x": [0.25], "student_id": f"s-{n}"}) for n in range(50)]
    )
    found = by_variant(host)
    for variant in ("control", "treatment"):
        said = sum(isinstance(one, dict) and one["variant"] == variant for one in answers)
        assert (found[variant].assigned, found[variant].served) == (said, said)


def test_nobody_who_asked_is_named_in_what_is_kept(made: Made) -> None:
    made.deploy(1, toy=made.route("v1", "sick", traffic=50))
    host = opened(made)
    answer = predict.predict(host, {"x": [0.25], "student_id": "canary-17"})
    assert "canary-17" not in repr(host.recorder.take()) + json.dumps(answer)
