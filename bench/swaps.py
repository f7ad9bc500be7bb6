"""A hundred swaps under steady load: experiments started, promoted and rolled back by the kt command.

    python bench/swaps.py [--swaps 100] [--connections 4]

Counts the answers that were not 200, and those from a version that no manifest named at the time,
with one second to follow; the stalest is how long after the command had ended. The p99 around swaps stands beside the p99 while `kt status` runs as
often, which disturbs the machine as much and swaps nothing.
"""

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch
from load import Measured, free_port, load, memory, percentile, request, server, show
from safetensors.torch import save_file
from serving import bodies

from kt.deployments import manifest
from kt.models import sakt
from kt.registry.record import Spec

HERE = Path(__file__).parent
FOLLOW = 1.0  # seconds
AFTER = 0.5  # seconds after a command that count as around its swap
KT = [sys.executable, "-m", "kt"]


@dataclass
class Command:
    began: float
    ended: float
    versions: set[str]  # that the manifest names from here on


class Operator:
    """Runs commands one after another, and notes when."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "KT_WORKSPACE": str(root)}
        self.commands: list[Command] = []

    def kt(self, *words: str) -> None:
        began = time.monotonic()
        done = subprocess.run(
            [*KT, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"kt {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        self.commands.append(Command(began, time.monotonic(), self.named()))

    def named(self) -> set[str]:
        route = manifest.parse((self.root / manifest.MANIFEST).read_bytes()).models["sakt"]
        treatments = route.experiment.treatments if route.experiment else ()
        return {route.active.version, *(treatment.version for treatment in treatments)}


def checkpoint(folder: Path, seed: int) -> Path:
    config = sakt.Config(items=1_000, d_model=128)
    torch.manual_seed(seed)
    spec = Spec(
        family="sakt",
        config=config.model_dump(),
        form="kt.models.tracing",
        signature=sakt.signature(config).model_dump(mode="json"),
    )
    path = folder / f"{seed}.safetensors"
    save_file(sakt.Model(config).state_dict(), path, metadata={"kt": spec.model_dump_json()})
    return path


def swaps(count: int) -> list[tuple[str, ...]]:
    """v1 serves; v2 and v3 in turn are tried, promoted and taken back."""
    words: list[tuple[str, ...]] = []
    for n in itertools.count():
        version = f"v{2 + n % 2}"
        words += [
            ("deploy", f"sakt@{version}", "--traffic", "10", "--ab-test", f"x{n}"),
            ("promote", f"x{n}", "--force", "--reason", "bench"),
            ("rollback",),
        ]
        if len(words) >= count:
            return words[:count]
    raise AssertionError


def staleness(began: float, ended: float, version: str, commands: list[Command]) -> float:
    """Seconds between the end of the command that dropped a version and the start of a request that
    it answered; 0 where some manifest named it while the request ran."""
    stale = math.inf
    for command, after in itertools.zip_longest(commands, commands[1:]):
        if version in command.versions and command.began <= ended:
            stale = min(stale, 0.0 if after is None else max(0.0, began - after.ended))
    return stale


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    requests = [request("/predict", body) for body in bodies(50, 10)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        operator = Operator(root)
        subprocess.run(
            [*KT, "init", str(root)],
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
            check=True,
            capture_output=True,
        )
        for seed in (1, 2, 3):
            path = checkpoint(Path(folder), seed)
            operator.kt("deploy" if seed == 1 else "register", str(path), "--model", "sakt")
        operator.commands = [Command(0.0, 0.0, operator.named())]
        port = free_port()
        command = [*KT, "serve", "--port", str(port)]
        with server(command, port, requests[0], env=operator.environment) as (pid, _):
            os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
            quiet, _ = run(
                port,
                requests,
                options.connections,
                lambda: [operator.kt("status") for _ in range(20)],
            )
            operator.commands = operator.commands[:1]
            before = memory(pid, "Pss_Anon:")
            busy, answers = run(
                port,
                requests,
                options.connections,
                lambda: [operator.kt(*words) for words in swaps(options.swaps)],
            )
            after = memory(pid, "Pss_Anon:")
        around = [
            latency
            for latency, ended in zip(busy.latencies, busy.ended, strict=True)
            if any(c.began <= ended <= c.ended + AFTER for c in operator.commands)
        ]
        stale = [staleness(*answer, operator.commands) for answer in answers]
        others = sum(count for status, count in busy.statuses.items() if status != 200)
        show(
            [
                {
                    "swaps": len(operator.commands) - 1,
                    "answers": len(busy.latencies),
                    "not 200": others,
                    "broken": busy.broken,
                    "wrong version": sum(one > FOLLOW for one in stale),
                    "stalest s": max(stale),
                    "p99 quiet ms": quiet.percentile(99),
                    "p99 around ms": percentile(around, 99),
                    "longest ms": percentile(around, 100),
                    "MB before": before,
                    "MB after": after,
                    "s a command": sum(c.ended - c.began for c in operator.commands[1:])
                    / options.swaps,
                }
            ]
        )


def run(
    port: int, requests: list[bytes], connections: int, work: object
) -> tuple[Measured, list[tuple[float, float, str]]]:
    """Load until `work`, in a thread of its own, is done."""
    answers: list[tuple[float, float, str]] = []

    def each(began: float, ended: float, status: int, body: bytes) -> None:
        if status == 200:
            answers.append((began, ended, orjson.loads(body)["version"]))

    thread = threading.Thread(target=work)  # type: ignore[arg-type]  # a callable
    thread.start()
    measured = load(
        port,
        itertools.cycle(requests),
        600.0,
        connections,
        each,
        until=lambda: not thread.is_alive(),
        pause=0.002,
    )
    return measured, answers


if __name__ == "__main__":
    main()
