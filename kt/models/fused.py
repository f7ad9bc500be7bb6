"""The memory's recurrence in one loop, compiled by Numba; float32, on a processor.

Each student's memory stays in the nearest cache from its first step to its last. The same loop in C,
compiled with -O3 -march=native, was no faster.

Importing this raises ImportError where Numba is not installed, and RuntimeError where there is no
folder that it may keep the compiled code in. Compiling takes seconds, once a machine.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

# Sums may be taken in any order, so that they are taken several terms at a time.
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


class Recurrence(torch.autograd.Function):
    """What kt.models.recurrence.Recurrence is, to rounding."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, e: Tensor, a: Tensor, memory: Tensor) -> Tensor:
        given = tuple(x.detach().contiguous() for x in (w, e, a, memory))
        ctx.save_for_backward(*given)
        read = torch.zeros_like(given[2])
        _read(*(x.numpy() for x in (*given, read)))
        return read

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        given = ctx.saved_tensors
        out = tuple(torch.zeros_like(x) for x in given)
        _differentiate(*(x.numpy() for x in (*given, grads[0].contiguous(), *out)))
        return out


@compiled
def _read(
    w: np.ndarray, e: np.ndarray, a: np.ndarray, memory: np.ndarray, read: np.ndarray
) -> None:
    """Adds what is read to `read` (B, T, D), which is zero."""
    B, T, N = w.shape
    D = a.shape[2]
    M = np.empty_like(memory)
    for b in range(B):
        M[:] = memory
        for t in range(T):
            for i in range(N):
                share = w[b, t, i]
                for d in range(D):
                    m = M[i, d]
                    read[b, t, d] += share * m
                    M[i, d] = m - share * (m * e[b, t, d] - a[b, t, d])


@compiled
def _differentiate(
    w: np.ndarray,
    e: np.ndarray,
    a: np.ndarray,
    memory: np.ndarray,
    dread: np.ndarray,
    dw: np.ndarray,
    de: np.ndarray,
    da: np.ndarray,
    dmemory: np.ndarray,
) -> None:
    """Adds the gradients to dw, de, da, dmemory, which are zero.

    A student's M_t are computed again, all T of them, which is quicker than to have kept those of a batch.
    """
    B, T, N = w.shape
    D = a.shape[2]
    M = np.empty((T, N, D), memory.dtype)
    dM = np.empty_like(memory)
    for b in range(B):
        M[0] = memory
        for t in range(T - 1):
            for i in range(N):
                share = w[b, t, i]
                for d in range(D):
                    m = M[t, i, d]
                    M[t + 1, i, d] = m - share * (m * e[b, t, d] - a[b, t, d])
        dM[:] = 0
        for t in range(T - 1, -1, -1):
            for i in range(N):
                share = w[b, t, i]
                slope = dw[b, t, i]
                for d in range(D):
                    m, dm, dr = M[t, i, d], dM[i, d], dread[b, t, d]
                    slope += m * dr - dm * (m * e[b, t, d] - a[b, t, d])
                    de[b, t, d] -= share * dm * m
                    da[b, t, d] += share * dm
                    dM[i, d] = dm - share * (dm * e[b, t, d] - dr)
                dw[b, t, i] = slope
        dmemory += dM
