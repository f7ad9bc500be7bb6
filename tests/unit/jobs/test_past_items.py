"""A backtest asks whether items drift as the job would have: found soon after they do, and not where none does."""

import csv
from datetime import UTC, datetime, timedelta

import forge
import pytest
from predictors import Made

from kt.config import Plugin
from kt.deployments import deploy
from kt.deployments.plan import Candidate, Stamp
from kt.jobs import backtest, book, written
from kt.jobs.asked import iso
from kt.jobs.facts import Drifted
from kt.jobs.past import Past
from kt.jobs.runs import Finished, Learnt, Started
from kt.models import irt
from kt.models.simulate_irt import DAYS, simulate
from kt.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("student_id", "item", "response", "time")
LEARNT = 50  # days of which the first version knows; DAYS is when an item drifts
PERIODS = simulate(students=400, items=8, seed=3)
(DRIFTED,) = [item for item, truth in PERIODS.truth["items"].items() if truth["drift"]]


def day(number):
    return START + timedelta(days=number)


def answers(path, *, without=""):
    """Of both periods. without: an item."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for period in (PERIODS.before, PERIODS.after):
            columns = (period[name].tolist() for name in COLUMNS)
            for who, item, right, at in zip(*columns, strict=True):
                if str(item) != without:
                    out.writerow((who, item, right, day(at).isoformat()))


@pytest.fixture
def place(tmp_path):
    made = forge.workspace(tmp_path / "w")
    (made.root / "kt.toml").write_text(
        'git = "off"\n[compute]\nn_jobs = 1\n[jobs.nightly]\nmodel = "tutor"\nfamily = "marginal"\n'
        'data = [{name = "files", paths = ["answers.csv"]}]\n'
        'trigger = [{name = "age", days = 999}, {name = "item_drift", items = 1, share = 0.0}]\n'
    )
    return Workspace(made.root)


def replayed(kt, place):
    ends = ("--from", iso(day(LEARNT)), "--to", iso(day(DAYS + 14)), "--every", "6d")
    done = kt("backtest", *ends, "--json", at=place)
    assert done.code == 0, done.err
    first, *more = done.result["retrainings"]
    assert len(done.result["looks"]) == 5
    assert first["reasons"] == {"age": "never trained"}
    return more


@pytest.mark.slow
def test_a_drift_is_found_soon_after_it_and_not_before(kt, place, one_thread):
    answers(place.root / "answers.csv")
    more = replayed(kt, place)
    why = more[0]["reasons"]["item_drift"]
    assert why == f"1 of 8 items have drifted: {DRIFTED}"
    assert iso(day(DAYS)) < more[0]["at"] < iso(day(DAYS + 14))
    assert more[0]["comparison"]


@pytest.mark.slow
def test_where_only_the_population_moves_nothing_is_found(kt, place, one_thread):
    answers(place.root / "answers.csv", without=DRIFTED)
    more = replayed(kt, place)
    assert more == []


def watched(place, version=""):
    trigger = [Plugin(name="item_drift")]
    job = place.settings.jobs["nightly"].model_copy(update={"trigger": trigger})
    asked = backtest.Asked(place, "nightly", job, day(LEARNT), day(90), timedelta(days=1))
    began = backtest.loaded(asked, backtest.active(asked)) if version else None
    return backtest.watched(asked, Past(()), began, version, lambda *_: None)


def test_what_the_first_version_has_learnt_from_is_as_the_jobs_runs_tell(place):
    assert watched(place).at(day(LEARNT)) == Drifted()
    version = Made(place.root, {}).add_tutor("v1", irt)
    candidate, stamp = Candidate("tutor", "v1", version.sha256), Stamp("ana", iso(day(0)))
    deploy.deploy(place, candidate, stamp, traffic=None, experiment="", dry_run=False)
    items = watched(place, "v1")
    assert (items.until, items.at(day(LEARNT))) == (None, Drifted())
    items.compared(day(40))
    items.compared(day(45))
    assert items.until == day(40), "the first that was compared with it"
    at = {"at": iso(day(30)), "by": "ana", "job": "nightly", "seq": 1, "prev": ""}
    data = Learnt(source="files", sha256="a" * 64, counts=[1], until=iso(day(29)))
    begun = Started(**at, model="tutor", reasons={"force": ""}, data=data, seed=0)
    for event in (begun, Finished(**at, run=1, outcome="deployed", version="v1")):
        book.write(
            place,
            lambda journal, _, event=event: [event.model_copy(update=written.numbered(journal))],
        )
    assert watched(place, "v1").until == day(29)
