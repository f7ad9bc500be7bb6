"""How well students master skills: each one's rows are old or new as a whole, and a complete run leaves no others."""

from datetime import UTC, datetime, timedelta

import pytest

from kt.store import erasure, schema, secret, students
from kt.store.database import Store
from kt.store.pseudonym import Pseudonyms
from kt.store.rollup import roll_up
from kt.store.students import Row, Run

NOW = 1_768_000_000
ANA, BO = b"\1" + b"a" * 16, b"\1" + b"b" * 16


def run(at: int = NOW, version: str = "v1", name: str = "grades") -> Run:
    return Run(name, "m", version, "", at)


def rows(one: Run, unit: bytes, /, **mastery: float) -> list[Row]:
    return [
        Row(unit, skill, one.version, value, 3, 5, NOW - 60, one.at, "0" * 16)
        for skill, value in mastery.items()
    ]


def whole(store: Store, one: Run, *parts: list[Row]) -> Run:
    one = students.begin(store, one)
    for part in parts:
        students.put(store, one.name, [row._replace(at=one.at) for row in part])
    ended = Run(one.name, one.model, one.version, "", one.at, one.at + 5, len(parts))
    students.end(store, ended)
    return one


def known(store: Store, unit: bytes, name: str = "grades") -> dict[str, tuple[str, float]]:
    return {row.skill: (row.version, row.mastery) for row in students.student(store, name, [unit])}


def test_a_whole_run_tells_of_everybody_and_who_is_gone_is_gone(store: Store) -> None:
    assert students.last(store, "grades") is None
    first = whole(
        store, run(), rows(run(), ANA, one=0.2, two=0.9), rows(run(), BO, one=0.6, two=0.81)
    )
    found = students.last(store, "grades")
    assert found is not None
    assert (found.is_whole, found.students, found.ended) == (True, 2, NOW + 5)
    one, two = students.skills(store, "grades")
    assert (one.skill, one.students, one.low, one.high, one.at) == ("one", 2, 1, 0, first.at)
    assert one.mean == pytest.approx(0.4)
    assert (two.low, two.high) == (0, 2)
    whole(store, run(NOW + 60, "v2"), rows(run(version="v2"), ANA, two=0.5, three=0.7))
    assert known(store, ANA) == {"two": ("v2", 0.5), "three": ("v2", 0.7)}
    assert known(store, BO) == {}


def test_one_that_is_cut_off_leaves_of_each_student_the_old_rows_or_the_new_ones(
    store: Store,
) -> None:
    whole(store, run(), rows(run(), ANA, one=0.2, two=0.9), rows(run(), BO, one=0.6, two=0.8))
    later = students.begin(store, run(NOW + 60, "v2"))
    students.put(store, "grades", rows(later, ANA, two=0.5, three=0.7))
    assert known(store, ANA) == {"two": ("v2", 0.5), "three": ("v2", 0.7)}
    assert known(store, BO) == {"one": ("v1", 0.6), "two": ("v1", 0.8)}
    found = students.last(store, "grades")
    assert found is not None
    assert not found.is_whole
    assert (found.ended, found.students) == (NOW + 5, 2), "of the one before it"
    assert [(row.skill, row.version) for row in students.skills(store, "grades")] == [
        ("one", "v1"), ("three", "v2"), ("two", "v1"), ("two", "v2"),
    ]  # fmt: skip


def test_of_two_at_once_the_later_one_stands_whatever_comes_last(store: Store) -> None:
    first = students.begin(store, run())
    second = students.begin(store, run(NOW - 3_600, "v2"))  # by a clock that was set back
    assert second.at == first.at + 1
    students.put(store, "grades", rows(second, ANA, one=0.5))
    students.put(store, "grades", rows(first, ANA, one=0.2, two=0.2))
    students.put(store, "grades", rows(first, BO, one=0.3))
    students.end(store, Run(*("grades", "m", "v1", "", first.at, NOW + 9, 2)))
    assert known(store, ANA)["one"] == ("v2", 0.5)
    found = students.last(store, "grades")
    assert found is not None
    assert (found.version, found.is_whole) == ("v2", False)
    students.end(store, Run(*("grades", "m", "v2", "", second.at, NOW + 9, 1)))
    assert known(store, ANA) == {"one": ("v2", 0.5)}
    assert known(store, BO) == {}


def test_one_name_leaves_another_alone(store: Store) -> None:
    other = run(name="other")
    whole(store, other, rows(other, ANA, one=0.1))
    whole(store, run(NOW + 9), rows(run(), BO, one=0.6))
    assert known(store, ANA, "other") == {"one": ("v1", 0.1)}


def test_what_nobody_measures_any_more_goes_with_its_days(store: Store) -> None:
    kept = run(NOW + 86_400 * 5, name="kept")
    whole(store, run(), rows(run(), ANA, one=0.2))
    whole(store, kept, rows(kept, ANA, one=0.3))
    then = datetime.fromtimestamp(NOW, UTC) + timedelta(days=9, minutes=2)
    roll_up(store, then, log=timedelta(days=9))
    assert students.last(store, "grades") is None
    assert known(store, ANA) == {}
    assert known(store, ANA, "kept") == {"one": ("v1", 0.3)}


def test_a_student_is_found_and_erased_under_every_name(store: Store) -> None:
    key = secret.master(1, datetime.fromtimestamp(NOW, UTC), lambda size: b"k" * size)
    held = secret.Secret(keys=(key,))
    ana, bo = map(Pseudonyms(held).labelled, ("ana", "bo"))
    for name in ("grades", "other"):
        one = run(name=name)
        whole(store, one, rows(one, ana, one=0.2, two=0.3), rows(one, bo, one=0.4))
    table = schema.student_mastery.name
    assert erasure.find(store, held, "ana")[table] == 4
    assert erasure.erase(store, held, "ana")[table] == 4
    assert erasure.find(store, held, "ana")[table] == 0
    assert known(store, bo) == {"one": ("v1", 0.4)}
