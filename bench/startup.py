"""What a command costs before it does anything: CPU seconds and peak memory, small and with a long history.

    python bench/startup.py

Bars: --help, status, models, history at most 0.25 CPU seconds and 45 MB; with 1,000 versions and
10,000 events status and rollback at most 0.5 CPU seconds, git's included. Medians of five runs.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kt import journal
from kt.registry import record
from kt.registry.record import Source, Spec, Verdict, VersionRecord

RUNS = 5
VERSIONS, EVENTS = 1_000, 10_000
AT = "2026-01-12T09:00:00Z"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kt-startup-") as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        for root in (small, large):
            run(Path(folder), "init", str(root))
        fill(small, versions=3, events=5)
        fill(large, versions=VERSIONS, events=EVENTS)
        print(f"{'':32}{'CPU s':>8}{'MB':>8}")
        for command in (["--help"], ["status"], ["models"], ["history"]):
            show(f"kt {' '.join(command)}", [run(small, *command) for _ in range(RUNS)])
        print(f"with {VERSIONS:,} versions and {EVENTS:,} events")
        for command in (["status"], ["models"], ["models", "m"], ["history"], ["rollback"]):
            show(f"kt {' '.join(command)}", [run(large, *command) for _ in range(RUNS)])


def show(name: str, runs: list[tuple[float, float]]) -> None:
    cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"{name:32}{cpu:8.2f}{memory:8.0f}")


# a child's peak counts its parent's memory at the fork, so the parent is a Python without imports
LEAN = """
import os, sys
child = os.fork()
if child == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
print(status, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def run(root: Path, *arguments: str) -> tuple[float, float]:
    """CPU seconds of the command and what it starts, and the peak of its memory in MB."""
    command = [sys.executable, "-I", "-S", "-c", LEAN, sys.executable, "-m", "kt", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    status, cpu, memory = done.stdout.split()
    assert status == "0", done.stderr
    return float(cpu), int(memory) / 1000


def fill(root: Path, versions: int, events: int) -> None:
    """Versions of tiny weights, and a history of experiments that were promoted one after the other."""
    spec = Spec(family="sakt", config={}, form="kt.models.tracing", signature={})
    header = json.dumps({"__metadata__": {"kt": spec.model_dump_json()}}).encode()
    weights = len(header).to_bytes(8, "little") + header
    sha256 = hashlib.sha256(weights).hexdigest()
    for number in range(1, versions + 1):
        known = VersionRecord(
            model="m",
            version=f"v{number}",
            spec=spec,
            sha256=sha256,
            size=len(weights),
            parameters=1,
            source=Source(name="m.pt", format="torch", sha256="0" * 64, size=1),
            parent=None,
            scores={"metric": "auc", "auc": 0.7},
            training={},
            gates=tuple(
                Verdict(gate=name, passed=True, sentence="passed")
                for name in ("finite", "latency", "size")
            ),
            created_at=AT,
            by="ana",
            made_with={"kt": "0", "torch": "0"},
        )
        folder = root / record.FOLDER / "m" / f"v{number}"
        folder.mkdir(parents=True)
        (folder / record.RECORD).write_bytes(record.dump(known))
        (folder / record.WEIGHTS).write_bytes(weights)
    path = root / "deployments" / "history.json"
    path.write_bytes(journal.read(path).append(story(versions, events, sha256)).text)
    for command in (["add", "-A"], ["commit", "-qm", "filled"]):
        subprocess.run(
            ["git", "-c", "user.name=kt", "-c", "user.email=kt@localhost", *command],
            cwd=root,
            check=True,
        )


def story(versions: int, events: int, sha256: str) -> list[dict[str, object]]:
    def event(kind: str, number: int, **fields: object) -> dict[str, object]:
        return {
            "at": AT,
            "by": "ana",
            "model": "m",
            "kind": kind,
            "reason": "",
            "version": f"v{number}",
            **fields,
        }

    told = [event("deployed", 1, sha256=sha256, forced=False)]
    number = 1
    while len(told) < events - 1:
        number = number + 1 if number < versions else 2
        name = f"x{number}"
        told.append(
            event(
                "experiment_started",
                number,
                experiment=name,
                sha256=sha256,
                traffic=10.0,
                forced=False,
            )
        )
        told.append(
            event(
                "promoted",
                number,
                experiment=name,
                label=f"ab-winner-{name}",
                evidence=None,
                forced=True,
            )
        )
    return told


if __name__ == "__main__":
    main()
