"""kt demo: the whole main job in a fresh workspace, every step by the command that a person would type.

Two school years in a minute. In spring a model of a pilot class meets one of many learners and loses by
evidence; in autumn the items are others, which an alert says and a retrained model cures.
"""

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from kt.cli import output
from kt.cli.pupils import Pupils
from kt.cli.stage import Stage

HASTE = """
[predictor]
engine = "torch"     # without ONNX graphs, whose making takes longer than all the rest
flush = 1.0          # seconds; 10 in earnest
[monitor]
interval = 2.0       # seconds; a minute in earnest
slow_interval = 2.0  # a quarter of an hour
[experiment]
least = 0.0          # days before a verdict; 1 in earnest
"""

JOB = """
[jobs.refresh]
model = "tutor"
family = "gpcm"
size = "small"
options = {epochs = 6, lr = 0.02}
then = "canary"
steps = [20, 50]     # percent; the last step leaves the promotion to a person
every = 1            # seconds; an hour in earnest
[[jobs.refresh.data]]
name = "files"
paths = ["autumn/train.csv"]
[[jobs.refresh.trigger]]
name = "alert"
"""


def demo(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A new folder; a temporary one without.")
    ] = None,
) -> None:
    """Show the main job, end to end: train, deploy, split traffic, promote; drift, alert, retrain, roll back.

    Everything happens in a workspace of its own, which stays for you to look at.

    Example: kt demo
    """
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="kt-demo-")) if folder is None else folder.resolve()
    stage = Stage(root)
    prepare(stage)
    with stage.serving() as address, stage.watching():
        spring(stage, address)
        autumn(stage, address)
    stage.title("What happened, and whether every byte is as kt wrote it")
    stage.kt("history")
    stage.kt("alerts history")
    stage.kt("runs")
    stage.kt("verify")
    seconds = time.monotonic() - started
    output.write(f"\nDone in {seconds:.0f} s.  Look around: cd {root} && git log --stat")


def prepare(stage: Stage) -> None:
    stage.title("A workspace: kt.toml, four folders, git")
    stage.kt("init .")
    stage.title("In a hurry: what nobody but a demo sets")
    stage.write("kt.toml", HASTE)
    stage.title("Learners who learn, simulated: a pilot class, then a school")
    stage.kt("simulate gpcm --out pilot --students 12 --items 40")
    stage.kt("simulate gpcm --out spring --students 800 --items 40")
    stage.title("How hard items are, from the pilot; and a memory network, from the school")
    stage.kt("train marginal --data pilot --out counts.pt")
    stage.kt("train gpcm --data spring/train.csv --out memory.pt --size small --epochs 6 --lr 0.02")
    stage.title("The first goes live; the second gets 10 % of the learners")
    stage.kt("deploy counts.pt --model tutor")
    stage.kt("deploy memory.pt --model tutor --traffic 10 --ab-test memory")


def spring(stage: Stage, address: str) -> None:
    pupils = Pupils(stage.root / "spring" / "test.csv", address)
    stage.title("Learners ask, over HTTP, and answer: each stays with one variant")
    stage.told(pupils.learn)
    stage.kt("status")
    stage.title("Is it better?  Not sure yet: exit code 7 says so to scripts")
    stage.kt("promote memory", expect=7)
    stage.title("More traffic moves learners only into the treatment")
    stage.kt("ramp memory 50")
    stage.told(pupils.learn_all)
    stage.kt("experiment memory")
    stage.title("Now it is sure")
    stage.kt("promote memory")


def autumn(stage: Stage, address: str) -> None:
    stage.title("A new school year: other items, which the model does not know")
    stage.kt("simulate gpcm --out autumn --students 600 --items 40 --seed 1")
    pupils = Pupils(stage.root / "autumn" / "test.csv", address)
    stage.write("kt.toml", JOB)
    stage.kt("retrain --check")
    stage.told(pupils.learn)
    stage.title("An alert opens when it is sure: three looks in a row at minutes that are over")
    stage.until_alert()
    stage.kt("alerts")
    if importlib.util.find_spec("vl_convert"):
        stage.kt("dashboard --last 24h --out dashboard.html")
    stage.title(
        "That makes the job due: it trains, compares on the newest learners, starts a canary"
    )
    stage.kt("retrain --deploy")
    stage.told(pupils.learn)
    stage.kt("canary step")
    stage.told(pupils.learn_all)
    stage.kt("experiment refresh-1")
    stage.kt("promote refresh-1")
    stage.title("Three in the morning: undo it")
    stage.kt('rollback --reason "just to see"')
    stage.kt("status")
