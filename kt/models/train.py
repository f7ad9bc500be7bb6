"""The one run that trains every family on the data of its task; it never asks which.

A family is trained down its loss, epoch by epoch, or fitted at once, which is a run of one epoch.

The loss of a batch is its sum over events divided by a constant of the run, batch size x mean length. With
batches of like length, dividing by the batch's own events instead would give short histories the
weight of long ones; on assist2015 that costs 0.01 of AUC.

With `average`, what is judged and kept is not the last weights but their running mean (Polyak and Juditsky
1992): its metric hardly jumps, so that steps may be large and patience short. On assist2015 gpcm takes
a third of the epochs.

Training stops when the family's metric on the validation units has not improved for `patience`
epochs, by more than chance where a margin is set; the best epoch's weights are kept. All chance comes
from (seed, epoch), so a run that was killed goes on from the file beside its result, and on one thread
ends with the same bits as one that was not.

Then the probabilities are calibrated on the validation units, where that helps (`calibrate.py`).
"""

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError
from torch.optim.swa_utils import AveragedModel

import kt
from kt import files
from kt.errors import Invalid
from kt.models import calibrate, checkpoint, fitting, metrics, reference, references, task, warm
from kt.models.evaluate import Scores, evaluate
from kt.models.family import Fitted, Stepwise
from kt.models.references import References
from kt.models.run import Epoch, Options, Progress, State, finished, freeze, restore, resume_file
from kt.models.task import Data, Task
from kt.models.warm import Start


@dataclass(frozen=True)
class Trained:
    """A trained model in eval mode, with the best epoch's weights."""

    model: torch.nn.Module
    config: BaseModel
    signature: Any
    scores: Scores
    references: References | None  # beside a family that is fitted itself, none
    history: tuple[Epoch, ...]
    resumed: int  # the epoch it went on after, 0 for a fresh run
    training: dict[str, Any]  # as written to the checkpoint

    def summary(self) -> dict[str, Any]:
        """The scores as written to the checkpoint, the references' among them."""
        return self.scores.summary() | (self.references.summary() if self.references else {})


def train(
    family: Stepwise | Fitted,
    name: str,
    data: Data,
    valid: Data,
    *,
    test: Data | None = None,
    settings: Mapping[str, Any] | None = None,
    options: Options | None = None,
    out: Path | None = None,
    resume: bool = True,
    about: Mapping[str, Any] | None = None,
    start: Start | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_batch: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Train the family `name` on `data`, stop by `valid`, score on `test` (else on `valid`), write `out`.

    Beside a family that is trained in steps the references are fitted on `data` and scored as it is.
    settings: of the family's Config but for what the data decides. about: more for the record. start: whose
    weights it begins with. Raises Invalid for settings, data or a start that do not fit, Refused where the
    file to resume from belongs to another run. NaN in the loss raises Invalid with its batch.
    """
    run = prepare(family, data, valid, settings or {}, options or Options.of(family), start)
    beside = None if out is None else resume_file(out)
    state, resumed = learn(run, beside, resume=resume, on_epoch=on_epoch, on_batch=on_batch)
    state.model.load_state_dict(state.best)
    state.model.to("cpu").eval()
    signature, calibration = run.calibrated(state.model)
    held_out = valid if test is None else test
    scores = evaluate(family, state.model, signature, held_out)
    compared = (
        None
        if isinstance(family, Fitted)
        else references.beside(family, scores, signature, data, held_out)
    )
    part = "validation" if test is None else "test"
    more = {"calibration": calibration, **run.begun_with, **(about or {})}
    training = run.record(state.history, held_out, part, more)
    history = tuple(state.history)
    trained = Trained(
        state.model, run.config, signature, scores, compared, history, resumed, training
    )
    if out is not None:
        checkpoint.save(
            out,
            family=name,
            config=run.config,
            signature=signature,
            state_dict=state.model.state_dict(),
            scores=trained.summary(),
            training=training,
            reference=reference.of(
                "test", run.task, family.FORM, signature, held_out, scores.predicted
            ),
        )
        files.discard(resume_file(out))
    return trained


def prepare(
    family: Stepwise | Fitted,
    data: Data,
    valid: Data,
    settings: Mapping[str, Any],
    options: Options,
    start: Start | None = None,
) -> "_Run":
    """A run that has not begun. Raises Invalid for settings that do not fit."""
    if isinstance(family, Fitted):
        options = replace(options, epochs=1)
    config, signature = configure(family, data, settings)
    return _Run(family, task.of(family), config, signature, data, valid, options, start)


def learn(
    run: "_Run",
    beside: Path | None,
    *,
    resume: bool = True,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_batch: Callable[[Progress], None] = lambda _: None,
) -> tuple["State", int]:
    """Epoch after epoch until it is enough. Also the epoch that it went on after.

    beside: the file that is kept after each epoch, to go on from.
    """
    state = run.fresh()
    if beside is not None and resume and beside.exists():
        restore(state, beside, run.fingerprint())
    resumed = len(state.history)
    while not finished(state.history, run.options):
        epoch = run.epoch(state, on_batch)
        state.history.append(epoch)
        if epoch.best:
            state.best = {key: value.clone() for key, value in state.judged.state_dict().items()}
        if beside is not None:
            files.write_whole(beside, freeze(state, run.fingerprint()))
        on_epoch(epoch)
    return state, resumed


def configure(
    family: Stepwise | Fitted, data: Data, settings: Mapping[str, Any]
) -> tuple[BaseModel, Any]:
    """The config and the signature that this data and these settings make. Raises Invalid."""
    given = task.of(family)
    try:
        return given.configure(family, data, settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "settings"
        what = "there is no such setting" if first["type"] == "extra_forbidden" else first["msg"]
        known = ", ".join(n for n in family.Config.model_fields if n not in given.DECIDES)
        raise Invalid(f"{key}: {what}", where="--set", do=f"the settings are {known}") from error


def device(name: str) -> torch.device:
    """Raises Invalid where this machine has none of that name."""
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise Invalid(
            f"there is no {name[:40]} here: {str(error).splitlines()[0][:160]}",
            where="--device",
            do="use cpu",
        ) from error
    return found


@dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch."""

    family: Stepwise | Fitted
    task: Task
    config: BaseModel
    signature: Any
    data: Data
    valid: Data
    options: Options
    start: Start | None = None

    def fresh(self) -> State:
        torch.manual_seed(self.options.seed)
        try:
            model = self.family.Model(self.config)
        except ValueError as error:
            raise Invalid(
                str(error), where="--set", do="see the settings of the family: kt train --help"
            ) from error
        if hasattr(self.family, "prepare"):
            steps = self.task.steps(self.data, self.signature, fitting.BATCH, None)
            self.family.prepare(model, [step.tensors for step in steps])
        if self.start:
            warm.fill(model, self.signature, self.start)
        model.to(device(self.options.device))
        adam = torch.optim.Adam(model.parameters(), lr=self.options.lr, fused=True)
        average = self.options.average
        return State(model, adam, {}, running_mean(model, average) if average else None)

    def epoch(self, state: State, on_batch: Callable[[Progress], None]) -> Epoch:
        """One pass over the training windows and one look at the validation units."""
        number = len(state.history) + 1
        began = time.monotonic()
        best = self.best(state.history)
        if isinstance(self.family, Fitted):
            loss, norm = self.fit(self.family, state), None
        else:
            loss, norm = self.descend(self.family, state, number, best, on_batch)
        predicted = self.task.predict(state.judged, self.signature, self.valid)
        metric = metrics.score(self.family.METRIC, predicted)
        if not math.isfinite(metric):
            raise Invalid(
                f"{self.family.METRIC} on the validation units is not a number in epoch {number}",
                where=self.valid.source,
                do="give more of them, or lower --lr",
            )
        sign = 1 if metrics.higher_is_better(self.family.METRIC) else -1
        since = next((epoch.metric for epoch in reversed(state.history) if epoch.gained), None)
        enough = self.options.margin and self.options.margin * metrics.standard_error(
            self.family.METRIC, predicted
        )
        return Epoch(
            number,
            loss,
            metric,
            best=best is None or sign * metric > sign * best,
            gained=since is None or sign * (metric - since) > enough,
            seconds=round(time.monotonic() - began, 3),
            norm=norm,
        )

    def fit(self, family: Fitted, state: State) -> float:
        """The whole fit; the mean loss over the training events, or the metric where it has no loss."""
        state.model = fitting.fit(family, self.config, self.signature, self.data)
        name = "nll" if "nll" in self.task.names(self.signature) else family.METRIC
        return metrics.score(name, self.task.predict(state.model, self.signature, self.data))

    def descend(
        self,
        family: Stepwise,
        state: State,
        number: int,
        best: float | None,
        on_batch: Callable[[Progress], None],
    ) -> tuple[float, float]:
        """One pass of steps down the loss; its mean over the training events, and the gradient's norm."""
        rng = np.random.default_rng([self.options.seed, number])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        steps = self.task.steps(self.data, self.signature, self.options.batch, rng)
        parameters = list(state.model.parameters())
        state.model.train()
        where, at_once = parameters[0].device, self.options.accumulate
        total = events = norm = 0.0
        norms = []
        for done, step in enumerate(steps, 1):
            with torch.autocast(
                where.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"
            ):
                loss = family.loss(state.model, *(tensor.to(where) for tensor in step.tensors))
            value = loss.item()
            if not math.isfinite(value):
                raise self.broken(number, done, step.first)
            torch.autograd.backward(loss / (steps.usual * at_once))
            if done % at_once == 0 or done == len(steps):
                norm = torch.nn.utils.clip_grad_norm_(parameters, self.options.clip).item()
                norms.append(norm)
                state.adam.step()
                if state.mean:
                    state.mean.update_parameters(state.model)
                state.adam.zero_grad(set_to_none=True)
            total += value
            events += step.events
            on_batch(
                Progress(number, self.options.epochs, done, len(steps), total / events, norm, best)
            )
        return total / events, sum(norms) / len(norms)

    def calibrated(self, model: torch.nn.Module) -> tuple[Any, dict[str, Any] | None]:
        """The signature, with a calibrator where one helps; and what came of trying, for JSON."""
        predicted = self.task.predict(model, self.signature, self.valid)
        takes_one = "calibration" in type(self.signature).model_fields
        if not takes_one or not isinstance(predicted, metrics.Categorical):
            return self.signature, None
        tried = calibrate.attempt(
            calibrate.Outcomes(predicted.probabilities, predicted.outcomes),
            calibrate.drawn(predicted.units)[predicted.unit],
        )
        if tried is None:
            return self.signature, None
        kept = tried.calibrator if tried.helps else None
        return self.signature.model_copy(update={"calibration": kept}), tried.summary()

    @property
    def begun_with(self) -> dict[str, str]:
        """Whose weights it begins with, for the record."""
        return {"from": self.start.name, "from_sha256": self.start.sha256} if self.start else {}

    def record(
        self, history: list[Epoch], held_out: Data, part: str, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a checkpoint says of its training. part: "validation" or "test", which was scored on."""
        leaks = task.leaks(self.family, self.data, held_out)
        return {
            "data": _describe(self.data),
            "validation": _describe(self.valid),
            "scored_on": _describe(held_out) | {"part": part},
            "leaks": [asdict(leak) for leak in leaks],
            "options": asdict(self.options),
            "epochs": len(history),
            "best_epoch": max(epoch.number for epoch in history if epoch.best),
            "history": [asdict(epoch) for epoch in history],
            "seconds": round(sum(epoch.seconds for epoch in history), 3),
            **more,
            "versions": {
                "kt": kt.__version__,
                "python": platform.python_version(),
                **library_versions(self.family),
            },
        }

    def best(self, history: list[Epoch]) -> float | None:
        return next((epoch.metric for epoch in reversed(history) if epoch.best), None)

    def broken(self, number: int, batch: int, first: str) -> Invalid:
        return Invalid(
            f"the loss is not a number in epoch {number}, batch {batch} (which begins with {first})",
            where=self.data.source,
            do=f"try a smaller step: --lr {self.options.lr / 3:.1g}",
        )

    def fingerprint(self) -> str:
        """What must be the same for a run to go on: settings, options, data. The epochs may grow."""
        options = asdict(self.options) | {"epochs": None, "patience": None, "margin": None}
        parts = [
            self.family.Model.__module__,
            self.family.METRIC,
            self.config.model_dump(mode="json"),
            self.signature.model_dump(mode="json"),
            options,
            [_describe(self.data), _describe(self.valid)],
            library_versions(self.family),
            self.start and self.start.sha256,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def running_mean(model: torch.nn.Module, average: float) -> AveragedModel:
    """Of the weights after each step, which forgets its beginning faster than it forgets later."""

    @torch.no_grad()
    def update(means: Iterable[Any], weights: Iterable[Any], steps: Any) -> None:
        share = min(average, (1 + int(steps)) / (10 + int(steps)))
        for mean, weight in zip(means, weights, strict=True):
            mean.lerp_(weight, 1 - share)

    return AveragedModel(model, multi_avg_fn=update)


def library_versions(family: Any) -> dict[str, str]:
    """Of what the numbers rest on."""
    ours = {"torch": str(torch.__version__), "numpy": np.__version__}
    return ours | getattr(family, "versions", dict)()


def _describe(data: Data) -> dict[str, Any]:
    """Which data these were."""
    return {"name": data.source, "sha256": data.sha256, **data.counts}
