"""What it costs to measure every student's mastery: kt mastery update, from the files to the tables.

    python bench/mastery.py [--students 10000] [--answers 100] [--items 100] [--skills 20] [--families gpcm sakt]

Answers are drawn by chance, weights too: neither changes what it costs. Each family has a workspace and a process
of its own, on one thread. Measured again at once, with all rows in their places, is the second figure.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kt import process
from kt.registry import load

TOML = """git = "off"
[predictor]
engine = "torch"
[mastery.all]
model = "tutor"
skills = "skills.csv"
[[mastery.all.data]]
name = "files"
paths = ["answers.csv"]
"""


class Cost(NamedTuple):
    cpu: float  # seconds
    wall: float
    memory: float  # MB, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--students", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--skills", type=int, default=20)
    parser.add_argument("--families", nargs="+", default=["gpcm", "sakt"])
    options = parser.parse_args()
    for family in options.families:
        with tempfile.TemporaryDirectory(prefix="kt-bench-") as place:
            root = Path(place)
            lay_out(root, family, options)
            run(
                root,
                "deploy",
                str(root / "model.pt"),
                "--model",
                "tutor",
                "--force",
                "--reason",
                "bench",
            )
            first, again = (run(root, "mastery", "update", "--force") for _ in range(2))
            size = sum(path.stat().st_size for path in root.glob("kt.db*")) / 1e6
            print(
                f"{family:<6} {options.students:,} students x {options.answers} answers x {options.items} items:"
                f" {first.cpu:.1f} CPU s, {first.wall:.1f} s, {first.memory:.0f} MB; again {again.cpu:.1f} CPU s,"
                f" {again.memory:.0f} MB; tables {size:.1f} MB",
                flush=True,
            )


def lay_out(root: Path, family: str, options: argparse.Namespace) -> None:
    """A workspace with a checkpoint, answers, and the skills of items."""
    (root / "kt.toml").write_text(TOML)
    for room in ("registry", "deployments", "monitors", "jobs"):
        (root / room).mkdir()
    rng = np.random.default_rng(0)
    with (root / "skills.csv").open("w") as file:
        out = csv.writer(file)
        out.writerow(("item", "skill"))
        out.writerows((item, f"skill {item % options.skills}") for item in range(options.items))
    drawn = zip(
        np.repeat(np.arange(options.students), options.answers).tolist(),
        rng.integers(options.items, size=options.students * options.answers).tolist(),
        rng.integers(2, size=options.students * options.answers).tolist(),
        strict=True,
    )
    with (root / "answers.csv").open("w") as file:
        out = csv.writer(file)
        out.writerow(("student_id", "item", "response", "time"))
        out.writerows((*row, 1_760_000_000 + n) for n, row in enumerate(drawn))
    torch.manual_seed(0)
    code = load.family(root, family)
    config = code.Config(items=options.items, categories=2, **code.SIZES.get("small", {}))
    whole = {
        "kt": 1,
        "family": family,
        "config": config.model_dump(),
        "signature": code.signature(config).model_dump(),
        "state_dict": code.Model(config).state_dict(),
    }
    torch.save(whole, root / "model.pt")


def run(root: Path, *arguments: str) -> Cost:
    """A kt command in a process of its own. Ends this program where it fails."""
    command = [*process.command("kt"), "-C", str(root), *arguments, "--json"]
    began = time.monotonic()
    answer = os.open(root / "said.json", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    number = os.posix_spawn(
        command[0],
        command,
        {**process.environment(), "OMP_NUM_THREADS": "1"},
        file_actions=[(os.POSIX_SPAWN_DUP2, answer, 1)],
    )
    os.close(answer)
    _, status, used = os.wait4(number, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(json.loads((root / "said.json").read_text())["error"]["message"])
    cpu = used.ru_utime + used.ru_stime
    return Cost(cpu, time.monotonic() - began, used.ru_maxrss / 1_000)


if __name__ == "__main__":
    main()
