"""States that slide along a history: the newest answer enters, the oldest leaves a window that is full.

Answers stand with the newest last and padding in front, so that what leaves a full window is the first,
whatever the lengths of those beside it.

A memory that answers write to by turns, M <- keep M + w a with keep = 1 - w e, can give the oldest answer's
part back: of what that wrote there is left what all later answers kept, and only that product must be known.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# A product of hundreds of factors below 1 ends at 0 and could not be divided again. So it is a number
# in (1 / STRIDE, 1], times STRIDE to a power that is counted.
STRIDE = 2.0**512
ALL_BUT = 1 - 2**-24  # what an answer erases at most: it must keep something


def newest_last(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T), padded on the right, with the padding in front instead."""
    T = x.shape[1]
    place = torch.arange(T, device=x.device)
    return x.gather(1, (place + lengths.unsqueeze(1)) % T)


def enter(x: Tensor, new: Tensor, window: int) -> Tensor:
    """(B, T, ...) and what follows, new (B, ...): (B, T + 1, ...), or (B, window, ...) where that is less."""
    if x.shape[1] == window:
        x = x[:, 1:]
    return torch.cat([x, new.unsqueeze(1)], 1)


class Write(NamedTuple):
    """What answers do to a memory: w (..., N) says where, e, at most ALL_BUT, and a (..., D) what is erased and added."""

    w: Tensor
    e: Tensor
    a: Tensor


class Kept(NamedTuple):
    """What is left of anything that was in a memory before all answers: share / STRIDE^strides, (B, N, D) each."""

    share: Tensor
    strides: Tensor


def written(memory: Tensor, by: Write) -> Tensor:
    """The memory (B, N, D) after an answer."""
    w, e, a = by.w.unsqueeze(-1), by.e.unsqueeze(-2), by.a.unsqueeze(-2)
    return torch.addcmul(memory, w, a - memory * e)


def kept(by: Write) -> Kept:
    """What answers (B, T) leave together."""
    erased = by.w.unsqueeze(-1) * by.e.unsqueeze(-2)  # (B, T, N, D)
    logarithm = (-erased).log1p().sum(1, dtype=torch.float64)
    strides = (-logarithm / math.log(STRIDE)).floor()
    return Kept((logarithm + strides * math.log(STRIDE)).exp(), strides)


def slid(
    memory: Tensor, kept: Kept, first: Tensor, leaves: Write, enters: Write
) -> tuple[Tensor, Kept]:
    """The memory without its oldest answer and with a new one. first: (N, D), before all answers."""
    old, new = (1 - by.w.unsqueeze(-1) * by.e.unsqueeze(-2).double() for by in (leaves, enters))
    later = kept.share / old  # what all but the oldest leave
    left = torch.where(kept.strides == 0, later, 0.0)
    memory = memory - left * (written(first.double(), leaves) - first)
    share = later * new
    low, high = share < 1 / STRIDE, share > 2  # nothing is more than 1 unless strides are counted
    share = torch.where(low, share * STRIDE, torch.where(high, share / STRIDE, share))
    return written(memory, enters), Kept(share, kept.strides + low.double() - high.double())
