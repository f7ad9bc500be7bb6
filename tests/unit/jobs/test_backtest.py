"""A job's past is replayed with what was known then: no look sees what came later."""

import csv
import gzip
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import forge
import numpy as np
import pytest

from kt.config import Plugin
from kt.deployments import audit, deploy
from kt.deployments.plan import Stamp
from kt.errors import Invalid
from kt.jobs import backtest, past
from kt.jobs.decide import Pace
from kt.jobs.facts import Facts
from kt.jobs.hindsight import Retraining
from kt.jobs.past import Past
from kt.jobs.replay import replay
from kt.jobs.triggers import age, alert, samples
from kt.monitors.live import live
from kt.store import connect, labels
from kt.store.batch import Batch
from kt.store.labels import Labels
from kt.store.traffic import append

START = datetime(2026, 1, 1, tzinfo=UTC)
CALIBRATION = Plugin(name="calibration")


def day(number):
    return START + timedelta(days=number)


def looks(count, triggers, begin=None, quality=lambda now: {}, per_day=30, days=30):
    """By day; so many samples come each day."""

    def came(since, now):
        return round(per_day * (now - (since or START)) / timedelta(days=1))

    times = past.times(START, day(days), timedelta(days=1))
    asks = [(module.__name__.rpartition(".")[2], module, module.Settings()) for module in triggers]
    found = replay(times, begin or Facts(START), came, quality, asks, Pace())
    return {(look.at - START).days: look.due.reasons for look in found if look.due.yes}


def test_samples_are_counted_from_the_retraining_before():
    assert list(looks(100, [samples])) == [4, 8, 12, 16, 20, 24, 28]


def test_age_counts_from_the_last_training_before_the_beginning():
    begin = Facts(START, last_success=day(-5), last_attempt=day(-5))
    assert list(looks(0, [age], begin)) == [2, 9, 16, 23, 30]


def test_nothing_is_due_while_nothing_comes():
    assert looks(0, [age, samples], per_day=0) == {}


def test_an_alert_is_one_only_while_it_was_open():
    def quality(now):
        return {"alerts": ("accuracy",) if day(3) <= now <= day(4) else ()}

    assert looks(0, [alert], quality=quality) == {
        3: {"alert": "critical alert: accuracy"},
        4: {"alert": "critical alert: accuracy"},
    }


def test_what_was_told_late_came_when_it_was_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("student_id,item,response,time,came\ns,1,1,2026-01-02,2026-01-09\n")
    assert past.read([path]).times == [day(8).timestamp()]


def test_what_had_come_by_then(tmp_path):
    path = tmp_path / "a.csv.gz"
    rows = 'student_id,item,response,time\ns,"a, b",1,2026-01-02T10:00:00\n\ns,2,0,1767484800\n'
    path.write_bytes(gzip.compress(rows.encode()))
    dated = tmp_path / "b-20260103.csv"
    dated.write_text("student_id,item,response\nt,1,1\nt,2,1\n")
    known = past.read([path, dated])
    assert known.count(day(1)) == 0
    assert known.count(day(2)) == 1
    assert known.count(day(3)) == 1 + 2 + 1  # at midnight the day and its file are over
    assert known.count(day(3), since=day(2)) == 3
    (cut,) = known.files(tmp_path / "two", day(2))
    assert cut.name == "a.csv"
    assert cut.read_text().splitlines()[1:] == ['s,"a, b",1,2026-01-02T10:00:00']
    later = known.files(tmp_path / "later", day(3), since=day(2))
    assert [file.read_text().count("\n") for file in later] == [2, 3]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "student_id,item,response\ns,1,1\n", "do not say when they came"),
        ("a-20261399.csv", "student_id,item,response\ns,1,1\n", "do not say when they came"),
        ("a.csv", "student_id,item,response,time\ns,1,1,soon\n", "a.csv:2: a time is 'soon'"),
        ("a.csv", "student_id,item,response,time\ns,1,1,nan\n", "a time is 'nan'"),
        ("a.csv", "student_id,item,response,time\ns,1,1\n", "a time is ''"),
    ],
)
def test_data_that_do_not_tell_time(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(Invalid, match=said):
        past.read([tmp_path / name])


def test_confidence_is_asked_for_as_it_was_then(place):
    """The version is deployed on the second day; from the seventh on it promises too much."""
    stamp = Stamp("ana", backtest.iso(day(1)))
    candidate = forge.version(place, "m", "v1")
    deploy.deploy(place, candidate, stamp, traffic=None, experiment="", dry_run=False)
    (who,) = live(audit.read(place)[1])
    stream = replace(who.stream, kind="probability")
    store = connect.open(place.root, place.settings)
    told = {}
    for number in range(2, 12):
        minute = int(day(number).timestamp()) // 60 + 60
        right = 90 if number < 7 else 50
        seen = told[stream.id, minute] = Labels(n=1_000, right=10 * right)
        for outcome in range(1_000):
            (seen.positives if outcome % 100 < right else seen.negatives).add(0.9)
    append(store, "w", 1, Batch(streams={stream.id: stream}), int(day(12).timestamp()) // 60)
    with store.write() as connection:
        labels.add(connection, told)
    job = place.settings.jobs["nightly"].model_copy(update={"trigger": [CALIBRATION]})
    asked = backtest.Asked(place, "nightly", job, START, day(12), timedelta(days=1))
    due = [look for look in backtest.looked(asked, Past(()), None) if look.due.yes]
    assert (due[0].at - START).days == 8  # the morning after
    assert due[0].due.reasons["calibration"].startswith("calibration error 0.400 on 1,000 outcomes")


def test_two_in_a_row_that_did_not_cure_an_alert_end_it():
    def told(outcome, reason):
        return Retraining(START, START, {reason: ""}, outcome)

    twice = [told("kept", "alert"), told("kept", "alert")]
    assert "does not cure it" in backtest.must_hold(twice)
    assert backtest.must_hold([twice[0], told("better", "alert"), twice[1]]) == ""
    assert backtest.must_hold([told("kept", "age")] * 5) == ""
    assert backtest.must_hold([told("kept", "calibration")] * 2)


def world(path, days=20, turned=2):
    """Twelve new students a day; from one day on what was easy is hard."""
    draw = random.Random(0)
    hard = np.linspace(-3, 3, 10)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["student_id", "item", "response", "time"])
        for number in range(days):
            for student in range(12):
                for answer in range(6):
                    item = draw.randrange(10)
                    p = 1 / (1 + math.exp((hard if number < turned else -hard)[item]))
                    at = day(number) + timedelta(hours=student + 1, minutes=answer)
                    row = (f"d{number}-{student}", item, int(draw.random() < p), at.isoformat())
                    out.writerow(row)


@pytest.fixture
def place(tmp_path):
    made = forge.workspace(tmp_path / "w")
    world(made.root / "answers.csv")
    (made.root / "kt.toml").write_text(
        'git = "off"\n[compute]\nn_jobs = 1\n[jobs.nightly]\nmodel = "m"\nfamily = "marginal"\n'
        "holdout = 0.3\nmargin = 0.1\n"
        '[[jobs.nightly.data]]\nname = "files"\npaths = ["answers.csv"]\n'
        '[[jobs.nightly.trigger]]\nname = "samples"\ncount = 360\n'
    )
    return made


ASKED = ("backtest", "--from", "2026-01-01", "--to", "2026-01-20")


def test_a_world_that_turned_is_learnt_anew_and_what_that_gained_is_told(kt, place, one_thread):
    done = kt(*ASKED, "--plot", "b.svg", "--json", at=place)
    assert done.code == 0, done.err
    found = done.result
    assert len(found["looks"]) == 20
    at = [one["at"] for one in found["retrainings"]]
    assert at == [f"2026-01-{number:02}T00:00:00Z" for number in (6, 11, 16)]
    first, better, kept = found["retrainings"]
    assert (first["outcome"], first["comparison"]) == ("first", None)
    assert better["outcome"] == "better"
    assert better["comparison"]["low"] > 0
    assert 0 < better["gain"]["low"] < better["gain"]["difference"] < better["gain"]["high"]
    assert better["gain"]["after"] == better["gain"]["candidate"] > better["gain"]["first"] + 0.2
    assert kept["outcome"] == "kept"  # it has turned but once
    assert kept["gain"]["after"] == kept["gain"]["before"] > kept["gain"]["first"] + 0.2
    assert kept["gain"]["n"] == 4 * 12 * 5  # of six answers the first is not scored
    assert found["retrained"] > found["unchanged"]
    assert (place.root / "b.svg").read_text().count("<svg") == 1
    assert not (place.root / "jobs" / "history.json").exists()
    assert not (place.root / "registry" / "m").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--from", "soon"), "--from: 'soon' is no time"),
        (("--from", "2026-02-01"), "there is no time between"),
        (("--every", "1s"), "more than 10,000 looks"),
        (("--plot", "b.txt"), "--plot: b.txt is no picture"),
    ],
)
def test_what_cannot_be_replayed(kt, place, more, said):
    refused = kt(*ASKED, *more, at=place)
    assert refused.code == 2
    assert said in refused.err


def test_a_program_of_ones_own_is_not_replayed(kt, place):
    with (place.root / "kt.toml").open("a") as file:
        file.write('[jobs.own]\ncommand = ["true"]\n')
    refused = kt("backtest", "own", *ASKED[1:], at=place)
    assert refused.code == 2
    assert "jobs.own.command: a program of your own trains it" in refused.err
