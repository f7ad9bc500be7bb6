"""Distinct units: exact while they are few, an exact sample by hash when they are many."""

import hashlib

import pytest

from kt.store import units
from kt.store.batch import Stream
from kt.store.database import Store
from kt.store.streams import remember

CONTROL = Stream("m", "v1", "control", "x", 1, 2)
TREATMENT = Stream("m", "v2", "treatment", "x", 1, 2)
OTHER = Stream("m", "v2", "", "", 5, 5)


def hashes(start: int, end: int) -> set[bytes]:
    return {hashlib.sha256(str(number).encode()).digest()[:8] for number in range(start, end)}


def add(store: Store, stream: Stream, seen: set[bytes]) -> None:
    with store.write() as connection:
        remember(connection, [stream])
        units.add(connection, {stream.id: seen})


def test_a_unit_counts_once(store: Store) -> None:
    add(store, CONTROL, hashes(0, 100))
    add(store, CONTROL, hashes(50, 150))
    assert units.units(store, [CONTROL.id, TREATMENT.id]) == {
        CONTROL.id: (150, 0),
        TREATMENT.id: (0, 0),
    }


def test_a_full_phase_keeps_the_same_share_of_each_variant(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "FULL", 1000)
    add(store, OTHER, hashes(0, 900))
    for start in range(0, 5000, 500):
        add(store, CONTROL, hashes(start, start + 450))
        add(store, TREATMENT, hashes(start + 450, start + 500))
    found = units.units(store, [CONTROL.id, TREATMENT.id])
    level = found[CONTROL.id].level
    assert level >= 3
    assert {one.level for one in found.values()} == {level}
    for stream, seen in (
        (CONTROL, set().union(*(hashes(n, n + 450) for n in range(0, 5000, 500)))),
        (TREATMENT, set().union(*(hashes(n + 450, n + 500) for n in range(0, 5000, 500)))),
    ):
        assert found[stream.id].kept == sum(units.number_of(one) < 2**63 >> level for one in seen)
    assert units.units(store, [OTHER.id]) == {OTHER.id: (900, 0)}


def test_a_variant_that_comes_late_is_thinned_like_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "FULL", 100)
    add(store, CONTROL, hashes(0, 1000))
    add(store, TREATMENT, hashes(1000, 1010))
    found = units.units(store, [CONTROL.id, TREATMENT.id])
    bound = 2**63 >> found[CONTROL.id].level
    assert found[TREATMENT.id].kept == sum(
        units.number_of(one) < bound for one in hashes(1000, 1010)
    )
