"""What recording costs a predictor in requests a second, and in memory.

    python bench/monitoring.py throughput [--model sakt|mlp] [--turns 10]      some two minutes

Two servers on one core, one with `[store] url = ""`; the load goes to one and the other in turns of one run, longer
than a flush in all. CPU time a request is the firm figure. Asked for: 0.95 of the requests a second.
"""

import argparse
import itertools
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from load import cpu, free_port, load, memory, request, server, show
from serving import mlp_bodies, sakt_bodies, serves_mlp, serves_sakt

ROOT = Path(__file__).parents[2]
SECONDS = 3.0  # of a turn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("sakt", "mlp"), default="sakt")
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
    tracing = options.model == "sakt"
    bodies = sakt_bodies() if tracing else mlp_bodies()
    asked = itertools.cycle([request("/predict", body) for body in bodies])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        servers = {}
        for name, settings in (("off", '[store]\nurl = ""\n'), ("on", "")):
            root = Path(folder) / name
            root.mkdir()
            serves_sakt(root) if tracing else serves_mlp(root)
            (root / "kt.toml").write_text(settings)
            port = free_port()
            command = [sys.executable, "-m", "kt", "serve", "--port", str(port)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "KT_WORKSPACE": str(root)}
            pid, _ = running.enter_context(server(command, port, next(asked), env=environment))
            servers[name] = pid, port
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for turn in range(options.turns):
            for name in sorted(servers, reverse=bool(turn % 2)):
                pid, port = servers[name]
                before = cpu(pid)
                measured = load(port, asked, SECONDS)
                assert set(measured.statuses) == {200}, measured.statuses
                used = 1e6 * (cpu(pid) - before) / len(measured.latencies)
                found[name].append((measured.rate, used))
        held = {name: memory(pid) for name, (pid, _) in servers.items()}
    rows = {
        name: {
            "req/s": median(rate for rate, _ in turns),
            "CPU µs/req": median(used for _, used in turns),
            "PSS MB": held[name],
        }
        for name, turns in found.items()
    }
    off, on = rows.values()
    ratios = {key: on[key] / off[key] for key in off}
    ratios["req/s"] = median(b / a for (a, _), (b, _) in zip(*found.values(), strict=True))
    show([{"recording": name, **row} for name, row in (rows | {"on / off": ratios}).items()])


if __name__ == "__main__":
    main()
