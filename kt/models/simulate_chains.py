"""Documents as chains of vectors whose truth is known: topics follow one another, vectors follow topics.

    z_{t+1} = the topic after z_t, with probability `follow`; else any other of the K
    x_{t+1} = L2(a c_z + rho x_t + s e)                  e ~ N(0, I) in D dimensions

c_z are topics, x and c of length 1. All topics have a direction in common, as embeddings of one model do:
the mean of all vectors has a high cosine with each of them and finds none.

The bank that the next vector is looked for among is drawn around the topics, b = L2(m_z + tau e), with m_z
the mean of a topic's vectors and tau their spread, so that its density is known too.

What can be reached at best is computed. L2 of a normal vector has the projected normal density

    f(x | m, s) ~ exp(-|m|^2 / 2 s^2) M(m.x / s),    M(u) = integral over r > 0 of r^(D-1) exp(u r - r^2 / 2)

so the topic is filtered forward exactly (Rabiner 1989), and a candidate is ranked by how likely it is to
be next over how likely it is to be in the bank. No ranking finds more (Neyman and Pearson 1933);
a model that answers with one vector, ranked by cosine, can only come near it.
"""

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kt.errors import Invalid
from kt.files import write_together
from kt.models.documents import BANK

BEST = f"test_hit@5/{BANK}_of_the_truth"
COMMON = 0.6  # of a topic's squared length, along the direction that all have in common
LENGTHS = 20, 60  # vectors of a document
PILOT = 400, 24  # documents and vectors of each that the bank's means are taken from


@dataclass(frozen=True)
class Chain:
    """What vectors are drawn from."""

    topics: np.ndarray  # (K, D) c
    follow: float = 0.98
    pull: float = 0.7  # a
    keep: float = 0.7  # rho
    noise: float = 0.6  # s sqrt(D), the length of the noise

    @property
    def s(self) -> float:
        return float(self.noise / np.sqrt(self.topics.shape[1]))

    @property
    def moves(self) -> np.ndarray:
        """(K, K) the probability of each topic after each."""
        K = len(self.topics)
        other = (1 - self.follow) / (K - 1)
        return np.asarray(other + (self.follow - other) * np.roll(np.eye(K), 1, axis=1))


@dataclass(frozen=True)
class Around:
    """What the bank is drawn from."""

    means: np.ndarray  # (K, D) m
    spread: float  # tau


@dataclass(frozen=True)
class Simulated:
    chain: Chain
    around: Around
    vectors: np.ndarray  # (E, D) float32
    offsets: np.ndarray  # (L + 1,)
    testing: int  # so many documents, the last, are for testing
    bank: np.ndarray  # (BANK, D) float32


def simulate(*, documents: int, dimension: int = 64, topics: int = 12, seed: int = 0) -> Simulated:
    """One document in five is for testing. Raises Invalid where there are too few of anything."""
    for name, value, least in (
        ("documents", documents, 5),
        ("dimension", dimension, 2),
        ("topics", topics, 2),
    ):
        if value < least:
            raise Invalid(f"{value} is too few", where=f"--{name}", do=f"give {least} or more")
    rng = np.random.default_rng(seed)
    common, own = unit(rng.normal(size=(1, dimension))), unit(rng.normal(size=(topics, dimension)))
    chain = Chain(unit(np.sqrt(COMMON) * common + np.sqrt(1 - COMMON) * own))
    around = pilot(chain, rng)
    topic = rng.integers(topics, size=BANK)
    bank = unit(around.means[topic] + around.spread * rng.normal(size=(BANK, dimension)))
    lengths = rng.integers(LENGTHS[0], LENGTHS[1] + 1, documents)
    drawn, _ = draw(chain, documents, int(lengths.max()), rng)
    return Simulated(
        chain,
        around,
        drawn[np.arange(drawn.shape[1]) < lengths[:, None]].astype(np.float32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        max(1, documents // 5),
        bank.astype(np.float32),
    )


def draw(
    chain: Chain, documents: int, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (documents, length, D) and their topics (documents, length)."""
    K, D = chain.topics.shape
    until = chain.moves.cumsum(1)
    z = rng.integers(K, size=documents)
    x = unit(chain.topics[z] + chain.s * rng.normal(size=(documents, D)))
    vectors, topics = np.empty((documents, length, D)), np.empty((documents, length), np.int64)
    for t in range(length):
        vectors[:, t], topics[:, t] = x, z
        z = np.minimum((rng.random((documents, 1)) > until[z]).sum(1), K - 1)
        mean = chain.pull * chain.topics[z] + chain.keep * x
        x = unit(mean + chain.s * rng.normal(size=(documents, D)))
    return vectors, topics


def pilot(chain: Chain, rng: np.random.Generator) -> Around:
    """Where a topic's vectors lie: their mean, and what is left of their length spread over all dimensions."""
    K, D = chain.topics.shape
    vectors, topics = (part[:, 4:] for part in draw(chain, *PILOT, rng))  # the first know no past
    means = np.stack([vectors[topics == k].mean(0) for k in range(K)])
    return Around(means, float(np.sqrt((1 - (means**2).sum(1).mean()) / D)))


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def best_ranks(of: Simulated) -> np.ndarray:
    """(n,) where the next vector comes in the best order of the bank, for each step of the test documents."""
    chain, around = of.chain, of.around
    reach = max((chain.pull + chain.keep) / chain.s, 1 / around.spread)
    density = Density(chain.topics.shape[1], reach)
    prior_m = (around.means**2).sum(1) / (2 * around.spread**2)

    def usual(x: np.ndarray) -> np.ndarray:
        """(n,) the bank's density at x (n, D)."""
        terms = density.log(x @ around.means.T / around.spread) - prior_m
        return np.asarray(np.exp(terms).mean(1))

    bank, in_bank = of.bank.astype(np.float64), usual(of.bank)
    towards = chain.pull * chain.topics @ bank.T  # (K, BANK)
    found = []
    for first, end in zip(of.offsets[-of.testing - 1 : -1], of.offsets[-of.testing :], strict=True):
        x = of.vectors[first:end].astype(np.float64)
        weights = filtered(chain, x, density)  # (n, K)
        kept = chain.keep * x[:-1]
        means = chain.pull * chain.topics + kept[:, None]  # (n, K, D)
        weights = weights * np.exp(-(means**2).sum(2) / (2 * chain.s**2))
        nearness = (means @ x[1:, :, None])[:, :, 0]
        likely = (weights * density.at(nearness / chain.s)).sum(1) / usual(x[1:])
        rivals = np.zeros((len(kept), len(bank)))
        for k in range(len(chain.topics)):
            rivals += weights[:, k : k + 1] * density.at((towards[k] + kept @ bank.T) / chain.s)
        found.append(1 + (rivals / in_bank > likely[:, None]).sum(1))
    return np.concatenate(found)


def filtered(chain: Chain, x: np.ndarray, density: "Density") -> np.ndarray:
    """(T - 1, K) the probability of each next topic, given the vectors so far (T, D)."""
    known = np.full(len(chain.topics), 1 / len(chain.topics))
    means = np.broadcast_to(chain.topics, (len(x), *chain.topics.shape)).copy()
    means[1:] = chain.pull * chain.topics + chain.keep * x[:-1, None]
    log_f = density.log((means @ x[:, :, None])[:, :, 0] / chain.s)
    log_f -= (means**2).sum(2) / (2 * chain.s**2)
    out = np.empty((len(x) - 1, len(known)))
    for t in range(len(out)):
        seen = known * np.exp(log_f[t] - log_f[t].max())
        known = out[t] = seen / seen.sum() @ chain.moves
    return out


class Density:
    """M of the projected normal distribution, from a table; but for one factor."""

    def __init__(self, dimension: int, reach: float) -> None:
        """reach: the greatest u, either way."""
        u = np.linspace(-reach, reach, 801)
        r = np.linspace(0, reach + 2 * np.sqrt(dimension) + 8, 2001)[1:]
        exponent = (dimension - 1) * np.log(r) - r**2 / 2
        exponent -= exponent.max()
        self.u = u
        self.log_m = np.log(np.exp(exponent + np.outer(u, r)).sum(1))
        self.reach = reach
        self.scale = 100_000 / (2 * reach)
        self.fine = np.exp(self.log(np.linspace(-reach, reach, 100_002)))

    def log(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(u, self.u, self.log_m))

    def at(self, u: np.ndarray) -> np.ndarray:
        """M(u), as near as the table is fine: within 1 % for vectors of 64 dimensions."""
        return np.asarray(self.fine[((u + self.reach) * self.scale).astype(np.int32)])


def write(simulated: Simulated, folder: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """train.npz, test.npz and truth.json in `folder`; how many vectors each file has, and the truth."""
    documents = len(simulated.offsets) - 1
    cut = documents - simulated.testing
    counts, written = {}, {}
    for name, first, last in (("train.npz", 0, cut), ("test.npz", cut, documents)):
        offsets = simulated.offsets[first : last + 1]
        vectors = simulated.vectors[offsets[0] : offsets[-1]]
        file = BytesIO()
        np.savez(
            file,
            vectors=vectors,
            document=np.array([f"d{number + 1}" for number in range(first, last)]),
            offsets=offsets - offsets[0],
            bank=simulated.bank,
        )
        written[folder / name] = file.getvalue()
        counts[name] = len(vectors)
    known = truth(simulated)
    written[folder / "truth.json"] = json.dumps(known, indent=1).encode() + b"\n"
    write_together(written)
    return counts, known


def truth(simulated: Simulated) -> dict[str, Any]:
    """For JSON: what it was drawn from, and the most that can be found in the test documents."""
    chain, rank = simulated.chain, best_ranks(simulated)
    return {
        "topics": chain.topics.tolist(),
        "follow": chain.follow,
        "pull": chain.pull,
        "keep": chain.keep,
        "noise": chain.noise,
        BEST: float((rank <= 5).mean()),
    }
