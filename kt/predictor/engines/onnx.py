"""Runs a version's ONNX graph in ONNX Runtime: no torch, a fraction of its memory and of its start."""

from pathlib import Path

from kt.registry import session


def prepare() -> None:
    """Import the runtime."""
    import onnxruntime  # noqa: F401


def load(root: Path, model: str, version: str, sha256: str, threads: int) -> session.Session:
    """Raises KtError, also where the version has no graph or the runtime is not installed."""
    return session.load(root, model, version, sha256, threads)
