"""The memory's recurrence against its equations written out."""

import pytest
import torch

from kt.models.recurrence import Recurrence, recur


def written_out(w, e, a, memory):
    """DKVMN's equations, a step at a time, under autograd."""
    M = memory.expand(w.shape[0], -1, -1)
    read = []
    for t in range(w.shape[1]):
        column = w[:, t, :, None]
        read.append((column * M).sum(1))
        M = M * (1 - column * e[:, t, None]) + column * a[:, t, None]
    return torch.stack(read, 1)


@pytest.mark.parametrize("T", [2, Recurrence.BLOCK, 2 * Recurrence.BLOCK + 3])
def test_the_recurrence_and_its_gradient_are_autograd_s(T):
    torch.manual_seed(0)
    B, N, D = 3, 4, 5
    w = torch.rand(B, T, N, dtype=torch.float64).softmax(-1).requires_grad_()
    e, a = (torch.rand(B, T, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    memory = torch.rand(N, D, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(B, T, D, dtype=torch.float64)
    ours, theirs = (f(w, e, a, memory) for f in (recur, written_out))
    torch.testing.assert_close(ours, theirs)
    inputs = (w, e, a, memory)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((theirs * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)
