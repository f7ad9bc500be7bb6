"""Every file format by its content, and what is wrong with a file by its line."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from kt.errors import Invalid
from kt.models import data as room
from kt.models.data import Data
from kt.models.split import TEST, only_test, without_test
from kt.models.tracing import UNKNOWN, Signature

SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def told(data: Data):
    """{student: [(item, response), ...]}"""
    return {
        student: [
            (data.names[data.items[e]], int(data.responses[e]))
            for e in range(data.offsets[n], data.offsets[n + 1])
        ]
        for n, student in enumerate(data.students)
    }


LONG = "student_id,item,response\na,x,1\nb,y,0\na,y,2\n"


def test_kt_s_own_form(tmp_path):
    data = room.read(write(tmp_path, "answers.csv", LONG))
    assert told(data) == {"a": [("x", 1), ("y", 2)], "b": [("y", 0)]}
    assert data.categories == 3


def test_its_synonyms_and_gzip(tmp_path):
    text = "learner,item,correct,other\n1,7,0,zz\n1,8,1.0,zz\n"
    assert told(room.read(write(tmp_path, "a.csv.gz", text))) == {"1": [("7", 0), ("8", 1)]}


@pytest.mark.parametrize(
    "times", [("3", "1", "2"), ("2026-01-03", "2026-01-01T09:00:00Z", "2026-01-02")]
)
def test_time_orders_a_student_s_answers(tmp_path, times):
    rows = "".join(f"a,{item},1,{time}\n" for item, time in zip("xyz", times, strict=True))
    data = room.read(write(tmp_path, "a.csv", "student_id,item,response,time\n" + rows))
    assert [item for item, _ in told(data)["a"]] == ["y", "z", "x"]


def test_pykt(tmp_path):
    text = 'fold,uid,concepts,responses\n2,7,"19,4,-1","0,1,-1"\n-1,8,"4","1"\n2,7,"5","1"\n'
    data = room.read(write(tmp_path, "a.csv", text))
    assert told(data) == {"7": [("19", 0), ("4", 1), ("5", 1)], "8": [("4", 1)]}
    assert data.folds.tolist() == [2, TEST]
    assert data.names == ("4", "5", "19")


def test_three_lines(tmp_path):
    data = room.read(write(tmp_path, "a.csv", "2\n1,2\n0,1\n1\n2,\n1,\n"))
    assert list(told(data).values()) == [[("1", 0), ("2", 1)], [("2", 1)]]


def test_four_lines_take_the_problem_for_the_item(tmp_path):
    data = room.read(write(tmp_path, "a.csv", "1,s9\n11,12\n3,3\n0,1\n"))
    assert told(data) == {"s9": [("11", 0), ("12", 1)]}


def test_a_field_may_be_longer_than_python_takes_by_itself(tmp_path):
    text = f"student_id,item,response,note\ns1,a,1,{'x' * 2_000}\n"
    usual = csv.field_size_limit(1_000)
    try:
        assert room.read(write(tmp_path, "a.csv", text)).names == ("a",)
    finally:
        csv.field_size_limit(usual)


def test_wide_takes_the_columns_that_are_named_alike(tmp_path):
    text = "learner,X1,X2,X10,gender\n1,4,,0,1\n2,NA,1,2,0\n"
    data = room.read(write(tmp_path, "a.csv", text))
    assert told(data) == {"1": [("X1", 4), ("X10", 0)], "2": [("X2", 1), ("X10", 2)]}


def test_wide_takes_all_columns_where_none_stand_out(tmp_path):
    data = room.read(write(tmp_path, "a.csv", "learner,algebra,reading\n1,1,0\n"))
    assert told(data) == {"1": [("algebra", 1), ("reading", 0)]}


def test_a_folder_is_its_files_and_test_files_are_for_testing(tmp_path):
    write(tmp_path, "train.csv", LONG)
    write(tmp_path, "test.csv", LONG.replace("a,", "c,").replace("b,", "d,"))
    write(tmp_path, "notes.txt", "no data")
    data = room.read(tmp_path)
    assert told(only_test(data)).keys() == {"c", "d"}
    assert told(without_test(data)).keys() == {"a", "b"}


def test_without_a_test_part_all_are_scored(tmp_path):
    data = room.read(write(tmp_path, "a.csv", LONG))
    assert only_test(data).students == data.students


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("student_id,item,response\na,x,1\na,x,yes\n", 3, "response is 'yes'"),
        ("student_id,item,response\na,x,-1\n", 2, "response is '-1'"),
        ("student_id,item,response\na,x\n", 2, "2 columns, the header has 3"),
        ("student_id,item,response\na,,1\n", 2, "need a name"),
        ("student_id,item,response,time\na,x,1,noon\n", 2, "time is 'noon'"),
        ("who,what\na,x\n", 1, "unknown form: the columns are who,what"),
        ('fold,uid,concepts,responses\n0,7,"1,2","1"\n', 2, "2 items and 1 responses"),
        ('fold,uid,concepts,responses\nx,7,"1","1"\n', 2, "fold is x"),
        ("2\n1,2\n0\n", 2, "2 items and 1 responses"),
        ("2\n1,2\n0,1\n5\n1,2\n0,1\n", 5, "2 items, 5 were announced"),
        ("2\n1,2\n0,1\n2\n1,2\n", 4, "2 of 3 lines"),
        ("learner,X1,X2\n1,2,low\n", 2, "response is 'low'"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, text, line, says):
    path = write(tmp_path, "a.csv", text)
    with pytest.raises(Invalid) as caught:
        room.read(path)
    assert caught.value.where == f"{path}:{line}"
    assert says in caught.value.what


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv.gz", b"\x1f\x8b\x08\x00damaged", "gzip"),
        ("a.csv", b"\xff\xfe\x00", "a.csv:1: is not UTF-8: byte 0xff"),
        ("a.csv", b"student_id,item,response\ns1,caf\xe9,1\n", "a.csv:2: is not UTF-8"),
        ("a.csv", b"", "no answers"),
        ("a.csv", b"student_id,item,response\n", "no answers"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid, match=says):
        room.read(tmp_path / name)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(Invalid, match="no such file"):
        room.read(tmp_path / "none.csv")
    with pytest.raises(Invalid, match=r"no \.csv"):
        room.read(tmp_path)


def test_an_item_the_vocabulary_lacks_is_unknown(tmp_path):
    data = room.read(write(tmp_path, "a.csv", LONG))
    signature = Signature(items=("y",), categories=3, window=5)
    assert data.rows(signature).tolist() == [UNKNOWN, 2, 2]


def test_a_response_the_model_lacks_is_refused_with_its_student(tmp_path):
    data = room.read(write(tmp_path, "a.csv", LONG))
    with pytest.raises(Invalid, match="a response is 2, the model knows 0 to 1") as caught:
        data.rows(Signature(items=("x",), categories=2, window=5))
    assert caught.value.where == "a.csv: student a"


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the shared data sets are not beside the repository"
)
@pytest.mark.parametrize(
    ("name", "students", "events", "items", "categories"),
    [
        ("assist2009_updated", 4151, 325_637, 110, 2),
        ("assist2009_pid", 4150, 325_589, 16_891, 2),
        ("medical_graded", 2392, 239_200, 100, 5),
        ("pisa2018_rt", 500, 6000, 12, 2),
        ("synthetic5", 4000, 200_000, 50, 2),
    ],
)
def test_published_sets_have_their_published_counts(name, students, events, items, categories):
    data = room.read(SHARED / name)
    found = (len(data.students), data.events, len(data.names), data.categories)
    assert found == (students, events, items, categories)


def test_skills_times_and_help_stand_beside_the_answers(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text(
        "student_id,item,skill,response,time,seconds,help\n"
        "s,i1,add,1,2,4.5,0\ns,i2,sub,0,1,,2\nt,i1,sub,1,1,9,1\nu,i1,sub,1,1,9,1\n"
    )
    second.write_text("student_id,item,response\ns,i3,1\nv,i3,1\n")
    found = room.read([first, second])
    assert found.names == ("i1", "i2", "i3")
    assert found.skills == ("sub", "sub", "")
    assert found.seconds.tolist() == pytest.approx([np.nan, 4.5, np.nan, 9, 9, np.nan], nan_ok=True)
    assert found.help.tolist() == pytest.approx([2, 0, np.nan, 1, 1, np.nan], nan_ok=True)
    assert found.take(np.array([1])).seconds.tolist() == [9]
    plain = room.read(second)
    assert plain.skills == ()
    assert plain.seconds is None
    assert plain.help is None


@pytest.mark.parametrize("wrong", ["-1", "soon", "inf"])
def test_a_time_that_is_none_is_named_with_its_line(tmp_path, wrong):
    path = tmp_path / "a.csv"
    path.write_text(f"student_id,item,response,seconds\ns,i,1,2\ns,i,1,{wrong}\n")
    with pytest.raises(Invalid, match="seconds is") as caught:
        room.read(path)
    assert str(path) + ":3" in str(caught.value)


def test_the_akt_files_name_skills(tmp_path):
    path = tmp_path / "fold.csv"
    path.write_text("1,7\n10,11,10\n3,4,3\n1,0,1\n")
    found = room.read(path)
    assert (found.names, found.skills) == (("10", "11"), ("3", "4"))
    path.write_text("1,7\n10,11\n3\n1,0\n")
    with pytest.raises(Invalid, match="2 problems and 1 skills"):
        room.read(path)
