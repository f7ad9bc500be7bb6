"""Flip one random bit of one stored file, and see whether `kt verify` names it and whether it would be served.

    python bench/bitflips.py --flips 1000

Prints a line for each flip that was not caught, then the counts. Without git, which would help.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from kt.deployments import verify
from kt.errors import KtError
from kt.models import sakt
from kt.registry import load, record
from kt.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt-bitflips-") as folder:
        counts = run(Path(folder), options.flips, random.Random(options.seed))
    print(dict(counts))
    sys.exit(1 if counts["not caught"] or counts["served"] else 0)


def run(root: Path, flips: int, rng: random.Random) -> Counter[str]:
    workspace = make(root)
    assert not verify.everything(workspace), "the workspace is sound before anything is flipped"
    stored = sorted(
        path
        for room in ("registry", "deployments")
        for path in (root / room).rglob("*")
        if path.is_file() and path.stat().st_size
    )
    counts: Counter[str] = Counter()
    for _ in range(flips):
        path = rng.choice(stored)
        sound = path.read_bytes()
        bit = rng.randrange(len(sound) * 8)
        broken = bytearray(sound)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        counts["flips"] += 1
        counts[f"of {path.name}"] += 1
        found = verify.everything(Workspace(root))
        counts["caught" if found else "not caught"] += 1
        if path.name in (record.WEIGHTS, *load.EXPORTS) and is_served(root, path):
            counts["served"] += 1
        if not found:
            print(f"not caught: {path.relative_to(root)}, bit {bit}")
        path.write_bytes(sound)
    return counts


def is_served(root: Path, path: Path) -> bool:
    """Whether a predictor would load these weights, whose digest the manifest names, or what was made of them."""
    version, model = path.parent.name, path.parent.parent.name
    known = record.read(Workspace(root), model, version)
    try:
        if path.name in known.exports:
            load.check_export(path, known.exports[path.name].sha256)
        else:
            load.load(root, model, version, known.sha256)
    except KtError:
        return False
    return True


def make(root: Path) -> Workspace:
    """A workspace with three versions, an experiment and some history."""
    (root / "kt.toml").write_text('git = "off"\n')
    for seed in range(3):
        torch.manual_seed(seed)
        config = sakt.Config(items=5, d_model=8, heads=2, window=10)
        checkpoint = {
            "kt": 1,
            "family": "sakt",
            "config": config.model_dump(),
            "signature": sakt.signature(config).model_dump(),
            "state_dict": sakt.Model(config).state_dict(),
        }
        torch.save(checkpoint, root / f"{seed}.pt")
    for arguments in (
        ["deploy", "0.pt"],
        ["deploy", "1.pt", "--traffic", "10", "--ab-test", "x"],
        ["promote", "x", "--force", "--reason", "bench"],
        ["rollback"],
        ["deploy", "2.pt", "--traffic", "20", "--ab-test", "y"],
    ):
        command = [sys.executable, "-m", "kt", *arguments]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return Workspace(root)


if __name__ == "__main__":
    main()
