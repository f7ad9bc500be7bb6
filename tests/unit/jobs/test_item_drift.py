"""Items that drift are found by a process of the job's own, remembered, and asked for by a trigger."""

import csv
from datetime import UTC, datetime, timedelta

import forge
import pytest
from predictors import Made

from kt.deployments.plan import Candidate
from kt.jobs import book, drifted, items, past, runs, trainer, written
from kt.jobs.asked import Asked
from kt.jobs.drifted import Look
from kt.jobs.facts import Drifted, Facts
from kt.jobs.runs import Finished, Learnt, Started
from kt.jobs.triggers import item_drift
from kt.models import irt
from kt.models.simulate_irt import simulate
from kt.workspace import Workspace

NOW = datetime(2026, 1, 20, 9, tzinfo=UTC)
AT = "2026-01-20T09:00:00Z"
HOUR = timedelta(hours=1)


def due(found, **settings):
    return item_drift.due(Facts(now=NOW, drifted=found), item_drift.Settings(**settings))


def test_so_many_items_and_such_a_share_of_those_that_can_be_judged():
    found = Drifted(40, {"7": 0.001, "12": 0.02, "3": 0.05, "9": 0.11})
    assert due(found) == "3 of 40 items have drifted: 7, 12, 3"
    assert due(found, level=0.2).startswith("4 of 40 items")
    assert not due(found, items=4)
    assert not due(found, share=0.1)
    assert not due(Drifted())
    facts = Facts(now=NOW, drifted=found, answered="v4")
    assert not item_drift.due(facts, item_drift.Settings())


def test_another_look_is_due_for_another_version_or_for_more_samples_after_a_day():
    look = Look(AT, "v1", 500)
    assert drifted.NEVER.is_due("v1", 500, NOW, 24)
    assert look.is_due("v2", 500, NOW, 24)
    assert not look.is_due("v1", 500, NOW + 99 * HOUR, 24)
    assert not look.is_due("v1", 600, NOW + 23 * HOUR, 24)
    assert look.is_due("v1", 600, NOW + 24 * HOUR, 24)
    assert look.is_due("v1", 600, NOW - HOUR, 24)  # a clock that was set back


def test_what_was_remembered_and_cannot_be_read_is_looked_for_again(place):
    look = Look(AT, "v1", 500, 40, {"7": 0.001})
    place.local.mkdir()
    drifted.remember(place, "nightly", look)
    assert drifted.last(place, "nightly") == look
    for text in ("", "[]", '{"at": "yesterday", "version": "v1", "samples": 1}'):
        drifted.path(place, "nightly").write_text(text)
        assert drifted.last(place, "nightly") == drifted.NEVER


def events(number, version="", parent="", samples=500):
    begin = {"seq": number, "at": AT, "by": "ana", "job": "nightly", "prev": "0" * 64}
    begin |= {"prev": ""} if number == 1 else {}
    data = Learnt(source="files", sha256="a" * 64, counts=[samples], until=AT)
    reasons = {"samples": "many"}
    end = begin | {"seq": number + 1, "prev": "0" * 64}
    outcome = "deployed" if version else "kept"
    return [
        Started(**begin, model="tutor", reasons=reasons, data=data, seed=0, parent=parent),
        Finished(**end, run=number, outcome=outcome, version=version),
    ]


def test_what_a_version_has_learnt_from_is_as_its_run_says_or_the_first_that_compared_with_it():
    job = runs.fold([*events(1, "v2", samples=400), *events(3, parent="v2")]).job("nightly")
    assert drifted.learnt(job, "v2").counts == [400]
    job = runs.fold([*events(1, parent="v1", samples=400), *events(3, parent="v1")]).job("nightly")
    assert drifted.learnt(job, "v1").counts == [400]
    assert drifted.learnt(job, "v9") is None


def test_a_file_is_cut_in_two_where_the_version_stopped_learning(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"head\n1\n2\n3\n")
    for count, first, second in ((2, b"head\n1\n2\n", b"head\n3\n"), (9, path.read_bytes(), b"")):
        before, after = tmp_path / f"before {count}", tmp_path / f"after {count}"
        assert trainer.in_two(path, count, before, after) == min(count, 3)
        assert before.read_bytes() == first
        assert (after.read_bytes() if after.exists() else b"") == second


def test_a_file_that_tells_time_is_cut_in_two_by_it(tmp_path):
    path = tmp_path / "a.csv"
    at = int(NOW.timestamp())
    path.write_text(f"time,item\n{at},1\n{at + 1},2\n{at - 5},3\n")
    past.in_two(path, NOW, tmp_path / "before", tmp_path / "after")
    assert (tmp_path / "before").read_text().split() == ["time,item", f"{at},1", f"{at - 5},3"]
    assert (tmp_path / "after").read_text().split() == ["time,item", f"{at + 1},2"]
    past.in_two(path, NOW + HOUR, tmp_path / "all", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def answered(tmp_path):
    """A version that is active, the answers that it has learnt from, and as many since, in which an item drifts."""
    made = forge.workspace(tmp_path / "w")
    (made.root / "kt.toml").write_text(
        'git = "off"\n[jobs.nightly]\nmodel = "tutor"\nfamily = "irt"\n'
        'data = [{name = "files", paths = ["answers.csv"]}]\n'
        'trigger = [{name = "item_drift", items = 1, share = 0.0}]\n'
    )
    place = Workspace(made.root)
    version = Made(place.root, {}).add_tutor("v1", irt)
    forge.give(place, Candidate("tutor", "v1", version.sha256))
    periods = simulate(students=150, items=8, seed=36)
    columns = ("student_id", "item", "response")
    with (place.root / "answers.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(columns)
        for period in (periods.before, periods.after):
            out.writerows(zip(*(period[name].tolist() for name in columns), strict=True))
    samples = len(periods.before["item"])
    for event in events(1, "v1", samples=samples):
        book.write(
            place,
            lambda journal, _, event=event: [event.model_copy(update=written.numbered(journal))],
        )
    return place, max(periods.truth["items"].items(), key=lambda one: abs(one[1]["drift"]))[0]


def test_a_drift_makes_the_job_due_once_a_run_has_looked_for_it(kt, answered):
    place, item = answered
    assert kt("retrain", "--check", at=place).code == 0
    job = place.settings.jobs["nightly"]
    asked = Asked(place, "nightly", job, "ana", lambda: NOW)
    said = []
    items.look(asked, lambda *step: said.append(step))
    assert said == [("drift", "of items, since tutor@v1 was trained")]
    found = drifted.last(place, "nightly")
    assert (found.judged, found.why) == (8, "")
    checked = kt("retrain", "--check", "--json", at=place).result["jobs"][0]
    why = checked["reasons"]["item_drift"]
    assert why.partition(" ")[2].startswith(f"of 8 items have drifted: {item}")
    items.look(asked, lambda *step: said.append(step))
    assert len(said) == 1  # nothing new since
