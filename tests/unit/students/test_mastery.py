"""Mastery by hand, and the file that says which items a skill has."""

import numpy as np
import pytest

from kt.errors import Invalid
from kt.students import mastery, skills
from kt.students.mastery import Standing

VOCABULARY = ("a", "b", "c", "d")
FOUND = {"one": {"a", "b", "x"}, "none": {"x"}, "two": {"b", "d"}}
NOW = 1_768_000_000


@pytest.fixture
def measure():
    return mastery.measure(mastery.skills(FOUND, VOCABULARY), ("x", "b", "d", "c", "a"))


def test_items_that_the_version_knows_stand_for_a_skill_and_all_of_them_count_as_practice(measure):
    one, two = measure.skills
    assert (one.name, one.asked, two.asked) == ("one", ("a", "b"), ("b", "d"))
    assert one.items == {"a", "b", "x"}
    assert list(measure.items) == ["a", "b", "d"]


def test_the_digest_is_of_the_items_that_are_asked_and_of_nothing_else():
    def digest(items, vocabulary=VOCABULARY):
        (skill,) = mastery.skills({"s": items}, vocabulary)
        return skill.digest

    assert digest({"a", "b"}) == digest({"b", "a", "unknown"}) != digest({"a", "b", "c"})
    assert digest({"a", "b"}) != digest({"a", "b"}, ("ab", "a"))
    assert len(digest({"a"})) == 16


def test_mastery_is_the_mean_over_the_items_that_stand_for_a_skill(measure):
    earned = np.array([[0.2, 0.4, 0.9], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    offsets = np.array([0, 4, 5, 5])
    items = np.array([1, 0, 3, 1, 2])  # b x c b | d |
    times = np.array([NOW, NOW + 1.5, NOW + 9, np.nan, 7.0])
    told = list(measure.standings(earned, offsets, items, times))
    assert told[0] == [
        Standing(pytest.approx(0.3), 3, NOW + 1),
        Standing(pytest.approx(0.65), 2, NOW),
    ]
    # seven seconds after 1970 is no time at which anybody answered
    assert told[1] == [
        Standing(pytest.approx(0.5), 0, None),
        Standing(pytest.approx(0.25), 1, None),
    ]
    assert told[2] == [Standing(0.0, 0, None), Standing(0.0, 0, None)]
    untimed = list(measure.standings(earned, offsets, items, None))
    assert [one.answers for one in untimed[0]] == [3, 2]
    assert untimed[0][0].last is None


def write(tmp_path, content):
    path = tmp_path / "skills.csv"
    path.write_bytes(content)
    return path


def test_a_row_for_each_skill_of_an_item_said_twice_is_said_once(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfskill,item,more\nX10,1,\nX9,1,\nX9,2,\nX9, 2 ,\n")
    assert skills.read(path) == {"X9": {"1", "2"}, "X10": {"1"}}
    assert list(skills.read(path)) == ["X9", "X10"]
    digest = skills.digest(path)
    path.write_bytes(b"item,skill\n1,X9\n")
    assert digest != skills.digest(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", ":1: nothing is in it"),
        (b"item,topic\n1,a\n", ":1: the columns are item,topic"),
        (b"item,skill\n", "no item has a skill in it"),
        (b"item,skill\n1,a\n2\n", ":3: 1 columns, the header has 2"),
        (b"item,skill\n1, \n", ":2: an item and a skill need a name"),
        (b"item,skill\n1,caf\xe9\n", ":2: is not UTF-8"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_place(tmp_path, content, what):
    with pytest.raises(Invalid, match=r"skills\.csv") as found:
        skills.read(write(tmp_path, content))
    assert what in str(found.value)
    assert found.value.do


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        for read in (skills.read, skills.digest):
            with pytest.raises(Invalid, match="there is no such file"):
                read(path)
