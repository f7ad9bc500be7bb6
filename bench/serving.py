"""What kt's serving costs over the smallest program that could do it: SAKT over HTTP, in turns.

    python bench/serving.py [--seconds 5] [--turns 3] [--answers 50] [--items 100]

Server on one core, load on the other, 16 connections that stay open. The ratio of CPU time a
request is the firm figure; requests a second depend on what else the machine does.
"""

import argparse
import itertools
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import torch
from load import cpu, free_port, load, memory, request, server, show
from safetensors.torch import save_file

from kt import files
from kt.deployments import manifest
from kt.models import sakt
from kt.registry.record import Spec, weights

HERE = Path(__file__).parent
BARS = {"req/s": 0.85, "CPU µs/req": 1 / 0.85, "RSS MB": 1.05, "cold s": 1.3}


def workspace(root: Path) -> Path:
    """A workspace that serves one SAKT; returns its weights."""
    (root / "kt.toml").write_text("")
    config = sakt.Config(items=1_000, d_model=128)
    torch.manual_seed(0)
    spec = Spec(
        family="sakt",
        config=config.model_dump(),
        form="kt.models.tracing",
        signature=sakt.signature(config).model_dump(mode="json"),
    )
    path = weights(root, "sakt", "v1")
    path.parent.mkdir(parents=True)
    save_file(sakt.Model(config).state_dict(), path, metadata={"kt": spec.model_dump_json()})
    active = manifest.Version(version="v1", sha256=files.digest(path))
    route = manifest.Route(
        active=active, since="2026-01-12T09:00:00Z", seq=1, previous=None, experiment=None
    )
    what = manifest.Manifest(kt=1, seq=1, head="0" * 64, models={"sakt": route})
    files.write_whole(root / manifest.MANIFEST, manifest.dump(what))
    return path


def bodies(answers: int, items: int, count: int = 64) -> list[bytes]:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--answers", type=int, default=50)
    parser.add_argument("--items", type=int, default=100)
    options = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    requests = [request("/predict", body) for body in bodies(options.answers, options.items)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = workspace(root)
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "KT_WORKSPACE": folder}
        found: dict[str, list[dict[str, float]]] = {"smallest": [], "kt": []}
        for _ in range(options.turns):
            for name, turns in found.items():
                port = free_port()
                command = {
                    "smallest": [sys.executable, str(HERE / "smallest.py"), str(path), str(port)],
                    "kt": [sys.executable, "-m", "kt", "serve", "--port", str(port)],
                }[name]
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
    rows = [
        {"server": name} | {key: median(turn[key] for turn in turns) for key in turns[0]}
        for name, turns in found.items()
    ]
    ratio = {key: rows[1][key] / rows[0][key] for key in rows[0] if key != "server"}
    show(
        [
            *rows,
            {"server": "ratio"} | ratio,
            {"server": "bar"} | {key: BARS.get(key, "") for key in ratio},
        ]
    )


if __name__ == "__main__":
    main()
