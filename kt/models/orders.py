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
from torch.nn import functional as F


def drawn(k: int, window: int, seed: int) -> Tensor:
    """(k, window): k orders of the places of a window, as each place's rank.

    The first orders are the same for every k. NumPy has frozen this generator: a seed names them for good.
    """
    rng = np.random.RandomState(seed)
    return torch.from_numpy(np.stack([rng.permutation(window) for _ in range(k)]))


def ranks(order: Tensor, size: int) -> Tensor:
    """(k, window, size + 1) int16: how many of the first m places of a place's set rank below it.

    order: (k, window). A set is `size` places in a row. Where m of a set are taken, that is the place that
    each of these moves to, counted from the set's first.
    """
    window = order.shape[1]
    place = torch.arange(window, device=order.device)
    others = (place // size * size).unsqueeze(1) + torch.arange(size, device=order.device)
    below = order[:, others.clamp(max=window - 1)] < order.unsqueeze(2)  # (k, window, size)
    return F.pad(below.cumsum(-1, dtype=torch.int16), (1, 0))


def expectation(logits: Tensor, dim: int = 1) -> dict[str, Tensor]:
    """Of logits (..., K), one for each order along `dim`: what they say together, and how sure of it.

    One order cannot disagree with itself, so its uncertainty has no parts.
    """
    log_p = logits.log_softmax(-1)
    each = log_p.exp()
    p = each.mean(dim)
    aleatoric = -(each * log_p).sum(-1).mean(dim)
    uncertainty = -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(-1)
    found = {"probabilities": p, "uncertainty": uncertainty}
    if logits.shape[dim] > 1:
        epistemic = (uncertainty - aleatoric).clamp(min=0)
        found |= {"aleatoric": aleatoric, "epistemic": epistemic}
    return found
