"""A hundred swaps under steady load: experiments started, promoted and rolled back by the kt command.

    python bench/swaps.py [--swaps 99] [--connections 4] [--size 200] [--kills 20]

Counts the answers that were not 200, and those from a version that no manifest named at the time,
with one second to follow; the stalest is how long after the command had ended. The p99 around swaps
stands beside the p99 while `kt status` runs as often, which disturbs the machine as much and swaps
nothing. Memory is the processes' own, and all of it with the weights that they have mapped, once every
version has been loaded and after the last round. A request may be lost where it was inside a worker that
is killed.
"""

import argparse
import itertools
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import torch
from load import Measured, free_port, load, memory, percentile, request, server, show, tree
from safetensors.torch import save_file
from serving import sakt_bodies

from kt.deployments import manifest
from kt.models import sakt
from kt.registry.record import Spec

HERE = Path(__file__).parent
FOLLOW = 1.0  # seconds
AFTER = 0.5  # seconds after a command that count as around its swap
WELL = 100  # answers of a worker before it is killed: the version is not to blame then
KT = [sys.executable, "-m", "kt"]


@dataclass
class Command:
    began: float
    ended: float
    versions: set[str]  # that the manifest names from here on


Answer = tuple[float, float, str]  # when it was asked for, when it came, its version


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

    def all(self, commands: Sequence[tuple[str, ...]]) -> None:
        for words in commands:
            self.kt(*words)

    def named(self) -> set[str]:
        route = manifest.parse((self.root / manifest.MANIFEST).read_bytes()).models["sakt"]
        treatments = route.experiment.treatments if route.experiment else ()
        return {route.active.version, *(treatment.version for treatment in treatments)}


def checkpoint(folder: Path, seed: int, mb: int) -> Path:
    """A SAKT, wide and of so many items that its weights have this size."""
    config = sakt.Config(items=1_000, d_model=128)
    if mb:
        config = sakt.Config(items=mb * 1_000_000 // (3 * 4 * 512), d_model=512)
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
    parser.add_argument("--swaps", type=int, default=99, help="three make a round")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--size", type=int, default=0, help="MB of weights; a small model without")
    parser.add_argument("--kills", type=int, default=0, help="workers killed after the swaps")
    options = parser.parse_args()
    requests = [request("/predict", body) for body in sakt_bodies(50, 10)]
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
            path = checkpoint(Path(folder), seed, options.size)
            operator.kt("deploy" if seed == 1 else "register", str(path), "--model", "sakt")
            path.unlink()
        rounds = swaps(options.swaps + 6)
        port = free_port()
        command = [*KT, "serve", "--port", str(port)]
        with server(command, port, requests[0], env=operator.environment) as (pid, _):
            os.sched_setaffinity(0, {os.cpu_count() - 1})  # type: ignore[operator]  # there is one
            for words in rounds[:6]:  # what is made once is made now
                operator.kt(*words)
                time.sleep(FOLLOW)
            operator.commands = [Command(0.0, 0.0, operator.named())]
            quiet, _ = run(
                port,
                requests,
                options.connections,
                lambda _: operator.all([("status",)] * 20),
            )
            operator.commands = operator.commands[:1]
            before = [memory(pid, kind) for kind in ("Pss_Anon:", "Pss:")]
            busy, answers = run(
                port,
                requests,
                options.connections,
                lambda _: operator.all(rounds[6:]),
            )
            time.sleep(FOLLOW)
            after = [memory(pid, kind) for kind in ("Pss_Anon:", "Pss:")]
            show([swapped(operator.commands, quiet, busy, answers, before, after)])
            if options.kills:
                show([killed(pid, port, requests, options.connections, options.kills)])


def swapped(
    commands: list[Command],
    quiet: Measured,
    busy: Measured,
    answers: list[Answer],
    before: list[float],
    after: list[float],
) -> dict[str, object]:
    around = [
        latency
        for latency, ended in zip(busy.latencies, busy.ended, strict=True)
        if any(c.began <= ended <= c.ended + AFTER for c in commands)
    ]
    stale = [staleness(*answer, commands) for answer in answers]
    return {
        "swaps": len(commands) - 1,
        "answers": len(busy.latencies),
        "not 200": sum(count for status, count in busy.statuses.items() if status != 200),
        "broken": busy.broken,
        "wrong version": sum(one > FOLLOW for one in stale),
        "stalest s": max(stale),
        "p99 quiet ms": quiet.percentile(99),
        "p99 around ms": percentile(around, 99),
        "longest ms": percentile(around, 100),
        "own MB before": before[0],
        "own MB after": after[0],
        "all MB before": before[1],
        "all MB after": after[1],
        "s a command": sum(c.ended - c.began for c in commands[1:]) / (len(commands) - 1),
    }


def killed(
    pid: int, port: int, requests: list[bytes], connections: int, count: int
) -> dict[str, object]:
    """Of the requests that were lost, those whose worker was not killed while they were inside."""
    kills: list[float] = []

    def kill(answers: list[Answer]) -> None:
        for _ in range(count):
            enough = len(answers) + WELL
            while len(answers) < enough:
                time.sleep(0.05)
            kills.append(time.monotonic())
            for worker in tree(pid)[1:]:
                os.kill(worker, signal.SIGKILL)
        time.sleep(2)

    measured, _ = run(port, requests, connections, kill)
    outside = [
        began
        for began, ended in measured.broke
        if not any(began - AFTER <= at <= ended for at in kills)  # it takes a moment to die
    ]
    return {
        "kills": count,
        "answers": len(measured.latencies),
        "not 200": sum(n for status, n in measured.statuses.items() if status != 200),
        "lost": measured.broken,
        "of these not inside": len(outside),
        "inside at most": count * connections,
        "longest ms": measured.percentile(100),
    }


def run(
    port: int, requests: list[bytes], connections: int, work: Callable[[list[Answer]], object]
) -> tuple[Measured, list[Answer]]:
    """Load until `work`, in a thread of its own, is done. It is given the answers, as they come."""
    answers: list[Answer] = []

    def each(began: float, ended: float, status: int, body: bytes) -> None:
        if status == 200:
            answers.append((began, ended, orjson.loads(body)["version"]))

    thread = threading.Thread(target=work, args=(answers,))
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
