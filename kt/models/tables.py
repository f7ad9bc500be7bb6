"""What follows from an item or an answer alone, computed once however often a batch or a predictor repeats it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter

import torch
from torch import Tensor, nn

WRITES = attrgetter("_version")  # how often a tensor was written to
_looked_up = ContextVar("looked_up", default=False)
LARGEST = 1 << 24  # numbers in a table that is kept, 64 MB: what takes more is computed


def tabled(
    of: Callable[[Tensor], Iterable[Tensor]], places: Tensor, count: int
) -> Iterable[Tensor]:
    """of(places), through the table of(0 .. count - 1) where that is less to compute."""
    if places.numel() < count:
        return of(places)
    tables = of(torch.arange(count, device=places.device))
    # index_select's gradient is added up several times as fast as that of table[places]
    return [x.index_select(0, places.flatten()).view(*places.shape, -1) for x in tables]


@contextmanager
def looked_up() -> Iterator[None]:
    """A program that is exported meanwhile holds the tables that were made before, and looks them up."""
    token = _looked_up.set(True)
    try:
        yield
    finally:
        _looked_up.reset(token)


class Table:
    """of(places), each (..., width), looked up in of(0 .. count - 1), which is kept from call to call.

    It is made again once a parameter of the model was written to. Where gradients are wanted, in training
    and in a program that is being exported, of(places) is computed; see `looked_up`.
    """

    def __init__(
        self, model: nn.Module, of: Callable[[Tensor], Sequence[Tensor]], count: int
    ) -> None:
        self.model, self.of, self.count = model, of, count
        self._seen: tuple[list[Tensor], int, torch.device] | None = None
        self._kept: Sequence[Tensor] = ()

    def __call__(self, places: Tensor) -> Sequence[Tensor]:
        kept = self.kept(places.device)
        return [torch.embedding(x, places) for x in kept] if kept else self.of(places)

    def kept(self, device: torch.device) -> Sequence[Tensor]:
        """The whole table, (count, width) each; empty where there is none."""
        if torch.compiler.is_exporting() and _looked_up.get():
            return self._kept
        if self.model.training or torch.is_grad_enabled() or torch.compiler.is_exporting():
            return ()
        if self._seen:
            parameters, writes, where = self._seen
            if where == device and sum(map(WRITES, parameters)) == writes:
                return self._kept
        parameters = list(self.model.parameters())
        if any(one.is_inference() for one in parameters):
            return ()  # torch does not count what is written to such
        width = sum(x.numel() for x in self.of(torch.zeros(1, dtype=torch.int64, device=device)))
        self._kept = ()
        if width * self.count <= LARGEST:
            self._kept = [x.contiguous() for x in self.of(torch.arange(self.count, device=device))]
        self._seen = parameters, sum(map(WRITES, parameters)), device
        return self._kept
