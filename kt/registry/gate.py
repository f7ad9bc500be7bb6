"""Gates: what a version must pass before it may serve. One file each, in `gates/`.

A gate file holds `Settings`, SAFETY (whether --force can skip it: never, where it is True) and
`judge(candidate, baseline, settings) -> Verdict`. All of them run; then each says one sentence.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kt import plugins
from kt.config import Plugin
from kt.errors import Invalid, Refused
from kt.registry.load import Loaded
from kt.registry.record import Verdict

if TYPE_CHECKING:
    from kt.models.metrics import Predicted

FOLDER = "registry.gates"
HOLDS = ("Settings", "SAFETY", "judge")


class NotPassed(Refused):
    """A gate's verdict, which the same model would get again."""


@dataclass(frozen=True)
class Subject:
    """A version as gates see it, loaded exactly as the predictor would load it."""

    name: str  # model@version, or the file's name
    loaded: Loaded
    weights: Path
    evaluation: Path | None  # the held-out data set of kt.toml
    scores: dict[str, Any] = field(default_factory=dict)  # as trained

    @cached_property
    def predicted(self) -> "Predicted":
        """Of the evaluation set, which there must be; asked once, however many gates look at it."""
        from kt.models import task

        assert self.evaluation is not None
        loaded, room = self.loaded, task.of(self.loaded.family)
        data = held_out(loaded.family.TASK, self.evaluation)
        return room.predict(loaded.module, loaded.signature, data)


@cache
def held_out(task: str, path: Path) -> Any:
    """The evaluation set, which both versions are asked about."""
    room = importlib.import_module(task)
    return room.only_test(room.read(path))


def run(
    candidate: Subject,
    baseline: Subject | None,
    root: Path,
    settings: Iterable[Plugin],
    *,
    force: bool,
) -> tuple[Verdict, ...]:
    """Every gate's verdict. Raises NotPassed with a sentence of each gate that did not pass."""
    chosen = {plugin.name: plugin for plugin in settings}
    names = [
        *plugins.names(FOLDER),
        *(name for name in chosen if name not in plugins.names(FOLDER)),
    ]
    gates = [(name, plugins.load(FOLDER, name, root, HOLDS)) for name in names]
    gates.sort(key=lambda gate: not gate[1].SAFETY)
    verdicts: list[Verdict] = []
    for name, gate in gates:
        verdict = judge(name, gate, candidate, baseline, chosen.get(name))
        verdicts.append(verdict)
        if verdict.safety and not verdict.passed:
            break  # what is not sound cannot be judged
    refuse(candidate.name, verdicts, force=force)
    return tuple(verdicts)


def judge(
    name: str, gate: ModuleType, candidate: Subject, baseline: Subject | None, plugin: Plugin | None
) -> Verdict:
    try:
        settings = gate.Settings.model_validate(plugin.settings if plugin else {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Invalid(
            f"gate {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where="kt.toml",
            do="mend it in kt.toml; see: kt config gate",
        ) from error
    verdict = gate.judge(candidate, baseline, settings)
    assert isinstance(verdict, Verdict)
    return verdict.model_copy(update={"gate": name, "safety": gate.SAFETY})


def refuse(name: str, verdicts: Sequence[Verdict], *, force: bool) -> None:
    failed = [
        verdict for verdict in verdicts if not verdict.passed and (verdict.safety or not force)
    ]
    if not failed:
        return
    said = "; ".join(f"{verdict.gate}: {verdict.sentence}" for verdict in failed)
    skippable = not any(verdict.safety for verdict in failed)
    raise NotPassed(
        f"{name} does not pass: {said}",
        do="mend the model"
        + (", or deploy it all the same: --force --reason TEXT" if skippable else ""),
    )
