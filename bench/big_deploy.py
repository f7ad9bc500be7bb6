"""`kt deploy` of a big checkpoint, beside one pass of read + sha256 + write + fsync over the same file.

    python bench/big_deploy.py --mb 1000 --turns 3

The two in turn, each turn in a fresh workspace; the smallest of each counts. Prints wall and CPU seconds,
their ratio, what the parts of a deploy take alone, and the peak of memory that is not a map of a file
(what a process really takes: mapped weights are the page cache's) over that of a small checkpoint.

The model is the gates' worst case: one matrix, all of which is read for every request.
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
from pathlib import Path
from typing import Any

import torch

from kt.registry import archive, checkpoint, weights
from kt.registry.gate import Subject
from kt.registry.gates import finite, latency
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
Seconds = tuple[float, float]  # wall, CPU


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kt-big-") as folder:
        root = Path(folder)
        (root / "kt.toml").write_text('git = "off"\n[models.big]\nfamily = "bigmatrix"\n')
        (root / "bigmatrix.py").write_text(FAMILY)
        deploy(root, checkpoint_of(root, 1))  # warms Python's caches
        small = deploy(root, checkpoint_of(root, 2))[1]
        big = checkpoint_of(root, options.mb)
        passes: list[Seconds] = []
        deploys: list[Seconds] = []
        for _ in range(options.turns):
            passes.append(one_pass(big, root / "copy"))
            seconds, memory = deploy(root, big)
            deploys.append(seconds)
            print(f"  one pass {shown(passes[-1])}   kt deploy {shown(deploys[-1])}", flush=True)
        print(f"one pass    {shown(least(passes))}")
        print(f"kt deploy   {shown(least(deploys))}  ({options.mb} MB)")
        ratio = [a / b for a, b in zip(least(deploys), least(passes), strict=True)]
        print(f"ratio       wall {ratio[0]:.2f}    cpu {ratio[1]:.2f}")
        print(f"memory      {memory:.0f} MB, {memory - small:+.0f} MB over a small checkpoint")
        for name, seconds in parts(root, big):
            print(f"  {name:<42} {shown(seconds)}", flush=True)


def shown(seconds: Seconds) -> str:
    return f"wall {seconds[0]:.2f} s  cpu {seconds[1]:.2f} s"


def least(measured: list[Seconds]) -> Seconds:
    return min(wall for wall, _ in measured), min(cpu for _, cpu in measured)


def checkpoint_of(root: Path, mb: int) -> Path:
    rows = mb * 250
    path = root / f"{mb}.pt"
    torch.save({"a.weight": torch.randn(rows, 1000), "a.bias": torch.zeros(rows)}, path)
    path.with_suffix(".json").write_text(f'{{"rows": {rows}}}')
    return path


def deploy(root: Path, path: Path) -> tuple[Seconds, float]:
    """Seconds of the processes, and their peak of anonymous memory in MB."""
    for room in ("registry", "deployments", ".kt"):
        shutil.rmtree(root / room, ignore_errors=True)
    command = [sys.executable, "-m", "kt", "deploy", str(path), "--model", "big", "--quiet"]
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


def parts(root: Path, big: Path) -> Iterator[tuple[str, Seconds]]:
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
        spec = deployed(root)
        path = folder / "weights"
        yield (
            "safetensors: write + fsync beside sha256",
            timed(lambda: weights.write(tensors, {"kt": spec.model_dump_json()}, path)),
        )
        subject = Subject("big", open_weights(root, path, spec), path, None)
        yield (
            "gate finite, a run of 8 requests and 4 of one",
            timed(lambda: finite.judge(subject, None, finite.Settings())),
        )
        yield (
            "gate latency, at most 40 runs",
            timed(lambda: latency.judge(subject, None, latency.Settings())),
        )


def deployed(root: Path) -> Spec:
    from kt.registry import record
    from kt.workspace import Workspace

    known = record.read(Workspace(root), "big", "v1")
    return check(record.weights(root, "big", "v1"), known.sha256)


@contextmanager
def emptied(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
