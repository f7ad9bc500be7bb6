"""sakt's advance and ask in loops compiled by Numba; on a processor. See kt/models/gpcm_steps.py.

Importing this raises what importing kt/models/fused.py does.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kt.models.family import State
from kt.models.fused import compiled
from kt.models.gpcm_steps import Arrays, arrays


class Steps:
    """Those of a sakt.Model, as its parameters stand."""

    def __init__(self, model: Any) -> None:
        here = torch.device("cpu")
        self.window, self.categories = model.config.window, model.config.categories
        (self.attended,) = arrays(model.attended.kept(here))  # keys and values, by answer
        # e, its query, biases
        self.lookups = arrays([*model.queries.kept(here), *model.biases.kept(here)])
        self.heads = model.config.heads
        layers = (
            model.mix,
            model.norm_attention,
            model.widen,
            model.narrow,
            model.norm_ffn,
            model.head,
        )
        self.layers = tuple(arrays([layer.weight, layer.bias]) for layer in layers)

    def takes(self, state: State) -> bool:
        return True

    def advance(self, state: State, items: Tensor, responses: Tensor) -> State:
        attended, lengths = arrays([state["attended"], state["lengths"]])
        B, T, width = attended.shape
        out = np.empty((B, min(T, self.window) + 1, width), attended.dtype)
        out[:, :-2] = attended[:, T + 1 - out.shape[1] : -1]
        out[:, -2] = self.attended[items.numpy() * self.categories + responses.numpy()]
        out[:, -1] = attended[:, -1]
        lengths = np.minimum(lengths + 1, self.window)
        return {"attended": torch.from_numpy(out), "lengths": torch.from_numpy(lengths)}

    def ask(self, state: State, asked: Tensor) -> dict[str, Tensor]:
        out = np.empty((*asked.shape, self.categories), np.float32)
        attended, lengths, items = arrays([state["attended"], state["lengths"], asked])
        ask(attended, lengths, items, self.lookups, self.heads, self.layers, out)
        return {"probabilities": torch.from_numpy(out)}

    def examples(self, rng: torch.Generator) -> Iterator[State]:
        width = self.attended.shape[1]
        for T in {1, self.window}:
            attended = torch.randn(2, T + 1, width, generator=rng)
            yield {"attended": attended, "lengths": torch.tensor([T, T // 2])}


@compiled
def ask(
    attended: np.ndarray,
    lengths: np.ndarray,
    asked: np.ndarray,
    lookups: Arrays,
    heads: int,
    layers: tuple[Arrays, ...],
    out: np.ndarray,
) -> None:
    """out (B, M, K): the probabilities. layers: weight and bias of each, one after the other."""
    embedded, queries, biases = lookups
    mix, norm, widen, narrow, norm_ffn, head = layers
    B, T, width = attended.shape
    D, M, K = width // 2, out.shape[1], out.shape[2]
    d, window = D // heads, biases.shape[1] // heads
    read, h, f = np.empty(D, np.float32), np.empty(D, np.float32), np.empty(D, np.float32)
    scores, z = np.empty(T, np.float32), np.empty(K, np.float32)
    for b in range(B):
        for j in range(M):
            q = asked[b, j]
            for n in range(heads):
                first, recent = n * d, (n + 1) * window - T  # of its part of a key, of its biases
                for t in range(T):
                    s = np.float32(0)
                    for i in range(first, first + d):
                        s += queries[q, i] * attended[b, t, i]
                    scores[t] = s / math.sqrt(d) + biases[lengths[b], recent + t]
                softmax(scores)
                read[first : first + d] = 0
                for t in range(T):
                    for i in range(first, first + d):
                        read[i] += scores[t] * attended[b, t, D + i]
            affine(mix, read, h)
            h += embedded[q]
            normalize(h, norm)
            affine(widen, h, read)
            np.maximum(read, 0, read)
            affine(narrow, read, f)
            h += f
            normalize(h, norm_ffn)
            z[0] = 0
            affine(head, h, z[1:])
            softmax(z)
            out[b, j] = z


@compiled
def affine(layer: Arrays, x: np.ndarray, out: np.ndarray) -> None:
    weight, bias = layer
    for r in range(len(out)):
        s = bias[r]
        for c in range(len(x)):
            s += weight[r, c] * x[c]
        out[r] = s


@compiled
def normalize(x: np.ndarray, layer: Arrays) -> None:
    """In place, as torch.nn.LayerNorm."""
    weight, bias = layer
    mean = x.mean()
    spread = 1 / math.sqrt(((x - mean) ** 2).mean() + 1e-5)
    for i in range(len(x)):
        x[i] = (x[i] - mean) * spread * weight[i] + bias[i]


@compiled
def softmax(x: np.ndarray) -> None:
    """In place."""
    x -= x.max()
    np.exp(x, x)
    x /= x.sum()
