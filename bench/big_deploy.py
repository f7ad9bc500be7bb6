"""`kt deploy` of a big checkpoint, beside one pass of read + sha256 + write + fsync over the same file.

    python bench/big_deploy.py --mb 1000

Prints wall and CPU seconds of both, their ratio, and the peak of memory that is not a map of a file
(what a process really takes: mapped weights are the page cache's) over that of a small checkpoint.
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt-big-") as folder:
        root = Path(folder)
        (root / "kt.toml").write_text('git = "off"\n[models.big]\nfamily = "bigmatrix"\n')
        (root / "bigmatrix.py").write_text(FAMILY)
        small = checkpoint(root, 1)
        big = checkpoint(root, options.mb)
        deploy(root, small, 1)  # warms Python's caches
        _, _, memory_small = deploy(root, checkpoint(root, 2), 2)
        passes = [one_pass(big, root / "copy") for _ in range(2)]
        wall, cpu, memory = deploy(root, big, options.mb)
    print(
        f"one pass    wall {min(p[0] for p in passes):.2f} s  cpu {min(p[1] for p in passes):.2f} s"
    )
    print(f"kt deploy   wall {wall:.2f} s  cpu {cpu:.2f} s  ({options.mb} MB)")
    print(
        f"ratio       wall {wall / min(p[0] for p in passes):.2f}  cpu {cpu / min(p[1] for p in passes):.2f}"
    )
    print(f"memory      {memory:.0f} MB, {memory - memory_small:+.0f} MB over a small checkpoint")


def checkpoint(root: Path, mb: int) -> Path:
    rows = mb * 250
    path = root / f"{mb}.pt"
    torch.save({"a.weight": torch.randn(rows, 1000), "a.bias": torch.zeros(rows)}, path)
    (root / f"{mb}.json").write_text(f'{{"rows": {rows}}}')
    return path


def deploy(root: Path, path: Path, mb: int) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of the processes, and their peak of anonymous memory in MB."""
    command = [
        sys.executable,
        "-m",
        "kt",
        "deploy",
        str(path),
        "--model",
        "big",
        "--config",
        f"{mb}.json",
        "--force",
        "--reason",
        "bench",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(process.pid, peak))
    watcher.start()
    assert process.wait() == 0
    wall = time.perf_counter() - started
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, peak[0]


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
        time.sleep(0.01)


def anonymous(pid: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1000


def one_pass(source: Path, target: Path) -> tuple[float, float]:
    """read + sha256 + write + fsync: wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    hashed = hashlib.sha256()
    with source.open("rb") as old, target.open("wb") as new:
        while chunk := old.read(1 << 20):
            hashed.update(chunk)
            new.write(chunk)
        new.flush()
        os.fsync(new.fileno())
    target.unlink()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
