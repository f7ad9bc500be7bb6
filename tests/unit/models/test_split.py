"""Who is in one part of the data is in no other."""

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models.data import Data
from kt.models.split import TEST, UNASSIGNED, split


def many(count):
    return Data(
        students=tuple(f"s{n}" for n in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64),
        items=np.zeros(count, np.int64),
        responses=np.zeros(count, np.int64),
        folds=np.full(count, UNASSIGNED),
        names=("x",),
    )


def test_a_student_stays_on_one_side_as_data_grows():
    few, more = split(many(300)), split(many(600))
    assert set(few.train.students) <= set(more.train.students)
    assert set(few.valid.students) <= set(more.valid.students)
    assert 15 <= len(few.valid.students) <= 45  # one in ten


def test_the_file_s_own_folds_are_honoured():
    data = many(4)
    data.folds[:] = [0, 1, 2, TEST]
    parts = split(data)
    assert (parts.valid.students, parts.train.students) == (("s0",), ("s1", "s2"))
    assert parts.test is not None
    assert parts.test.students == ("s3",)


def test_too_few_students_to_split_are_refused():
    with pytest.raises(Invalid, match="too few"):
        split(many(1))
