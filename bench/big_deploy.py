"""`kt deploy` of a big checkpoint, beside one pass of read + sha256 + write + fsync over the same file.

    python bench/big_deploy.py --mb 1000 --turns 3 --of matrix|tables

One pass, the smallest program that does the same (smallest_deploy.py) and `kt deploy` in turn, each turn
in a fresh workspace; the smallest of each counts. Prints wall and CPU seconds, their ratios to one pass,
what the parts of a deploy take alone, and the peak of memory that is not a map of a file (what a process
really takes: mapped weights are the page cache's) over that of a small checkpoint.

    matrix    the gates' worst case: one matrix, all of which is read for every request
    tables    SAKT of 50,000 items, whose weights are nearly all rows that a request looks up
"""

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kt.models import sakt
from kt.registry import archive, checkpoint, weights
from kt.registry.gate import Subject
from kt.registry.gates import causality, finite, health, latency, likelihood
from kt.registry.load import check, open_weights
from kt.registry.record import Source, Spec

FAMILY = '''
"""One big matrix."""
import torch
from pydantic import BaseModel
from kt.models import tensors as FORM
from kt.models.tensors import Axis, Signature, Tensor

METRIC = ""

class Config(BaseModel):
    rows: int

class Model(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.a = torch.nn.Linear(1000, config.rows)
    def serve(self, x):
        return {"output": self.a(x).mean(-1)}

def signature(config):
    axes = (Axis(name="rows", least=1, most=8), Axis(least=1000, most=1000))
    return Signature(inputs=(Tensor(name="x", dtype="float32", axes=axes),), outputs=("output",))
'''
SETTINGS = """
git = "off"
[models.matrix]
family = "bigmatrix"
[models.tables]
family = "sakt"
"""
ITEMS = 50_000  # of the tables
SMALLEST = Path(__file__).with_name("smallest_deploy.py")
Seconds = tuple[float, float]  # wall, CPU


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--of", choices=("matrix", "tables"), default="matrix")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kt-big-") as folder:
        root = Path(folder)
        (root / "kt.toml").write_text(SETTINGS)
        (root / "bigmatrix.py").write_text(FAMILY)
        deploy(root, options.of, checkpoint_of(root, options.of, 1))  # warms Python's caches
        small = deploy(root, options.of, checkpoint_of(root, options.of, 2))[1]
        big = checkpoint_of(root, options.of, options.mb)
        taken: dict[str, list[Seconds]] = {"one pass": [], "smallest": [], "kt deploy": []}
        for _ in range(options.turns):
            taken["one pass"].append(one_pass(big, root / "copy"))
            taken["smallest"].append(smallest(big, root / "copy", options.of))
            seconds, memory = deploy(root, options.of, big)
            taken["kt deploy"].append(seconds)
            print(*(f"  {name} {shown(times[-1])}" for name, times in taken.items()), flush=True)
        once = least(taken["one pass"])
        for name, times in taken.items():
            wall, cpu = least(times)
            ratios = f"{wall / once[0]:.2f} {cpu / once[1]:.2f}"
            print(f"{name:<10} {shown((wall, cpu))}  ratios {ratios}")
        print(f"memory      {memory:.0f} MB, {memory - small:+.0f} MB over a small checkpoint")
        for name, seconds in parts(root, options.of, big):
            print(f"  {name:<42} {shown(seconds)}", flush=True)


def shown(seconds: Seconds) -> str:
    return f"wall {seconds[0]:.2f} s  cpu {seconds[1]:.2f} s"


def least(measured: list[Seconds]) -> Seconds:
    return min(wall for wall, _ in measured), min(cpu for _, cpu in measured)


def checkpoint_of(root: Path, kind: str, mb: int) -> Path:
    """A file of about so many megabytes, its configuration beside it."""
    path = root / f"{mb}.pt"
    if kind == "matrix":
        rows = mb * 250
        torch.save({"a.weight": torch.randn(rows, 1000), "a.bias": torch.zeros(rows)}, path)
        path.with_suffix(".json").write_text(f'{{"rows": {rows}}}')
    else:
        # three rows of an item: its own and those of its answers
        width = max(1, mb * 1_000_000 // (3 * ITEMS * 4) // 8) * 8
        config = sakt.Config(items=ITEMS, d_model=width)
        torch.save(sakt.Model(config).state_dict(), path)
        path.with_suffix(".json").write_text(config.model_dump_json())
    return path


def deploy(root: Path, kind: str, path: Path) -> tuple[Seconds, float]:
    """Seconds of the processes, and their peak of anonymous memory in MB."""
    for room in ("registry", "deployments", ".kt"):
        shutil.rmtree(root / room, ignore_errors=True)
    command = [sys.executable, "-m", "kt", "deploy", str(path), "--model", kind, "--quiet"]
    command += ["--config", str(path.with_suffix(".json")), "--force", "--reason", "bench"]
    peak = [0.0]

    def run() -> None:
        process = subprocess.Popen(command, cwd=root)
        watcher = threading.Thread(target=watch, args=(process.pid, peak))
        watcher.start()
        assert process.wait() == 0
        watcher.join()

    return timed(run, resource.RUSAGE_CHILDREN), peak[0]


def timed(act: Callable[[], Any], who: int = resource.RUSAGE_SELF) -> Seconds:
    before, started = resource.getrusage(who), time.perf_counter()
    act()
    wall, after = time.perf_counter() - started, resource.getrusage(who)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def watch(pid: int, peak: list[float]) -> None:
    """The most anonymous memory of a process and its children, while it lives."""
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            total = sum(anonymous(each) for each in [str(pid), *children])
        except OSError:
            return
        if total == 0:
            return
        peak[0] = max(peak[0], total)
        time.sleep(0.02)


def anonymous(pid: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def one_pass(source: Path, target: Path) -> Seconds:
    """read + sha256 + write + fsync."""

    def act() -> None:
        hashed, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
        with source.open("rb", buffering=0) as old, target.open("wb") as new:
            while count := old.readinto(buffer):
                hashed.update(buffer[:count])
                new.write(buffer[:count])
            new.flush()
            os.fsync(new.fileno())

    seconds = timed(act)
    target.unlink()
    return seconds


def smallest(source: Path, target: Path, kind: str) -> Seconds:
    command = [sys.executable, str(SMALLEST), str(source), str(target), kind]
    seconds = timed(lambda: subprocess.run(command, check=True), resource.RUSAGE_CHILDREN)
    target.unlink()
    return seconds


def parts(root: Path, kind: str, big: Path) -> Iterator[tuple[str, Seconds]]:
    """What a deploy consists of, one after the other; in a deploy the first two overlap."""
    torch_alone = [sys.executable, "-c", "import torch"]
    yield (
        "torch's import",
        timed(lambda: subprocess.run(torch_alone, check=True), resource.RUSAGE_CHILDREN),
    )
    with emptied(root / "parts") as folder:
        kept: list[Source] = []
        yield (
            "sha256 beside the archive's checksums",
            timed(lambda: kept.append(checkpoint.source_of(big, big))),
        )
        yield "  of these the checksums", timed(lambda: archive.names(big))
        tensors = checkpoint.read(big, kept[0], big).tensors
        spec = deployed(root, kind)
        path = folder / "weights"
        yield (
            "safetensors: write + fsync beside sha256",
            timed(lambda: weights.write(tensors, {"kt": spec.model_dump_json()}, path)),
        )
        subject = Subject("big", open_weights(root, path, spec), path, None)
        for gate in (finite, causality, health, latency, likelihood):
            name = gate.__name__.rpartition(".")[2]
            judge = partial(gate.judge, subject, None, gate.Settings())
            yield f"gate {name}", timed(judge)


def deployed(root: Path, kind: str) -> Spec:
    from kt.registry import record
    from kt.workspace import Workspace

    known = record.read(Workspace(root), kind, "v1")
    return check(record.weights(root, kind, "v1"), known.sha256)


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
