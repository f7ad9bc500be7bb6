"""Windows of answers as tensors, and a family fitted on all of them at once."""

import numpy as np
import torch
from pydantic import BaseModel

from kt.models.data import Data, Windows, batches, padded, windows
from kt.models.family import Batch, Fitted
from kt.models.tracing import Signature

BATCH = 256  # windows


def fit(family: Fitted, config: BaseModel, signature: Signature, data: Data) -> torch.nn.Module:
    """A fitted model in eval mode. Histories are cut into windows, as they are when it serves."""
    rows = data.rows(signature)
    pieces = windows(data, signature.window, overlap=False)
    order = batches(pieces, BATCH, None)
    model = family.Model(config)
    family.fit(model, [tensors(rows, data.responses, pieces, places) for places in order])
    return model.eval()


def tensors(rows: np.ndarray, responses: np.ndarray, pieces: Windows, places: np.ndarray) -> Batch:
    """Items and responses (B, T) and lengths (B,) of these windows."""
    items, given = (padded(values, pieces, places) for values in (rows, responses))
    return (
        torch.from_numpy(items),
        torch.from_numpy(given),
        torch.from_numpy(pieces.lengths[places]),
    )
