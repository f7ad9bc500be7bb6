import gzip
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from kt.errors import Invalid, Unavailable
from kt.jobs.sources import files, function, query


def settings(*paths):
    return files.Settings(paths=list(paths))


def test_a_sample_is_a_line(place):
    (place.root / "a.csv").write_text("student_id,item,response\ns,1,1\ns,2,0\n")
    (place.root / "answers").mkdir()
    (place.root / "answers" / "b.csv.gz").write_bytes(gzip.compress(b"head\n1\n2\n3"))
    (place.root / "answers" / "notes.txt").write_text("not data\n" * 9)
    found = settings("a.csv", "answers")
    assert files.count(place, found) == 5
    assert files.new(place, found, 4, None) == 1
    assert files.new(place, found, 9, None) == 0  # a file was made shorter
    assert [path.name for path in files.collect(place, found, place.root)] == ["a.csv", "b.csv.gz"]


def test_a_sample_of_documents_is_a_vector(place):
    np.savez(place.root / "v.npz", vectors=np.zeros((7, 3)), offsets=np.array([0, 7]))
    assert files.count(place, settings("v.npz")) == 7


@pytest.mark.parametrize("data", [b"", b"PK\3\4 nothing"])
def test_what_is_no_archive_is_told(place, data):
    (place.root / "v.npz").write_bytes(data)
    with pytest.raises(Invalid, match="cannot be read"):
        files.count(place, settings("v.npz"))


def test_no_data_is_an_error(place):
    (place.root / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(Invalid, match="no data"):
            files.collect(place, settings(name), place.root)


@pytest.fixture
def answered(place):
    """A database of two answers beside the workspace's own files."""
    with closing(sqlite3.connect(place.root / "answers.db")) as database:
        database.execute("CREATE TABLE answers (student_id, item, response, at)")
        database.executemany(
            "INSERT INTO answers VALUES (?, ?, ?, ?)", [("ana", "7", 1, 2), ("bo, jr", "7", 0, 1)]
        )
        database.commit()
    return place


SQL = "SELECT student_id, item, response FROM answers ORDER BY at;"


def test_a_sample_is_a_row_of_a_query(answered, tmp_path):
    asked = query.Settings(url="sqlite:///answers.db", sql=SQL)
    assert query.count(answered, asked) == 2
    assert query.new(answered, asked, 1, None) == 1
    (path,) = query.collect(answered, asked, tmp_path)
    assert path.read_text().splitlines() == ["student_id,item,response", '"bo, jr",7,0', "ana,7,1"]


def test_the_url_may_be_a_secret(answered, monkeypatch):
    monkeypatch.setenv("ANSWERS", "sqlite:///answers.db")
    assert query.count(answered, query.Settings(url="env:ANSWERS", sql=SQL)) == 2


@pytest.mark.parametrize(
    ("url", "sql", "kind", "said"),
    [
        ("sqlite:///nowhere.db", SQL, Unavailable, "there is no database"),
        ("sqlite:///answers.db", "SELECT * FROM missing", Unavailable, "no such table"),
        ("not a url", SQL, Invalid, "is no URL"),
        ("env:NOT_SET", SQL, Invalid, "NOT_SET is not set"),
    ],
)
def test_a_query_that_cannot_be_asked_says_why(answered, url, sql, kind, said):
    with pytest.raises(kind, match=said):
        query.count(answered, query.Settings(url=url, sql=sql))
    assert not (answered.root / "nowhere.db").exists()


OWN = """
import csv, pathlib

def fetched():
    yield {"student_id": "ana", "item": "7", "response": 1}
    yield {"item": "8", "response": 0, "student_id": "bo, jr"}

def nothing():
    return []

def lists():
    return [["ana", "7", 1]]

def uneven():
    return [{"item": 1}, {"response": 0}]

def beside():
    yield from csv.DictReader(pathlib.Path("answers.csv").read_text().splitlines())

def broken():
    yield {"item": 1}
    raise OSError("no route to the school")
"""


@pytest.fixture
def own(place, monkeypatch):
    (place.root / "own_answers.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(place.root))
    yield place
    sys.modules.pop("own_answers", None)


def test_a_sample_is_what_a_function_gives(own, tmp_path):
    asked = function.Settings(call="own_answers.fetched")
    assert function.count(own, asked) == 2
    assert function.new(own, asked, 1, None) == 1
    (path,) = function.collect(own, asked, tmp_path)
    assert path.read_text().splitlines() == ["student_id,item,response", "ana,7,1", '"bo, jr",8,0']


def test_a_function_is_called_in_the_workspace_wherever_kt_was(own, tmp_path, monkeypatch):
    (own.root / "answers.csv").write_text("item,response\n7,1\n")
    monkeypatch.chdir(tmp_path)
    assert function.count(own, function.Settings(call="own_answers.beside")) == 1
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("own_answers.nothing", Invalid, "gives no rows"),
        ("own_answers.lists", Invalid, "gives list, no mapping"),
        ("own_answers.uneven", Invalid, "gives rows of response and of item"),
        ("own_answers.broken", Unavailable, "failed: OSError: no route to the school"),
        ("own_answers.absent", Invalid, "has no function absent"),
        ("not_there.at_all", Invalid, "cannot be imported"),
    ],
)
def test_a_function_that_gives_no_samples_says_why(own, tmp_path, name, kind, said):
    with pytest.raises(kind, match=said):
        function.collect(own, function.Settings(call=name), tmp_path)


@pytest.mark.parametrize("name", ["answers", "answers.", "a b.c", "os;x.y"])
def test_a_function_is_named_with_its_module(name):
    with pytest.raises(ValidationError):
        function.Settings(call=name)
