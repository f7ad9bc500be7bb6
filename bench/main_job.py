"""The main job on real input: train two models, deploy both, replay real learners over HTTP, promote, roll back.

    python bench/main_job.py --data ../shared/data/assist2015
    python bench/main_job.py --students 300 --learners 150 --epochs 2        # simulated, small

Checks, and ends with 1 where one does not hold:

    sticks      every learner gets one version, in every request
    share       the treatment's share of the learners is within three standard errors of 10 %
    same        what a version answers over HTTP is what it predicts offline, and so is its AUC
    no failure  while promote and rollback change who serves, every request is answered with 200,
                by a version that the manifest named, and the change takes effect

Prints one JSON object on stdout; talk goes to stderr.
"""

import argparse
import contextlib
import http.client
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

MODEL = "tutor"
EXPERIMENT = "attention"
TRAFFIC = 10  # percent
CONNECTIONS = 4


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kt-main-job-") as folder:
        root = Path(folder)
        result = run(root, options)
    print(json.dumps(result, indent=1))
    sys.exit(0 if all(result["holds"].values()) else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a data set; simulated learners without")
    parser.add_argument("--students", type=int, default=900, help="simulated learners")
    parser.add_argument(
        "--learners", type=int, default=0, help="test learners to replay; 0 for all"
    )
    parser.add_argument(
        "--epochs", type=int, default=0, help="at most, of each training; 0 for kt's default"
    )
    parser.add_argument("--gpcm", type=Path, help="a trained checkpoint instead of training one")
    parser.add_argument("--sakt", type=Path, help="likewise")
    return parser.parse_args()


def run(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    kt(root, "init", ".")
    data = options.data.resolve() if options.data else simulate(root, options.students)
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    checkpoints = {}
    for family in ("gpcm", "sakt"):
        given = getattr(options, family)
        checkpoints[family] = given.resolve() if given else root / f"{family}.pt"
        if not given:
            kt(root, "train", family, "--data", str(data), "--out", f"{family}.pt", *epochs)
    kt(root, "deploy", str(checkpoints["gpcm"]), "--model", MODEL)
    kt(
        root,
        "deploy",
        str(checkpoints["sakt"]),
        "--model",
        MODEL,
        "--traffic",
        str(TRAFFIC),
        "--ab-test",
        EXPERIMENT,
    )
    histories = learners(data, options.learners)
    with serving(root) as address:
        started = time.monotonic()
        answers = replay(address, histories)
        seconds = time.monotonic() - started
        swaps = change_under_load(root, address, histories)
    return report(root, data, histories, answers, swaps, seconds)


def simulate(root: Path, students: int) -> Path:
    kt(
        root,
        "simulate",
        "gpcm",
        "--out",
        "learners",
        "--students",
        str(students),
        "--items",
        "40",
        "--categories",
        "2",
    )
    return root / "learners"


def kt(root: Path, *arguments: str) -> None:
    print(f"$ kt {' '.join(arguments)}", file=sys.stderr)
    subprocess.run(
        [sys.executable, "-m", "kt", *arguments], cwd=root, check=True, stdout=sys.stderr
    )


def learners(data: Path, most: int) -> dict[str, list[tuple[str, int]]]:
    """Each test learner's answers (item, response), oldest first, up to a window of both families."""
    from kt.models import data as room
    from kt.models.split import only_test

    held_out = only_test(room.read(data))
    histories = {}
    for place, student in enumerate(held_out.students):
        events = range(int(held_out.offsets[place]), int(held_out.offsets[place + 1]))
        answers = [
            (held_out.names[held_out.items[event]], int(held_out.responses[event]))
            for event in events
        ]
        if len(answers) > 1:
            histories[student] = answers
    return dict(list(histories.items())[: most or None])


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """`kt serve` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kt", "serve", "--port", "0"], cwd=root, stdout=sys.stderr
    )
    try:
        yield settle(root)
    finally:
        process.terminate()
        process.wait(30)


def settle(root: Path) -> str:
    """The predictor's address, once it serves what the history says."""
    from kt.deployments import audit
    from kt.predictor import presence
    from kt.workspace import Workspace

    workspace = Workspace(root)
    _, state = audit.read(workspace)
    if found := presence.found(workspace, state.seq, 60):
        return found
    raise SystemExit(f"no predictor serves event {state.seq}")


class Client:
    """One connection that is kept alive."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)

    def ask(
        self, student: str, answers: list[tuple[str, int]], item: str
    ) -> tuple[int, dict[str, Any]]:
        history = [{"item": name, "response": response} for name, response in answers]
        body = json.dumps({"student_id": student, "answers": history, "items": [item]})
        self.connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


def replay(
    address: str, histories: dict[str, list[tuple[str, int]]]
) -> dict[str, list[tuple[str, float]]]:
    """Every event but the first, asked over HTTP: by learner, (version, probability of the highest category)."""
    out: dict[str, list[tuple[str, float]]] = {}
    waiting = list(histories)
    failures: list[str] = []

    def work() -> None:
        client = Client(address)
        while waiting and not failures:
            try:
                student = waiting.pop()
            except IndexError:
                return
            answers = histories[student]
            said = []
            for place in range(1, len(answers)):
                status, reply = client.ask(student, answers[:place], answers[place][0])
                if status != 200:
                    failures.append(f"{student} {place}: {status} {reply}")
                    return
                said.append((reply["version"], float(reply["predictions"][0]["probabilities"][-1])))
            out[student] = said

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(failures[0])
    return out


def change_under_load(
    root: Path, address: str, histories: dict[str, list[tuple[str, int]]]
) -> dict[str, Any]:
    """Promote, then roll back, while learners go on asking."""
    stop = threading.Event()
    seen: list[tuple[int, str]] = []  # status, version

    def work(part: int) -> None:
        client = Client(address)
        students = list(histories)[part::CONNECTIONS]
        while not stop.is_set():
            for student in students:
                answers = histories[student]
                place = min(5, len(answers) - 1)
                status, reply = client.ask(student, answers[:place], answers[place][0])
                seen.append((status, reply.get("version", "")))
                if stop.is_set():
                    return

    threads = [threading.Thread(target=work, args=(part,)) for part in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    effects = {}
    for name, command, version in (
        ("promote", ["promote", EXPERIMENT, "--force", "--reason", "replay"], "v2"),
        ("rollback", ["rollback"], "v1"),
    ):
        kt(root, *command)
        settle(root)
        time.sleep(0.2)  # requests that were in flight
        mark = len(seen)
        time.sleep(0.5)
        effects[name] = {v for _, v in seen[mark:]} == {version}
    stop.set()
    for thread in threads:
        thread.join()
    return {
        "requests": len(seen),
        "failed": sum(status != 200 for status, _ in seen),
        "effects": effects,
        "versions": sorted({v for _, v in seen}),
    }


def report(
    root: Path,
    data: Path,
    histories: dict[str, list[tuple[str, int]]],
    answers: dict[str, list[tuple[str, float]]],
    swaps: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    from kt.models import metrics
    from kt.models.metrics import Events

    by_learner = {student: {version for version, _ in said} for student, said in answers.items()}
    sticks = all(len(versions) == 1 for versions in by_learner.values())
    treated = sum("v2" in versions for versions in by_learner.values())
    n = len(by_learner)
    share = treated / n
    error = math.sqrt(TRAFFIC / 100 * (1 - TRAFFIC / 100) / n)
    worst, scores = 0.0, {}
    for version in ("v1", "v2"):
        events, window = offline(root, data, version)
        place = {student: number for number, student in enumerate(events.students)}
        mine = [student for student, versions in by_learner.items() if version in versions]
        chosen = np.isin(events.student, [place[student] for student in mine]) & (events.place > 0)
        there = events.take(chosen)
        over_http = np.array(
            [
                answers[there.students[s]][p - 1][1]
                for s, p in zip(there.student, there.place, strict=True)
            ]
        )
        # beyond a window the two look at differently many answers
        inside = there.place < window
        worst = max(
            worst, float(np.abs(over_http - there.probabilities[:, -1])[inside].max(initial=0))
        )
        both = np.stack([1 - over_http, over_http], 1)
        served = Events(
            there.students, there.student, there.place, there.items, there.responses, both
        )
        scores[version] = {
            "learners": len(mine),
            "events": len(over_http),
            "auc_http": metrics.score("auc", served.take(inside)),
            "auc_offline": metrics.score("auc", there.take(inside)),
            "auc_all_learners": metrics.score("auc", events.take(events.place > 0)),
        }
    same = worst < 1e-4 and all(
        abs(score["auc_http"] - score["auc_offline"]) < 1e-4 for score in scores.values()
    )
    return {
        "holds": {
            "sticks": sticks,
            "share": abs(share - TRAFFIC / 100) <= 3 * error,
            "same": same,
            "no_failure": not swaps["failed"]
            and set(swaps["versions"]) <= {"v1", "v2"}
            and all(swaps["effects"].values()),
        },
        "learners": n,
        "requests": sum(map(len, answers.values())),
        "requests_per_second": round(sum(map(len, answers.values())) / seconds, 1),
        "share": share,
        "share_standard_error": error,
        "largest_difference": worst,
        "versions": scores,
        "swaps": swaps,
    }


def offline(root: Path, data: Path, version: str) -> "tuple[Any, int]":
    """Every test event predicted by a registered version, as `kt evaluate` does it; and its window."""
    from kt.models import data as room
    from kt.models.answers import predict_all
    from kt.models.split import only_test
    from kt.registry import load, record
    from kt.workspace import Workspace

    known = record.read(Workspace(root), MODEL, version)
    loaded = load.load(root, MODEL, version, known.sha256)
    signature: Any = loaded.signature
    return predict_all(loaded.module, signature, only_test(room.read(data))), signature.window


if __name__ == "__main__":
    main()
