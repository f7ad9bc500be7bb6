"""What the demo stands on: where it may begin, and what it makes of a command that ends otherwise."""

from pathlib import Path

import pytest

from kt.cli.pupils import FIRST, Pupils, summary
from kt.cli.stage import Stage
from kt.errors import Refused, Unavailable


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Refused, match="not empty"):
        Stage(tmp_path)


def test_a_command_that_ends_otherwise_than_it_should_ends_the_demo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(tmp_path / "new")
    with pytest.raises(Unavailable, match="kt status ended with 2"):
        stage.kt("status")
    assert "$ kt status" in capfd.readouterr().out


def test_learners_begin_with_some_answers(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text("student_id,item,response\ns1,3,1\ns1,4,0\ns2,3,2\n")
    pupils = Pupils(path, "http://127.0.0.1:1")
    assert pupils.answers == {"s1": [("3", 1), ("4", 0)], "s2": [("3", 2)]}
    assert pupils.known == {"s1": FIRST, "s2": FIRST}


def test_a_learner_who_changes_versions_ends_the_demo() -> None:
    assert summary(24, {"s1": {"v1"}, "s2": {"v2"}, "s3": {"v1"}}) == (
        "24 answers predicted, and told: v1 2 learners (67 %) · v2 1 learners (33 %)"
    )
    with pytest.raises(Unavailable, match="one version: s2"):
        summary(24, {"s1": {"v1"}, "s2": {"v1", "v2"}})
