"""What kt's serving costs beside the smallest programs that could do it, and beside other servers.

    python bench/serving.py [--model sakt|mlp] [--seconds 5] [--turns 3] [--peers PYTHON]

SAKT (d_model 128, 50 answers, 100 items) or a small MLP over HTTP, all servers in turns of one run: kt
with ONNX Runtime, as kt deploy leaves it where that is installed, and with torch, as the others have it.
Server on one core, load on the other, 16 connections that stay open. The ratio of CPU time a
request is the firm figure; requests a second depend on what else the machine does. PYTHON: an
interpreter that has them (pip install fastapi uvicorn litserve bentoml).
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import torch
from bare import WIDTHS, mlp
from load import cpu, free_port, load, memory, request, server, show
from safetensors.torch import save_file

from kt.models import sakt
from kt.registry.record import weights

HERE = Path(__file__).parent
ENGINES = {"kt": "onnx", "kt, torch": "torch"}
PEERS = ("fastapi", "litserve", "bentoml")
PLAIN = {"req/s": 0.85, "RSS MB": 1.05, "cold s": 1.3}  # beside the smallest program
COMBINING = {"sakt": {"req/s": 0.85}, "mlp": {"req/s": 0.7}}  # beside the one that combines


def serves_sakt(root: Path) -> Path:
    """A workspace that serves one untrained SAKT; returns its weights."""
    config = sakt.Config(items=1_000, d_model=128)
    torch.manual_seed(0)
    whole = {
        "kt": 1,
        "family": "sakt",
        "config": config.model_dump(),
        "signature": sakt.signature(config).model_dump(),
        "scores": {},
        "training": {},
        "state_dict": sakt.Model(config).state_dict(),
    }
    torch.save(whole, root / "sakt.pt")
    deploy(root, "sakt.pt", "sakt")
    return weights(root, "sakt", "v1")


def serves_mlp(root: Path) -> Path:
    """A workspace that serves a program of a small MLP; returns its weights."""
    torch.manual_seed(0)
    model = mlp()
    batch = torch.export.Dim("batch", max=64)
    program = torch.export.export(model, (torch.zeros(2, WIDTHS[0]),), dynamic_shapes=({0: batch},))
    torch.export.save(program, root / "mlp.pt2")
    deploy(root, "mlp.pt2", "mlp")
    save_file(model.state_dict(), root / "mlp.safetensors")
    return root / "mlp.safetensors"


def deploy(root: Path, file: str, model: str) -> None:
    """In a workspace made for it, whatever the gates say of what is untrained."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    for command in (
        ["init", "."],
        ["deploy", file, "--model", model, "--force", "--reason", "bench"],
    ):
        subprocess.run(
            [sys.executable, "-m", "kt", *command],
            cwd=root,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def sakt_bodies(answers: int = 50, items: int = 100, count: int = 64) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [
        orjson.dumps(
            {
                "student_id": f"s-{n}",
                "answers": [
                    {"item": str(rng.integers(1_000)), "response": int(rng.integers(2))}
                    for _ in range(answers)
                ],
                "items": [str(rng.integers(1_000)) for _ in range(items)],
            }
        )
        for n in range(count)
    ]


def mlp_bodies(count: int = 64) -> list[bytes]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, 1, WIDTHS[0])).astype(np.float32).tolist()
    return [orjson.dumps({"inputs": {"input": row}}) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("sakt", "mlp"), default="sakt")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peers", metavar="PYTHON", default="")
    options = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    bodies = sakt_bodies() if options.model == "sakt" else mlp_bodies()
    requests = [request("/predict", body) for body in bodies]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = serves_sakt(root) if options.model == "sakt" else serves_mlp(root)
        what = [options.model, str(path)]
        path_of = os.pathsep.join([str(HERE.parent), str(HERE)])
        environment = {**os.environ, "PYTHONPATH": path_of, "KT_WORKSPACE": folder}
        environment.pop(
            "PYTHONDONTWRITEBYTECODE", None
        )  # whoever installs a server has it compiled
        smallest = str(HERE / "smallest.py")
        commands: dict[str, Callable[[str], list[str]]] = {
            "smallest": lambda port: [sys.executable, smallest, port, "plain", *what],
            "combining": lambda port: [sys.executable, smallest, port, "combining", *what],
        }
        commands |= {name: partial(kt_command, root, engine) for name, engine in ENGINES.items()}
        for peer in PEERS if options.peers else ():
            program = str(HERE / "peers" / f"with_{peer}.py")
            commands[peer] = partial(peer_command, options.peers, program, what)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(options.turns):
            for name, turns in found.items():
                port = free_port()
                command = commands[name](str(port))
                with server(command, port, requests[0], env=environment) as (pid, cold):
                    load(port, itertools.cycle(requests), 1.0)
                    before = cpu(pid)
                    measured = load(port, itertools.cycle(requests), options.seconds)
                    used = cpu(pid) - before
                    assert set(measured.statuses) == {200}, measured.statuses
                    turns.append(
                        {
                            "req/s": measured.rate,
                            "CPU µs/req": 1e6 * used / len(measured.latencies),
                            "p50 ms": measured.percentile(50),
                            "p99 ms": measured.percentile(99),
                            "RSS MB": memory(pid, "Rss:"),
                            "PSS MB": memory(pid, "Pss:"),
                            "cold s": cold,
                        }
                    )
    rows = {
        name: {key: median(turn[key] for turn in turns) for key in turns[0]}
        for name, turns in found.items()
    }
    bars = {"smallest": PLAIN, "combining": COMBINING[options.model]}
    table: list[dict[str, object]] = [{"server": name, **row} for name, row in rows.items()]
    for name, bar in bars.items():
        for ours in ENGINES:
            ratios = {key: rows[ours][key] / rows[name][key] for key in rows[ours]}
            table.append({"server": f"{ours} / {name}", **ratios})
        table.append({"server": "asked for", **{key: bar.get(key, "") for key in rows[name]}})
    show(table)


def kt_command(root: Path, engine: str, port: str) -> list[str]:
    (root / "kt.toml").write_text(f'[predictor]\nengine = "{engine}"\n')
    return [sys.executable, "-m", "kt", "serve", "--port", port]


def peer_command(python: str, program: str, what: list[str], port: str) -> list[str]:
    return [python, program, port, *what]


if __name__ == "__main__":
    main()
