"""kt reproduce: a version trained again from its record, and what is other than it was.

On one thread, with the same data, code, libraries and kind of processor, all weights come out bit for bit.
Where something has changed that is told beside by how much weights and scores differ.
"""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kt import __version__, git
from kt.errors import Invalid, KtError, Refused
from kt.jobs import book, trainer, watch
from kt.jobs.runs import Finished
from kt.registry import load, record, register
from kt.registry.record import VersionRecord
from kt.workspace import Workspace

if TYPE_CHECKING:
    import torch

    from kt.models.origin import Origin
    from kt.models.run import Epoch, Options, Progress
    from kt.models.warm import Start


@dataclass(frozen=True)
class Weights:
    """A tensor that came out otherwise. difference: the largest of its elements, None of other shapes."""

    tensor: str
    difference: float | None


@dataclass(frozen=True)
class Reproduced:
    """same: bit for bit, what it says of itself too. changed: what is other than it was then, as clauses.

    weights: the tensors that differ. scores: then and now, those that differ.
    """

    same: bool
    changed: list[str]
    weights: list[Weights] = field(default_factory=list)
    scores: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All that a training needs, checked before it begins. changed: what is other than it was."""

    family: Any
    name: str
    origin: "Origin"
    files: list[Path]
    valid: list[Path]
    settings: Mapping[str, Any]
    options: "Options"
    start: "Start | None"
    changed: list[str]


def reproduce(
    workspace: Workspace,
    model: str,
    version: str,
    data: Sequence[Path] = (),
    *,
    on_plan: Callable[[Plan], None] = lambda _: None,
    on_epoch: "Callable[[Epoch], None]" = lambda _: None,
    on_batch: "Callable[[Progress], None]" = lambda _: None,
) -> Reproduced:
    """Train a version again and compare. data: where its files are now, if not where they were.

    Raises Invalid where its record does not say enough, or its data are gone or changed; Corrupt where
    its weights are not here.
    """
    import torch

    from kt.models import task
    from kt.models.train import train

    known = record.read(workspace, model, version)
    with TemporaryDirectory(prefix="kt-") as folder:
        plan = planned(workspace, known, data, Path(folder))
        before = load.load(workspace.root, model, version, known.sha256)
        on_plan(plan)
        torch.set_num_threads(plan.origin.threads)
        parts = trainer.parted(task.of(plan.family), plan.files, plan.origin.holdout, plan.valid)
        out = Path(folder) / "again.pt"
        trained = train(
            plan.family,
            plan.name,
            parts.train,
            parts.valid,
            test=parts.test,
            settings=plan.settings,
            options=plan.options,
            out=out,
            resume=False,
            start=plan.start,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
        after, _ = register.opened(workspace, out)
    weights = list(apart(before.module.state_dict(), after.module.state_dict()))
    same = not weights and before.spec == after.spec
    scores = moved(known.scores, trained.summary())
    return Reproduced(same, plan.changed, weights, {} if same else scores)


def planned(workspace: Workspace, known: VersionRecord, data: Sequence[Path], folder: Path) -> Plan:
    """What the record asks for, as far as it is still there. Raises Invalid or Refused."""
    from kt import plugins
    from kt.models import origin as room
    from kt.models import task
    from kt.models.run import Options

    training, name = known.training, f"{known.model}@{known.version}"
    if of := (training.get("calibration") or {}).get("of"):
        raise Refused(
            f"{name} has the weights of {of} and another calibrator", do=f"kt reproduce {of}"
        )
    try:
        origin = room.Origin.model_validate(training["origin"])
        options = Options(**training["options"])
    except (KeyError, TypeError, ValidationError) as error:
        raise Invalid(
            f"the record of {name} does not say what it came from",
            do="it was made by a program of your own, or by a kt that did not write it down",
        ) from error
    family = plugins.load("models", known.spec.family, workspace.root, (*load.FAMILY, "SIZES"))
    instead = {path.name: path for path in room.listed(data)}
    if not data:
        instead = collected(workspace, known, origin, folder)
    return Plan(
        family,
        known.spec.family,
        origin,
        room.again(origin.files, workspace.root, folder / "cut", instead),
        room.again(origin.valid, workspace.root, folder / "cut-valid", instead),
        {
            key: value
            for key, value in known.spec.config.items()
            if key not in task.of(family).DECIDES
        },
        options,
        started(workspace, training),
        list(changes(workspace, known, family, origin)),
    )


def collected(
    workspace: Workspace, known: VersionRecord, origin: "Origin", folder: Path
) -> dict[str, Path]:
    """What a job's sources make anew, by its path: answers to queries, outcomes that were told by then. Nothing
    where all lie there as files. Raises Invalid where it is not kept any more."""
    job = workspace.settings.jobs.get(origin.job)
    if job is None or all((workspace.root / file.path).is_file() for file in origin.files):
        return {}
    runs = book.read(workspace)[1].job(origin.job).runs
    learnt = [
        run.started.data
        for run in runs
        if isinstance(run.ended, Finished) and run.ended.version == known.version
    ]
    data = learnt[-1] if learnt else None
    sources = watch.sources(workspace, origin.job, job, data.until if data else None)
    # kt.toml may name others now
    for source, samples in zip(sources, data.counts if data else (), strict=False):
        source.refuse_expired(samples)
    found = chain.from_iterable(watch.collect(sources, folder / "data"))  # where a run has them too
    return {str(path.relative_to(folder)): path for path in found if path.is_relative_to(folder)}


def started(workspace: Workspace, training: Mapping[str, Any]) -> "Start | None":
    """What training began with. Raises Invalid where that is another now."""
    from kt.models.warm import Start

    if "from" not in training:
        return None
    what = training["from"]
    loaded, _ = register.found(workspace, what)
    start = Start(what, loaded.module, loaded.signature)
    if start.sha256 != training.get("from_sha256"):
        raise Invalid(
            f"it began with the weights of {what}, which are others now",
            do="give --from the file of weights that it began with back its name",
        )
    return start


def changes(
    workspace: Workspace, known: VersionRecord, family: Any, origin: "Origin"
) -> Iterator[str]:
    """What is other than it was, but for the data."""
    from kt.models import origin as room
    from kt.models.train import library_versions

    now = {
        "kt": __version__,
        "python": platform.python_version(),
        **library_versions(family),
        "cpu": room.cpu(),
    }
    then = {**known.training.get("versions", {}), "cpu": origin.cpu}
    for name, was in then.items():
        if was != now.get(name):
            yield f"{name} {now.get(name, 'is missing')}, was {was}"
    if room.source(family) != origin.code:
        yield f"the code of {known.spec.family}"
    if files := code_since(workspace, origin.commit):
        yield f"code of the workspace since {origin.commit[:7]}: {', '.join(files)}"
    if origin.threads > 1:
        yield f"{origin.threads} threads, which add up in another order each time"


def code_since(workspace: Workspace, commit: str) -> list[str]:
    """The Python files of the workspace that differ from a commit's; nothing where git cannot tell."""
    try:
        said = (
            git.text(workspace.root, "diff", "--name-only", commit, "--", "*.py") if commit else ""
        )
    except KtError:
        return []
    return said.splitlines()


def apart(
    before: "Mapping[str, torch.Tensor]", after: "Mapping[str, torch.Tensor]"
) -> Iterator[Weights]:
    """The tensors that differ in a bit."""
    import torch

    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or old.shape != new.shape:
            yield Weights(name, None)
        elif not torch.equal(old, new):
            yield Weights(name, (old.double() - new.double()).abs().max().item())


def moved(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[float | None, float | None]]:
    """The scores that differ, then and now."""
    names = after["intervals"]
    return {
        name: (before.get(name), after[name]) for name in names if before.get(name) != after[name]
    }
