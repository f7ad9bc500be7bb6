"""What follows from an item or an answer alone, computed once however often a batch repeats it."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def tabled(
    of: Callable[[Tensor], Iterable[Tensor]], places: Tensor, count: int
) -> Iterable[Tensor]:
    """of(places), through the table of(0 .. count - 1) where that is less to compute."""
    if places.numel() < count:
        return of(places)
    tables = of(torch.arange(count, device=places.device))
    # index_select's gradient is added up several times as fast as that of table[places]
    return [x.index_select(0, places.flatten()).view(*places.shape, -1) for x in tables]
