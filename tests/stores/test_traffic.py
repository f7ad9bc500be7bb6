"""What is appended is what is read, however it was split over writers, batches and retries."""

from collections import Counter

from kt.store import counters, loads, traffic
from kt.store.batch import Batch, Load, Stream, Traffic
from kt.store.database import Store
from kt.store.streams import streams
from kt.store.traffic import append

CONTROL = Stream("m", "v1", "control", "x", 1, 2, 90.0, "probability", "2026-11-26T05:00:00Z")
TREATMENT = Stream("m", "v2", "treatment", "x", 1, 2, 10.0, "probability")
M = 29_000_000  # minutes since the epoch


def seen(scores: list[float], failed: int = 0) -> Traffic:
    out = Traffic(assigned=len(scores) + failed, served=len(scores), failed=failed)
    for score in scores:
        out.latency.add(1000 * score + 1)
        out.scores.add(score)
        out.features.setdefault("answers", type(out.latency)()).add(10 * score)
    return out


def batch(stream: Stream, minute: int, traffic: Traffic) -> Batch:
    return Batch({stream.id: stream}, {(stream.id, minute): traffic})


def test_what_was_appended_is_read_back_whole(store: Store) -> None:
    append(store, "a", 1, batch(CONTROL, M, seen([0.25, 0.5], failed=1)), M)
    append(store, "b", 1, batch(CONTROL, M + 1, seen([0.75])), M)
    append(store, "b", 2, batch(TREATMENT, M + 1, seen([0.1])), M)
    found = traffic.total(store, [CONTROL.id, TREATMENT.id], M, M + 2)
    assert found == {CONTROL.id: seen([0.25, 0.5, 0.75], failed=1), TREATMENT.id: seen([0.1])}


def test_a_batch_that_is_sent_again_counts_once(store: Store) -> None:
    one = batch(CONTROL, M, seen([0.5]))
    assert append(store, "a", 1, one, M)
    assert not append(store, "a", 1, one, M)
    assert append(store, "a", 2, one, M)
    assert append(store, "b", 1, one, M)
    assert traffic.total(store, [CONTROL.id], M, M + 1)[CONTROL.id].assigned == 3


def test_a_window_ends_before_its_last_minute(store: Store) -> None:
    for minute in range(M, M + 5):
        append(store, "a", minute, batch(CONTROL, minute, seen([0.5])), M)
    found = traffic.total(store, [CONTROL.id], M + 1, M + 4, parts=["counts", "latency"])
    assert found[CONTROL.id].assigned == found[CONTROL.id].latency.count == 3


def test_rows_over_time_add_up_to_the_total(store: Store) -> None:
    for number, minute in enumerate((M, M, M + 1, M + 70)):
        append(store, "a", number, batch(CONTROL, minute, seen([0.1 * number])), M)
    rows = list(traffic.series(store, [CONTROL.id], M, M + 100))
    assert rows == sorted(rows, key=lambda row: row[:3])
    whole = Traffic()
    for *_, part in rows:
        whole.merge(part)
    assert whole == traffic.total(store, [CONTROL.id], M, M + 100)[CONTROL.id]
    assert {(minute, span) for _, minute, span, part in rows if part.assigned} == {
        (M, 1),
        (M + 1, 1),
        (M + 70, 1),
    }


def test_nothing_is_found_of_a_stream_that_never_answered(store: Store) -> None:
    assert traffic.total(store, [CONTROL.id], M, M + 1) == {CONTROL.id: Traffic()}
    assert traffic.total(store, [], M, M + 1) == {}


def test_streams_are_found_by_model_and_by_experiment(store: Store) -> None:
    append(store, "a", 1, batch(CONTROL, M, seen([])), M)
    append(store, "a", 2, batch(TREATMENT, M, seen([])), M)
    append(store, "a", 3, batch(CONTROL, M, seen([])), M)
    assert streams(store, experiment="x") == [CONTROL, TREATMENT]
    assert streams(store, model="other") == []


def test_the_name_of_a_stream_is_who_answers() -> None:
    assert CONTROL.id == Stream("m", "v1", "control", "x", 1, 2).id
    assert CONTROL.id != TREATMENT.id
    assert 0 <= CONTROL.id < 2**63


def test_loads_and_counters_add_up(store: Store) -> None:
    for number in (1, 2):
        one = Batch(
            {CONTROL.id: CONTROL},
            loads={(CONTROL.id, 7): Load(3, 1), (CONTROL.id, 9): Load(1, 0)},
            counts=Counter({(M, "dropped"): 2, (M + 5, "late"): 1}),
        )
        append(store, "a", number, one, M)
    assert loads.loads(store, [CONTROL.id]) == {CONTROL.id: {7: Load(6, 2), 9: Load(2, 0)}}
    assert counters.counters(store, M, M + 5) == Counter(dropped=4)
    assert counters.counters(store, M, M + 6) == Counter(dropped=4, late=2)
