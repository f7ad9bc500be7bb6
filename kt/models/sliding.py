"""States that slide along a history: the newest answer enters, the oldest leaves a window that is full.

Answers stand with the newest last and padding in front, so that what leaves a full window is the first,
whatever the lengths of those beside it.
"""

import torch
from torch import Tensor

SURE = 1 - 2**-24  # what is erased wholly still has a logarithm


def newest_last(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T), padded on the right, with the padding in front instead."""
    T = x.shape[1]
    place = torch.arange(T, device=x.device)
    return x.gather(1, (place + lengths.unsqueeze(1)) % T)


def enter(x: Tensor, new: Tensor, window: int) -> Tensor:
    """(B, T) and what follows, new (B,): (B, T + 1), or (B, window) where that is less."""
    return torch.cat([x[:, max(0, x.shape[1] + 1 - window) :], new.unsqueeze(1)], 1)


def erased(w: Tensor, e: Tensor) -> Tensor:
    """(..., N, D): the share that an answer which addresses w (..., N) erases, e (..., D) where it is w 1."""
    return (w.unsqueeze(-1) * e.unsqueeze(-2)).clamp(max=SURE)


def written(memory: Tensor, share: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """The memory (B, N, D) after a share (B, N, D) of it was erased, and a (B, D) added where w (B, N) says."""
    return torch.addcmul(memory, memory, share, value=-1) + w.unsqueeze(-1) * a.unsqueeze(-2)
