"""The memory's recurrence: what is read at every step while the answers are written, and its gradient.

    ρ_t = w_t M_t                               read
    M_{t+1} = M_t (1 - w_t e_t) + w_t a_t       write

Two forms give the same numbers: the one in torch below, and one loop compiled by Numba
(kt/models/fused.py), ten times as fast, where Numba is installed: `pip install 'kt[fast]'`.
"""

import importlib.metadata
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

WORTH = 512  # steps, of all students together, that are worth the second in which Numba is imported
TOLERANCE = 1e-5  # that the forms may differ by: of a value, and of 1 for smaller ones


def recur(w: Tensor, e: Tensor, a: Tensor, memory: Tensor) -> Tensor:
    """w: (B, T, N); e, a: (B, T, D); memory: (N, D). Returns ρ (B, T, D).

    In the memory's precision also where matrix products are rougher: what is kept is multiplied T times.
    """
    w, e, a = (x.to(memory.dtype) for x in (w, e, a))
    compiled = w.dtype == torch.float32 and w.device.type == "cpu" and w[..., 0].numel() >= WORTH
    read: Tensor = (tier().form if compiled else Recurrence).apply(w, e, a, memory)
    return read


@dataclass(frozen=True)
class Tier:
    """The form that float32 on a processor takes here. why: it is not the faster one, empty where it is."""

    name: str  # with its version
    form: Any  # a torch.autograd.Function
    why: str = ""


@cache
def tier() -> Tier:
    """The faster form where it works, tried out once a process; a warning where it is wrong."""
    try:
        from kt.models import fused

        gap = difference(fused.Recurrence)
    except (ImportError, RuntimeError, OSError) as error:
        return Tier("torch", Recurrence, str(error))
    if gap <= TOLERANCE:
        return Tier(f"numba {importlib.metadata.version('numba')}", fused.Recurrence)
    why = f"what Numba compiles here is off by {gap:.1g}"
    warnings.warn(f"{why}: the slower form is used", RuntimeWarning, stacklevel=2)
    return Tier("torch", Recurrence, why)


def compiles() -> bool:
    """Whether Numba is loaded here, and what it compiles is right. Loads nothing."""
    return tier.cache_info().currsize > 0 and tier().form is not Recurrence


def difference(form: Any) -> float:
    """How far a form's values and gradients are from those in torch, on a small draw; see TOLERANCE."""
    rng = torch.Generator().manual_seed(0)
    B, T, N, D = 2, Recurrence.BLOCK + 3, 3, 9
    shapes = ((B, T, N), (B, T, D), (B, T, D), (N, D))
    w, e, a, memory = (torch.rand(shape, generator=rng) for shape in shapes)
    upstream = torch.rand((B, T, D), generator=rng)

    def told(by: Any) -> list[Tensor]:
        given = [x.clone().requires_grad_() for x in (w.softmax(-1), e, a, memory)]
        with torch.enable_grad():
            read = by.apply(*given)
        return [read.detach(), *torch.autograd.grad(read, given, upstream)]

    pairs = zip(told(form), told(Recurrence), strict=True)
    return max(((x - y).abs() / y.abs().clamp(min=1)).max().item() for x, y in pairs)


class Recurrence(torch.autograd.Function):
    """In torch, with its gradient by hand.

    Autograd would keep six tensors (B, N, D) a step; by hand it is one in a block of steps, whose inner
    M_t are computed again in a buffer that stays in the processor's cache. A parallel scan was tried
    and is slower: the state is large, and memory traffic is what costs.
    """

    BLOCK = 16  # steps

    @staticmethod
    def forward(ctx: Any, w: Tensor, e: Tensor, a: Tensor, memory: Tensor) -> Tensor:
        """w: (B, T, N); e, a: (B, T, D); memory: (N, D). Returns ρ (B, T, D)."""
        w, e, a = (x.transpose(0, 1).contiguous() for x in (w, e, a))  # time first
        T, B, N = w.shape
        D = a.shape[-1]
        begins = [memory.expand(B, -1, -1)]  # M at the first step of each block
        states = memory.new_empty((Recurrence.BLOCK + 1, B, N, D))
        read = torch.empty_like(a)
        for first in range(0, T, Recurrence.BLOCK):
            last = min(first + Recurrence.BLOCK, T)
            _advance(states, begins[-1], w[first:last], e[first:last], a[first:last])
            n = last - first
            before = states[:n].view(n * B, N, D)
            torch.bmm(
                w[first:last].view(n * B, 1, N), before, out=read[first:last].view(n * B, 1, D)
            )
            if last < T:
                begins.append(states[n].clone())
        ctx.save_for_backward(w, e, a, *begins)
        return read.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w, e, a, *begins = ctx.saved_tensors
        dr = grads[0].transpose(0, 1).contiguous()  # (T, B, D)
        dw, de, da = torch.empty_like(w), torch.empty_like(e), torch.empty_like(a)
        (T, B, N), D = w.shape, a.shape[-1]
        states = a.new_empty((Recurrence.BLOCK + 1, B, N, D))
        dM = a.new_zeros((B, N, D))
        dMM, kept = torch.empty_like(dM), torch.empty_like(dM)
        for block in reversed(range(len(begins))):
            first = block * Recurrence.BLOCK
            last = min(first + Recurrence.BLOCK, T)
            _advance(states, begins[block], w[first:last], e[first:last], a[first:last])
            for t in reversed(range(first, last)):
                M, row, column = states[t - first], w[t].unsqueeze(1), w[t].unsqueeze(2)
                torch.mul(dM, M, out=dMM)
                torch.bmm(row, dMM, out=de[t].unsqueeze(1))
                torch.bmm(row, dM, out=da[t].unsqueeze(1))
                d = dw[t].unsqueeze(2)
                torch.bmm(dM, a[t].unsqueeze(2), out=d)
                d.baddbmm_(dMM, e[t].unsqueeze(2), alpha=-1)
                d.baddbmm_(M, dr[t].unsqueeze(2))
                torch.mul(column, e[t].unsqueeze(1), out=kept)
                dM.addcmul_(dM, kept, value=-1)
                dM.addcmul_(column, dr[t].unsqueeze(1))
        dw, de, da = (x.transpose(0, 1) for x in (dw, de.neg_(), da))
        return dw, de, da, dM.sum(0)


def _advance(states: Tensor, M: Tensor, w: Tensor, e: Tensor, a: Tensor) -> None:
    """states[0] = M and states[t + 1] what follows it, over the steps of w, e, a (time first)."""
    states[0] = M
    for t in range(len(w)):
        column, after = w[t].unsqueeze(2), states[t + 1]
        torch.mul(column, e[t].unsqueeze(1), out=after)
        torch.addcmul(states[t], states[t], after, value=-1, out=after)
        after.addcmul_(column, a[t].unsqueeze(1))
