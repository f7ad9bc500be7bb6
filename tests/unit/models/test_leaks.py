"""What makes held-out answers too easy is found and told, and honest practice is not taken for it."""

from dataclasses import replace

import numpy as np
import pytest

from kt.models import data as room
from kt.models.data import Data
from kt.models.leaks import find
from kt.models.split import UNASSIGNED, split


def practice(students: int = 60, answers: int = 40, *, items: int = 12, seed: int = 0) -> Data:
    """Students of different abilities who practise an item several times in a row, as people do."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(size=(students, 1))
    asked = np.repeat(rng.integers(items, size=(students, answers // 4)), 4, axis=1)
    difficulty = np.linspace(-2, 2, items)
    right = rng.random(asked.shape) < 1 / (1 + np.exp(difficulty[asked] - ability))
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(students)),
        offsets=np.arange(students + 1, dtype=np.int64) * answers,
        items=asked.ravel(),
        responses=right.ravel().astype(np.int64),
        folds=np.full(students, UNASSIGNED),
        names=tuple(map(str, range(items))),
    )


def copied(data: Data, share: float, *, shift: int, seed: int = 1) -> Data:
    """Some rows written down twice, with the same response; the copy's item is `shift` further."""
    rng = np.random.default_rng(seed)
    times = 1 + (rng.random(data.events) < share)
    kept = np.repeat(np.arange(data.events), times)
    is_copy = np.concatenate([[False], kept[1:] == kept[:-1]])
    items = (data.items[kept] + shift * is_copy) % len(data.names)
    ends = np.concatenate([[0], times.cumsum()])[data.offsets]
    return replace(data, offsets=ends, items=items, responses=data.responses[kept])


def test_practice_is_no_leak() -> None:
    assert find(practice(), practice(seed=1)) == []


def test_items_so_easy_that_all_answers_agree_are_no_copies() -> None:
    easy = replace(practice(), responses=np.ones(60 * 40, np.int64))
    assert find(None, easy) == []
    rng = np.random.default_rng(0)
    nearly = replace(easy, responses=(rng.random(60 * 40) < 0.99).astype(np.int64))
    assert find(None, nearly) == []


@pytest.mark.parametrize("shift", [0, 5], ids=["same item", "item of another skill"])
def test_rows_that_were_copied(shift: int) -> None:
    """assist2009: a problem of two skills stands twice, under one item or under two."""
    honest = practice(600)
    if shift == 0:  # where items are practised again and again, copies of one are not to be told
        honest = replace(honest, items=(np.arange(honest.events) * 7) % 12)
    (leak,) = find(None, copied(honest, 0.2, shift=shift))
    assert leak.kind == "copies"
    assert 0.1 < leak.count / leak.of < 0.2
    assert "of answers agree with the one before them as copies do (item " in leak.says
    assert "keep one row of each answer" in leak.says


def test_repeats_of_rare_items_are_looked_at_together() -> None:
    many = practice(600, items=5000)
    single = replace(many, items=np.random.default_rng(2).integers(5000, size=many.events))
    (leak,) = find(None, copied(single, 0.2, shift=0))
    assert leak.kind == "copies"
    assert "17.1% of answers agree with the one before them as copies do: " in leak.says


def test_a_student_in_both_parts() -> None:
    train, held_out = practice(), practice(seed=1)
    both = replace(held_out, students=("s0-7", *held_out.students[1:]))
    (leak,) = find(train, both)
    assert (leak.kind, leak.count, leak.of) == ("students", 1, 60)
    assert "1 of 60 held-out students are among those trained on (s0-7, ...)" in leak.says


def test_a_history_in_both_parts_under_two_names() -> None:
    train, held_out = practice(), practice(seed=1)
    some = train.take(np.arange(5))
    doubled = replace(
        held_out,
        students=(*held_out.students, *(f"copy of {name}" for name in some.students)),
        offsets=np.arange(66, dtype=np.int64) * 40,
        items=np.concatenate([held_out.items, some.items]),
        responses=np.concatenate([held_out.responses, some.responses]),
        folds=np.full(65, UNASSIGNED),
    )
    (leak,) = find(train, doubled)
    assert (leak.kind, leak.count, leak.of) == ("twins", 5, 65)
    assert "5 of 65 held-out histories of students (copy of s0-0, ...)" in leak.says
    other_order = replace(
        doubled, names=train.names[::-1], items=len(train.names) - 1 - doubled.items
    )
    assert find(train, other_order) == [leak], "items are compared by name"


def test_short_histories_are_alike_by_chance() -> None:
    assert find(practice(answers=4), practice(answers=4, seed=1)) == []


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("assist2009_updated", 0.16),
        ("assist2009_pid", 0.16),
        ("assist2015", 0),
        ("synthetic5", 0),
        ("medical_graded", 0),
    ],
)
def test_published_data(name: str, share: float, shared) -> None:
    parts = split(room.read(shared / "data" / name))
    found = find(parts.train, parts.test or parts.valid)
    assert [leak.kind for leak in found] == (["copies"] if share else [])
    for leak in found:
        assert leak.count / leak.of == pytest.approx(share, abs=0.005)
