"""The daemon, with programs of one's own for what it starts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import forge
import pytest
from predictors import within

from kt.config import Settings
from kt.errors import Refused
from kt.jobs import book, daemon
from kt.jobs.daemon import Standing
from kt.workspace import Workspace

NOW = datetime(2026, 1, 20, 9, tzinfo=UTC)
JOB = """
git = "off"
[store]
url = ""
[daemon]
check = 0.05
[jobs.nightly]
command = [{python}, "train.py"]
[[jobs.nightly.data]]
name = "files"
paths = ["answers.csv"]
"""


@pytest.fixture
def place(tmp_path):
    made = forge.workspace(tmp_path / "w")
    (made.root / "kt.toml").write_text(JOB.format(python=json.dumps(sys.executable)))
    (made.root / "answers.csv").write_text("student_id,item,response\n" + "s,1,1\n" * 150)
    (made.root / "train.py").write_text(
        "import time; open('began', 'a').write('.'); time.sleep(60)"
    )
    return Workspace(made.root)


@pytest.fixture
def start(place):
    begun = []

    def run(**more):
        process = subprocess.Popen(
            [sys.executable, "-m", "kt", "daemon"],
            cwd=place.root,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.wait()
        process.stderr.close()


def runs_of(place):
    return book.read(place)[1].job("nightly").runs


def test_what_it_starts_is_what_the_workspace_asks_for():
    named = {task.name: task for task in daemon.tasks(Settings())}
    assert set(named) == {"canary", "monitor"}
    assert named["monitor"].every == 60
    asked = Settings.model_validate(
        {"jobs": {"a": {}, "b": {"then": "register"}}, "daemon": {"gc": True}, "store": {"url": ""}}
    )
    told = {task.name: " ".join(task.arguments) for task in daemon.tasks(asked)}
    assert told == {
        "canary": "canary step --quiet",
        "retrain a": "retrain a --quiet --deploy",
        "retrain b": "retrain b --quiet",
        "gc": "gc --yes --quiet",
    }


def test_it_trains_once_and_ends_what_it_started_when_it_is_told(place, start):
    process = start()
    within(lambda: (place.root / "began").exists())
    time.sleep(4)  # more than its time between two looks
    found = daemon.standing(place)
    assert found.running
    assert found.next
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    (only,) = runs_of(place)
    assert only.outcome == "stopped"
    assert (place.root / "began").read_text() == "."
    assert not daemon.standing(place).running


def test_what_its_terminal_sends_comes_to_it_alone(place, start):
    process = start(start_new_session=True)
    within(lambda: (place.root / "began").exists())
    os.killpg(process.pid, signal.SIGHUP)  # the terminal is closed: the training goes on
    os.killpg(process.pid, signal.SIGINT)  # a ctrl-C: the training is told by the daemon
    assert process.wait(15) == 0
    (only,) = runs_of(place)
    assert only.outcome == "stopped"
    assert "Traceback" not in process.stderr.read()


def test_a_second_one_is_refused(place, start, kt):
    process = start()
    within(lambda: daemon.standing(place).running)
    refused = kt("daemon", at=place)
    assert refused.code == 3
    assert f"process {process.pid}" in refused.err
    with pytest.raises(Refused):
        daemon.serve(place, lambda: NOW, print)


def test_after_a_kill_the_next_one_goes_on_and_nothing_is_done_twice(place, start):
    first = start()
    within(lambda: (place.root / "began").exists())
    first.kill()  # what it had started trains on
    start()
    within(lambda: daemon.standing(place).last.get("retrain nightly"))
    assert (place.root / "began").read_text() == "."
    assert len(runs_of(place)) == 1
    subprocess.run(["pkill", "-f", f"{place.root} retrain"], check=False)


def test_it_reads_its_settings_again_and_keeps_those_it_has_where_they_are_wrong(place, start):
    text = (place.root / "kt.toml").read_text()
    (place.root / "kt.toml").write_text('git = "off"\n[store]\nurl = ""\n')
    process = start()
    within(lambda: set(daemon.standing(place).next) == {"canary"})
    (place.root / "kt.toml").write_text("[daemon]\ncheck = 'soon'\n")
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert daemon.standing(place).running
    (place.root / "kt.toml").write_text(text)
    process.send_signal(signal.SIGHUP)
    within(lambda: (place.root / "began").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert "kt.toml is not read again" in process.stderr.read()


def test_a_clock_that_is_set_makes_everything_due_and_nothing_double(place, tmp_path, monkeypatch):
    shift = [timedelta()]
    started = []
    monkeypatch.setattr(daemon.Runner, "run", lambda self, task: started.append(task.name))
    monkeypatch.setattr(daemon, "LOOK", 0.05)
    ended = daemon.Asked()
    monkeypatch.setattr(daemon, "Asked", lambda: ended)

    def now():
        return datetime.now(UTC) + shift[0]

    class Shifted(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + shift[0]

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Shifted)

    def change_the_clock(_):

        def later():
            for jump in (timedelta(days=-1), timedelta(days=3650), timedelta(days=-3650)):
                within(lambda: started)
                time.sleep(0.3)
                started.clear()
                shift[0] += jump
            within(lambda: started)
            time.sleep(0.3)
            ended.end.set()

        threading.Thread(target=later, daemon=True).start()

    (place.root / "kt.toml").write_text('git = "off"\n[store]\nurl = ""\n')
    daemon.serve(Workspace(place.root), now, change_the_clock)
    assert started == ["canary"]


@pytest.mark.parametrize(
    ("found", "checks", "said"),
    [
        (Standing(True, {"a": "2026-01-20T09:30:00Z"}, {}), {}, "running, next check 09:30 UTC"),
        (Standing(True, {}, {}), {}, "running"),
        (Standing(False, {}, {}), {}, ""),
        (
            Standing(False, {}, {}),
            {"a": {"at": "2026-01-17T09:00:00Z"}},
            "not running, last check 3 d ago",
        ),
        (
            Standing(False, {}, {}),
            {"a": {"at": "2027-01-17T09:00:00Z"}},
            "not running, last check 0 d ago",
        ),
        (Standing(False, {}, {}), {"a": {"at": "yesterday"}}, ""),
        (Standing(False, {}, {}), {"a": 7}, ""),
    ],
)
def test_how_it_stands(found, checks, said):
    assert daemon.line(found, checks, NOW, lambda seconds: f"{seconds / 86400:.0f} d") == said


def test_a_card_that_is_damaged_says_nothing(place):
    place.local.mkdir(exist_ok=True)
    for text in ("", "[]", '{"next": 3}', '{"next": {}, "last": {"a": 1}, "since": ""}'):
        (place.local / daemon.CARD).write_text(text)
        assert daemon.standing(place) == Standing(False, {}, {})
