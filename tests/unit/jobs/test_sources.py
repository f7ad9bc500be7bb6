import gzip

import numpy as np
import pytest

from kt.errors import Invalid
from kt.jobs.sources import files


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
