"""What one more vector costs from a state, beside the whole document again: a document alone, one thread.

    python bench/vectors.py [--rounds 20] [--graphs]

An event is advance and ask. Beside it, in the same turns, `serve` on all vectors, by the same model: that of
`--size small`, and one of the guide's sizes, 768 dimensions and four layers of 512, with a memory of 256.
Each figure is the lower quartile of CPU times, so that ratios are firm where times are not.
--graphs: by ONNX Runtime, from the graphs that registering exports. Ends with 1 where a bar is missed.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kt.models import memory_gru, vectors
from kt.models.family import Arrays
from kt.models.memory_gru import Config, Model
from kt.registry import onnx, onnx_steps, record, session, session_steps, weights
from kt.registry.load import Loaded

SIZES = {
    "small, 64": {"dimension": 64, **memory_gru.SIZES["small"]},
    "512 x 4, 768": {"dimension": 768, "hidden": 512, "layers": 4, "slots": 256},
}
LENGTHS = 100, 500
BARS = {("512 x 4, 768", 100): 15.0, ("512 x 4, 768", 500): 60.0}  # times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--graphs", action="store_true")
    options = parser.parse_args()
    rounds = options.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.graphs:
        for name, sizes in SIZES.items():
            graphs(name, Config(window=LENGTHS[0], **sizes), rounds)
        return
    met = True
    with torch.inference_mode():
        for (name, sizes), length in itertools.product(SIZES.items(), LENGTHS):
            model = Model(Config(window=length, **sizes)).eval()
            met &= measure(name, model, length, rounds)
    sys.exit(0 if met else 1)


def measure(name: str, model: Model, length: int, rounds: int) -> bool:
    """Print one line; whether the bar is met and both say the same."""
    x, lengths = torch.randn(1, length, model.config.dimension), torch.tensor([length])
    before = model.begin(x[:, :-1], lengths - 1)

    def event() -> torch.Tensor:
        return model.ask(model.advance(before, x[:, -1]))["vector"]

    def whole() -> torch.Tensor:
        return model.serve(x, lengths)["vector"]

    gap = float((event() - whole()).abs().max())
    one, all_of_them = in_turns((event, whole), rounds)
    ratio = all_of_them / one
    bar = BARS.get((name, length), 0.0)
    met = ratio >= bar and gap <= 1e-5
    print(
        f"{name:<14} {length} vectors: an event {one:.3f} ms, all again {all_of_them:.2f} ms, {ratio:.0f} x"
        f" (asked for {bar:.0f}), state {sum(p.nbytes for p in before.values()) / 1000:.1f} kB,"
        f" largest gap {gap:.0e}  {'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def graphs(name: str, config: Config, rounds: int) -> None:
    """Print one line for a full window and one for a quarter of it."""
    model = Model(config).eval().requires_grad_(False)
    for parameter in model.parameters():  # some begin at nothing
        parameter.add_(torch.randn_like(parameter) * 0.05)
    loaded = Loaded(None, memory_gru, vectors, memory_gru.signature(config), model)  # type: ignore[arg-type]  # of no record
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights.write(model.state_dict(), {}, folder / record.WEIGHTS)
        began = time.process_time()
        size = onnx_steps.write(loaded, folder).size
        took = time.process_time() - began
        onnx.write(loaded, folder)
        whole = session.opened(folder / record.GRAPH, vectors, loaded.signature)
        steps = session_steps.opened(folder)
    for length in (config.window // 4, config.window):
        x = np.random.default_rng(0).normal(size=(1, length, config.dimension)).astype(np.float32)
        state = steps.begin({"vectors": x[:, :-1], "lengths": np.array([length - 1])})
        document = {"vectors": x, "lengths": np.array([length])}

        def event(state: Arrays = state, last: np.ndarray = x[:, -1]) -> np.ndarray:
            return steps.ask(steps.advance(state, {"vectors": last}), {})["vector"]

        def all_again(document: Arrays = document) -> np.ndarray:
            return whole.run(document)["vector"]

        gap = np.abs(event() - all_again()).max()
        one, all_of_them = in_turns((event, all_again), rounds)
        print(
            f"{name:<14} {length} vectors: an event {one:.3f} ms, all again {all_of_them:.2f} ms,"
            f" {all_of_them / one:.1f} x, largest gap {gap:.0e}; steps {size / 1000:.0f} kB,"
            f" exported in {took:.0f} CPU s",
            flush=True,
        )


def in_turns(calls: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    """The lower quartile of each one's CPU time, in ms."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, found, strict=True):
            call()  # into the caches, which the other has filled
            began = time.process_time()
            call()
            times.append(1000 * (time.process_time() - began))
    return [float(np.quantile(times, 0.25)) for times in found]


if __name__ == "__main__":
    main()
