"""A shadow runs on copies; nobody is answered by it, nobody waits for it, and what it says is counted."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predictors import Made, make, within

from kt.predictor import predict, shadow
from kt.predictor.app import health
from kt.predictor.aside import Aside
from kt.predictor.guard import guard_of
from kt.predictor.host import Host, make_host
from kt.predictor.presence import Place, shadows
from kt.predictor.quarantine import Ran, blamed
from kt.predictor.run import run
from kt.predictor.shadow import Answering, Shadow, beside, compare
from kt.store import connect
from kt.store.shadows import shadows as stored
from kt.store.tally import Report, Tally, bucket, merged, percentile, reports
from kt.workspace import Workspace


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make(tmp_path / "workspace")
    for name, w, does in (
        ("v1", 1.0, "answer"),
        ("same", 1.0, "answer"),
        ("other", -8.0, "answer"),
        ("sick", 1.0, "raise"),
        ("nan", 1.0, "nan"),
        ("slow", 1.0, "slow"),
    ):
        made.add(name, w=w, does=does)
    return made


def opened(made: Made, version: str) -> Host:
    made.deploy(6, toy=made.route("v1", version, shadow=True))
    host = make_host(made.root)
    host.start()
    return host


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    found: list[Host] = []
    yield found
    for host in found:
        host.close()


def asked(host: Host, x: float = 0.25, times: int = 1, **fields: Any) -> list[dict[str, Any]]:
    return [predict.predict(host, {"x": [x]} | fields) for _ in range(times)]


def counted(host: Host, copies: int) -> Tally:
    """The tally once it tells of so many copies."""

    def tally() -> Tally | None:
        (report,) = host.reports
        found = report.tally
        done = found.compared + found.failed + found.invalid + found.slow + found.dropped
        return found if done >= copies else None

    found: Tally = within(tally)
    return found


def test_the_active_version_answers_as_if_there_were_no_shadow(
    made: Made, hosts: list[Host]
) -> None:
    hosts.append(host := opened(made, "other"))
    shadowed = asked(host, student_id="s-1") + asked(host)
    tally = counted(host, 2)
    made.deploy(7, toy=made.route("v1"))
    within(lambda: host.current.manifest.seq == 7)
    alone = asked(host, student_id="s-1") + asked(host)
    assert [answer | {"prediction_id": ""} for answer in shadowed] == [
        answer | {"prediction_id": ""} for answer in alone
    ]
    assert (host.current.shadows, host.reports) == ({}, [])
    assert (tally.compared, tally.predictions, tally.agreed) == (2, 2, 0)
    assert tally.difference / tally.numbers == pytest.approx(tally.worst)
    assert tally.worst == pytest.approx(1 / (1 + np.exp(-0.25)) - 1 / (1 + np.exp(2)), abs=1e-6)
    assert tally.worst_id in [answer["prediction_id"] for answer in shadowed]


def test_the_same_weights_say_the_same(made: Made, hosts: list[Host]) -> None:
    hosts.append(host := opened(made, "same"))
    asked(host, times=20)
    tally = counted(host, 20)
    assert (tally.compared, tally.agreed, tally.worst, tally.worst_id) == (20, 20, 0.0, "")
    (row,) = health(host, guard_of(host).ring)["shadows"]
    assert (row["version"], row["agreement"], row["mean_difference"]) == ("same", 1.0, 0.0)
    assert 0 < row["p95"] < 1


@pytest.mark.parametrize(("version", "kind"), [("sick", "failed"), ("nan", "invalid")])
def test_a_shadow_that_fails_is_only_counted(
    made: Made, hosts: list[Host], version: str, kind: str
) -> None:
    hosts.append(host := opened(made, version))
    for answer in asked(host, 0.75, 3) + asked(host, 0.25, 2):
        assert (answer["version"], "fallback" in answer) == ("v1", False)
    tally = counted(host, 5)
    assert (getattr(tally, kind), tally.compared) == (3, 2)
    assert not host.fallbacks


def test_a_shadow_that_hangs_costs_no_answer_its_time(
    made: Made, hosts: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = set[threading.Thread]()
    call = Aside.call

    def noted(*given: Any) -> Any:
        waiting.add(threading.current_thread())
        return call(*given)

    monkeypatch.setattr(Aside, "call", noted)
    hosts.append(host := opened(made, "slow"))  # for 20 s; what is later than 0.2 is too slow
    asked(host)
    counted(host, 1)
    asked(host, 0.75, 40)
    tally = counted(host, 41)
    assert {thread.name for thread in waiting} == {"kt-shadow"}
    assert (tally.compared, tally.slow + tally.dropped) == (1, 40)
    assert tally.slow


def test_what_the_active_version_refuses_is_not_copied(made: Made, hosts: list[Host]) -> None:
    hosts.append(host := opened(made, "same"))
    with pytest.raises(Exception, match="larger than this model knows"):
        asked(host, 10.0)
    asked(host)
    assert counted(host, 1).compared == 1


class Held:
    """An engine that waits until it may go on."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.form, self.signature = engine, engine.form, engine.signature
        self.go = threading.Event()
        self.sizes: list[int] = []

    def run(self, arrays: Any) -> Any:
        self.sizes.append(len(arrays["x"]))
        assert self.go.wait(30)
        return self.engine.run(arrays)


@pytest.fixture
def held(made: Made, hosts: list[Host]) -> tuple[Shadow, Held]:
    """A shadow that waits, and its engine."""
    hosts.append(host := opened(made, "same"))
    real = host.current.shadows["toy"]
    engine = Held(real._engine)
    one = Shadow("toy", real.trial, engine, real._aside, real._form, Answering(), 30)
    return one, engine


def answered(x: float = 0.25) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"x": [x]}, {"prediction_id": "9f", "predictions": [{"p": [0.5, 0.5]}]}


def test_what_waits_is_bounded_and_what_is_too_much_is_dropped_and_counted(
    held: tuple[Shadow, Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, engine = held
    one.offer([answered()])
    within(lambda: engine.sizes)
    for _ in range(shadow.MOST + 10):
        one.offer([answered()])
    assert one.report.tally.dropped == 10
    monkeypatch.setattr(shadow, "BYTES", 10 * len(one._waiting[0]))
    one.offer([answered()])
    assert (len(one._waiting), one.report.tally.dropped) == (10, 257)
    one.offer([({"x": [2**80]}, answered()[1])])  # is no JSON that can be kept
    assert one.report.tally.dropped == 258
    engine.go.set()
    within(lambda: one.report.tally.compared == 11)
    assert engine.sizes == [1, 8, 2]  # together, as they are answered
    assert not one._bytes


def test_copies_wait_for_a_pause_but_not_forever_and_get_nothing_where_it_is_crowded(
    held: tuple[Shadow, Held],
) -> None:
    one, engine = held
    engine.go.set()
    with one._answering:
        began = time.monotonic()
        one.offer([answered()])
        within(lambda: one.report.tally.compared)
        assert time.monotonic() - began >= shadow.PATIENCE
        one._answering.crowded = lambda: True
        one.offer([answered()] * 3)
        assert one.report.tally.dropped == 3
        one._answering.crowded = lambda: False
    one.offer([answered()])
    within(lambda: one.report.tally.compared == 2)


def test_a_shadow_that_takes_other_requests_is_asked_for_those_it_takes(
    made: Made, hosts: list[Host]
) -> None:
    hosts.append(host := opened(made, "same"))
    engine = host.current.shadows["toy"]._engine
    refused, taken = shadow.each(engine, [{"y": 1}, {"x": [0.25]}])
    assert isinstance(refused, Exception)
    assert taken == run(engine, [engine.form.Request(x=[0.25])])[0]


def test_answers_are_compared_by_their_likeliest_category_or_by_every_number() -> None:
    ours = {"item": np.array(["a", "b"], object), "p": np.array([[0.8, 0.2], [0.4, 0.6]])}
    theirs = {"item": np.array(["a", "b"], object), "p": np.array([[0.7, 0.3], [0.6, 0.4]])}
    found = compare(ours, theirs, ("p",))
    assert (found.predictions, found.agreed, found.numbers) == (2, 1, 4)
    assert found.difference == pytest.approx(0.6)
    assert found.worst == pytest.approx(0.2)
    found = compare(ours, theirs, ())
    assert (found.predictions, found.agreed) == (6, 2)
    assert compare(ours, {}, ("p",)) == Tally(predictions=2)  # another shape
    assert beside(np.array([1.0, 100.0]), np.array([1.005, 102.0]), likeliest=False).agreed == 1
    assert beside(np.array([], bool), np.array([], bool), likeliest=False) == Tally()


def test_tallies_add_up_and_come_back_from_a_card() -> None:
    one = Tally(compared=2, worst=0.1, worst_id="a", dropped=1, took={bucket(0.001): 2})
    two = Tally(compared=1, worst=0.3, worst_id="b", took={bucket(0.001): 1, bucket(0.5): 1})
    both = one + two
    assert (both.compared, both.worst, both.worst_id, both.dropped) == (3, 0.3, "b", 1)
    many = [Tally(worst=n / 10, worst_id=str(n), cases=((n / 10, str(n)),)) for n in range(1, 9)]
    assert [name for _, name in sum(many, Tally()).cases] == ["8", "7", "6", "5", "4"]
    assert percentile(both.took, 0.75) == pytest.approx(0.001, rel=0.11)
    assert percentile(both.took, 0.95) == pytest.approx(0.5, rel=0.11)
    assert percentile({}, 0.95) is None
    report = Report("m", "x", "v2", 7, both)
    elsewhere = Report("m", "x", "v2", 9, one)
    again = list(reports([report.card(), {"model": "m"}, elsewhere.card()]))
    assert again == [report, elsewhere]
    assert merged([report, elsewhere, report])[0].tally.compared == 6


def test_others_read_what_is_found_also_after_the_process_has_ended(
    made: Made, hosts: list[Host]
) -> None:
    host = opened(made, "same")
    place = Workspace(made.root)
    asked(host, times=3)
    counted(host, 3)
    assert within(lambda: [one.tally.compared for one in shadows(place)] == [3], 10)
    asked(host)
    counted(host, 4)
    host.close()  # tells once more
    assert [one.tally.compared for one in shadows(place)] == [4]
    card(made).rename(card(made).with_name("1.json"))  # another process's
    hosts.append(next_one := opened(made, "same"))
    asked(next_one)
    counted(next_one, 5)
    next_one._post()
    assert [one.tally.compared for one in shadows(place)] == [5]
    made.deploy(7, toy=made.route("v1"))
    within(lambda: shadows(place) == [])  # that experiment is over


def test_what_is_found_is_in_the_tables_once_also_of_a_shadow_that_has_ended(
    made: Made, hosts: list[Host]
) -> None:
    host = opened(made, "same")
    asked(host, times=3)
    counted(host, 3)
    made.deploy(7, toy=made.route("v1"))
    within(lambda: host.current.manifest.seq == 7)
    host.close()  # writes what is left
    store = connect.peek(made.root, host.settings)
    assert store
    (report,) = stored(store)
    assert (report.model, report.version, report.tally.compared) == ("toy", "same", 3)
    assert report.tally.agreed == 3


def card(made: Made) -> Path:
    (found,) = (made.root / ".kt" / "predictors").iterdir()
    return found


def test_one_process_alone_takes_over_what_a_dead_one_told(made: Made, hosts: list[Host]) -> None:
    host = opened(made, "same")
    asked(host)
    counted(host, 1)
    host.close()
    told = Place(made.root / ".kt")
    assert [one["tally"]["compared"] for one in told.left] == [1]
    assert list((made.root / ".kt" / "predictors").iterdir()) == [told.path]
    told.leave()


def test_who_died_beside_a_shadow_is_spared(made: Made, hosts: list[Host]) -> None:
    hosts.append(host := opened(made, "same"))
    active, shadowed = host.current.ready
    with host.calls.note(active), host.calls.note(shadowed):
        ran = host.calls.running()
    assert [one.shadow for one in ran] == [False, True]
    assert blamed(ran, -11, False) == [shadowed]
    made.deploy(7, toy=made.route("v1", "same"))
    within(lambda: host.current.manifest.seq == 7)
    with host.calls.note(active), host.calls.note(shadowed):
        assert blamed(host.calls.running(), -11, False) == [active, shadowed]
    assert blamed([Ran(active, 3)], -11, False) == [active]
