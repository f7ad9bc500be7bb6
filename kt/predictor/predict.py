"""POST /predict: choose the version, run it, answer.

    request  {"model": "sakt", "student_id": "s-17", ...the fields of the family's form}
    answer   {"model": "sakt", "version": "v4", "variant": "treatment", "experiment": "bigger-memory",
              "prediction_id": "9f…", "predictions": [{..., "confidence": 0.93, "decision": "accept"}]}

A form that has histories gives an answer's "state" where it is asked for: what stands for the history in
the next request. It holds events and nothing of a model's, so that it is good for every version.

A treatment that raises, answers nonsense or takes too long is replaced by the control: the answer
then carries "fallback": true and why. A control that fails is a failed request.

Requests that wait together are answered as one batch: where a model's cost is the number of its
operations rather than their size (a loop over fifty answers), eight cost little more than one.
"""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kt import http
from kt.config import Settings
from kt.deployments.manifest import Route, Treatment, Trial, fraction, treatment_for
from kt.errors import Invalid, Unavailable
from kt.predictor.decision import decide
from kt.predictor.engine import Engine
from kt.predictor.host import Host, Loaded
from kt.predictor.run import Predictions, explain, run, validated
from kt.predictor.shadow import Shadow

Answer = dict[str, Any]  # as POST /predict gives it


@dataclass(frozen=True)
class Asked:
    """A request, validated, and who is to answer it. It keeps what was loaded when it came.

    treatment: None where the control, or nobody but the active version, answers.
    """

    loaded: Loaded
    model: str
    request: Any  # of the control's form
    fields: dict[str, Any]
    treatment: Treatment | None
    at_random: bool  # it names no unit

    @property
    def route(self) -> Route:
        return self.loaded.manifest.models[self.model]

    @property
    def control(self) -> Engine:
        return self.loaded.of(self.model, self.route.active).engine


def predict(host: Host, fields: Any, name: str | None = None) -> Answer:
    """The answer to one request. fields: its JSON. name: the model, where the path names it.

    Raises Invalid with the bad field; http.Unknown; Unavailable where nothing is served; whatever
    the control raises.
    """
    (found,) = answers(host, [ask(host, fields, name)])
    if isinstance(found, Exception):
        raise found
    return found


def ask(host: Host, fields: Any, name: str | None = None) -> Asked:
    """A request as far as it can be told without running a model."""
    loaded = host.current
    if not isinstance(fields, dict):
        raise Invalid("the body must be a JSON object")
    model, fields = which(loaded, host.settings, fields, name)
    route = loaded.manifest.models[model]
    control = loaded.of(model, route.active).engine
    request = validated(control, fields)
    unit = getattr(request, control.form.UNIT, None)
    treatment = assign(route.split, unit, random.random) if route.split else None
    return Asked(loaded, model, request, fields, treatment, unit is None)


def answers(host: Host, asked: Sequence[Asked]) -> list[Answer | Exception]:
    """The answers to requests that came together: those for one version run as one batch."""
    found: list[Answer | Exception] = [{}] * len(asked)
    with host.answering:
        for (_, treated), places in grouped(asked).items():
            batch = [asked[place] for place in places]
            outcomes = treat(host, batch) if treated else control(batch)
            for place, outcome in zip(places, outcomes, strict=True):
                found[place] = (
                    outcome
                    if isinstance(outcome, Exception)
                    else told(host, asked[place], *outcome)
                )
    copy(asked, found)
    return found


def copy(asked: Sequence[Asked], found: Sequence[Answer | Exception]) -> None:
    """Give the shadows what they are to be compared with."""
    of: dict[Shadow, list[tuple[dict[str, Any], Answer]]] = {}
    for one, answer in zip(asked, found, strict=True):
        shadow = one.loaded.shadows.get(one.model)
        if shadow and not isinstance(answer, Exception):
            of.setdefault(shadow, []).append((one.fields, answer))
    for shadow, answered in of.items():
        shadow.offer(answered)


def grouped(asked: Sequence[Asked]) -> dict[tuple[int, Treatment | None], list[int]]:
    """The places of the requests that one engine answers."""
    groups: dict[tuple[int, Treatment | None], list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault((id(one.control), one.treatment), []).append(place)
    return groups


def told(host: Host, asked: Asked, version: str, predictions: Predictions, why: str) -> Answer:
    """An answer as it is sent. why: why the control answered for the treatment, or nothing."""
    said: Answer = {
        "model": asked.model,
        "version": version,
        "variant": None,
        "experiment": None,
    }
    if trial := asked.route.split:
        said["variant"] = "control" if why or not asked.treatment else "treatment"
        said["experiment"] = trial.name
        if asked.at_random:
            said["assigned"] = "random"
    if why:
        said |= {"fallback": True, "reason": why}
    said["prediction_id"] = os.urandom(16).hex()
    if hasattr(asked.control.form, "HISTORY") and asked.request.state:
        said["state"] = asked.control.form.state(asked.request, longest(asked))
    said["predictions"] = decided(predictions, host.settings, asked.model)
    return said


def longest(asked: Asked) -> int:
    """The most events that a version which answers now takes of a history."""
    trial = asked.route.experiment
    versions = asked.route.active, *(trial.treatments if trial else ())
    signatures = [asked.loaded.of(asked.model, one).engine.signature for one in versions]
    return max(getattr(signature, "window", 0) for signature in signatures)


def which(
    loaded: Loaded, settings: Settings, fields: dict[str, Any], name: str | None
) -> tuple[str, dict[str, Any]]:
    """The model asked for, and the fields that are left for its form."""
    models = loaded.manifest.models
    if not models:
        raise Unavailable("nothing is deployed yet", do="kt deploy FILE")
    if name is None:
        if "model" in fields:
            fields = dict(fields)
            name = fields.pop("model")
        else:
            name = settings.model or (next(iter(models)) if len(models) == 1 else "")
    if not isinstance(name, str):
        raise Invalid("must be the name of a model", where="model")
    if not name:
        raise Invalid("a model must be named", where="model", do=f"there are: {listing(models)}")
    if name not in models:
        raise http.Unknown(
            f"there is no model {name[:64]}", where="model", do=f"there are: {listing(models)}"
        )
    return name, fields


def listing(models: Any) -> str:
    names = sorted(models)
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")


def assign(trial: Trial, unit: Any, draw: Callable[[], float]) -> Treatment | None:
    """Who answers this unit; where there is none, `draw` decides."""
    return treatment_for(trial, draw() if unit is None else fraction(trial.name, str(unit)))


Outcome = tuple[str, Predictions, str] | Exception  # version, predictions, why it fell back


def control(batch: Sequence[Asked]) -> list[Outcome]:
    """What the active version says to requests that are all for it."""
    first = batch[0]
    version = first.route.active.version
    ran = run(first.control, [one.request for one in batch])
    return [one if isinstance(one, Exception) else (version, one, "") for one in ran]


def treat(host: Host, batch: Sequence[Asked]) -> list[Outcome]:
    """What one treatment says, and where it fails what the control does.

    What the control refuses too is the request's fault, and not counted against the treatment.
    """
    first = batch[0]
    assert first.treatment is not None
    version, ready = first.treatment.version, first.loaded.of(first.model, first.treatment)
    own = ready.engine.form is not first.control.form

    def work() -> list[Predictions | Exception]:
        requests = [validated(ready.engine, one.fields) if own else one.request for one in batch]
        return run(ready.engine, requests)

    try:
        ran: list[Predictions | Exception] = ready.aside.call(work, host.settings.predictor.timeout)
    except Exception as error:  # noqa: BLE001  # a treatment may raise anything; the control answers
        ran = [error] * len(batch)
    failed = [place for place, one in enumerate(ran) if isinstance(one, Exception)]
    outcomes: list[Outcome] = [
        one if isinstance(one, Exception) else (version, one, "") for one in ran
    ]
    for place, instead in zip(
        failed, control([batch[place] for place in failed]) if failed else [], strict=True
    ):
        outcomes[place] = fallen_back(host, batch[place], outcomes[place], instead)
    return outcomes


def fallen_back(host: Host, asked: Asked, error: Outcome, instead: Outcome) -> Outcome:
    """The control's answer, marked and counted; its own error where it has none."""
    assert isinstance(error, Exception)
    assert asked.treatment is not None
    assert asked.route.experiment is not None
    if isinstance(instead, Exception):
        return instead
    kind, why = explain(error)
    host.fell_back(asked.model, asked.route.experiment.name, asked.treatment.version, kind)
    return instead[0], instead[1], f"{asked.treatment.version} {why}"


def decided(
    predictions: list[dict[str, Any]], settings: Settings, model: str
) -> list[dict[str, Any]]:
    """The predictions, each that has a confidence with what to do about it."""
    thresholds = settings.decision_of(model)
    accept, review = thresholds.accept, thresholds.review
    for prediction in predictions:
        confidence = prediction.get("confidence")
        if confidence is not None:
            prediction["decision"] = decide(confidence, accept, review)
    return predictions
