"""A version is trained again from its record: the same bits, or a clear word on what is other than it was."""

import csv
import json
import sqlite3
import sys
from contextlib import closing

import forge
import pytest
from conftest import spawn

from kt.errors import Invalid, Refused
from kt.jobs import reproduce
from kt.models import origin
from kt.models.warm import Start
from kt.registry import record, register

OWN = """
from kt.models import marginal
from kt.models.marginal import BLIND, FORM, METRIC, SIZES, TASK, Config, Model, signature

def fit(model, batches):
    marginal.fit(model, batches)
"""


def answers(path, count, students=40):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["student_id", "item", "response"])
        for number in range(count):
            student = number * students // count
            out.writerow([f"s{student}", number % 10, (number // 3 + student) % 2])


@pytest.fixture
def place(tmp_path):
    made = forge.workspace(tmp_path / "w")
    (made.root / "kt.toml").write_text('git = "off"\n')
    answers(made.root / "answers" / "a.csv", 400)
    return made


@pytest.fixture
def trained(kt, place, one_thread):
    """Makes v1 of the model m, of a family."""

    def train(family="marginal"):
        made = kt("train", family, "--data", "answers", "--out", "m.pt", "--quiet", at=place)
        assert made.code == 0, made.err
        assert kt("register", "m.pt", "--model", "m", at=place).code == 0

    return train


def test_a_version_comes_out_bit_for_bit_also_where_its_data_have_grown(
    kt, place, trained, monkeypatch
):
    trained()
    first = kt("reproduce", "m@v1", "--json", at=place)
    assert first.code == 0, first.err
    assert first.result == {
        "version": "m@v1", "same": True, "changed": [], "weights": [], "scores": {},
    }  # fmt: skip
    with (place.root / "answers" / "a.csv").open("a") as file:
        file.write("late,1,1\n")
    answers(place.root / "answers" / "b.csv", 50)
    monkeypatch.setattr(reproduce, "__version__", "9.9")
    grown = kt("reproduce", "m@v1", at=place)
    assert grown.code == 0
    assert "m@v1: the same weights, bit for bit, although changed: kt 9.9, was" in grown.out
    assert record.versions(place, "m") == ["v1"]


def test_data_that_are_gone_or_others_are_told_before_any_training(kt, place, trained):
    trained()
    path = place.root / "answers" / "a.csv"
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b"s3,", b"s5,"))
    changed = kt("reproduce", "m@v1", at=place)
    assert changed.code == 2
    assert "the data have changed: answers/a.csv" in changed.err
    assert "epoch" not in changed.err
    path.unlink()
    gone = kt("reproduce", "m@v1", at=place)
    assert gone.code == 2
    assert "the data are gone: there is no answers/a.csv" in gone.err
    assert "--data PATH" in gone.err
    moved = place.root / "archive"
    moved.mkdir()
    (moved / "a.csv").write_bytes(kept)
    assert kt("reproduce", "m@v1", "--data", "archive", at=place).code == 0


def test_other_code_is_named_with_how_far_weights_and_scores_are_apart(
    kt, place, trained, monkeypatch
):
    (place.root / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(place.root)
    trained("own")
    monkeypatch.delitem(sys.modules, "own")
    (place.root / "own.py").write_text(OWN + "    model.log_share.weight.data *= 2\n")
    done = kt("reproduce", "m@v1", "--json", at=place)
    assert done.code == 3, done.err
    assert done.result["same"] is False
    assert done.result["changed"] == ["the code of own"]
    assert all(one["difference"] > 0 for one in done.result["weights"])
    assert all(then != now for then, now in done.result["scores"].values())
    shown = kt("reproduce", "m@v1", at=place)
    assert shown.code == 3
    assert "m@v1: other weights" in shown.out
    assert "by up to" in shown.out
    assert shown.out.endswith("the code of own\n")


def test_weights_that_it_began_with_must_be_there_still(place, trained):
    trained()
    said = {"from": "m@v1", "from_sha256": ""}
    with pytest.raises(Invalid, match="began with the weights of m@v1, which are others now"):
        reproduce.started(place, said)
    found, _ = register.found(place, "m@v1")
    sha256 = Start("m@v1", found.module, found.signature).sha256
    assert reproduce.started(place, said | {"from_sha256": sha256}).name == "m@v1"


def test_a_version_that_does_not_say_what_it_came_from(kt, place):
    forge.version(place, "m", "v1")
    refused = kt("reproduce", "m@v1", at=place)
    assert refused.code == 2
    assert "does not say what it came from" in refused.err


def test_of_a_calibrated_one_the_version_it_came_from_is_named(place):
    forge.version(place, "m", "v1")
    known = record.read(place, "m", "v1")
    known = known.model_copy(update={"training": {"calibration": {"of": "m@v0"}}})
    with pytest.raises(Refused) as caught:
        reproduce.planned(place, known, (), place.root)
    assert caught.value.do == "kt reproduce m@v0"


@pytest.mark.slow
def test_what_a_job_learnt_from_a_query_comes_out_bit_for_bit(place):
    """The same job, on the same data and seed, in two processes."""
    with closing(sqlite3.connect(place.root / "answers.db")) as database:
        database.execute("CREATE TABLE answers (student_id, item, response)")
        rows = [(f"s{n // 10}", n % 10, (n // 3 + n // 10) % 2) for n in range(400)]
        database.executemany("INSERT INTO answers VALUES (?, ?, ?)", rows)
        database.commit()
    sql = "SELECT student_id, item, response FROM answers ORDER BY rowid"
    (place.root / "kt.toml").write_text(
        'git = "off"\n[jobs.nightly]\nmodel = "m"\nfamily = "sakt"\nsize = "small"\n'
        f"options = {{epochs = 1}}\n[[jobs.nightly.data]]\nname = 'query'\n"
        f"url = 'sqlite:///answers.db'\nsql = {json.dumps(sql)}\n"
    )
    made = spawn("retrain", at=place.root)
    assert made.code == 0, made.err
    came_from = origin.Origin.model_validate(record.read(place, "m", "v1").training["origin"])
    assert (came_from.job, came_from.holdout) == ("nightly", 0.2)
    assert [file.path for file in came_from.files] == ["data/0/query.csv"]
    with closing(sqlite3.connect(place.root / "answers.db")) as database:
        database.execute("INSERT INTO answers VALUES ('late', 1, 1)")
        database.commit()
    done = spawn("reproduce", "m@v1", at=place.root)
    assert done.code == 0, done.err
    assert done.out == "m@v1: the same weights, bit for bit\n"
