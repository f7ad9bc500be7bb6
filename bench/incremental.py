"""What one more answer costs from a state, beside the whole history again: a student alone, one thread.

    python bench/incremental.py [--serve] [--rounds 30]

An event is advance and ask: the answer taken in, one item asked. Beside it, all by the same model in the
same turns: the loop over the answers as other libraries write it (for gpcm), `forward`, which says what
every event would get, and `serve`, which is what a request without a state costs. Each figure is the
quartile of CPU times taken in turns, so that ratios are firm where times are not.

--serve asks kt serve over 16 connections that stay open: students who each answer one item a request,
beginning at so many answers, with the cache of states and without, in turns.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import orjson
import torch
from load import cpu, free_port, load, memory, request, server, show
from safetensors.torch import save_file
from torch import Tensor

from kt import files
from kt.deployments import manifest
from kt.models import gpcm, irt, sakt
from kt.registry.record import Spec, weights

HERE = Path(__file__).parent
ITEMS = 1_000
WINDOW = 400  # so that 200 answers leave it room
FAMILIES = {"gpcm": gpcm, "sakt": sakt, "irt": irt}
BARS = {"gpcm": {50: 30.0, 200: 100.0}, "sakt": {50: 4.0, 200: 10.0}}


def made(family: ModuleType, window: int) -> torch.nn.Module:
    torch.manual_seed(0)
    config = family.Config(items=ITEMS, window=window, **family.SIZES.get("medium", {}))
    module: torch.nn.Module = family.Model(config).eval().requires_grad_(False)
    return module


def loop(model: gpcm.Model, items: Tensor, responses: Tensor, asked: Tensor) -> Tensor:
    """The recurrence as pyKT's DKVMN has it, one event after the other in separate operations."""
    w, e, a = model._write(items, responses)
    M = model.memory.expand(len(items), -1, -1)
    for t in range(items.shape[1]):
        column, erase, add = w[:, t].unsqueeze(-1), e[:, t].unsqueeze(1), a[:, t].unsqueeze(1)
        M = M * (1 - column * erase) + column * add
    probabilities: Tensor = model.ask({"memory": M}, asked)["probabilities"]
    return probabilities


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The lower quartile of each one's CPU time, in µs."""
    for call in calls.values():
        for _ in range(5):
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            for _ in range(10):
                call()
            found[name].append((time.process_time() - began) / 10)
    return {name: 1e6 * float(np.quantile(times, 0.25)) for name, times in found.items()}


def steps(rounds: int) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with torch.inference_mode():
        for (name, family), length in itertools.product(FAMILIES.items(), (50, 200)):
            model = made(family, WINDOW)
            items = torch.randint(2, ITEMS + 2, (1, length))
            responses = torch.randint(0, 2, (1, length))
            lengths, asked = torch.tensor([length]), items[:, :1]
            state = model.begin(items[:, :-1], responses[:, :-1], lengths - 1)

            def event(model=model, state=state, items=items, responses=responses, asked=asked):
                return model.ask(model.advance(state, items[:, -1], responses[:, -1]), asked)

            whole = items, responses, lengths
            gap = event()["probabilities"] - model.serve(*whole, asked)["probabilities"]
            calls: dict[str, Callable[[], object]] = {
                "event": event,
                "serve": lambda model=model, whole=whole, asked=asked: model.serve(*whole, asked),
                "forward": lambda model=model, whole=whole: model(*whole),
            }
            if family is gpcm:
                calls["loop"] = lambda model=model, whole=whole, asked=asked: loop(
                    model, *whole[:2], asked
                )
            took = in_turns(calls, rounds)
            rows.append(
                {"family": name, "answers": length}
                | {f"{one} µs": took.get(one, "") for one in ("event", "serve", "forward", "loop")}
                | {
                    f"{one} / event": took[one] / took["event"] if one in took else ""
                    for one in ("serve", "forward", "loop")
                }
                | {
                    "asked for": BARS.get(name, {}).get(length, ""),
                    "state kB": sum(one.nbytes for one in state.values()) / 1000,
                    "largest gap": f"{gap.abs().max().item():.0e}",
                }
            )
    show(rows)


def workspace(root: Path, name: str, cache: int) -> None:
    """Serves one untrained version of a family."""
    (root / "kt.toml").write_text(f"[predictor]\nstate_cache_mb = {cache}\n")
    module, family = made(FAMILIES[name], WINDOW), FAMILIES[name]
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
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        served(options.seconds, options.turns)
    else:
        steps(options.rounds)


if __name__ == "__main__":
    main()
