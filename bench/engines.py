"""What a predictor costs with each engine: torch, and ONNX Runtime in a process that never imports torch.

    python bench/engines.py [--models sakt gpcm mlp] [--seconds 4] [--turns 3]

Each version is registered by kt, then served over HTTP by `kt serve`, the engines in turns of one run.
Server on one core, load on the other, one connection that stays open. Requests of knowledge tracing have
50 answers and ask 100 items of 1,000, of no named student: each is run in full. Medians; ratios are
ONNX Runtime's beside torch's, and stand beside the bounds that they are held to.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import orjson
import torch
from bare import WIDTHS, mlp
from load import cpu, free_port, load, memory, request, server, show, tree
from serving import mlp_bodies, sakt_bodies

from kt.registry import load as versions

HERE = Path(__file__).parent
ENGINES = ("torch", "onnx")
BOUNDS = {"MB": (0.45, max), "cold s": (0.35, max), "req/s": (1.3, min)}
TRACING = ("sakt", "gpcm", "irt", "pfa", "best_lr", "marginal")


def checkpoint(name: str, path: Path) -> None:
    """An untrained model of the family's default size, or a program of a small MLP."""
    torch.manual_seed(0)
    if name == "mlp":
        batch = torch.export.Dim("batch", max=64)
        found = torch.export.export(
            mlp(), (torch.zeros(2, WIDTHS[0]),), dynamic_shapes=({0: batch},)
        )
        torch.export.save(found, path)
        return
    code = versions.family(Path(), name)
    config = code.Config(items=1_000)
    whole = {
        "kt": 1,
        "family": name,
        "config": config.model_dump(),
        "signature": code.signature(config).model_dump(),
        "scores": {},
        "training": {},
        "state_dict": code.Model(config).state_dict(),
    }
    torch.save(whole, path)


def bodies_of(name: str) -> list[bytes]:
    if name == "mlp":
        return mlp_bodies()
    unnamed = [orjson.loads(body) for body in sakt_bodies()]
    return [orjson.dumps(body | {"student_id": None}) for body in unnamed]


def registered(root: Path, name: str, environment: dict[str, str]) -> float:
    """A workspace that serves the model. Returns the CPU seconds of `kt deploy`."""
    path = root / ("m.pt2" if name == "mlp" else "m.pt")
    checkpoint(name, path)
    kt = [sys.executable, "-m", "kt"]
    quiet = partial(
        subprocess.run, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    quiet([*kt, "init", "."])
    before = os.times()
    quiet([*kt, "deploy", path.name, "--model", name, "--force", "--reason", "bench"])
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def measured(
    root: Path, engine: str, what: list[bytes], seconds: float, environment: dict[str, str]
) -> dict[str, float]:
    """One turn of one engine."""
    (root / "kt.toml").write_text(f'[predictor]\nengine = "{engine}"\n')
    port = free_port()
    command = [sys.executable, "-m", "kt", "serve", "--port", str(port)]
    with server(command, port, what[0], env=environment) as (pid, cold):
        began = cpu(pid)
        load(port, itertools.cycle(what), 1.0, connections=1)
        before = cpu(pid)
        ran = load(port, itertools.cycle(what), seconds, connections=1)
        used = cpu(pid) - before
        assert set(ran.statuses) == {200}, ran.statuses
        holds = any("libtorch" in Path(f"/proc/{one}/maps").read_text() for one in tree(pid))
        assert holds == (engine == "torch"), f"{engine}: torch is {'' if holds else 'not '}loaded"
        return {
            "MB": memory(pid),
            "cold s": cold,
            "cold CPU s": began,
            "req/s": ran.rate,
            "CPU µs/req": 1e6 * used / len(ran.latencies),
            "p99 ms": ran.percentile(99),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=["sakt", "gpcm", "mlp"], choices=[*TRACING, "mlp"]
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    missed: list[str] = []
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="kt-engines-") as folder:
            environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "KT_WORKSPACE": folder}
            environment.pop(
                "PYTHONDONTWRITEBYTECODE", None
            )  # whoever installs a server has it compiled
            deploy = registered(Path(folder), name, environment)
            what = [request("/predict", body) for body in bodies_of(name)]
            os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
            turns: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
            for _ in range(options.turns):
                for engine in ENGINES:
                    turns[engine].append(
                        measured(Path(folder), engine, what, options.seconds, environment)
                    )
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
            middle = {
                engine: {kind: median(turn[kind] for turn in of) for kind in of[0]}
                for engine, of in turns.items()
            }
            for engine, values in middle.items():
                rows.append({"model": name, "engine": engine, **values})
            ratios = {kind: middle["onnx"][kind] / middle["torch"][kind] for kind in middle["onnx"]}
            rows.append({"model": name, "engine": "ratio", **ratios})
            print(f"{name}: kt deploy takes {deploy:.1f} CPU s", flush=True)
            for kind, (bound, worse) in BOUNDS.items():
                if worse(ratios[kind], bound) == ratios[kind] != bound:
                    missed.append(f"{name}: {kind} x {ratios[kind]:.2f}, asked for {bound}")
    show(rows)
    print(json.dumps({"missed": missed}))


if __name__ == "__main__":
    main()
