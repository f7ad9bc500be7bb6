"""Experiments on real learners: a broken copy of the control never wins, and no copy of itself does either.

    PYTHONPATH=$PWD:$PWD/tests python bench/experiments.py broken --data ../shared/data/assist2015 [--sakt FILE]
    PYTHONPATH=$PWD:$PWD/tests python bench/experiments.py same --data ../shared/data/assist2015 [--sakt FILE] --seeds 50

broken   SAKT as control, beside it on 10 % the same weights with the embeddings of items shuffled. Every test
         learner asks over HTTP and tells the outcome over HTTP; kt monitor's check runs every few seconds.
         Holds where the experiment is aborted by a guardrail or the treatment is named worse, and at no look better.
same     The same weights twice, in this process: each seed assigns the learners anew, to a treatment that says what
         the control says. Assignment, recording, prediction ids, outcomes, tables and reports are the product's own; the
         model is run once and its answers are kept. Holds where no seed names a winner at any of its looks.

Prints one JSON object on stdout and ends with 1 where it does not hold; talk goes to stderr.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import forge
import main_job
import numpy as np

from kt import clock
from kt.deployments import audit, courses, deploy, manifest
from kt.deployments.plan import Candidate, Stamp
from kt.monitors import enforce, experiment
from kt.predictor import record
from kt.stats.scored import Scores
from kt.store import answered, connect, outcomes, secret
from kt.store.database import Store
from kt.store.ids import Ids
from kt.store.traffic import append
from kt.workspace import Workspace

MODEL, EXPERIMENT = "tutor", "shuffled"
TRAFFIC = 10  # percent
LOOKS = 20  # of each seed
CONNECTIONS = 4

Histories = dict[str, list[tuple[str, int]]]  # by learner: items and responses


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("broken", "same"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sakt", type=Path, help="a trained checkpoint instead of training one")
    parser.add_argument("--epochs", type=int, default=2, help="of the training")
    parser.add_argument("--learners", type=int, default=0, help="test learners; 0 for all")
    parser.add_argument("--each", type=int, default=20, help="requests of each at most")
    parser.add_argument("--seeds", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kt-experiments-") as folder:
        root = Path(folder)
        main_job.kt(root, "init", ".")
        (root / "kt.toml").write_text("[experiment]\nleast = 0.0\n")  # nobody waits a day
        sakt = options.sakt.resolve() if options.sakt else trained(root, options)
        histories = {
            student: answers[: options.each + 1]
            for student, answers in main_job.learners(options.data, options.learners).items()
        }
        result = broken(root, sakt, histories) if options.what == "broken" else {}
        if options.what == "same":
            result = same(root, sakt, options.data, histories, options.seeds)
    print(json.dumps(result, indent=1))
    sys.exit(0 if all(result["holds"].values()) else 1)


def trained(root: Path, options: argparse.Namespace) -> Path:
    epochs = ["--epochs", str(options.epochs)]
    main_job.kt(
        root, "train", "sakt", "--data", str(options.data.resolve()), "--out", "sakt.pt", *epochs
    )
    return root / "sakt.pt"


# A broken copy


def broken(root: Path, sakt: Path, histories: Histories) -> dict[str, Any]:
    shuffle(sakt, root / "shuffled.pt")
    main_job.kt(root, "deploy", str(sakt), "--model", MODEL)
    main_job.kt(
        root, "deploy", "shuffled.pt", "--model", MODEL, "--traffic", str(TRAFFIC), "--ab-test", EXPERIMENT,
    )  # fmt: skip
    seen: list[dict[str, Any]] = []
    over = threading.Event()
    with main_job.serving(root) as address:
        watch = threading.Thread(target=watched, args=(root, seen, over))
        watch.start()
        started = time.monotonic()
        counts = replayed(address, histories)
        seconds = time.monotonic() - started
        time.sleep(15)  # what was counted last is written within ten seconds
        over.set()
        watch.join()
    last = asked(root)
    ended = last["ended"] == "aborted"
    states = [one["report"]["state"] for one in [*seen, last]]
    report = last["report"]
    return {
        "holds": {
            "never_better": "treatment_better" not in states,
            "aborted_or_worse": ended or states[-1] == "treatment_worse",
        },
        "learners": len(histories),
        **counts,
        "requests_per_second": round(counts["requests"] / seconds, 1),
        "looks": len(states),
        "ended": last["ended"],
        "why": last["why"],
        "state": report["state"],
        "difference": report["difference"],
        "interval": report["interval"],
        "outcomes": {name: report[name]["outcomes"] for name in ("control", "treatment")},
        "outcomes_at_the_verdict": next(
            (
                one["report"]["treatment"]["outcomes"] + one["report"]["control"]["outcomes"]
                for one in seen
                if one["report"]["state"] == "treatment_worse" or one["ended"]
            ),
            None,
        ),
        "ratio": report["ratio"],
        "guardrails": report["guardrails"],
    }


def shuffle(sakt: Path, to: Path) -> None:
    """The same weights, but for items: each has the embedding of another one."""
    import torch

    content = torch.load(sakt, weights_only=True)  # noqa: TID251  # made above, by kt train
    weights = content["state_dict"]["item.weight"]
    order = torch.randperm(len(weights), generator=torch.Generator().manual_seed(0))
    content["state_dict"]["item.weight"] = weights[order]
    torch.save(content, to)


def watched(root: Path, seen: list[dict[str, Any]], over: threading.Event) -> None:
    """kt monitor, and a look at the experiment, every few seconds until it is over."""
    while not over.wait(5):
        main_job.kt(root, "monitor", "--quiet")
        seen.append(asked(root))
        if seen[-1]["ended"]:
            return


def asked(root: Path) -> dict[str, Any]:
    """What kt experiment says."""
    command = [sys.executable, "-m", "kt", "experiment", EXPERIMENT, "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["result"]
    return found


def replayed(address: str, histories: Histories) -> dict[str, int]:
    """Every learner asks about each answer before giving it, and then tells it."""
    waiting = list(histories)
    counts = {"requests": 0, "outcomes_accepted": 0}
    failures: list[str] = []
    lock = threading.Lock()

    def work() -> None:
        client = Client(address)
        while waiting and not failures:
            try:
                student = waiting.pop()
            except IndexError:
                return
            answers, told = histories[student], []
            for place in range(1, len(answers)):
                status, reply = client.ask(student, answers[:place], answers[place][0])
                if status != 200:
                    failures.append(f"{student} {place}: {status} {reply}")
                    return
                told.append({"prediction_id": reply["prediction_id"], "outcome": answers[place][1]})
            status, reply = client.tell(told)
            if status != 200:
                failures.append(f"{student}: {status} {reply}")
                return
            with lock:
                counts["requests"] += len(told)
                counts["outcomes_accepted"] += reply["accepted"]

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(failures[0])
    return counts


class Client(main_job.Client):
    def tell(self, outcomes: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", "/feedback", json.dumps(outcomes), headers)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


# The same weights twice


def same(root: Path, sakt: Path, data: Path, histories: Histories, seeds: int) -> dict[str, Any]:
    said = answers_of(root, sakt, data, histories)
    place = forge.workspace(root / "same")
    (place.root / "kt.toml").write_text('git = "off"\n[experiment]\nleast = 0.0\n')
    control, treatment = (forge.version(place, MODEL, name) for name in ("v1", "v2"))
    forge.give(place, control)
    store = connect.open(place.root, place.settings)
    states = []
    for seed in range(seeds):
        states.append(one_seed(place, store, treatment, said, seed))
        print(f"seed {seed}: {states[-1][-1]}", file=sys.stderr)
    winners = [
        seed
        for seed, looks in enumerate(states)
        if {"treatment_better", "treatment_worse"} & set(looks)
    ]
    last = [looks[-1] for looks in states]
    return {
        "holds": {"no_winner": not winners},
        "seeds": seeds,
        "looks": sum(map(len, states)),
        "learners": len({student for student, _, _ in said}),
        "outcomes_of_each_seed": len(said),
        "winners": winners,
        "states_at_the_end": {state: last.count(state) for state in sorted(set(last))},
    }


Answer = tuple[str, float, int]  # a learner, P(right) and whether it was


def answers_of(root: Path, sakt: Path, data: Path, histories: Histories) -> list[Answer]:
    """What the model says of each answer but the first of each learner, as kt evaluate has it predict."""
    main_job.kt(root, "register", str(sakt), "--model", MODEL)
    events, _ = main_job.offline(root, data, "v1")
    out = []
    for at in range(len(events.responses)):
        student = events.students[events.student[at]]
        if 0 < events.place[at] < len(histories.get(student, ())):
            out.append((student, float(events.probabilities[at, -1]), int(events.responses[at])))
    return out


def one_seed(
    place: Workspace, store: Store, treatment: Candidate, said: list[Answer], seed: int
) -> list[str]:
    """The state of the report at every look. Half way the treatment's share grows from 10 to 50 percent."""
    name = f"same-{seed}"
    now = Stamp("bench", clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    deploy.deploy(place, treatment, now, traffic=TRAFFIC, experiment=name, dry_run=False)
    order = np.random.default_rng(seed).permutation(len(said))
    states: list[str] = []
    for look, part in enumerate(np.array_split(order, LOOKS)):
        if look == LOOKS // 2:
            deploy.ramp(place, name, 50, now)
        answer(place, store, name, [said[at] for at in part], number=seed * LOOKS + look + 1)
        course = courses.of(audit.read(place)[0].events, name)
        assert course is not None
        report = experiment.report(store, place.settings, course, clock.now())
        enforce.enforce(place, store, clock.now())
        states.append(report.state)
    deploy.end(place, name, now)
    return states


def answer(place: Workspace, store: Store, name: str, said: list[Answer], *, number: int) -> None:
    """Requests as a predictor takes them: assigned, counted, answered with an id; then their outcomes."""
    _, state = audit.read(place)
    route = manifest.manifest(state).models[MODEL]
    assert route.experiment is not None
    of = record.streams(MODEL, route, {"v1": "probability", "v2": "probability"})
    keys = secret.ensure(place.root, clock.now())
    recorder = record.Recorder(on=True)
    recorder.know(keys)
    told = []
    for student, p, right in said:
        treated = manifest.treatment_for(route.experiment, manifest.fraction(name, student))
        entry = recorder.begin(of[treated.version if treated else record.CONTROL], [student])
        scores = Scores("probability", [p])
        prediction = recorder.identity(entry, 0, scores)
        recorder.end(entry, [record.Seen(took=1.0, scores=scores)])
        told.append({"prediction_id": prediction, "outcome": right})
    append(store, "bench", number, recorder.take(), clock.second() // 60)
    ids = Ids(keys)
    read = [one for entry in told for one in outcomes.read(ids, entry)]
    answered.ingest(store, read, clock.now(), answered.rules(place.settings))


if __name__ == "__main__":
    main()
