"""Runs a version as the torch module that its family builds. The one file of serving that imports torch."""

import os
from pathlib import Path

from kt.registry import load as versions


def prepare(threads: int) -> None:
    """Import torch with this many threads for one model call."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is imported
    import torch

    torch.set_num_threads(threads)


def load(root: Path, model: str, version: str, sha256: str, threads: int) -> versions.Loaded:
    """Weights as a module in eval mode. Raises KtError."""
    prepare(threads)
    return versions.load(root, model, version, sha256)
