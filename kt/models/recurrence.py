"""The memory's recurrence: what is read at every step while the answers are written, and its gradient."""

from typing import Any

import torch
from torch import Tensor


def recur(w: Tensor, e: Tensor, a: Tensor, memory: Tensor) -> Tensor:
    """What is read at every step while the answers are written. Shapes: Recurrence.forward."""
    read: Tensor = Recurrence.apply(w, e, a, memory)  # type: ignore[no-untyped-call]  # torch's own
    return read


class Recurrence(torch.autograd.Function):
    """ρ_t = w_t M_t and M_{t+1} = M_t (1 - w_t e_t) + w_t a_t over T steps, with its gradient by hand.

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
