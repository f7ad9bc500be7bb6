"""The expectation over orders: what a model of sequences says of things that have none.

A transformer's positions give an order a meaning, also where it has none (the words of a bag, the
answers of one session). Averaged over k orders, an answer depends less on the one that things came in,
its deviation like k^-1/2, and how far the orders disagree is what the model does not know:

    p = mean_j p_j     uncertainty = H[p] = aleatoric + epistemic     aleatoric = mean_j H[p_j]

Chlon et al. 2025, arXiv 2507.11768; entropies in nats. The position is given after permuting: things
that already carry theirs can be permuted without any effect. As attention does not care how its keys
are sorted, what is permuted here is the positions alone.
"""

import numpy as np
import torch
from torch import Tensor


def drawn(k: int, window: int, seed: int) -> Tensor:
    """(k, window): k orders of as many things, each a rank for every place. Of n < window things the
    first n ranks say the order, so it is the same order when another thing is added.

    The first orders are the same for every k. NumPy has frozen this generator: a seed names them for good.
    """
    rng = np.random.RandomState(seed)
    return torch.from_numpy(np.stack([rng.permutation(window) for _ in range(k)]))


def expectation(logits: Tensor, dim: int = 1) -> dict[str, Tensor]:
    """Of logits (..., K), one for each order along `dim`: what they say together, and how sure of it."""
    log_p = logits.log_softmax(-1)
    each = log_p.exp()
    p = each.mean(dim)
    aleatoric = -(each * log_p).sum(-1).mean(dim)
    uncertainty = -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(-1)
    return {
        "probabilities": p,
        "uncertainty": uncertainty,
        "aleatoric": aleatoric,
        "epistemic": (uncertainty - aleatoric).clamp(min=0),
    }
