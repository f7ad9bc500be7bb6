"""kt demo: the whole main job in a fresh workspace, every step by the command that a person would type."""

import contextlib
import csv
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kt.cli import output
from kt.errors import Refused, Unavailable

MODEL = "tutor"
EXPERIMENT = "attention"
LEARNERS = 300  # replayed through HTTP, some of their answers each


def demo(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A new folder; a temporary one without.")
    ] = None,
) -> None:
    """Show the main job, end to end: simulate, train, deploy, split traffic, serve, promote, roll back.

    Everything happens in a workspace of its own, which stays for you to look at.

    Example: kt demo
    """
    root = Path(tempfile.mkdtemp(prefix="kt-demo-")) if folder is None else folder.resolve()
    started = time.monotonic()
    stage = Stage(root)
    stage.title("A workspace: kt.toml, four folders, git")
    stage.kt("init", ".")
    stage.title("Learners who learn, simulated: their answers are the data")
    stage.kt(
        "simulate",
        "gpcm",
        "--out",
        "learners",
        "--students",
        "900",
        "--items",
        "40",
        "--categories",
        "2",
    )
    stage.title("Two models of what a learner will answer next")
    stage.kt(
        "train",
        "gpcm",
        "--data",
        "learners/train.csv",
        "--out",
        "memory.pt",
        "--size",
        "small",
        "--epochs",
        "10",
        "--lr",
        "0.02",
    )
    stage.kt(
        "train",
        "sakt",
        "--data",
        "learners/train.csv",
        "--out",
        "attention.pt",
        "--size",
        "small",
        "--epochs",
        "6",
        "--lr",
        "0.01",
    )
    stage.title("The first goes live; the second gets 10 % of the learners")
    stage.kt("deploy", "memory.pt", "--model", MODEL)
    stage.kt("deploy", "attention.pt", "--model", MODEL, "--traffic", "10", "--ab-test", EXPERIMENT)
    stage.title("A minute stands for a month here: verdicts and alerts wait for nothing")
    stage.write("kt.toml", HASTE)
    with stage.serving() as address:
        stage.title("Learners ask, over HTTP, and answer: each stays with one variant")
        histories = read_histories(root / "learners" / "test.csv")
        replay(address, histories)
        stage.kt("monitor", "--quiet")
        stage.kt("status")
        stage.kt("promote", EXPERIMENT, expect=7)
        stage.title("More traffic moves learners only into the treatment")
        stage.kt("ramp", EXPERIMENT, "50")
        stage.settle()
        replay(address, histories)
        stage.kt("monitor", "--quiet")
        stage.kt("experiment", EXPERIMENT)
        stage.title("Promote: while the evidence is not enough kt asks for a reason")
        stage.kt("promote", EXPERIMENT, "--force", "--reason", "a demo has no patience")
        stage.settle()
        replay(address, histories)
        stage.title("Three in the morning: undo it")
        stage.kt("rollback", "--reason", "just to see")
        stage.settle()
        stage.title("The world changes: learners answer otherwise than the model has learnt")
        replay(address, histories, drifted=True)
        stage.close_minute()
        for _ in range(3):  # an alert opens when it is sure, three times in a row
            stage.kt("monitor", "--quiet")
        stage.kt("monitor")
        stage.kt("status")
        if importlib.util.find_spec("vl_convert"):
            stage.kt("dashboard", "--last", "24h", "--out", "dashboard.html")
    stage.title("What happened, and whether every byte is as kt wrote it")
    stage.kt("history")
    stage.kt("alerts", "history")
    stage.kt("verify")
    output.write(
        f"\nDone in {time.monotonic() - started:.0f} s.  Look around: cd {root} && git log --stat"
    )


HASTE = """
[predictor]
flush = 1.0
[experiment]
least = 0.0
[monitor]
interval = 1.0
slow_interval = 1.0
"""


class Stage:
    """Runs commands in the demo's workspace and shows them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise Refused(f"{root} is not empty", do="name a new folder: kt demo DIR")
        self.environment = {
            key: value for key, value in os.environ.items() if key != "KT_WORKSPACE"
        }

    def write(self, name: str, text: str) -> None:
        """Add to a file of the workspace, and show what."""
        with (self.root / name).open("a") as file:
            file.write(text)
        output.write(f"\n# {name}{text}".rstrip())

    def close_minute(self) -> None:
        """What is measured ends with a minute that is over."""
        from kt import clock

        seconds = 63 - clock.now().second
        output.write(f"  {seconds} s until this minute is over, and counts")
        sys.stdout.flush()
        time.sleep(seconds)

    def title(self, text: str) -> None:
        output.write(f"\n{text}")

    def kt(self, *arguments: str, expect: int = 0) -> None:
        """Show a command and run it. Raises Unavailable where it ends otherwise than it should."""
        quoted = [f'"{word}"' if " " in word else word for word in arguments]
        output.write(f"\n$ kt {' '.join(quoted)}")
        sys.stdout.flush()
        done = subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environment, check=False
        )
        if done.returncode != expect:
            raise Unavailable(
                f"kt {arguments[0]} ended with {done.returncode}",
                do=f"the workspace is in {self.root}",
            )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kt", *arguments]

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """`kt serve` on a free port, until the block ends."""
        output.write("\n$ kt serve --port 0 &")
        process = subprocess.Popen(
            self.command("serve", "--port", "0"), cwd=self.root, env=self.environment
        )
        try:
            yield self.settle()
        finally:
            process.terminate()
            process.wait(20)

    def settle(self) -> str:
        """Wait until the predictor serves what the history says. Returns its address."""
        from kt.deployments import audit
        from kt.predictor import presence
        from kt.workspace import Workspace

        workspace = Workspace(self.root)
        _, state = audit.read(workspace)
        if found := presence.found(workspace, state.seq, 60):
            return found
        raise Unavailable(f"no predictor serves event {state.seq}")


def read_histories(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The answers of some test learners, oldest first."""
    histories: dict[str, list[dict[str, Any]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            answers = histories.setdefault(row["student_id"], [])
            answers.append({"item": row["item"], "response": int(row["response"])})
    return dict(list(histories.items())[:LEARNERS])


def replay(
    address: str, histories: dict[str, list[dict[str, Any]]], *, drifted: bool = False
) -> None:
    """Every learner asks three times, a little later each, and tells what came of it.

    drifted: what comes of it is not what was learnt. Tells who answered, and that each kept a variant.
    """
    from kt.client import Client

    seen: dict[str, set[str]] = {}
    asked = 0
    started = time.monotonic()
    with Client(address) as client:
        for student, answers in histories.items():
            outcomes = []
            for upto in (5, 10, 15):
                reply = client.predict(
                    {
                        "student_id": student,
                        "answers": answers[:upto],
                        "items": [answers[upto]["item"]],
                    }
                )
                right = answers[upto]["response"]
                outcome = 1 - right if drifted else right
                outcomes.append({"prediction_id": reply.prediction_id, "outcome": outcome})
                seen.setdefault(student, set()).add(reply.version)
                asked += 1
            client.feedback_all(outcomes)
    moved = sum(len(versions) > 1 for versions in seen.values())
    if moved:
        raise Unavailable(
            f"{moved} learners did not stay with one version", do="this is a bug in kt"
        )
    counts = Counter(version for versions in seen.values() for version in versions)
    shares = " · ".join(
        f"{version} {count} learners ({count / len(seen):.0%})"
        for version, count in sorted(counts.items())
    )
    rate = asked / (time.monotonic() - started)
    output.write(f"  {asked} requests and outcomes, {rate:.0f} a second: {shares}")
