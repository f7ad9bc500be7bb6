"""The processes that train for a job, compare, and look for drift: each does what it is told on standard input.

    {"task": "train", ...}      a checkpoint in `out`, learnt from all but the newest units
    {"task": "compare", ...}    candidate and active version on the newest units, paired
    {"task": "drift", ...}      the items of the active version, between what it has learnt and what has come since

The newest units are those that come last in the data. As data grow their beginning only moves on, so
that nobody on whom two versions are compared was learnt from by an earlier run of the same job.
"""

import contextlib
import gzip
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kt.errors import Invalid, KtError
from kt.jobs import past
from kt.registry import load, register
from kt.workspace import Workspace

if TYPE_CHECKING:
    from kt.models.run import Epoch
    from kt.models.task import Parts, Task
    from kt.models.train import Trained
    from kt.registry.load import Loaded

ONE_SIDED = 0.9  # the middle 90 % begin at the one-sided 95 % bound
FEW = 5  # units: fewer are no evidence


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a family prints is not an answer
    try:
        done = {"train": train, "compare": compare, "drift": drift}[order["task"]](order)
        said: dict[str, Any] = {"done": done}
    except KtError as error:
        said = {"error": str(error), "do": error.do}
    except MemoryError:
        said = {"error": "it needs more memory than [jobs] memory allows", "do": ""}
    json.dump(said, out)
    out.flush()


def train(order: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores."""
    from kt.models import origin, task
    from kt.models.run import Epoch

    family = family_of(order)
    root, out = Path(order["root"]), Path(order["out"])
    paths = [Path(path) for path in order["paths"]]
    parts = parted(task.of(family), paths, order["holdout"])
    asked = {name: order[name] for name in ("holdout", "job", "commit")}

    def told(epoch: Epoch) -> None:
        best = "  best" if epoch.best else ""
        values = f"loss {epoch.loss:.4f}  {family.METRIC} {epoch.metric:.4f}{best}"
        sys.stderr.write(f"epoch {epoch.number}  {values}\n")

    def about() -> dict[str, Any]:
        return {"origin": origin.of(family, paths, root, made=out.parent, **asked)}

    return taught(order, family, parts, out, about, told).summary()


def family_of(order: Mapping[str, Any]) -> Any:
    """What is trained. Raises Invalid where it cannot be, or not in that size."""
    from kt import plugins
    from kt.models.family import is_trainable

    name = order["family"]
    family = plugins.load("models", name, Path(order["root"]), (*load.FAMILY, "SIZES"))
    if not is_trainable(family):
        raise Invalid(
            f"{name} cannot be trained",
            where=f"jobs.{order['job']}.family",
            do="name a family that kt train knows: kt train --help",
        )
    if order["size"] and order["size"] not in family.SIZES:
        raise Invalid(
            f"{name} has no size {order['size']}",
            where=f"jobs.{order['job']}.size",
            do=f"there are: {', '.join(family.SIZES)}",
        )
    return family


def taught(
    order: Mapping[str, Any],
    family: Any,
    parts: "Parts",
    out: Path,
    about: Callable[[], dict[str, Any]] = dict,
    on_epoch: "Callable[[Epoch], None]" = lambda _: None,
) -> "Trained":
    """The family trained as the job says. about: more for the record, asked once the threads are set."""
    import torch

    from kt.models.run import Options
    from kt.models.train import train as run

    given = dict(order["options"])
    torch.set_num_threads(int(given.pop("threads", 1)))  # one repeats bit for bit
    try:
        options = Options.of(family, **given, seed=order["seed"])
    except TypeError as error:
        raise Invalid(
            str(error),
            where=f"jobs.{order['job']}.options",
            do="see what there is: kt train --help",
        ) from error
    return run(
        family,
        order["family"],
        parts.train,
        parts.valid,
        test=parts.test,
        settings={**(family.SIZES[order["size"]] if order["size"] else {}), **order["settings"]},
        options=options,
        out=out,
        about=about(),
        on_epoch=on_epoch,
    )


def compare(order: Mapping[str, Any]) -> dict[str, Any]:
    """Candidate and active version on the newest units of the data."""
    from kt.models import task

    root = Path(order["root"])
    candidate, _ = register.opened(Workspace(root), Path(order["candidate"]))
    active = load.load(root, *order["active"]) if order["active"] else None
    room = task.of(candidate.family)
    _, newest = apart(room.read([Path(path) for path in order["paths"]]), order["holdout"])
    return compared(order, candidate, active, newest)


def compared(
    order: Mapping[str, Any], candidate: "Loaded", active: "Loaded | None", newest: Any
) -> dict[str, Any]:
    """Each has its family's own reading of the data; what is asked must be the same."""
    from kt.models import metrics, task
    from kt.models.evaluate import evaluate

    room = task.of(candidate.family)
    scores = evaluate(candidate.family, candidate.module, candidate.signature, newest)
    found: dict[str, Any] = {"scores": scores.summary(), "comparison": None}
    if active is None:
        return found
    if active.family.TASK != candidate.family.TASK:
        return found | {"why": "the active version has learnt another task"}
    metric = metric_of(order, candidate)
    before = room.predict(active.module, active.signature, newest)
    found_apart = metrics.difference(metric, before, scores.predicted, level=ONE_SIDED)
    up = metrics.higher_is_better(metric)
    gain, low = (
        (found_apart.value, found_apart.low) if up else (-found_apart.value, -found_apart.high)
    )
    return found | {
        "comparison": {
            "metric": metric,
            "candidate": metrics.score(metric, scores.predicted),
            "active": metrics.score(metric, before),
            "gain": gain,
            "low": low,
            "units": len(newest.units),
        }
    }


def metric_of(order: Mapping[str, Any], candidate: "Loaded") -> str:
    """What they are compared by. Raises Invalid where the task has no such score."""
    from kt.models import task

    names = task.of(candidate.family).names(candidate.signature)
    own: str = candidate.family.METRIC
    metric: str = order["metric"] or ("accuracy" if "accuracy" in names else own)
    if metric not in names:
        raise Invalid(
            f"{metric} is no score of this task",
            where=f"jobs.{order['job']}.metric",
            do=f"there are: {', '.join(names)}",
        )
    return metric


def drift(order: Mapping[str, Any]) -> dict[str, Any]:
    """How many items could be judged, and the false discovery rate of each that may have drifted."""
    active = load.load(Path(order["root"]), *order["active"])
    before, after = (Path(order["folder"]) / name for name in ("before", "after"))
    for folder in (before, after):
        folder.mkdir()
    for number, source in enumerate(order["sources"]):
        left = source["learnt"]
        for place, path in enumerate(map(Path, source["paths"])):
            name = f"{number}-{place}.csv"
            if source["until"]:
                past.in_two(
                    path, datetime.fromisoformat(source["until"]), before / name, after / name
                )
            else:
                left -= in_two(path, left, before / name, after / name)
    return drifted(active, [before], [after])


def drifted(active: "Loaded", before: Sequence[Path], after: Sequence[Path]) -> dict[str, Any]:
    """The same between two periods of answers. Raises Invalid where the version predicts none."""
    from kt.jobs.facts import Drifted
    from kt.models import items, task

    periods = [task.of(active.family).read(paths) for paths in (before, after)]
    judged = items.drift_of_looks(active.family, active.module, active.signature, *periods)
    found = {item: q for item, q in judged.items() if q <= Drifted.LEAST}
    return {"judged": len(judged), "q": found}


def in_two(path: Path, count: int, before: Path, after: Path) -> int:
    """The first `count` samples of a file of answers as one file and the others as another, neither without
    any. Returns how many there were of the first."""
    if path.suffix == ".npz":
        raise Invalid(
            "holds no answers to items",
            where=str(path),
            do="look for drift of items in data of answers alone",
        )
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.readline()
        first = list(itertools.islice(file, count))
        for to, rows in ((before, first), (after, list(file))):
            if rows:
                to.write_bytes(head + b"".join(rows))
    return len(first)


def parted(
    room: "Task", paths: Sequence[Path], holdout: float, valid: Sequence[Path] = ()
) -> "Parts":
    """The data in files by what each is for. holdout: the share of newest units that are left out."""
    data = room.read(paths)
    older = apart(data, holdout)[0] if holdout else data
    return room.split(older, room.read(valid) if valid else None)


def apart(data: Any, share: float) -> tuple[Any, Any]:
    """All but the newest units, and those. Raises Invalid where there are too few of either."""
    import numpy as np

    units = len(data.units)
    newest = np.arange(units) >= units - round(share * units)
    if newest.sum() < FEW or (~newest).sum() < FEW:
        raise Invalid(
            f"{units} units are too few to learn from some and compare on others",
            where=data.source,
            do="wait for more data",
        )
    return data.take(~newest), data.take(newest)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
