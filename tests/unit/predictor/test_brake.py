"""A treatment that does harm is out of traffic: in all workers, at once, and after a restart."""

import json
from pathlib import Path

import pytest
from predictors import Made, make

from kt import files
from kt.errors import Unavailable
from kt.predictor import brake, predict
from kt.predictor.app import health
from kt.predictor.brake import FILE, LEAST, PLACES, Book, Brake, Counts, Shared, judged
from kt.predictor.guard import guard_of
from kt.predictor.host import Host, make_host
from kt.store.batch import Stream

CONTROL = Stream("toy", "v1", "control", "trial", 1, 3, 90.0)
TREATMENT = Stream("toy", "v2", "treatment", "trial", 1, 3, 10.0)


@pytest.mark.parametrize(
    ("control", "treatment", "share", "metric"),
    [
        (Counts(100), Counts(LEAST - 1, LEAST - 1), 0.1, None),  # too few to tell
        (Counts(100), Counts(LEAST, LEAST), 0.1, "errors"),
        (Counts(1), Counts(LEAST, LEAST), 0.9, "errors"),  # all of them, whatever the share
        (Counts(200), Counts(20, 4), 0.1, "errors"),
        (Counts(200, 40), Counts(20, 4), 0.1, None),  # both fail alike
        (Counts(4), Counts(20, 4), 0.1, None),  # a few units may ask most of the time
        (Counts(200, 0, 200, 0), Counts(20, 0, 20, 5), 0.1, "slow"),
        (Counts(200, 0, 200, 200), Counts(20, 0, 20, 20), 0.1, None),  # so is the control
        (Counts(), Counts(LEAST, 3), 0.5, None),
    ],
)
def test_a_treatment_does_harm_where_its_share_does_not_explain_it(
    control: Counts, treatment: Counts, share: float, metric: str | None
) -> None:
    found = judged(control, treatment, share)
    assert (found and found[0]) == metric


def workers(n: int) -> list[Brake]:
    shared = Shared(n)
    made = [Brake(shared, worker) for worker in range(n)]
    for one in made:
        one.follow([(TREATMENT, CONTROL)])
    return made


def test_workers_count_together_and_all_know_at_once() -> None:
    all_workers = workers(4)
    for one in all_workers:
        one.count(CONTROL, 30, 0, slow=False)
    for request in range(LEAST - 1):
        all_workers[request % 4].count(TREATMENT, 1, 1, slow=False)
    assert not any(one.holds(TREATMENT) for one in all_workers)
    all_workers[3].count(TREATMENT, 1, 1, slow=False)
    assert all(one.holds(TREATMENT) for one in all_workers)
    assert not any(one.holds(CONTROL) for one in all_workers)
    (trip,) = all_workers[3].trips
    assert trip.why == "v2 failed 10 of 10 requests, the control 0 of 120"


def test_what_a_worker_counted_outlives_it() -> None:
    shared = Shared(2)
    for _ in range(2):
        one = Brake(shared, 1)
        one.follow([(TREATMENT, CONTROL)])
        one.count(TREATMENT, 5, 5, slow=False)
    assert one.holds(TREATMENT)


def test_another_phase_begins_anew() -> None:
    (one,) = workers(1)
    one.count(TREATMENT, 10, 10, slow=False)
    assert one.holds(TREATMENT)
    later = [Stream("toy", "v2", name, "trial", 1, 4, 50.0) for name in ("treatment", "control")]
    one.follow([(later[0], later[1])])
    assert not one.holds(later[0])
    one.count(later[0], 9, 9, slow=False)
    assert not one.holds(later[0])


def test_places_are_given_to_who_answers_now() -> None:
    one = Brake(Shared())
    for phase in range(3 * PLACES):
        pair = [Stream("toy", "v2", name, "trial", 1, phase) for name in ("treatment", "control")]
        one.follow([(pair[0], pair[1])])
        one.count(pair[0], 10, 10, slow=False)
        assert one.holds(pair[0])


def test_where_there_is_no_room_nobody_is_watched_and_nothing_breaks() -> None:
    one = Brake(Shared())
    many = [
        tuple(Stream("toy", "v2", name, f"x{n}", 1, 1) for name in ("treatment", "control"))
        for n in range(PLACES)
    ]
    one.follow([(treatment, control) for treatment, control in many])
    for treatment, _ in many:
        one.count(treatment, 10, 10, slow=False)
    assert 0 < sum(one.holds(treatment) for treatment, _ in many) < PLACES


def test_many_who_see_it_put_it_down_once(tmp_path: Path) -> None:
    all_workers = workers(2)
    other = workers(1)[0]
    for one in (all_workers[0], other):
        one.count(TREATMENT, 10, 10, slow=False)
        one.write(tmp_path)
        one.write(tmp_path)
    assert len(brake.read(tmp_path).trips) == 1
    document = json.loads((tmp_path / FILE).read_text())
    assert document["trips"][0] | {"at": ""} == {
        "model": "toy", "experiment": "trial", "version": "v2", "phase": 3, "at": "", "metric": "errors",
        "control": {"requests": 0, "failed": 0, "calls": 0, "slow": 0},
        "treatment": {"requests": 10, "failed": 10, "calls": 1, "slow": 0}, "log_e": None,
    }  # fmt: skip


def test_a_disk_that_takes_nothing_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("No space left on device")

    (one,) = workers(1)
    one.count(TREATMENT, 10, 10, slow=False)
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", full)
        for _ in range(3):
            one.write(tmp_path)
    assert len(caplog.records) == 1
    one.write(tmp_path)
    assert len(brake.read(tmp_path).trips) == 1


def test_a_file_that_cannot_be_read_takes_nobody_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    assert brake.read(tmp_path) == Book()


# Through the predictor


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path)
    made.add("v1")
    made.add("sick", does="raise")
    made.deploy(5, toy=made.route("v1", "sick", traffic=50))
    return made


def opened(made: Made) -> Host:
    host = make_host(made.root)
    host.open()
    return host


def ask(host: Host, n: int = 100) -> list[predict.Answer]:
    units = [{"x": [0.75], "student_id": f"s-{unit}"} for unit in range(n)]
    return [predict.predict(host, fields) for fields in units]


def test_a_treatment_that_fails_every_request_gets_ten(made: Made) -> None:
    host = opened(made)
    answers = ask(host)
    assert sum("fallback" in answer for answer in answers) == LEAST
    assert all(answer["version"] == "v1" for answer in answers)
    last = next(answer for answer in reversed(answers) if answer["variant"] != "control")
    assert (last["variant"], last["experiment"]) == (None, None)


def test_what_is_out_is_told_and_stays_out_after_a_restart(made: Made) -> None:
    host = opened(made)
    ask(host)
    host.look()
    state = health(host, guard_of(host).ring)
    assert state["status"] == "degraded"
    assert "trial is out of traffic: sick failed 10 of 10 requests" in state["reason"]
    assert state["models"]["toy"]["experiment"] is None
    host.brake.write(made.root / ".kt")

    again = opened(made)
    assert not any("fallback" in answer for answer in ask(again))
    assert "trial is out of traffic" in health(again, guard_of(again).ring)["reason"]


def test_a_new_phase_gives_it_traffic_again(made: Made) -> None:
    host = opened(made)
    ask(host)
    host.look()
    host.brake.write(made.root / ".kt")
    route = made.route("v1", "sick", traffic=60)
    assert route.experiment
    changed = route.experiment.model_copy(update={"phase": 6})
    made.deploy(6, toy=route.model_copy(update={"experiment": changed}))
    host.look()
    assert health(host, guard_of(host).ring)["status"] == "ok"
    assert sum("fallback" in answer for answer in ask(host)) == LEAST


def test_what_the_control_cannot_answer_either_is_not_held_against_it(made: Made) -> None:
    made.deploy(6, toy=made.route("sick", "v1", traffic=50))
    host = opened(made)
    made.add("worse", does="raise")
    made.deploy(7, toy=made.route("sick", "worse", traffic=50))
    host.look()
    for unit in range(100):
        with pytest.raises(ValueError, match="secret"):
            predict.predict(host, {"x": [0.75], "student_id": f"s-{unit}"})
    assert not host.brake.trips
