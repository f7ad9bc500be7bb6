"""The Deep GPCM families side by side, over seeds: embeddings, sizes, the transformer, the Bayesian variant.

    python bench/partial_credit.py                          all of it: about ten minutes on one core
    python bench/partial_credit.py embeddings --seeds 5     one part of it
    python bench/partial_credit.py sizes | transformer | bayes

Printed are scores on the test students; for the transformer and the Bayesian variant what they are above
gpcm of the same seed on the same students, with its 95 % interval over students.

`published` is synthetic_500_200_4, whose abilities stand still; `learning` is drawn here, 500 students who
learn four skills by 40 items of four categories.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kt.models import answers, metrics, simulate
from kt.models.run import Options
from kt.models.train import Trained, train
from kt.registry import load

PARTS = ("embeddings", "sizes", "transformer", "bayes")
WITHIN = 1.6449  # standard deviations: 90 % of a normal distribution
PLACES = (0, 1, 10, 30, 60, 100, 200)  # answers before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all without")
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"there is no {unknown.pop()}; there are {', '.join(PARTS)}")
    wanted = chosen.parts or PARTS
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = {}
        for name, drawn in (
            ("published", simulate.published()),
            ("learning", simulate.learning(students=500, items=40)),
        ):
            simulate.write(drawn, Path(folder, name))
            data[name] = answers.split(answers.read(Path(folder, name)))
        truth = json.loads(Path(folder, "published", "truth.json").read_text())["students"]
    seeds = range(chosen.seeds)
    if "embeddings" in wanted:
        for embedding in ("linear_decay", "ordered", "unordered"):
            runs = [trained("gpcm", data["published"], seed, embedding=embedding) for seed in seeds]
            show(f"gpcm small, {embedding}", runs)
    if "sizes" in wanted:
        for size in ("", "medium", "large"):
            show(f"gpcm {size or 'by default'}", [trained("gpcm", data["published"], 0, size)])
    for family in ("gpcm_transformer", "gpcm_bayes"):
        if family.removeprefix("gpcm_") not in wanted:
            continue
        for name, parts in data.items():
            pairs = [(trained("gpcm", parts, s), trained(family, parts, s)) for s in seeds]
            show(f"gpcm small, {name}", [memory for memory, _ in pairs])
            show(f"{family} small, {name}", [other for _, other in pairs])
            for seed, (memory, other) in enumerate(pairs):
                above(seed, memory, other)
        if family == "gpcm_bayes":
            intervals(trained(family, data["published"], 0), data["published"].test, truth)


def trained(family: str, parts: Any, seed: int, size: str = "small", **settings: Any) -> Trained:
    code = load.family(Path(), family)
    return train(
        code,
        family,
        parts.train,
        parts.valid,
        test=parts.test,
        settings={**code.SIZES.get(size, {}), **settings},
        options=Options.of(code, seed=seed),
    )


def show(what: str, runs: list[Trained]) -> None:
    for name in ("accuracy", "within_one", "qwk_mean", "nll"):
        values = [run.scores.values[name] for run in runs]
        print(
            f"{what:<36} {name:<10} mean {np.mean(values):.4f}  {min(values):.4f} to {max(values):.4f}"
        )
    print(f"{what:<36} {sum(run.training['seconds'] for run in runs):.0f} s", flush=True)


def above(seed: int, memory: Trained, other: Trained) -> None:
    told = [
        f"{name} {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        for name in ("accuracy", "nll")
        for d in [metrics.difference(name, memory.scores.predicted, other.scores.predicted)]
    ]
    print(f"    seed {seed}, above gpcm: {'  '.join(told)}", flush=True)


def intervals(run: Trained, test: Any, truth: dict[str, Any]) -> None:
    """How often the middle 90 % of an ability holds the true one, by how many answers went before."""
    rows = torch.from_numpy(test.rows(run.signature))
    responses = torch.from_numpy(test.responses)
    events: Any = run.model.events
    told = []  # (T, 2) of each student
    with torch.inference_mode():
        for first, last in zip(test.offsets[:-1], test.offsets[1:], strict=True):
            found = events(rows[None, first:last], responses[None, first:last])
            told.append(torch.stack([found["ability"][0], found["ability_error"][0]], 1).numpy())
    mean, sd = np.concatenate(told).T
    actual = np.array([truth[student]["ability"] for student in test.students])
    lengths = np.diff(test.offsets)
    inside = np.abs(np.repeat(actual, lengths) - mean) < WITHIN * sd
    place = np.concatenate([np.arange(length) for length in lengths])
    print(f"the middle 90 % holds the true ability in {inside.mean():.1%} of all events")
    for low, high in itertools.pairwise(PLACES):
        these = (place >= low) & (place < high)
        print(
            f"    after {low} to {high - 1} answers: {inside[these].mean():.1%}, sd {sd[these].mean():.2f}"
        )


if __name__ == "__main__":
    main()
