"""POST /predict: choose the version, run it, answer.

    request  {"model": "sakt", "student_id": "s-17", ...the fields of the family's form}
    answer   {"model": "sakt", "version": "v4", "variant": "treatment", "experiment": "bigger-memory",
              "prediction_id": "9f…", "predictions": [{..., "confidence": 0.93, "decision": "accept"}]}

A treatment that raises, answers nonsense or takes too long is replaced by the control: the answer
then carries "fallback": true and why. A control that fails is a failed request.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kt import http
from kt.config import Settings
from kt.deployments.manifest import Route, Treatment, fraction, treatment_for
from kt.errors import Invalid, KtError, Unavailable
from kt.models import family
from kt.predictor.aside import Overrun
from kt.predictor.decision import decide
from kt.predictor.engine import Engine
from kt.predictor.host import Host, Loaded


class Nonsense(Exception):
    """A model's outputs are no answer."""


@dataclass(frozen=True)
class Choice:
    """Who answers. treatment: None where the control, or nobody but the active version, does."""

    treatment: Treatment | None
    assigned: str = ""  # "random" where the request names no unit


def predict(host: Host, fields: Any, name: str | None = None) -> dict[str, Any]:
    """The answer to one request. fields: its JSON. name: the model, where the path names it.

    Raises Invalid with the bad field; http.Unknown; Unavailable where nothing is served.
    """
    loaded = host.current
    if not isinstance(fields, dict):
        raise Invalid("the body must be a JSON object")
    model, fields = which(loaded, host.settings, fields, name)
    route = loaded.manifest.models[model]
    control = loaded.of(model, route.active).engine
    request = validated(control, fields)
    choice = assign(route, getattr(request, control.form.UNIT, None), random.random)

    said: dict[str, Any] = {"model": model}
    if choice.treatment is None:
        version, predictions = route.active.version, run(control, request)
    else:
        version, predictions, why = try_treatment(
            host, loaded, model, choice.treatment, request, fields
        )
        if why:
            said |= {"fallback": True, "reason": why}
    said["version"] = version
    if route.experiment:
        said["variant"] = "control" if version == route.active.version else "treatment"
        said["experiment"] = route.experiment.name
        if choice.assigned:
            said["assigned"] = choice.assigned
    else:
        said["variant"] = said["experiment"] = None
    said["prediction_id"] = os.urandom(16).hex()
    said["predictions"] = decided(predictions, host.settings, model)
    return said


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


def validated(engine: Engine, fields: dict[str, Any]) -> Any:
    """The form's request. Raises Invalid with the first bad field."""
    try:
        return engine.form.Request.model_validate(fields)
    except ValidationError as error:
        raise http.first_problem(error) from None


def assign(route: Route, unit: Any, draw: Callable[[], float]) -> Choice:
    """Who answers this unit. Without a unit `draw` decides, and the answer says so."""
    trial = route.experiment
    if trial is None:
        return Choice(None)
    if unit is None:
        return Choice(treatment_for(trial, draw()), "random")
    return Choice(treatment_for(trial, fraction(trial.name, str(unit))))


def try_treatment(
    host: Host,
    loaded: Loaded,
    model: str,
    treatment: Treatment,
    request: Any,
    fields: dict[str, Any],
) -> tuple[str, list[dict[str, Any]], str]:
    """Version, predictions, and why the control had to answer: empty where the treatment did.

    What the control refuses too is the request's fault, and not counted against the treatment.
    """
    route = loaded.manifest.models[model]
    control, ready = loaded.of(model, route.active).engine, loaded.of(model, treatment)

    def work() -> list[dict[str, Any]]:
        own = ready.engine.form is control.form
        return run(ready.engine, request if own else validated(ready.engine, fields))

    try:
        return treatment.version, ready.aside.call(work, host.settings.predictor.timeout), ""
    except Exception as error:  # noqa: BLE001  # a treatment may raise anything; the control answers
        predictions = run(control, request)
        kind, why = explain(error)
        experiment = route.experiment.name if route.experiment else ""
        host.fell_back(model, experiment, treatment.version, kind)
        return route.active.version, predictions, f"{treatment.version} {why}"


def explain(error: Exception) -> tuple[str, str]:
    """The kind of a treatment's failure, and the clause that an answer carries."""
    match error:
        case Overrun():
            return "slow", f"took too long: {error}"
        case Nonsense():
            return "invalid", f"gave no answer: {error}"
        case KtError():
            return "failed", "refused the request"
        case _:
            return "failed", f"failed: {type(error).__name__}"


def run(engine: Engine, request: Any) -> list[dict[str, Any]]:
    """One request through an engine. Raises Nonsense where the outputs are not finite or not in range."""
    batch = [request]
    outputs = engine.run(engine.form.collate(batch, engine.signature))
    if wrong := family.problem(outputs, engine.form.PROBABILITIES):
        raise Nonsense(wrong)
    predictions: list[dict[str, Any]] = engine.form.answer(outputs, batch, engine.signature)[0]
    return predictions


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
