"""A job from the trigger to the version, with programs of one's own in place of kt train."""

import csv
import json
import re
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import forge
import pytest
from conftest import ROOT, spawn
from predictors import children, within

from kt.config import Job
from kt.deployments import audit, deploy
from kt.jobs import book
from kt.jobs.training import Training

COPY = """
    import json, os, shutil
    shutil.copy({checkpoint!r}, os.environ["KT_OUT"])
    print("epoch 1")
    print(json.dumps({{"accuracy": 0.7}}))
"""


def write(place, program, *, then="register", more="", trigger="samples"):
    """A job `nightly` that runs a program."""
    (place.root / "train.py").write_text(textwrap.dedent(program))
    (place.root / "kt.toml").write_text(
        f"""
git = "off"
[jobs.nightly]
model = "m"
then = "{then}"
command = [{json.dumps(sys.executable)}, "train.py"]
{more}
[[jobs.nightly.data]]
name = "files"
paths = ["answers.csv"]
[[jobs.nightly.trigger]]
name = "{trigger}"
"""
    )


def answers(place, count, students=40):
    with (place.root / "answers.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["student_id", "item", "response"])
        for number in range(count):
            student = number * students // count
            out.writerow([f"s{student}", number % 10, (number // 3 + student) % 2])


@pytest.fixture
def place(tmp_path):
    """A workspace without git or versions, with answers to learn from."""
    made = forge.workspace(tmp_path / "w")
    answers(made, 400)
    return made


@pytest.fixture
def program(checkpoints):
    """Writes a checkpoint that others have trained."""
    return COPY.format(checkpoint=str(checkpoints / "1.pt"))


def runs_of(place):
    _, state = book.read(place)
    return state.job("nightly").runs


def test_the_first_version_is_deployed_whole_and_kept_company_by_its_reasons(kt, place, program):
    write(place, program, then="experiment")
    due = kt("retrain", "--check", "--json", at=place)
    assert due.code == 10
    assert due.result["jobs"][0]["reasons"] == {"samples": "400 new labelled samples (limit 100)"}
    done = kt("retrain", "--deploy", "--json", at=place)
    assert done.code == 0, done.err
    assert done.result["jobs"][0]["ended"]["outcome"] == "deployed"
    assert done.result["jobs"][0]["ended"]["version"] == "v1"
    _, serving = audit.read(place)
    assert serving.serving("m").active.version == "v1"
    again = kt("retrain", "--check", "--json", at=place)
    assert again.code == 0
    assert list(again.result["jobs"][0]["blocked"]) == ["cooldown"]
    shown = kt("runs", "show", "1", at=place).out
    for wanted in ("deployed", "400 samples", "seed        0", "scores      auc 0.", "m@v1"):
        assert wanted in shown


def test_a_candidate_that_is_no_better_is_kept_out_and_the_cut_off_moves(kt, place, program):
    write(place, program, then="experiment")
    assert kt("retrain", "--deploy", at=place).code == 0
    answers(place, 520)
    done = kt("retrain", "--deploy", "--force", "--json", at=place)
    assert done.code == 0, done.err
    ended = done.result["jobs"][0]["ended"]
    assert ended["outcome"] == "kept"
    assert ended["comparison"]["gain"] == 0
    assert "not better by 0.01" in ended["reason"]
    (*_, last) = runs_of(place)
    assert last.started.data.samples == 520
    assert kt("models", "m", "--json", at=place).out.count('"version": "v') == 1


def test_without_deploy_it_is_registered_and_the_next_line_is_told(kt, place, program):
    write(place, program)
    done = kt("retrain", at=place)
    assert "registered m@v1" in done.out
    assert done.out.endswith("Next: kt deploy m@v1\n"), "a first version takes all of it"


def test_a_candidate_that_a_gate_refuses_is_kept_out_and_not_trained_again(kt, place, program):
    write(place, program)
    with (place.root / "kt.toml").open("a") as file:
        file.write('[[gate]]\nname = "size"\nmax_mb = 0.001\n')
    done = kt("retrain", "--deploy", "--json", at=place)
    assert done.code == 0, done.err
    ended = done.result["jobs"][0]["ended"]
    assert ended["outcome"] == "kept"
    assert "does not pass: size:" in ended["reason"]
    assert not (place.root / "registry" / "m").exists()
    assert list(kt("retrain", "--check", "--json", at=place).result["jobs"][0]["blocked"]) == [
        "cooldown"
    ]


@pytest.mark.parametrize(
    ("program", "how", "why"),
    [
        ("import sys; sys.exit('no such table: answers')", "failed", "no such table: answers"),
        ("print('{}')", "failed", "wrote no checkpoint"),
        (
            "import os; open(os.environ['KT_OUT'], 'w').write('x'); print('done')",
            "failed",
            "no JSON object",
        ),
        ("import time; time.sleep(60)", "timeout", "took longer than"),
        ("import os; os.kill(os.getpid(), 11)", "failed", "Segmentation fault"),
        (
            "import os; open(os.environ['KT_OUT'], 'w').write('x'); print('{}')",
            "failed",
            "candidate.pt",
        ),
    ],
)
def test_a_training_that_does_not_come_to_an_end(kt, place, program, how, why):
    write(place, program, more="time_limit = 0.0005" if how == "timeout" else "")
    failed = kt("retrain", "--deploy", "--json", at=place)
    assert failed.code == 5
    assert why in failed.error["message"]
    assert failed.error["hint"] == "see: kt runs show 1"
    (only,) = runs_of(place)
    assert only.outcome == how
    assert not (place.root / "registry" / "m").exists()
    assert not [*(place.local / "staging").glob("*")]
    after = kt("retrain", "--check", "--json", at=place)
    assert list(after.result["jobs"][0]["blocked"]) == ["backoff"]
    assert after.code == 0


def test_its_processes_have_the_variables_that_the_job_names(place, tmp_path):
    program = (
        "import os; open(os.environ['KT_OUT'], 'w'); print('{\"on\":', os.environ['DEVICE'], '}')"
    )
    job = Job(command=[sys.executable, "-c", program], environment={"DEVICE": "1"})
    training = Training(place, "nightly", job, "m", "", [], tmp_path, tmp_path / "log")
    assert training.train() == {"on": 1}


def test_a_program_that_is_not_there(kt, place):
    write(place, "")
    text = (place.root / "kt.toml").read_text()
    (place.root / "kt.toml").write_text(
        text.replace(json.dumps(sys.executable), '"no-such-program"')
    )
    assert "no-such-program: No such file" in kt("retrain", at=place).err


SLOW = """
    import pathlib, subprocess, time
    helper = subprocess.Popen(["sleep", "60"])
    pathlib.Path("helper").write_text(str(helper.pid))
    pathlib.Path("began").touch()
    time.sleep(60)
"""


def begun(place):
    process = subprocess.Popen(
        [sys.executable, "-m", "kt", "retrain"], cwd=place.root, stderr=subprocess.DEVNULL
    )
    within(lambda: (place.root / "began").exists())
    return process


def test_two_at_once_are_one_run(kt, place):
    write(place, SLOW)
    first = begun(place)
    try:
        second = kt("retrain", "--json", at=place)
        assert second.code == 0
        assert f"process {first.pid}" in second.result["jobs"][0]["blocked"]["running"]
        forced = kt("retrain", "--force", "--json", at=place)
        assert forced.code == 3, "a person who is not obeyed sees it"
        assert f"in training already: process {first.pid}" in forced.error["message"]
    finally:
        first.send_signal(signal.SIGINT)
        first.wait(30)
    (only,) = runs_of(place)
    assert only.outcome == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_as_its_beginning_is_written_down_trains_nothing(
    number, kt, place, program, monkeypatch
):
    write(place, program)
    real = Path.replace

    def replace(self, target):
        real(self, target)
        if Path(target) == place.root / "jobs" / "history.json" and not runs_of(place)[0].ended:
            signal.raise_signal(number)

    monkeypatch.setattr(Path, "replace", replace)
    assert kt("retrain", at=place).code == 130
    (only,) = runs_of(place)
    assert (only.outcome, only.ended.reason) == ("stopped", "it was told to stop")
    assert not (place.root / "registry" / "m").exists()


def test_a_kill_leaves_a_run_that_the_next_command_ends_and_no_program_that_goes_on(
    kt, place, program
):
    write(place, SLOW)
    first = begun(place)
    left = [*children(first.pid), int((place.root / "helper").read_text())]
    first.kill()
    first.wait()
    within(lambda: not any(map(alive, left)))
    write(place, program)
    done = kt("retrain", "--force", at=place)
    assert done.code == 0, done.err
    cut, after = runs_of(place)
    assert cut.outcome == "interrupted"
    assert after.outcome == "registered"
    assert not [*(place.local / "staging").glob("*")]


@pytest.mark.parametrize("deployed", [False, True])
def test_a_run_that_was_cut_after_its_version_was_there_has_made_it(kt, place, program, deployed):
    """Killed between the last two writes: the version, in traffic or not, and the end of the run."""
    write(place, program, then="experiment")
    assert kt("retrain", *(["--deploy"] if deployed else []), at=place).code == 0
    path = place.root / "jobs" / "history.json"
    (*events, _) = json.loads(path.read_text())
    path.write_text("[\n " + "\n,".join(json.dumps(one) for one in events) + "\n]\n")
    assert runs_of(place)[0].outcome == "running"
    kt("retrain", "--json", at=place)
    (only,) = runs_of(place)
    assert (only.outcome, only.ended.version) == ("deployed" if deployed else "registered", "v1")


def test_a_run_that_is_told_to_stop_as_its_version_gets_traffic_has_made_it(
    kt, place, program, monkeypatch
):
    write(place, program, then="experiment")
    give = deploy.deploy

    def told_to_stop(*given, **more):
        give(*given, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "deploy", told_to_stop)
    assert kt("retrain", "--deploy", at=place).code == 130
    (only,) = runs_of(place)
    assert (only.outcome, only.ended.version) == ("deployed", "v1")
    assert only.ended.reason == "it was told to stop"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_hold_keeps_triggers_away_and_a_person_does_not_need_to_wait_for_it(kt, place, program):
    write(place, program)
    assert kt("retrain", "--hold", "--reason", "exams", at=place).code == 0
    assert kt("retrain", "--hold", at=place).code == 3
    held = kt("retrain", "--check", "--json", at=place)
    assert held.code == 0
    assert held.result["jobs"][0]["blocked"] == {"held": "exams"}
    assert "on hold" in kt("jobs", at=place).out
    said = "job nightly is on hold: exams; let it go on: kt retrain nightly --release"
    assert said in kt("status", "--json", at=place).result["attention"]
    assert kt("retrain", "--release", at=place).code == 0
    assert kt("retrain", "--check", at=place).code == 10


def test_a_person_who_looks_is_no_sign_that_somebody_sees_to_it(kt, place, program):
    write(place, program)
    path = place.root / "jobs" / "last_check.json"
    assert "400 new labelled samples" in kt("jobs", at=place).out
    assert not path.exists()
    assert kt("retrain", "--check", at=place).code == 10
    assert path.exists()


def test_a_job_that_fails_more_often_than_it_may_be_tried_again_is_put_on_hold(kt, place):
    """However its last run failed: also where that was cut, and the next command writes it down."""
    write(place, "import sys; sys.exit('no such table')", more="retries = 0")
    failed = kt("retrain", at=place)
    assert failed.code == 5
    said = "nightly is on hold: it has failed once; let it go on: kt retrain nightly --release"
    assert said in failed.err
    path = place.root / "jobs" / "history.json"
    (begun, *_) = json.loads(path.read_text())
    path.write_text(f"[\n {json.dumps(begun)}\n]\n")
    cut = kt("retrain", "--json", at=place)
    assert cut.code == 0
    assert cut.result["jobs"][0]["blocked"]["held"] == "it has failed once"
    assert runs_of(place)[0].outcome == "interrupted"
    assert kt("retrain", "--release", at=place).code == 0
    assert kt("retrain", "--check", at=place).code == 10


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('data = [{name = "filez", paths = ["a"]}]', "there is no filez in kt/jobs/sources"),
        ('data = [{name = "files", path = ["a"]}]', "jobs.nightly.data"),
        ('data = [{name = "files", paths = ["nowhere"]}]', "there are no data here"),
        ("", "it has no data"),
        (
            'data = [{name = "files", paths = ["answers.csv"]}]\ntrigger = [{name = "age", day = 3}]',
            "trigger age",
        ),
        ('data = [{name = "files", paths = ["answers.csv"]}]\nthen = "promote"', "then"),
    ],
)
def test_a_job_that_cannot_run_says_why(kt, place, line, said):
    (place.root / "kt.toml").write_text(f'git = "off"\n[jobs.nightly]\nfamily = "irt"\n{line}\n')
    refused = kt("retrain", "--check", at=place)
    assert refused.code == 2
    assert said in refused.err
    assert not (place.root / "jobs" / "history.json").exists()


def test_no_job_and_another_job(kt, place, program):
    assert "there are no jobs" in kt("retrain", at=place).err
    write(place, program)
    assert "there is no job weekly" in kt("retrain", "weekly", at=place).err


CRON = {"PYTHONPATH": str(ROOT)}


def test_in_sh_under_cron(place, program):
    """No home, no path, no terminal; no output where nothing is due."""
    write(place, program)
    kt = f"{sys.executable} -m kt"
    due = "due: 400 new labelled samples (limit 100)\n"
    would = f"would run: {sys.executable} train.py   (kt retrain nightly)\n"

    def sh(line):
        return subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=place.root,
            env=CRON,
            capture_output=True,
            text=True,
            check=False,
        )

    check = sh(f"{kt} retrain --check")
    assert (check.returncode, check.stdout, check.stderr) == (10, due + would, "")
    check = sh(f"{kt} retrain --check --quiet; [ $? -eq 10 ] && echo now")
    assert (check.returncode, check.stdout, check.stderr) == (0, "now\n", "")
    ran = sh(f"{kt} retrain --deploy --quiet")
    assert (ran.returncode, ran.stdout) == (0, "")
    again = sh(f"{kt} retrain --deploy --quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    check = sh(f"{kt} retrain --check --quiet")
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")
    check = sh(f"{kt} retrain --check")
    assert (check.returncode, check.stderr) == (0, "")
    assert re.fullmatch(
        r"not due \(cooldown: 24 h after the last run, not before 20[-\d]+T[:\d]+Z\)\n",
        check.stdout,
    )
    check = sh(f"{kt} retrain --check weekly")
    said = "kt: there is no job weekly\n    name one: nightly\n"
    assert (check.returncode, check.stdout, check.stderr) == (2, "", said)


def test_the_check_knows_neither_torch_nor_git(place, program):
    write(place, program)
    code = (
        "import sys; from kt.cli.app import main\n"
        "try: main(['retrain', '--check'])\n"
        "finally: print(*sorted({'torch', 'git', 'sqlalchemy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 10
    assert done.stdout.splitlines()[-1] == ""


def test_every_look_is_remembered(kt, place, program):
    write(place, program)
    kt("retrain", "--check", at=place)
    seen = json.loads((place.root / "jobs" / "last_check.json").read_text())["nightly"]
    assert seen["due"] is True
    assert datetime.fromisoformat(seen["at"]) > datetime.now(UTC) - timedelta(minutes=5)


def test_a_journal_that_was_edited_is_refused(kt, place, program):
    write(place, program)
    kt("retrain", at=place)
    path = place.root / "jobs" / "history.json"
    path.write_text(path.read_text().replace('"counts":[400]', '"counts":[4]'))
    refused = kt("retrain", "--check", at=place)
    assert refused.code == 4
    assert "jobs/history.json" in refused.err
    found = kt("verify", at=place)
    assert found.code == 4
    assert "jobs/history.json" in found.out


@pytest.mark.slow
def test_kt_trains_for_the_job_itself(place):
    (place.root / "kt.toml").write_text(
        'git = "off"\n[jobs.nightly]\nmodel = "m"\nfamily = "irt"\nthen = "register"\n'
        'data = [{name = "files", paths = ["answers.csv"]}]\n'
    )
    done = spawn("retrain", "--deploy", "--json", at=place.root)
    assert done.code == 0, done.err
    ended = done.result["jobs"][0]["ended"]
    assert ended["outcome"] == "registered"
    assert ended["scores"]["counts"]["students"] == 8  # a fifth of forty, the newest
    assert "epoch 1" in (place.local / "runs" / "1.log").read_text()


def test_without_a_name_every_job_is_looked_at(kt, place, program):
    write(place, program)
    with (place.root / "kt.toml").open("a") as file:
        file.write('[jobs.weekly]\n[[jobs.weekly.data]]\nname = "files"\npaths = ["few.csv"]\n')
    (place.root / "few.csv").write_text("student_id,item,response\n")
    found = kt("retrain", "--check", "--json", at=place)
    assert found.code == 10
    assert [(one["job"], one["due"]) for one in found.result["jobs"]] == [
        ("nightly", True),
        ("weekly", False),
    ]
    assert "weekly is not due" in kt("retrain", "--check", at=place).out
    assert "there are several jobs" in kt("retrain", "--force", at=place).err


def test_a_job_that_is_wrong_holds_up_no_other(kt, place, program):
    write(place, program)
    with (place.root / "kt.toml").open("a") as file:
        file.write('[jobs.early]\n[[jobs.early.data]]\nname = "files"\npaths = ["none"]\n')
    place.root.joinpath("kt.toml").write_text(early_first(place))
    listed = kt("jobs", "--json", at=place).result["jobs"]
    assert "there are no data here" in listed[0]["error"]
    assert listed[1]["due"]
    assert "early    early  wrong" in kt("jobs", at=place).out
    done = kt("retrain", "--deploy", at=place)
    assert (done.code, "there are no data here" in done.err) == (2, True)
    assert "registered m@v1" in done.out
    assert len(runs_of(place)) == 1


def early_first(place):
    """kt.toml with its second job before its first."""
    head, first, second = re.split(r"(?m)^(?=\[jobs\.)", (place.root / "kt.toml").read_text())
    return head + second + first


def test_a_hold_goes_alone_and_a_dry_run_of_it_holds_nothing(kt, place, program):
    write(place, program)
    for words in (["--hold", "--release"], ["--hold", "--check"], ["--release", "--force"]):
        assert kt("retrain", *words, at=place).code == 2
    done = kt("retrain", "--hold", "--dry-run", at=place)
    assert done.out == "nightly would be on hold\n"
    assert kt("retrain", "--check", at=place).code == 10
    kt("retrain", "--hold", at=place)
    said = "due, but on hold: nobody said why; let it go on: kt retrain nightly --release\n"
    assert kt("retrain", "--check", at=place).out == said


def test_a_dry_run_is_no_sign_that_somebody_looks(kt, place, program):
    write(place, program)
    assert kt("retrain", "--dry-run", at=place).out.startswith("due: ")
    assert not (place.root / "jobs" / "last_check.json").exists()
