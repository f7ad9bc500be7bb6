"""What bench/crash.py needs for the verbs that watch, tell and train: tables, a sink that writes a file, a secret,
outcomes and a job, as they stand just before the command; and what is to be seen of all this from outside.

    ours/        a workspace      told.jsonl      what the sink has taken, a message a line
    outcomes.jsonl                of predictions  new.pt          what the job's program "trains"
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kt import clock, files
from kt.deployments import audit
from kt.errors import KtError
from kt.jobs import book
from kt.jobs.runs import Failed
from kt.monitors import history, memory, tripped
from kt.monitors.alerts import Key, Watch
from kt.monitors.live import Live, live
from kt.monitors.memory import Memory
from kt.stats.scored import Scores
from kt.store import answered, connect, labels, notices, secret
from kt.store.batch import Batch, Traffic
from kt.store.database import Store
from kt.store.ids import Ids
from kt.store.streams import remember
from kt.store.traffic import append
from kt.workspace import Workspace

HOURS = 3  # that a bench may take: for so long there is traffic
OUTCOMES = 3 * answered.TOGETHER // 2  # more than one transaction
SETTINGS = """
[monitor]
interval = 3600  # of the checks of a bench one judges
[[sink]]
name = "file"
path = "../told.jsonl"
"""
TRAINER = "import os, shutil; shutil.copy('{given}', os.environ['KT_OUT']); print('{{}}')"
JOB = """
[jobs.nightly]
model = "k"
command = [{python}, "-c", {program}]
[[jobs.nightly.data]]
name = "files"
paths = ["answers.csv"]
"""


def alert(place: Workspace, root: Path) -> None:
    """Errors of what is active, which two evaluations have seen: the next one opens an alert."""
    add(place, SETTINGS)
    store, now = connect.open(place.root, place.settings), clock.second()
    (who,) = watched(place)
    minutes = range(now // 60 - 10, now // 60 + 60 * HOURS)
    traffic = {(who.stream.id, minute): Traffic(1000, served=700, failed=300) for minute in minutes}
    assert append(store, "w", 1, Batch({who.stream.id: who.stream}, traffic), now // 60)
    last = now - 3_700
    key = who.stream.model, who.slot, "error_rate"
    pending: dict[Key, Watch] = {key: Watch(who.deployment, "pending", bad=2, at=last)}
    with store.write() as connection:
        made = {"fast": last, "slow": now, "roll_up": now}
        memory.save(connection, Memory(pending, {}, made), now)


def trip(place: Workspace, root: Path) -> None:
    """An experiment whose treatment the predictors have taken out."""
    add(place, SETTINGS)
    connect.open(place.root, place.settings)
    (experiment,) = (who.stream for who in watched(place) if who.stream.variant == "treatment")
    failed = tripped.Trip(
        model=experiment.model,
        experiment=experiment.experiment,
        phase=experiment.phase,
        metric="errors",
        control=tripped.Counts(requests=90, failed=0, calls=90, slow=0),
        treatment=tripped.Counts(requests=10, failed=10, calls=10, slow=0),
    )
    text = tripped.Book(trips=(failed,)).model_dump_json().encode()
    files.write_whole(place.local / tripped.FILE, text)


def outcomes(place: Workspace, root: Path) -> None:
    """A file of what came of predictions, of which the tables know who made them."""
    (who,) = watched(place)
    store, minute = connect.open(place.root, place.settings), clock.second() // 60
    with store.write() as connection:
        remember(connection, [who.stream])
    ids = Ids(secret.ensure(place.root, clock.now()))
    names = (
        ids.make(who.stream.id, minute - 5, 0, Scores("probability", [0.75]))
        for _ in range(OUTCOMES)
    )
    lines = (json.dumps({"prediction_id": name, "outcome": 1}) + "\n" for name in names)
    (root / "outcomes.jsonl").write_text("".join(lines))


def key(place: Workspace, root: Path) -> None:
    """A secret."""
    secret.ensure(place.root, clock.now())


def job(place: Workspace, root: Path) -> None:
    """A job whose program takes a second."""
    program = TRAINER.format(given="../new.pt")
    add(place, JOB.format(python=json.dumps(sys.executable), program=json.dumps(program)))
    rows = (f"s{n // 10},{n % 5},{(n // 3 + n // 10) % 2}\n" for n in range(400))
    (place.root / "answers.csv").write_text("".join(["student_id,item,response\n", *rows]))


def add(place: Workspace, text: str) -> None:
    path = place.root / "kt.toml"
    path.write_text(path.read_text() + text)
    vars(place).pop("settings", None)


def watched(place: Workspace) -> list[Live]:
    return live(audit.read(place)[1])


PREPARED: Mapping[str, Callable[[Workspace, Path], None]] = {
    one.__name__: one for one in (alert, trip, outcomes, key, job)
}


def seen(place: Workspace, root: Path) -> Mapping[str, tuple[str, ...]]:
    """Each part without what differs from run to run. Raises KtError where a message was told too often."""
    store = connect.peek(place.root, place.settings)
    return {
        "alerts": tuple(map(opened_or_ended, history.read(place)[0].events)),
        "told": tuple(sorted(told(store, root))),
        "runs": tuple(runs(place)),
        "outcomes": counted(place, store),
        "keys": keys(place.root),
    }


def opened_or_ended(event: Mapping[str, Any]) -> str:
    names = ("seq", "kind", "model", "metric", "variant", "alert", "reason")
    return json.dumps({name: event.get(name) for name in names})


def told(store: Store | None, root: Path) -> set[str]:
    """The titles of messages that were taken, once or, where a kill came between, twice; and that wait."""
    path = root / "told.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    taken = Counter(title(json.loads(line)) for line in lines if whole(line))
    if often := [name for name, times in taken.items() if times > 2]:
        raise KtError(f"was told more than twice: {often[0]}", where=str(path))
    waiting = [] if store is None else notices.waiting(store)
    return {*taken, *(title(json.loads(one.document)["message"]) for one in waiting)}


def whole(line: str) -> bool:
    """A line that was cut is sent once more."""
    return line.endswith("}") and line.count("{") == line.count("}")


def title(message: Mapping[str, Any]) -> str:
    return str(message["title"])


def runs(place: Workspace) -> Iterator[str]:
    """What came of each that came to its end."""
    for job in book.read(place)[1].jobs.values():
        for run in job.runs:
            if run.ended and not (isinstance(run.ended, Failed) and run.ended.how == "interrupted"):
                yield f"{run.outcome} {getattr(run.ended, 'version', '')}".strip()


def counted(place: Workspace, store: Store | None) -> tuple[str, ...]:
    """One entry for each transaction's worth: some of a file may be counted before the rest."""
    if store is None:
        return ()
    ids = [who.stream.id for who in watched(place)]
    n = sum(one.n for one in labels.total(store, ids, 0, clock.second()).values())
    return tuple(str(part) for part in range(0, n, answered.TOGETHER))


def keys(root: Path) -> tuple[str, ...]:
    if not (root / secret.FILE).exists():
        return ()
    return tuple(str(one.id) for one in secret.read(root).keys)
