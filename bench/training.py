"""How fast gpcm trains, beside a DKVMN as it is commonly written: one step of Python an answer, padded to the window.

    python bench/training.py                     assist2015, one thread: some minutes
    python bench/training.py --data DIR --turns 3 --batches 4

One training run of kt, whose epochs (each with its look at the validation students) are computed in turn
by torch alone and by the loop that Numba compiles; after each pair, some batches of the plain form. After that the
recurrence alone, in some sizes, forward and with its gradient. All in one process, in CPU seconds, so that a busy machine slows all three. The plain form is timed on a
sample of its batches, which all cost alike, and scaled to the epoch. Ends with 1 where a bar is missed.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import answers, gpcm, recurrence
from kt.models.data import Data
from kt.models.run import Epoch, Options
from kt.models.tracing import Signature
from kt.models.train import train
from kt.models.windows import padded, windows

ROOT = Path(__file__).parents[1]
WINDOW, BATCH, SIZE, SLOTS = 200, 64, 64, 20
BARS = {"torch": 9, "numba": 25}  # times less CPU than the plain form
SIZES_ALONE = ((64, 50, 50, 200), (64, 200, 20, 64), (1, 200, 50, 200))
TIMES = 5
FAMILY: Any = gpcm


class Plain(nn.Module):
    """Zhang et al. 2017, in the form that pyKT and others have it."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items
        self.key = nn.Embedding(items, SIZE)
        self.value = nn.Embedding(2 * items, SIZE)
        self.slots = nn.Parameter(torch.randn(SLOTS, SIZE))
        self.memory = nn.Parameter(torch.randn(SLOTS, SIZE))
        self.erase = nn.Linear(SIZE, SIZE)
        self.add = nn.Linear(SIZE, SIZE)
        self.summary = nn.Linear(2 * SIZE, SIZE)
        self.probability = nn.Linear(SIZE, 1)

    def forward(self, items: Tensor, responses: Tensor) -> Tensor:
        """Items and responses (B, T). Logits (B, T)."""
        k, v = self.key(items), self.value(items + self.items * responses)
        w = torch.softmax(k @ self.slots.T, -1)
        e, a = self.erase(v).sigmoid(), self.add(v).tanh()
        f = self.summary(torch.cat([plain(w, e, a, self.memory), k], -1)).tanh()
        logits: Tensor = self.probability(F.dropout(f, 0.2, self.training))
        return logits.squeeze(-1)


def plain(w: Tensor, e: Tensor, a: Tensor, memory: Tensor) -> Tensor:
    """As recurrence.recur, under autograd."""
    M = memory.expand(len(w), -1, -1)
    states = [M]
    for t in range(w.shape[1]):
        column = w[:, t].unsqueeze(-1)
        M = M * (1 - column * e[:, t].unsqueeze(1)) + column * a[:, t].unsqueeze(1)
        states.append(M)
    return (w.unsqueeze(-1) * torch.stack(states[:-1], 1)).sum(-2)


class PlainSteps:
    """Steps down the plain form's loss, on batches of windows as they come, padded to the window."""

    def __init__(self, data: Data, signature: Signature) -> None:
        self.rows = data.rows(signature)
        self.responses = data.responses
        self.pieces = windows(data, WINDOW, overlap=False, shortest=answers.SHORTEST)
        self.model = Plain(len(signature.items) + 2)
        self.adam = torch.optim.Adam(self.model.parameters())
        self.rng = np.random.default_rng(0)

    @property
    def in_an_epoch(self) -> float:
        return len(self.pieces) / BATCH

    def step(self) -> float:
        """CPU seconds of one."""
        began = time.process_time()
        places = self.rng.choice(len(self.pieces), BATCH, replace=False)
        items, given = (
            torch.from_numpy(whole(padded(values, self.pieces, places)))
            for values in (self.rows, self.responses)
        )
        event = torch.arange(WINDOW) < torch.from_numpy(self.pieces.lengths[places])[:, None]
        self.adam.zero_grad()
        p = self.model(items, given)[event].sigmoid()
        F.binary_cross_entropy(p, given[event].float()).backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return time.process_time() - began


def whole(values: np.ndarray) -> np.ndarray:
    """(B, T) padded to (B, WINDOW)."""
    return np.pad(values, ((0, 0), (0, WINDOW - values.shape[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/assist2015")
    parser.add_argument("--turns", type=int, default=3, help="epochs of each form")
    parser.add_argument("--batches", type=int, default=4, help="of the plain form, after each turn")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    tiers = forms()
    seconds = measured(tiers, chosen.data, chosen.turns, chosen.batches)
    once = {name: statistics.median(found) for name, found in seconds.items()}
    batches = len(seconds["plain"])
    print(f"plain    {once['plain']:8.2f} CPU s an epoch, scaled up from {batches} batches")
    ratios = {name: once["plain"] / once[name] for name in BARS if name in once}
    for name, ratio in ratios.items():
        print(
            f"{name:<8} {once[name]:8.2f} CPU s an epoch, {ratio:.1f} x less; asked for: {BARS[name]}"
        )
    for sizes in SIZES_ALONE:
        print(alone(tiers, *sizes))
    sys.exit(any(ratio < BARS[name] for name, ratio in ratios.items()))


def forms() -> dict[str, recurrence.Tier]:
    """Those that kt has here."""
    fast = recurrence.tier()
    slow = {"torch": recurrence.Tier("torch", recurrence.Recurrence)}
    return slow if fast.why else slow | {"numba": fast}


def alone(tiers: dict[str, recurrence.Tier], B: int, T: int, N: int, D: int) -> str:
    """The recurrence by itself, in each form: milliseconds forward, and with its gradient."""
    torch.manual_seed(0)
    w = torch.rand(B, T, N).softmax(-1)
    given = [w, torch.rand(B, T, D), torch.rand(B, T, D), torch.rand(N, D)]
    told = []
    for name, form in {"plain": plain, **{k: t.form.apply for k, t in tiers.items()}}.items():
        forward, both = [], []
        for _ in range(TIMES):
            inputs = [x.clone().requires_grad_() for x in given]
            began = time.process_time()
            with torch.inference_mode():
                form(*given)
            middle = time.process_time()
            form(*inputs).sum().backward()
            both.append(time.process_time() - middle)
            forward.append(middle - began)
        told.append(f"{name} {1e3 * min(forward):.1f}, {1e3 * min(both):.1f}")
    return f"{B} students, {T} steps, {N} slots of {D}: ms forward, and with gradient: {'; '.join(told)}"


def measured(
    tiers: dict[str, recurrence.Tier], folder: Path, turns: int, batches: int
) -> dict[str, list[float]]:
    """CPU seconds of an epoch of each form, a figure a turn (a batch for the plain one)."""
    parts = answers.split(answers.read(folder))
    names = list(tiers) * turns
    vars(recurrence)["tier"] = lambda: tiers[names[0]]
    steps = PlainSteps(parts.train, answers.configure(FAMILY, parts.train, {})[1])
    seconds: dict[str, list[float]] = {name: [] for name in ("plain", *tiers)}
    began = time.process_time()

    def on_epoch(_: Epoch) -> None:
        nonlocal began
        name = names[0]
        seconds[name].append(time.process_time() - began)
        if len(names) > 1:
            names.pop(0)
        if name == list(tiers)[-1]:
            seconds["plain"] += [steps.step() * steps.in_an_epoch for _ in range(batches)]
        began = time.process_time()

    options = Options.of(FAMILY, epochs=len(names), patience=len(names), batch=BATCH)
    settings = {"window": WINDOW, "slots": SLOTS, "d_key": SIZE, "d_value": SIZE, "hidden": SIZE}
    train(
        FAMILY,
        "gpcm",
        parts.train,
        parts.valid,
        settings=settings,
        options=options,
        on_epoch=on_epoch,
    )
    return seconds


if __name__ == "__main__":
    main()
