"""A family fitted at once, on all of its data."""

from typing import Any

import torch
from pydantic import BaseModel

from kt.models import task
from kt.models.family import Fitted

BATCH = 256  # windows


def fit(family: Fitted, config: BaseModel, signature: Any, data: Any) -> torch.nn.Module:
    """A fitted model in eval mode. Histories are cut into windows, as they are when it serves."""
    steps = task.of(family).steps(data, signature, BATCH, None)
    model = family.Model(config)
    family.fit(model, [step.tensors for step in steps])
    return model.eval()
