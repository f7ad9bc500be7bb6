"""Outcomes: sums by stream and minute of the prediction, which a correction changes as if it had been right at first."""

import pytest

from kt.stats.moments import Moments
from kt.store import buckets, labels
from kt.store.database import Store
from kt.store.labels import Labels

STREAM, M = 7, 29_000_000


def outcome(score: float, happened: bool) -> Labels:
    """What one outcome of a probability adds."""
    out = Labels(1, int((score >= 0.5) == happened), Moments(1, (score - happened) ** 2))
    (out.positives if happened else out.negatives).add(score)
    return out


def close(one: Labels, other: Labels) -> None:
    assert (one.n, one.right, one.error.n) == (other.n, other.right, other.error.n)
    assert one.error.mean == pytest.approx(other.error.mean)
    assert one.error.m2 == pytest.approx(other.error.m2)
    for ours, theirs in ((one.positives, other.positives), (one.negatives, other.negatives)):
        assert ours.counts == theirs.counts
        assert ours.sums == pytest.approx(theirs.sums)
        assert ours.squares == pytest.approx(theirs.squares)


def test_outcomes_add_up(store: Store) -> None:
    with store.write() as connection:
        labels.add(connection, {(STREAM, M): outcome(0.25, True)})
        labels.add(
            connection, {(STREAM, M): outcome(0.75, True), (STREAM, M + 1): outcome(0.5, False)}
        )
    whole = Labels()
    for part in (outcome(0.25, True), outcome(0.75, True), outcome(0.5, False)):
        whole.merge(part)
    close(labels.total(store, [STREAM], M, M + 2)[STREAM], whole)
    assert labels.total(store, [STREAM], M, M + 1, parts=["counts"])[STREAM].n == 2


def test_a_corrected_outcome_counts_as_if_it_had_been_right_at_first(store: Store) -> None:
    with store.write() as connection:  # in any order: what was wrong may be taken off first
        labels.add(connection, {(STREAM, M): outcome(0.25, True)}, sign=-1)
        labels.add(connection, {(STREAM, M): outcome(0.25, False)})
        labels.add(connection, {(STREAM, M): outcome(0.25, True)})
        labels.add(connection, {(STREAM, M): outcome(0.75, True)})
    whole = outcome(0.25, False)
    whole.merge(outcome(0.75, True))
    close(labels.total(store, [STREAM], M, M + 1)[STREAM], whole)
    rows = list(labels.series(store, [STREAM], M, M + 1))
    assert sum(part.n for *_, part in rows) == 2
    assert sum(part.positives.count + part.negatives.count for *_, part in rows) == 2


def test_buckets_merge_and_take_back(store: Store) -> None:
    values = {3: [1e9, 1e9 + 1, 1e9 + 5], 4: [0.5]}
    with store.write() as connection:
        for bucket, members in values.items():
            for value in members:
                buckets.add(connection, {(STREAM, "outcome", bucket, 7): Moments(1, value)})
        buckets.add(connection, {(STREAM, "outcome", 3, 7): Moments(1, 7.0)}, sign=-1)
        buckets.add(connection, {(STREAM, "outcome", 3, 7): Moments(1, 7.0)})
    found = buckets.buckets(store, [STREAM, 8], "outcome")
    assert found[8] == {}
    assert found[STREAM][4] == Moments(1, 0.5)
    assert found[STREAM][3].n == 3
    assert found[STREAM][3].mean == pytest.approx(1e9 + 2)
    assert buckets.buckets(store, [STREAM], "right") == {STREAM: {}}
    assert buckets.buckets(store, [STREAM], "outcome", before=7) == {STREAM: {}}
    assert buckets.buckets(store, [STREAM], "outcome", before=8)[STREAM][3].n == 3


def test_moments_far_from_zero_keep_their_digits(store: Store) -> None:
    with store.write() as connection:
        for value in (1e9, 1e9 + 1, 1e9 + 5):
            buckets.add(connection, {(STREAM, "outcome", 3, 7): Moments(1, value)})
    assert buckets.buckets(store, [STREAM], "outcome")[STREAM][3].m2 == pytest.approx(14.0)


def test_errors_far_from_zero_keep_their_digits_over_many_rows(store: Store) -> None:
    with store.write() as connection:
        for minute, value in enumerate((1e9, 1e9 + 1, 1e9 + 5, 7.0)):
            labels.add(connection, {(STREAM, M + minute): Labels(1, 0, Moments(1, value))})
        labels.add(connection, {(STREAM, M + 3): Labels(1, 0, Moments(1, 7.0))}, sign=-1)
        labels.add(connection, {(8, M): Labels(1, 1)})
    found = labels.total(store, [STREAM, 8, 9], M, M + 3)
    assert found[STREAM].error.mean == pytest.approx(1e9 + 2)
    assert found[STREAM].error.m2 == pytest.approx(14.0)
    assert (found[8], found[9]) == (Labels(1, 1), Labels())
