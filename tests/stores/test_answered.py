"""Outcomes count once, at the minute of their prediction, whoever sends them and how often."""

import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kt.stats.moments import Moments
from kt.stats.scored import NOTHING, Kind, Scored, Scores, binary, likeliest
from kt.store import answered, labels, secret
from kt.store.answered import Rules, ingest, preview
from kt.store.buckets import METRICS, buckets
from kt.store.counters import counters
from kt.store.database import Store
from kt.store.ids import Ids
from kt.store.labels import Labels
from kt.store.outcomes import Counted, Outcome
from kt.store.secret import Secret
from kt.store.streams import Stream, remember

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
M = int(NOW.timestamp()) // 60
RULES = Rules(timedelta(days=30), lambda model: 5.0)
KINDS: dict[Kind, Stream] = {
    kind: Stream(kind, "v1", "", "", 1, 1, 100.0, kind, "")
    for kind in ("probability", "category", "number", "none")
}
IDS = Ids(Secret(keys=(secret.master(1, NOW, bytes),)))


LIKELY = binary(0.75)


def outcome(value: float, scored: Scored = LIKELY, minute: int = M - 5, bucket: int = 3) -> Outcome:
    """Of a prediction that none before it is of."""
    stream = KINDS[scored.kind].id
    scores = Scores(scored.kind, [scored.value], [scored.category])
    ticket = IDS.read(IDS.make(stream, minute, bucket, scores))
    return Outcome(ticket, 0, value)


@pytest.fixture
def known(store: Store) -> Store:
    with store.write() as connection:
        remember(connection, KINDS.values())
    return store


def counted(store: Store, *outcomes: Outcome, rules: Rules = RULES, **expected: int) -> None:
    assert ingest(store, outcomes, NOW, rules) == Counted(**expected)


def total(store: Store, kind: Kind = "probability") -> Labels:
    stream = KINDS[kind].id
    return labels.total(store, [stream], 0, M + 60)[stream]


def of_bucket(store: Store, kind: Kind = "probability") -> dict[str, dict[int, Moments]]:
    stream = KINDS[kind].id
    return {metric: buckets(store, [stream], metric)[stream] for metric in METRICS}


def test_an_outcome_says_whether_its_prediction_was_right(known: Store):
    counted(known, outcome(1), outcome(0, binary(0.75), bucket=4), accepted=2)
    found = total(known)
    assert (found.n, found.right) == (2, 1)
    assert found.error.mean == pytest.approx((0.25**2 + 0.75**2) / 2, abs=1e-4)
    assert (found.positives.count, found.negatives.count) == (1, 1)
    of = of_bucket(known)
    assert of["right"] == {3: Moments(1, 1.0), 4: Moments(1, 0.0)}
    assert of["outcome"] == {3: Moments(1, 1.0), 4: Moments(1, 0.0)}
    assert of["error"][4].mean == pytest.approx(0.75**2, abs=1e-4)


@pytest.mark.parametrize(
    ("scored", "value", "right", "error"),
    [
        (likeliest(2, 0.75), 2, 1, 0.0625),
        (likeliest(2, 0.75), 1, 0, 0.5625),
        (Scored("number", 70.0), 75.0, 1, 5.0),
        (Scored("number", 70.0), 75.5, 0, 5.5),
        (NOTHING, 1, 1, 0.0),
        (NOTHING, 0, 0, 1.0),
    ],
)
def test_each_kind_is_judged_its_own_way(
    known: Store, scored: Scored, value: float, right: int, error: float
):
    counted(known, outcome(value, scored), accepted=1)
    found = total(known, scored.kind)
    assert (found.n, found.right) == (1, right)
    assert found.error.mean == pytest.approx(error, abs=1e-4)
    scores = found.positives.count, found.negatives.count
    assert scores == ((right, 1 - right) if scored.kind == "category" else (0, 0))


def test_how_far_off_a_number_may_be_is_the_models_own(known: Store):
    wide = Rules(RULES.horizon, {"number": 10.0}.__getitem__)
    counted(known, outcome(78.0, Scored("number", 70.0)), rules=wide, accepted=1)
    assert total(known, "number").right == 1


def test_what_is_sent_again_changes_nothing(known: Store):
    some = [outcome(value) for value in (1, 0, 1)]
    counted(known, *some, accepted=3)
    before = total(known), of_bucket(known)
    counted(known, *some, *some, duplicate=6)
    assert (total(known), of_bucket(known)) == before


def test_a_corrected_outcome_counts_as_if_it_had_been_right_at_first(store: Store):
    with store.write() as connection:
        remember(connection, KINDS.values())
    rng = random.Random(1)
    some = [outcome(rng.randint(0, 1), binary(rng.random()), M - 9, 3) for _ in range(50)]
    wrong = [one._replace(value=1 - one.value) for one in some[:20]]
    counted(store, *wrong, *some[20:], accepted=50)
    counted(store, *some, corrected=20, duplicate=30)
    assert_same(total(store), expected(some))
    counted(store, *wrong, corrected=20)
    counted(store, *some[:20], corrected=20)
    assert_same(total(store), expected(some))
    for metric, found in of_bucket(store).items():
        values = {"right": lambda one: float(one.value == one.ticket.scored[0].category),
                  "error": lambda one: (one.value - one.ticket.scored[0].value) ** 2,
                  "outcome": lambda one: one.value}[metric]  # fmt: skip
        moments = Moments()
        for one in some:
            moments.add(values(one))
        assert found[3].n == 50
        assert found[3].mean == pytest.approx(moments.mean)
        assert found[3].m2 == pytest.approx(moments.m2)


def expected(some: list[Outcome]) -> Labels:
    sums = Labels()
    for one in some:
        scored = one.ticket.scored[0]
        sums.n += 1
        sums.right += one.value == scored.category
        sums.error.add((one.value - scored.value) ** 2)
        (sums.positives if one.value else sums.negatives).add(scored.value)
    return sums


def assert_same(found: Labels, wanted: Labels) -> None:
    assert (found.n, found.right) == (wanted.n, wanted.right)
    assert found.error.mean == pytest.approx(wanted.error.mean)
    assert found.error.m2 == pytest.approx(wanted.error.m2)
    for side in ("positives", "negatives"):
        ours, theirs = getattr(found, side), getattr(wanted, side)
        assert ours.counts == theirs.counts
        assert ours.sums == pytest.approx(theirs.sums)
        assert ours.squares == pytest.approx(theirs.squares)


def test_outcomes_of_old_predictions_are_kept_by_the_hour_at_once(known: Store):
    old = M - M % 60 - 3 * 1_440
    counted(known, outcome(1, minute=old + 7), outcome(0, minute=old + 50), outcome(1), accepted=3)
    found = labels.series(known, [KINDS["probability"].id], 0, M + 60, ["counts"])
    assert [(minute, span, one.n) for _, minute, span, one in found] == [
        (old, 60, 2),
        (M - 5, 1, 1),
    ]


def test_told_twice_in_one_go_the_last_stands(known: Store):
    one = outcome(0)
    again = [one, one._replace(value=1.0), one, one._replace(value=1.0), one._replace(value=1.0)]
    counted(known, *again, accepted=1, corrected=3, duplicate=1)
    assert (total(known).n, total(known).right) == (1, 1)


def test_each_prediction_of_an_answer_counts(known: Store):
    stream = KINDS["probability"].id
    ticket = IDS.read(IDS.make(stream, M, 3, Scores("probability", [0.9, 0.2])))
    counted(known, Outcome(ticket, 0, 1.0), accepted=1)
    counted(known, Outcome(ticket, 1, 1.0), Outcome(ticket, 0, 1.0), accepted=1, duplicate=1)
    assert (total(known).n, total(known).right) == (2, 1)


def test_what_comes_too_late_or_too_early_is_counted_and_not_used(known: Store):
    days = 30 * 24 * 60
    some = [outcome(1, minute=minute) for minute in (M - days, M - days - 1, M + 5, M + 6)]
    counted(known, *some, accepted=2, late=1, early=1)
    assert total(known).n == 2
    found = counters(known, M, M + 1)
    assert found == {"accepted": 2, "refused_late": 1, "refused_early": 1}


def test_of_a_stream_that_nobody_knows_nothing_is_used_unless_it_is_young(store: Store):
    counted(store, outcome(1, minute=M - 11), unknown=1)
    counted(store, outcome(1, minute=M - 10), accepted=1)
    young = Rules(RULES.horizon, RULES.within, {KINDS["probability"].id: "probability"})
    counted(store, outcome(1, minute=M - 11), rules=young, accepted=1)


def test_a_preview_says_what_would_be_counted_and_writes_nothing(known: Store):
    first, second, third = (outcome(1) for _ in range(3))
    counted(known, first, second, accepted=2)
    before = total(known)
    some = [first, second._replace(value=0.0), third, third, outcome(1, minute=M - 50_000)]
    earlier: dict[answered.Key, float] = {}
    assert preview(known, some, NOW, RULES, earlier) == Counted(
        accepted=1, corrected=1, duplicate=2, late=1
    )
    assert preview(known, some[:3], NOW, RULES, earlier) == Counted(duplicate=3)
    assert total(known) == before


def test_many_are_counted_some_at_a_time(known: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(answered, "TOGETHER", 7)
    some = [outcome(number % 2, minute=M - number) for number in range(50)]
    counted(known, *some, *some, accepted=50, duplicate=50)
    assert total(known).n == 50


def test_processes_that_send_the_same_at_once_count_it_once(known: Store):
    some = [outcome(1, bucket=number % 128) for number in range(200)]
    found: list[Any] = []

    def send(order: list[Outcome]) -> None:
        try:
            found.append(ingest(known, order, NOW, RULES))
        except Exception as error:  # noqa: BLE001  # told below
            found.append(error)

    threads = [
        threading.Thread(target=send, args=(random.Random(seed).sample(some, len(some)),))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Counted()
    for one in found:
        assert isinstance(one, Counted), one
        whole.merge(one)
    assert whole == Counted(accepted=200, duplicate=600)
    assert (total(known).n, total(known).right) == (200, 200)


def test_processes_that_contradict_each_other_leave_what_one_of_them_said(known: Store):
    some = [outcome(1) for _ in range(100)]
    other = [one._replace(value=0.0) for one in some]
    threads = [
        threading.Thread(target=ingest, args=(known, order, NOW, RULES))
        for order in (some, other, some[::-1], other[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = total(known)
    assert found.n == found.positives.count + found.negatives.count == 100
    assert found.right == found.positives.count
