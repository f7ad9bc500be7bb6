"""A workspace whose job is due whenever there are new samples, with a program that trains in a moment; and the
real processes that see to it, to be killed and counted.

The program says so where two of it run at once, and does not end when it is asked to. Each run that comes to
its end deploys: its model is new.
"""

import fcntl
import json
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

from predictors import children, within

from kt.jobs import book
from kt.jobs.runs import Job
from kt.registry import record
from kt.workspace import Workspace

SETTINGS = """
[store]
url = ""
[daemon]
check = 0.05
[jobs.nightly]
model = "m{number}"
command = [{python}, "train.py"]
then = "{then}"
cooldown = 0.0
backoff = 0.0
retries = 10_000
data = [{{name = "files", paths = ["answers.csv"]}}]
trigger = [{{name = "samples", count = 1}}]
"""
PROGRAM = """
    import fcntl, json, os, pathlib, shutil, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    held = open("training.lock", "a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pathlib.Path("doubled").touch()
    with open("trained", "a") as said:
        said.write("x")
    time.sleep({seconds})
    shutil.copy({checkpoint!r}, os.environ["KT_OUT"])
    print(json.dumps({{"accuracy": 0.7}}))
"""


class Retraining:
    """checkpoint: what the program makes, in so many seconds."""

    def __init__(
        self, place: Workspace, checkpoint: Path, *, seconds: float = 1.0, then: str = "experiment"
    ) -> None:
        self.place, self.then, self.number, self.students = place, then, 0, 0
        self.answers = place.root / "answers.csv"
        self.answers.write_text("student_id,item,response\n")
        program = PROGRAM.format(seconds=seconds, checkpoint=str(checkpoint))
        (place.root / "train.py").write_text(textwrap.dedent(program))
        self.before = (place.root / "kt.toml").read_text()
        self.another_model()
        self.more(30)

    def another_model(self) -> None:
        self.number += 1
        text = SETTINGS.format(
            number=self.number, python=json.dumps(sys.executable), then=self.then
        )
        (self.place.root / "kt.toml").write_text(self.before + text)

    def more(self, students: int = 1) -> None:
        """Samples that nobody has learnt from."""
        with self.answers.open("a") as file:
            for student in range(self.students, self.students + students):
                rows = (f"s{student},{n % 9},{(n + student) % 2}\n" for n in range(6))
                file.write("".join(rows))
        self.students += students

    @property
    def samples(self) -> int:
        return self.answers.read_text().count("\n") - 1

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "kt", "-C", str(self.place.root), *words]

    def daemon(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command("daemon", "--quiet"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def job(self) -> Job:
        return book.read(Workspace(self.place.root))[1].job("nightly")

    def learnt(self) -> int:
        """Samples that the last successful run has learnt from."""
        success = self.job().success
        return success.started.data.samples if success else 0

    def training(self, number: int) -> int:
        """The process that sees to the `number`-th training, once that has begun."""
        trained = self.place.root / "trained"
        within(lambda: trained.exists() and len(trained.read_text()) >= number, 120)
        return within(lambda: next(filter(children, self.retrains()), None))

    @property
    def doubled(self) -> bool:
        return (self.place.root / "doubled").exists()

    def retrains(self) -> list[int]:
        """The `kt retrain` processes of this workspace."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                kt = words[1:2] != [b"-c"] and b"kt" in words[:4]
                if kt and b"retrain" in words and os.fsencode(self.place.root) in words:
                    found.append(int(path.name))
        return found

    def left(self) -> list[str]:
        """What is amiss once nobody works here: nothing, whoever was killed."""
        out = []
        if self.doubled:
            out.append("two programs trained at once")
        out += [f"process {pid} goes on" for pid in self.retrains()]
        out += [f"{path} is left" for path in (self.place.local / "staging").glob("*")]
        out += [f"{path} is left" for path in (self.place.root / ".git").glob("*.lock")]
        for path in self.place.local.glob("*.lock"):
            with path.open() as file, suppress(OSError):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    out.append(f"{path} is held")
        runs = self.job().runs
        out += [f"run {run.number} has no end" for run in runs if run.ended is None]
        told = {
            (run.started.model, version)
            for run in runs
            if (version := getattr(run.ended, "version", ""))
        }
        there = {
            (model, version)
            for model in record.models(self.place)
            for version in record.versions(self.place, model)
        }
        out += [f"no run tells of {model}@{version}" for model, version in there - told]
        out += [f"{model}@{version} is missing" for model, version in told - there]
        return out


def below(pid: int) -> list[int]:
    """Whatever a process has started, and they have."""
    found = []
    for one in children(pid):
        found += [one, *below(one)]
    return found


def alive(pid: int) -> bool:
    try:
        state: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
