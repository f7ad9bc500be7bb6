"""A training in a process of its own, within its limits; and the comparison that follows it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kt import change, process
from kt.config import Job
from kt.errors import Invalid
from kt.jobs import within
from kt.registry import checkpoint
from kt.workspace import Workspace

GIGABYTE = 1_000_000_000
LAST = 300  # characters of what a program said last
PATIENCE = 5  # seconds that a program has to end when it is asked to


class Failure(Exception):
    """A training did not come to an end. how: as of a `runs.Failed`."""

    def __init__(self, how: str, why: str) -> None:
        super().__init__(why)
        self.how = how


class Two(NamedTuple):
    """A source's files, of which the first `learnt` samples make one period and the others another.

    until: where they tell when each came, the end of the first period, ISO 8601.
    """

    paths: Sequence[Path]
    learnt: int
    until: str


@dataclass(frozen=True)
class Training:
    """What is trained, on what, into which folder. log: where it tells how it goes."""

    workspace: Workspace
    name: str
    job: Job
    model: str
    family: str
    paths: Sequence[Path]
    folder: Path
    log: Path

    @property
    def out(self) -> Path:
        return self.folder / "candidate.pt"

    def train(self) -> dict[str, Any]:
        """The candidate's own scores. Raises Failure."""
        if self.job.command:
            return self.own()
        return self.ask(
            "train",
            family=self.family,
            size=self.job.size,
            settings=self.job.settings,
            options=self.job.options,
            seed=self.job.seed,
            commit=change.commit_of(self.workspace),
            out=str(self.out),
        )

    def compare(self, active: Sequence[str]) -> dict[str, Any]:
        """active: model, version and digest of the active version; nothing where there is none."""
        return self.ask(
            "compare", candidate=str(self.out), active=list(active), metric=self.job.metric
        )

    def drift(self, active: Sequence[str], sources: Sequence[Two]) -> dict[str, Any]:
        """Which items the active version sees drifted. Raises Failure."""
        parts = [one._asdict() | {"paths": list(map(str, one.paths))} for one in sources]
        return self.ask("drift", active=list(active), sources=parts, folder=str(self.folder))

    def ask(self, task: str, **more: Any) -> dict[str, Any]:
        order = {
            "task": task,
            "root": str(self.workspace.root),
            "job": self.name,
            "paths": [str(path) for path in self.paths],
            "holdout": self.job.holdout,
            **more,
        }
        said = self.run(process.command("kt.jobs.trainer"), process.environment(), order)
        try:
            answer = json.loads(said)
        except ValueError:
            raise Failure("failed", f"{task}: it ended without a word") from None
        if "error" in answer:
            raise Failure("failed", f"{answer['error']}. {answer['do']}".rstrip(". "))
        done: dict[str, Any] = answer["done"]
        return done

    def own(self) -> dict[str, Any]:
        """The user's program: the last line that it prints is its scores."""
        environment = {
            **os.environ,
            "KT_DATA": os.pathsep.join(map(str, self.paths)),
            "KT_OUT": str(self.out),
            "KT_MODEL": self.model,
            "KT_SEED": str(self.job.seed),
            "KT_HOLDOUT": str(self.job.holdout),
        }
        said = self.run(self.job.command, environment, None)
        if not self.out.is_file():
            raise Failure("failed", "the program ended well and wrote no checkpoint to KT_OUT")
        last = said.strip().rpartition(b"\n")[2]
        try:
            scores = json.loads(last)
        except ValueError:
            scores = None
        if not isinstance(scores, dict):
            raise Failure("failed", "the last line that the program printed is no JSON object")
        return scores

    def run(self, command: Sequence[str], environment: Mapping[str, str], order: Any) -> bytes:
        """What a process says on standard output. Its standard error is the log. Raises Failure."""
        memory = str(int(self.job.memory * GIGABYTE))
        with (
            self.log.open("ab") as log,
            subprocess.Popen(
                [sys.executable, "-I", within.__file__, memory, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**environment, **self.job.environment},
                cwd=self.workspace.root,
                start_new_session=True,
            ) as started,
        ):
            try:
                given = b"" if order is None else json.dumps(order).encode()
                said, _ = started.communicate(given, timeout=self.job.time_limit * 3600)
            except subprocess.TimeoutExpired:
                why = f"it took longer than {self.job.time_limit:g} h"
                raise Failure("timeout", why) from None
            finally:
                stop(started)
        if started.returncode:
            raise Failure("failed", how_it_ended(started.returncode, self.log))
        return said


def stop(started: "subprocess.Popen[bytes]") -> None:
    """It ends, and whatever it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(started.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        try:
            started.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue


def how_it_ended(code: int, log: Path) -> str:
    how = f"exit {code}" if code > 0 else signal.strsignal(-code) or f"signal {-code}"
    try:
        last = log.read_text(errors="replace").strip().rpartition("\n")[2][:LAST]
    except OSError:
        last = ""
    return f"{how}: {last}" if last else how


def digest(paths: Sequence[Path]) -> str:
    """Of the data, file by file, by name and content."""
    import hashlib

    hashed = hashlib.sha256()
    for path in paths:
        with checkpoint.descriptor_of(path) as file:
            size = os.fstat(file).st_size
            hashed.update(f"{path.name}\0{size}\0".encode())
            while part := os.read(file, 1 << 20):
                hashed.update(part)
    if not paths:
        raise Invalid("there are no data", do="see [jobs] data in kt.toml")
    return hashed.hexdigest()
