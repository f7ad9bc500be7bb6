"""Several processes change the same workspace at once: every change becomes one event and one commit.

    python bench/race.py --processes 6 --changes 20

Each process deploys two versions in turn by the kt command. Prints the counts; ends with 1 where a change
is lost, doubled or out of step with git, or where a lock is left.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kt import journal
from kt.deployments import verify
from kt.registry import record
from kt.registry.record import Source, Spec, VersionRecord
from kt.workspace import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--changes", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt-race-") as folder:
        found = race(Path(folder), options.processes, options.changes)
    print(json.dumps(found))
    sys.exit(0 if found["sound"] else 1)


def race(root: Path, processes: int, changes: int) -> dict[str, object]:
    kt(root, "init", ".")
    text = (root / "kt.toml").read_text().replace("# lock_wait = 10.0", "lock_wait = 120.0")
    (root / "kt.toml").write_text(text)
    for model in range(processes):
        for version in ("v1", "v2"):
            register(root, f"m{model}", version)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run([*GIT, "commit", "-qm", "versions"], cwd=root, check=True)
    before = commits(root)

    def work(model: int) -> list[int]:
        return [kt(root, "deploy", f"m{model}@v{change % 2 + 1}") for change in range(changes)]

    with ThreadPoolExecutor(processes) as pool:
        codes = [code for row in pool.map(work, range(processes)) for code in row]
    book = journal.read(
        root / "deployments" / "history.json"
    )  # raises where a number is missing or a link broken
    findings = verify.everything(Workspace(root))
    left = [path.name for path in (root / ".git").glob("*.lock")]
    made = commits(root) - before
    return {
        "changes": processes * changes,
        "exit_0": codes.count(0),
        "events": book.seq,
        "commits": made,
        "locks_left": left,
        "findings": [f"{finding.where}: {finding.what}" for finding in findings],
        "sound": codes.count(0) == book.seq == made == processes * changes
        and not left
        and not findings,
    }


GIT = ("git", "-c", "user.name=kt", "-c", "user.email=kt@localhost")


def kt(root: Path, *arguments: str) -> int:
    command = [sys.executable, "-m", "kt", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode


def commits(root: Path) -> int:
    return int(subprocess.check_output(["git", "rev-list", "--count", "HEAD"], cwd=root))


def register(root: Path, model: str, version: str) -> None:
    """A version of weights without tensors, by hand: no torch in the way."""
    spec = Spec(
        family="sakt", config={}, form="kt.models.tracing", signature={"name": f"{model} {version}"}
    )
    header = json.dumps({"__metadata__": {"kt": spec.model_dump_json()}}).encode()
    weights = len(header).to_bytes(8, "little") + header
    sha256 = hashlib.sha256(weights).hexdigest()
    known = VersionRecord(
        model=model,
        version=version,
        spec=spec,
        sha256=sha256,
        size=len(weights),
        parameters=0,
        source=Source(name="m.pt", format="torch", sha256=sha256, size=1),
        parent=None,
        scores={},
        training={},
        gates=(),
        created_at="2026-01-12T09:00:00Z",
        by="ana",
        made_with={"kt": "0", "torch": "0"},
    )
    folder = root / record.FOLDER / model / version
    folder.mkdir(parents=True)
    (folder / record.WEIGHTS).write_bytes(weights)
    (folder / record.RECORD).write_bytes(record.dump(known))


if __name__ == "__main__":
    main()
