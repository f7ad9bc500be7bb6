"""Whether the Bayesian Expectation Transformer knows when it is wrong, and what its orders cost.

    python bench/uncertainty.py [tokens] [digits] [cost]      all of it: about five minutes on one core

tokens: `kt simulate tokens`, 5,000 units held out. digits: those of scikit-learn (the extra `bench`), each
image seen ten times through 24 of its 64 pixels, so that it can be told only so well; an image is a unit, and
500 of them, 5,000 views, are held out.

Printed: the calibration error before and after (15 bins, of the predicted label), what of it a perfect model
would show by chance, how well the uncertainty finds errors (area under the ROC curve), and the error rate by
fifths of the uncertainty. cost: one forward of k orders beside one of torch's own encoder of the same size, and
of BET's students beside SAKT. Ends with 1 where a bar is missed.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
ERROR, FINDS = 0.03, 0.7  # at most; at least
VIEWS, PIXELS, LEVELS = 10, 24, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="tokens, digits, cost; all without"
    )
    chosen = parser.parse_args().parts or ["tokens", "digits", "cost"]
    torch.set_num_threads(1)
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen:
            if part == "cost":
                cost()
                continue
            data = Path(folder) / part
            digits(data) if part == "digits" else kt("simulate", "tokens", "--out", str(data))
            met &= measure(part, data, Path(folder) / f"{part}.pt")
    sys.exit(0 if met else 1)


def digits(folder: Path) -> None:
    """scikit-learn's images as views of some pixels, each pixel a token: p12=3 is the third of four levels."""
    from sklearn.datasets import load_digits

    images = load_digits()
    rng = np.random.default_rng(0)
    level = (images.data // LEVELS).astype(int)
    order = rng.permutation(len(level))
    folder.mkdir()
    for name, part in (("train.csv", order[500:]), ("test.csv", order[:500])):
        with (folder / name).open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("unit", "label", "tokens"))
            for image in part.tolist():
                for _ in range(VIEWS):
                    seen = rng.choice(level.shape[1], PIXELS, replace=False).tolist()
                    tokens = " ".join(f"p{pixel}={level[image, pixel]}" for pixel in seen)
                    rows.writerow((f"image{image}", images.target[image], tokens))


def measure(part: str, data: Path, out: Path) -> bool:
    """Train, print; whether the bars are met."""
    from kt.cli.models import opened
    from kt.models import labelled, metrics

    command = ("train", "bet_classifier", "--size", "small", "--data", str(data), "--out", str(out))
    began = children()
    trained = json.loads(kt(*command, "--json"))["result"]
    seconds = children() - began
    _, module, signature, *_ = opened(str(out))
    held_out = labelled.only_test(labelled.read(data))
    said = labelled.predict(module, signature, held_out)
    raw = labelled.predict(module, signature.model_copy(update={"calibration": None}), held_out)
    before, after = (metrics.score("ece", each) for each in (raw, said))
    low, high = metrics.interval("ece", said)
    own = uncertainties(module, signature, held_out)
    wrong = said.probabilities.argmax(1) != said.outcomes
    finds = {name: metrics.score("auc", ranked(values, wrong)) for name, values in own.items()}
    fifths = [wrong[group].mean() for group in np.array_split(own["uncertainty"].argsort(), 5)]
    met = after < ERROR and finds["uncertainty"] >= FINDS
    scores = trained["scores"]
    best = scores["references"]["naive_bayes"]
    calibrator = signature.calibration.method if signature.calibration else "none"
    print(
        f"{part}: {len(wrong):,} held out, accuracy {scores['accuracy']:.4f} (naive Bayes {best['accuracy']:.4f}),"
        f" nll {scores['nll']:.4f} ({best['nll']:.4f}), brier {scores['brier']:.4f}\n"
        f"    ece {before:.4f}, after calibration ({calibrator}) {after:.4f} [{low:.4f}, {high:.4f}];"
        f" by chance {by_chance(said.probabilities.max(1)):.4f}; bar {ERROR}\n"
        f"    finds errors: {', '.join(f'{name} {value:.3f}' for name, value in finds.items())}; bar {FINDS}\n"
        f"    error rate by fifths of the uncertainty: {', '.join(f'{rate:.3f}' for rate in fifths)}\n"
        f"    epoch {trained['training']['best_epoch']} of {trained['training']['epochs']},"
        f" {seconds:.0f} CPU seconds: {'met' if met else 'MISSED'}",
        flush=True,
    )
    return bool(met)


def uncertainties(module: Any, signature: Any, data: Any) -> dict[str, np.ndarray]:
    """What the model itself says of each example but its probabilities."""
    from kt.models import labelled

    rows = data.rows(signature)
    found: dict[str, np.ndarray] = {}
    with torch.inference_mode():
        for places in labelled.batches(data, 64, None):
            outputs = module.serve(*labelled.tensors(data, rows, signature.window, places))
            for name in ("uncertainty", "aleatoric", "epistemic"):
                found.setdefault(name, np.empty(len(data.labels)))[places] = outputs[name].numpy()
    return found


def ranked(values: np.ndarray, wrong: np.ndarray) -> Any:
    """Values as the probability of an error, to be scored."""
    from kt.models.metrics import Events

    n = np.arange(len(values))
    p = np.stack([-values, values], 1)
    return Events(tuple(map(str, n)), n, n, n, wrong.astype(int), p)


def by_chance(confidence: np.ndarray, draws: int = 200) -> float:
    """The mean calibration error of a model whose confidences hold, on as many examples."""
    rng = np.random.default_rng(0)
    cell = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        np.abs(np.bincount(cell, confidence - (rng.random(len(confidence)) < confidence))).sum()
        for _ in range(draws)
    ]
    return float(np.mean(gaps) / len(confidence))


def cost() -> None:
    """Milliseconds of one forward, in processor time, the least of many; the models in turns."""
    from kt.models import bet, bet_classifier, sakt

    torch.manual_seed(0)
    sizes = {"tokens": 1000, "labels": 4, "window": 128, "d_model": 64, "heads": 4, "layers": 2}
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    token, position = torch.nn.Embedding(1002, 64), torch.nn.Embedding(128, 64)
    tokens, lengths = torch.randint(2, 1002, (8, 64)), torch.randint(32, 65, (8,))
    padding = torch.arange(64) >= lengths[:, None]

    def plain() -> None:
        x = token(tokens) + position(torch.arange(64))
        encoder(x, src_key_padding_mask=padding)

    def classifier(k: int) -> Callable[[], Any]:
        model = bet_classifier.Model(bet_classifier.Config(**sizes, k=k)).eval()
        return lambda: model.serve(tokens, lengths)

    compare("8 units of 32 to 64 tokens: torch's encoder", plain, classifier)
    shape = {"items": 100, "categories": 2, "window": 200}
    history = (
        torch.randint(2, 102, (1, 50)), torch.randint(0, 2, (1, 50)), torch.tensor([50]),
        torch.randint(2, 102, (1, 100)),
    )  # fmt: skip
    attention = sakt.Model(sakt.Config(**shape)).eval()

    def student(k: int) -> Callable[[], Any]:
        model = bet.Model(bet.Config(**shape, k=k)).eval()
        return lambda: model.serve(*history)

    compare("50 answers, 100 items: SAKT", lambda: attention.serve(*history), student)


def compare(what: str, plain: Callable[[], Any], of: Callable[[int], Callable[[], Any]]) -> None:
    works = {"": plain, "k = 1": of(1), "k = 5": of(5)}
    least = dict.fromkeys(works, float("inf"))
    with torch.inference_mode():
        for _ in range(200):
            for name, work in works.items():
                began = time.process_time()
                work()
                least[name] = min(least[name], 1e3 * (time.process_time() - began))
    others = (
        f"{name} {least[name]:.2f} ms ({least[name] / least['']:.2f} x)" for name in works if name
    )
    print(f"{what} {least['']:.2f} ms, {', '.join(others)}")


def children() -> float:
    """Processor seconds of the commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def kt(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "kt", *arguments],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
