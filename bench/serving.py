"""What kt's serving costs beside the smallest programs that could do it, and beside other servers.

    python bench/serving.py [--model sakt|mlp] [--starts 4] [--slices 8] [--seconds 0.5] [--peers PYTHON]

SAKT (d_model 128, 50 answers, 100 items) or a small MLP over HTTP, all servers side by side: kt with ONNX
Runtime, as kt deploy leaves it where that is installed, and with torch, as the others have it. Servers on one
core, load on the other, 16 connections that stay open.

A machine that others use changes its pace within seconds, and a start of a program has its luck. So all servers
are started, asked in turn for a moment each, again and again, and started anew; a ratio is the median of those of
moments that followed one another. PYTHON: an interpreter that has them (pip install fastapi uvicorn litserve
bentoml).
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
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
IMPORTED = 3.0  # seconds after which each has imported what it does once it has answered


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
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--peers", metavar="PYTHON", default="")
    options = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    bodies = sakt_bodies() if options.model == "sakt" else mlp_bodies()
    requests = [request("/predict", body) for body in bodies]
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = serves_sakt(root) if options.model == "sakt" else serves_mlp(root)
        commands = commands_of(root, [options.model, str(path)], options.peers)
        path_of = os.pathsep.join([str(HERE.parent), str(HERE)])
        environment = {**os.environ, "PYTHONPATH": path_of, "KT_WORKSPACE": folder}
        # whoever installs a server has it compiled
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(options.starts):
            with ExitStack() as stack:
                up: dict[str, tuple[int, int, float]] = {}
                for name, command in commands.items():
                    port = free_port()
                    run = command(str(port))
                    one = server(run, port, requests[0], env=environment)
                    up[name] = (port, *stack.enter_context(one))
                for port, _, _ in up.values():
                    load(port, itertools.cycle(requests), 1.0)
                time.sleep(IMPORTED)
                for _ in range(options.slices):
                    for name, (port, pid, cold) in up.items():
                        one_slice = measured(port, pid, requests, options.seconds)
                        found.setdefault(name, []).append(one_slice | {"cold s": cold})
    rows = {
        name: {key: median(one[key] for one in slices) for key in slices[0]}
        for name, slices in found.items()
    }
    bars = {"smallest": PLAIN, "combining": COMBINING[options.model]}
    table: list[dict[str, object]] = [{"server": name, **row} for name, row in rows.items()]
    for name, bar in bars.items():
        for ours in ENGINES:
            pairs = list(zip(found[ours], found[name], strict=True))
            ratios = {key: median(a[key] / b[key] for a, b in pairs) for key in rows[ours]}
            table.append({"server": f"{ours} / {name}", **ratios})
        table.append({"server": "asked for", **{key: bar.get(key, "") for key in rows[name]}})
    show(table)


def measured(port: int, pid: int, requests: list[bytes], seconds: float) -> dict[str, float]:
    """What a server does under load for a moment, once it is at work."""
    load(port, itertools.cycle(requests), seconds / 4)
    before = cpu(pid)
    found = load(port, itertools.cycle(requests), seconds)
    used = cpu(pid) - before
    assert set(found.statuses) == {200}, found.statuses
    return {
        "req/s": found.rate,
        "CPU µs/req": 1e6 * used / len(found.latencies),
        "p50 ms": found.percentile(50),
        "p99 ms": found.percentile(99),
        "RSS MB": memory(pid, "Rss:"),
        "PSS MB": memory(pid, "Pss:"),
    }


def commands_of(root: Path, what: list[str], peers: str) -> dict[str, Callable[[str], list[str]]]:
    """How each server is started on a port."""
    smallest = str(HERE / "smallest.py")
    commands: dict[str, Callable[[str], list[str]]] = {
        "smallest": lambda port: [sys.executable, smallest, port, "plain", *what],
        "combining": lambda port: [sys.executable, smallest, port, "combining", *what],
    }
    commands |= {name: partial(kt_command, root, engine) for name, engine in ENGINES.items()}
    for peer in PEERS if peers else ():
        program = str(HERE / "peers" / f"with_{peer}.py")
        commands[peer] = partial(peer_command, peers, program, what)
    return commands


def kt_command(root: Path, engine: str, port: str) -> list[str]:
    (root / "kt.toml").write_text(f'[predictor]\nengine = "{engine}"\n')
    return [sys.executable, "-m", "kt", "serve", "--port", port]


def peer_command(python: str, program: str, what: list[str], port: str) -> list[str]:
    return [python, program, port, *what]


if __name__ == "__main__":
    main()
