"""What one more answer costs from a state, beside the whole history again: a student alone, one thread.

    python bench/incremental.py [--serve | --graphs] [--rounds 30]

An event is advance and ask: the answer taken in, one item asked, by torch and by loops that Numba compiled
(`[predictor] compiled`). Beside it, all by the same weights in the same turns: the loop over the answers as other libraries write it (for gpcm), `forward`, which says what
every event would get, and `serve`, which is what a request without a state costs. Each figure is the
least of CPU times taken in turns, so that ratios are firm where times are not.

--graphs measures ONNX Runtime by itself: a step by the graphs that registering exports, beside the whole history by
model.onnx, and what exporting the steps takes.

--serve asks kt serve over 16 connections that stay open: students who each answer one item a request,
beginning at so many answers, with the cache of states and without, in turns.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import orjson
import torch
from load import cpu, free_port, load, memory, request, server, show
from safetensors.torch import save_file
from torch import Tensor

from kt import files
from kt.deployments import manifest
from kt.models import gpcm, irt, recurrence, sakt
from kt.models.family import Arrays
from kt.registry import load as load_version
from kt.registry import onnx, onnx_steps, record, session, session_steps
from kt.registry.record import Spec, weights

HERE = Path(__file__).parent
ITEMS = 1_000
WINDOW = 400  # so that 200 answers leave it room
LENGTHS = ((50, WINDOW), (200, WINDOW), (200, 200))  # answers, window
FAMILIES = {"gpcm": gpcm, "sakt": sakt, "irt": irt}
BARS = {"gpcm": {50: 30.0, 200: 100.0}, "sakt": {50: 4.0, 200: 10.0}}


def made(family: ModuleType, window: int) -> Any:
    torch.manual_seed(0)
    config = family.Config(items=ITEMS, window=window, **family.SIZES.get("medium", {}))
    module = family.Model(config).eval().requires_grad_(False)
    for parameter in module.parameters():  # some begin at nothing
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return module


def loop(
    model: gpcm.Model, items: Tensor, responses: Tensor, lengths: Tensor, asked: Tensor
) -> Tensor:
    """The recurrence as pyKT's DKVMN has it, one event after the other in separate operations."""
    w, e, a = model._write(items * model.config.categories + responses)
    M = model.memory.expand(len(items), -1, -1)
    for t in range(items.shape[1]):
        column, erase, add = w[:, t].unsqueeze(-1), e[:, t].unsqueeze(1), a[:, t].unsqueeze(1)
        M = M * (1 - column * erase) + column * add
    standing = model.head.begin(items, responses, lengths)
    probabilities: Tensor = model.ask({"memory": M, **standing}, asked)["probabilities"]
    return probabilities


TURN = 5e-3  # seconds


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU time of each one's turns, in µs a call. All have turns of one length, the short ones many calls in it.

    The least and not the mean: what else runs here only ever adds.
    """
    count = {}
    for name, call in calls.items():
        took = min(timeit.repeat(call, timer=time.process_time, number=1, repeat=5))
        count[name] = max(1, round(TURN / took))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            took = timeit.timeit(call, timer=time.process_time, number=count[name])
            found[name].append(took / count[name])
    return {name: 1e6 * min(times) for name, times in found.items()}


def steps(rounds: int) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    recurrence.tier()
    with torch.inference_mode():
        for (name, family), (length, window) in itertools.product(FAMILIES.items(), LENGTHS):
            with torch.inference_mode(False):
                model, plain = made(family, window), made(family, window)
            if compiled := hasattr(plain, "steps"):
                plain.steps.tables = ()
            items = torch.randint(2, ITEMS + 2, (1, length + 1))
            responses = torch.randint(0, 2, (1, length + 1))
            before = items[:, :-1], responses[:, :-1], torch.tensor([length])
            state, asked = plain.begin(*before), items[:, :1]

            def event(
                by: Any,
                state: Any = state,
                answer: tuple[Tensor, Tensor] = (items[:, -1], responses[:, -1]),
                asked: Tensor = asked,
            ) -> Any:
                return by.ask(by.advance(state, *answer), asked)

            last = slice(1, None) if length == window else slice(None)
            ends = items[:, last], responses[:, last]
            whole = *ends, torch.tensor([ends[0].shape[1]])
            gap = event(model)["probabilities"] - model.serve(*whole, asked)["probabilities"]
            calls: dict[str, Callable[[], object]] = {
                "torch": partial(event, plain),
                "serve": partial(plain.serve, *whole, asked),
                "forward": partial(plain, *whole),
            }
            if compiled:
                calls["compiled"] = partial(event, model)
            if family is gpcm:
                calls["loop"] = partial(loop, plain, *whole, asked)
            took = in_turns(calls, rounds)
            fastest = took.get("compiled", took["torch"])
            against = took.get("loop", took["forward"])
            rows.append(
                {"family": name, "answers": length, "window": window}
                | {
                    f"{one} µs": took.get(one, "")
                    for one in ("torch", "compiled", "serve", "forward", "loop")
                }
                | {
                    "full / torch": against / took["torch"],
                    "full / compiled": against / fastest if compiled else "",
                    "serve / torch": took["serve"] / took["torch"],
                    "asked for": BARS.get(name, {}).get(length, ""),
                    "state kB": sum(one.nbytes for one in state.values()) / 1000,
                    "largest gap": f"{gap.abs().max().item():.0e}",
                }
            )
    show(rows)


def graphs(rounds: int, window: int = 200) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            path, spec = version(Path(folder), name, window)
            loaded = load_version.open_weights(Path(folder), path, spec)
            before = time.process_time()
            size = onnx_steps.write(loaded, path.parent).size
            took = time.process_time() - before
            onnx.write(loaded, path.parent)
            ran = session.opened(
                record.graph(Path(folder), name, "v1"), loaded.form, loaded.signature
            )
            by_steps = session_steps.opened(path.parent)
            rng = np.random.default_rng(0)
            events = [
                {"items": rng.integers(2, ITEMS + 2, 1), "responses": rng.integers(0, 2, 1)}
                for _ in range(window + 1)
            ]
            asked = {"asked": np.array([[3]])}

            def joined(past: Sequence[Arrays], asked: Arrays = asked) -> dict[str, np.ndarray]:
                arrays = {key: np.stack([one[key] for one in past], 1) for key in past[0]}
                return arrays | {"lengths": np.array([len(past)]), **asked}

            for length in (50, 150, window):
                past, event = joined(events[:length]), events[length]
                whole = joined(events[: length + 1][-window:])
                state = by_steps.begin(past)

                def step(
                    state: Arrays = state,
                    event: Arrays = event,
                    asked: Arrays = asked,
                    by_steps: session_steps.Steps = by_steps,
                ) -> dict[str, np.ndarray]:
                    return by_steps.ask(by_steps.advance(state, event), asked)

                gap = step()["probabilities"] - ran.run(whole)["probabilities"]
                calls: dict[str, Callable[[], object]] = {
                    "event": step,
                    "whole": partial(ran.run, whole),
                    "begin": partial(by_steps.begin, past),
                }
                times = in_turns(calls, rounds)
                rows.append(
                    {"family": name, "answers": length, "window": window}
                    | {f"{one} µs": times[one] for one in times}
                    | {
                        "whole / event": times["whole"] / times["event"],
                        "largest gap": f"{np.abs(gap).max():.0e}",
                        "kB": size / 1000,
                        "export CPU s": took,
                    }
                )
    show(rows)


def version(root: Path, name: str, window: int) -> tuple[Path, Spec]:
    """The weights of an untrained version of a family, in a workspace's registry."""
    module, family = made(FAMILIES[name], window), FAMILIES[name]
    config = module.config
    spec = Spec(
        family=name,
        config=config.model_dump(),
        form="kt.models.tracing",
        signature=family.signature(config).model_dump(mode="json"),
    )
    path = weights(root, name, "v1")
    path.parent.mkdir(parents=True)
    save_file(module.state_dict(), path, metadata={"kt": spec.model_dump_json()})
    return path, spec


def workspace(root: Path, name: str, cache: int) -> None:
    """Serves one untrained version of a family."""
    (root / "kt.toml").write_text(f"[predictor]\nstate_cache_mb = {cache}\n")
    path, _ = version(root, name, WINDOW)
    active = manifest.Version(version="v1", sha256=files.digest(path))
    route = manifest.Route(
        active=active, since="2026-01-12T09:00:00Z", seq=1, previous=None, experiment=None
    )
    what = manifest.Manifest(kt=1, seq=1, head="0" * 64, models={name: route})
    files.write_whole(root / manifest.MANIFEST, manifest.dump(what))


def sessions(length: int, students: int = 64) -> Iterator[bytes]:
    """Students in turns, each with one answer more than the time before, of which the last 400 are sent."""
    rng = np.random.default_rng(0)

    def answer() -> dict[str, object]:
        return {"item": str(rng.integers(ITEMS)), "response": int(rng.integers(2))}

    pasts = [[answer() for _ in range(length)] for _ in range(students)]
    while True:
        for number, past in enumerate(pasts):
            past.append(answer())
            body = {"student_id": f"s-{number}", "answers": past[-WINDOW:], "items": ["1"]}
            yield request("/predict", orjson.dumps(body))


def served(seconds: float, turns: int) -> None:
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    rows: list[dict[str, object]] = []
    for name, length in itertools.product(("gpcm", "sakt"), (50, 200)):
        found: dict[int, list[tuple[float, float]]] = {0: [], 32: []}
        for _, cache in itertools.product(range(turns), found):
            with tempfile.TemporaryDirectory() as folder:
                workspace(Path(folder), name, cache)
                path = os.pathsep.join([str(HERE.parent), str(HERE)])
                environment = {**os.environ, "PYTHONPATH": path, "KT_WORKSPACE": folder}
                port = free_port()
                command = [sys.executable, "-m", "kt", "serve", "--port", str(port)]
                asked = sessions(length)
                with server(command, port, next(asked), env=environment) as (pid, _):
                    load(port, asked, 1.5)
                    before = cpu(pid)
                    measured = load(port, asked, seconds)
                    assert set(measured.statuses) == {200}, measured.statuses
                    used = 1e6 * (cpu(pid) - before) / len(measured.latencies)
                    found[cache].append((used, memory(pid, "Rss:")))
        (without, small), (with_states, large) = (np.median(found[cache], 0) for cache in (0, 32))
        rows.append(
            {
                "family": name,
                "answers": length,
                "CPU µs/req, without": without,
                "with states": with_states,
                "ratio": without / with_states,
                "MB more": large - small,
            }
        )
    show(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        served(options.seconds, options.turns)
    elif options.graphs:
        graphs(options.rounds)
    else:
        steps(options.rounds)


if __name__ == "__main__":
    main()
