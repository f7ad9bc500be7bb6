"""The file that training leaves: weights, what they fit, their scores and where they came from.

    {"kt": 1, "family", "config", "signature", "scores", "training", "reference", "state_dict"}

All but the state dict is JSON, so the file opens with weights_only=True. `kt/registry/checkpoint.py`
is what reads it.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from kt.files import write_whole

VERSION = 1


def save(
    path: Path,
    *,
    family: str,
    config: BaseModel,
    signature: BaseModel,
    state_dict: Mapping[str, torch.Tensor],
    scores: Mapping[str, Any],
    training: Mapping[str, Any],
    reference: Mapping[str, Any] | None = None,
) -> None:
    """Write the checkpoint, wholly or not at all. Raises Unavailable where the disk refuses."""
    content = {
        "kt": VERSION,
        "family": family,
        "config": config.model_dump(mode="json"),
        "signature": signature.model_dump(mode="json"),
        "scores": dict(scores),
        "training": dict(training),
        "reference": dict(reference or {}),
        "state_dict": {name: tensor.detach().contiguous() for name, tensor in state_dict.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())
