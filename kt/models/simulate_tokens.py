"""Units made of tokens in no order, whose labels can be told only so well: what a classifier must be sure of.

    label = (a + b) mod K     token ~ ½ φ_a + ½ ψ_b,  each by itself     a, b uniform, hidden

φ and ψ are Dirichlet. No token goes with a label more than another: what it says depends on the others, so
that counting is as good as chance. What can be known of a unit is p(label | tokens) by Bayes' rule, which
is written beside for the units that are kept for testing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kt.errors import Invalid

TOKENS = 200  # that there are
CONCENTRATION = 0.2  # of the Dirichlet: few tokens are frequent
LENGTHS = 2, 30  # the fewest and the most tokens of a unit
TESTING = 3  # one in so many units


@dataclass(frozen=True)
class Units:
    """Columns of train.csv and test.csv, and what they were drawn from, for JSON."""

    train: dict[str, list[str]]
    test: dict[str, list[str]]
    truth: dict[str, Any]


def simulate(*, units: int, labels: int, seed: int = 0) -> Units:
    """Raises Invalid where there are too few of anything."""
    for name, value, least in (("units", units, TESTING), ("categories", labels, 2)):
        if value < least:
            raise Invalid(f"{value} is too few", where=f"--{name}", do=f"give {least} or more")
    rng = np.random.default_rng(seed)
    phi, psi = (rng.dirichlet(np.full(TOKENS, CONCENTRATION), labels) for _ in range(2))
    a, b = rng.integers(labels, size=(2, units))
    lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, units)
    tokens = [
        rng.choice(TOKENS, n, p=(phi[i] + psi[j]) / 2)
        for i, j, n in zip(a, b, lengths, strict=True)
    ]
    label = (a + b) % labels
    first = units - units // TESTING
    p = posterior(tokens[first:], phi, psi)
    right = p[np.arange(len(p)), label[first:]]
    names = [f"u{n}" for n in range(1, units + 1)]
    columns = {
        "unit": names,
        "label": [f"label{k + 1}" for k in label.tolist()],
        "tokens": [" ".join(f"t{token + 1}" for token in of.tolist()) for of in tokens],
    }
    truth = {
        "phi": phi.tolist(),
        "psi": psi.tolist(),
        "test_probabilities": dict(zip(names[first:], p.tolist(), strict=True)),
        "test_nll_of_the_truth": float(-np.log(right).mean()),
        "test_accuracy_of_the_truth": float((p.argmax(1) == label[first:]).mean()),
    }
    return Units(
        {name: column[:first] for name, column in columns.items()},
        {name: column[first:] for name, column in columns.items()},
        truth,
    )


def posterior(units: list[np.ndarray], phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """p(label | tokens) of each unit (n, K). phi, psi: (K, tokens)."""
    K = len(phi)
    mixed = np.log((phi[:, None] + psi) / 2).reshape(K * K, -1)  # of each a and b
    log_p = np.array([mixed[:, tokens].sum(1) for tokens in units])
    joint = np.exp(log_p - log_p.max(1, keepdims=True))
    label = np.add.outer(np.arange(K), np.arange(K)).ravel() % K
    p = np.stack([joint[:, label == k].sum(1) for k in range(K)], 1)
    return np.asarray(p / p.sum(1, keepdims=True))
