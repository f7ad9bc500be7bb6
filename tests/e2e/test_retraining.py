"""Daemons, cron and people retrain at once, and any of them is killed: one run, an end to it, nothing left.

`python bench/retrain_kills.py` kills more often, and also in the comparison, the model door and the deploy.
"""

import itertools
import os
import shlex
import signal
import subprocess
import time
from datetime import datetime, timedelta

import pytest
from conftest import ROOT, Kt
from daemons import Retraining, alive, below
from predictors import within

from kt.jobs import daemon
from kt.workspace import Workspace

pytestmark = pytest.mark.e2e


@pytest.fixture
def scene(tmp_path, kt: Kt):
    """A program that would train for a minute; whatever works on it ends with the test."""
    assert kt("init", str(tmp_path / "w")).code == 0
    made = Retraining(Workspace((tmp_path / "w").resolve()), tmp_path / "never", seconds=60)
    yield made
    for pid in made.retrains():
        os.kill(pid, signal.SIGKILL)


def outcomes(scene):
    return [run.outcome for run in scene.job().runs]


def test_whoever_is_killed_leaves_a_due_job_and_nothing_else(scene, kt):
    first = scene.daemon()
    try:
        running = scene.training(1)
        first.kill()  # what it had started trains on
        first.wait()
        second = scene.daemon()
        within(lambda: looked(scene), 120)
        assert alive(running)
        started = below(running)
        os.kill(running, signal.SIGKILL)
        within(lambda: not any(map(alive, started)))
        os.kill(below(scene.training(2))[-1], signal.SIGKILL)
        scene.training(3)
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    finally:
        first.kill()
        second.kill()
    assert not scene.left()
    assert outcomes(scene) == ["interrupted", "failed", "stopped"]
    assert kt("retrain", "--check", at=scene.place).code == 10


def test_two_daemons_a_line_of_cron_and_a_person_at_once_are_one_run(scene):
    environment = shlex.join(["env", "-i", f"PYTHONPATH={ROOT}"])
    line = f"{environment} {shlex.join(scene.command('retrain', '--deploy', '--quiet'))}"
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    all_of_them = [
        subprocess.Popen(scene.command("daemon", "--quiet"), **said),
        subprocess.Popen(scene.command("daemon", "--quiet"), **said),
        subprocess.Popen(["/bin/sh", "-c", line], **said),
        subprocess.Popen(scene.command("retrain", "--force", "--json"), **said),
    ]
    daemons, askers = all_of_them[:2], all_of_them[2:]
    try:
        running = scene.training(1)
        refused = within(
            lambda: next((one for one in daemons if one.poll() is not None), None), 120
        )
        assert refused.wait() == 3
        assert "a daemon runs here already" in refused.stderr.read()
        within(lambda: looked(scene) or any(running in below(one.pid) for one in daemons), 120)
        others = [one for one in askers if running not in (one.pid, *below(one.pid))]
        person = askers[1]  # who forces it and is not obeyed is told so
        assert [one.wait(120) for one in others] == [3 * (one is person) for one in others]
        assert outcomes(scene) == ["running"]
        assert (scene.place.root / "trained").read_text() == "x"
        os.kill(running, signal.SIGTERM)
        within(lambda: outcomes(scene)[0] == "stopped")
    finally:
        for one in all_of_them:
            one.terminate()
            one.wait()
            one.stdout.close()
            one.stderr.close()
    assert not scene.doubled
    within(lambda: not scene.retrains())  # the one that was stopped may still be on its way out
    assert not scene.left()


def test_what_was_slept_through_is_made_up_for_once(scene):
    """Each look is a run that fails at once; they stay apart by the time between two looks, of 3 s."""
    (scene.place.root / "train.py").write_text("raise SystemExit(1)")
    process = scene.daemon()
    try:
        within(lambda: scene.job().runs, 120)
        process.send_signal(signal.SIGSTOP)
        time.sleep(8)  # more than two looks
        process.send_signal(signal.SIGCONT)
        slept = len(scene.job().runs)
        within(lambda: len(scene.job().runs) >= slept + 2, 120)
    finally:
        process.terminate()
        process.wait()
    times = [datetime.fromisoformat(run.started.at) for run in scene.job().runs]
    assert all(b - a >= timedelta(seconds=2) for a, b in itertools.pairwise(times))


def looked(scene):
    """Whether the daemon that runs has ended a look at the job."""
    return daemon.standing(scene.place).last.get("retrain nightly")
