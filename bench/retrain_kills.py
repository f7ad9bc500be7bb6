"""kill -9 at random points of a daemon, the retraining that it starts and whatever that starts, over and over.

    python bench/retrain_kills.py [--kills 100] [--seed 1]

Real processes: `kt daemon`, `kt retrain`, the program that trains, the comparison, the model door, the deploy
that follows. Ends with 1 where a version is half there, two programs trained at once, samples are never
learnt from, a lock, a staged folder or a process is left, or a run has no end.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import world  # noqa: E402
from daemons import Retraining, alive, below  # noqa: E402
from predictors import within  # noqa: E402

from kt.workspace import Workspace  # noqa: E402

LONG = 600.0  # seconds: of a busy machine


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt-kills-") as folder:
        wrong = kills(Path(folder), asked.kills, random.Random(asked.seed))
    for one in wrong:
        print(f"WRONG  {one}")
    sys.exit(1 if wrong else 0)


def kills(folder: Path, count: int, draw: random.Random) -> list[str]:
    wrong = []
    world.save(folder / "candidate.pt")
    subprocess.run([sys.executable, "-m", "kt", "init", "w"], cwd=folder, check=True)
    scene = Retraining(Workspace(folder / "w"), folder / "candidate.pt")
    daemon = scene.daemon()
    within(scene.retrains, LONG)
    began = time.monotonic()
    within(lambda: scene.learnt() == scene.samples, LONG)
    whole = time.monotonic() - began  # seconds that a run takes here
    struck: Counter[str] = Counter()
    while struck.total() < count:
        if scene.learnt() == scene.samples:
            scene.another_model()
            scene.more()
        running = within(scene.retrains, LONG)[0]
        time.sleep(draw.uniform(0, whole))
        found = {"daemon": [daemon.pid], "retrain": [running], "below": below(running)}
        pids = found[draw.choice(sorted(found))]
        if not alive(running) or not pids:
            continue  # the run was quicker
        pid = draw.choice(pids)
        name, left = command_of(pid), below(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            struck[name] += 1
            print(f"{struck.total():3} {name}", flush=True)
        if pid == daemon.pid:
            daemon.wait()
            daemon = scene.daemon()
        else:
            within(partial(all_gone, left), 60)
    within(lambda: scene.learnt() == scene.samples, LONG)
    within(lambda: not scene.retrains(), LONG)
    began = time.monotonic()
    daemon.terminate()
    code = daemon.wait(60)
    print(f"the daemon ended with {code} after {time.monotonic() - began:.1f} s")
    checked = subprocess.run(scene.command("verify"), capture_output=True, text=True, check=False)
    wrong += [*scene.left(), *([checked.stdout] if checked.returncode else [])]
    outcomes = Counter(run.outcome for run in scene.job().runs)
    print("killed", dict(struck), "runs", dict(outcomes))
    return wrong


def all_gone(pids: list[int]) -> bool:
    return not any(map(alive, pids))


NAMES = "retrain", "daemon", "kt.jobs.trainer", "kt.registry.door", "train.py", "git"


def command_of(pid: int) -> str:
    """A process in a word."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    return next((name for name in NAMES if name in words), words[0])


if __name__ == "__main__":
    main()
