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

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from kt import http
from kt.config import Decision
from kt.deployments.manifest import Route, Treatment, Trial, fraction, treatment_for
from kt.errors import Invalid
from kt.predictor.aside import Overrun
from kt.predictor.decision import decide
from kt.predictor.engine import Engine
from kt.predictor.host import Host
from kt.predictor.loaded import Loaded
from kt.predictor.record import ALERT, CONTROL, NONE, PLAIN, REFUSED, Seen
from kt.predictor.run import Predictions, explain, run, validated
from kt.predictor.shadow import Shadow
from kt.stats.scored import Scores
from kt.store.batch import Stream

Answer = dict[str, Any]  # as POST /predict gives it

FAILED = ("failed", "invalid")


class Asked(NamedTuple):
    """A request, validated, and who is to answer it. It keeps what was loaded when it came.

    route: of its model. control: the engine of the active version. treatment: None where the control, or nobody but the active version, answers. unit: None where it
    names none, and is assigned by chance.
    """

    loaded: Loaded
    model: str
    route: Route
    control: Engine
    request: Any  # of the control's form
    fields: dict[str, Any]
    unit: str | None
    treatment: Treatment | None
    stream: Stream


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
        raise Invalid("the body must be a JSON object", do=http.DOCS)
    model, fields = which(host, loaded, fields, name)
    route = loaded.manifest.models[model]
    control = loaded.active[model]
    request = validated(control, fields)
    named = getattr(request, control.form.UNIT, None)
    unit = None if named is None else str(named)
    streams = loaded.streams[model]
    treatment, stream = None, streams[PLAIN]
    if trial := route.split:
        treatment = assign(trial, unit, random.random)
        stream = streams[treatment.version if treatment else CONTROL]
        if treatment and host.brake.holds(stream):
            treatment, stream = None, streams[PLAIN]
    return Asked(loaded, model, route, control, request, fields, unit, treatment, stream)


class Outcome(NamedTuple):
    """What came of a request.

    said: its predictions, or why there are none; version, engine: whose. took: milliseconds of the
    version that was to answer; failure: of that version, as in Seen. why: the control answered in its
    place, in words.
    """

    said: Predictions | Exception
    version: str
    engine: Engine
    took: float
    failure: str = ""
    why: str = ""


def answers(host: Host, asked: Sequence[Asked]) -> list[Answer | Exception]:
    """The answers to requests that came together: those for one version run as one batch."""
    found: list[Answer | Exception] = [{}] * len(asked)
    with host.answering:
        for places in grouped(asked):
            batch = [asked[place] for place in places]
            for place, said in zip(places, together(host, batch), strict=True):
                found[place] = said
    copy(asked, found)
    return found


def together(host: Host, batch: Sequence[Asked]) -> list[Answer | Exception]:
    """The answers to requests of one stream. They are counted before anything runs, and what came of
    them after it."""
    recorder, stream, treated = host.recorder, batch[0].stream, batch[0].treatment is not None
    entry = recorder.begin(stream, [one.unit for one in batch])
    thresholds = host.settings.decision_of(stream.model)
    outcomes = treat(host, batch) if treated else control(batch)
    host.brake.count(stream, *harm(outcomes, treated))
    # step by step, each for all: what one step runs stays in the core's nearest cache, what all run does not
    scores = [
        NONE if isinstance(one.said, Exception) else recorder.scores(one.engine, one.said)
        for one in outcomes
    ]
    identities = [recorder.identity(entry, place, one) for place, one in enumerate(scores)]
    found = [
        outcome.said if isinstance(outcome.said, Exception)
        else told(asked, outcome, identity, thresholds)
        for asked, outcome, identity in zip(batch, outcomes, identities, strict=True)
    ]  # fmt: skip
    for asked, answer, one in zip(batch, found, scores, strict=True):
        if not isinstance(answer, Exception):
            recorder.log(entry, asked.unit, asked.request, asked.control.form, answer, one)
    features = [
        {} if outcome.failure == REFUSED
        else recorder.features(entry, asked.control, asked.request)
        for asked, outcome in zip(batch, outcomes, strict=True)
    ]  # fmt: skip
    recorder.end(entry, list(map(noted, outcomes, scores, features)))
    return found


def noted(outcome: Outcome, scores: Scores, features: Mapping[str, float]) -> Seen:
    """scores: of what is sent, which may be the control's."""
    own = NONE if outcome.failure else scores
    return Seen(outcome.took, outcome.failure, bool(outcome.why), own, features)


def copy(asked: Sequence[Asked], found: Sequence[Answer | Exception]) -> None:
    """Give the shadows what they are to be compared with."""
    of: dict[Shadow, list[tuple[dict[str, Any], Answer]]] = {}
    for one, answer in zip(asked, found, strict=True):
        shadow = one.loaded.shadows.get(one.model)
        if shadow and not isinstance(answer, Exception):
            of.setdefault(shadow, []).append((one.fields, answer))
    for shadow, answered in of.items():
        shadow.offer(answered)


def grouped(asked: Sequence[Asked]) -> Iterator[list[int]]:
    """The places of the requests of each stream, as it was when they came: one engine answers them."""
    groups: dict[int, list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault(id(one.stream), []).append(place)
    return iter(groups.values())


def told(asked: Asked, outcome: Outcome, identity: str, thresholds: Decision) -> Answer:
    """An answer as it is sent."""
    assert not isinstance(outcome.said, Exception)
    stream = asked.stream
    said: Answer = {
        "model": asked.model,
        "version": outcome.version,
        "variant": (CONTROL if outcome.why else stream.variant) or None,
        "experiment": stream.experiment or None,
    }
    if stream.experiment and asked.unit is None:
        said["assigned"] = "random"
    if outcome.why:
        said |= {"fallback": True, "reason": outcome.why}
    said["prediction_id"] = identity
    if has_histories(asked.control.form) and asked.request.state:
        said["state"] = asked.control.form.state(asked.request, longest(asked))
    said["predictions"] = decided(outcome.said, thresholds)
    return said


@lru_cache(64)  # a module looks long for what it lacks
def has_histories(form: Any) -> bool:
    return hasattr(form, "HISTORY")


def longest(asked: Asked) -> int:
    """The most events that a version which answers now takes of a history."""
    trial = asked.route.experiment
    versions = asked.route.active, *(trial.treatments if trial else ())
    signatures = [asked.loaded.of(asked.model, one).engine.signature for one in versions]
    return max(getattr(signature, "window", 0) for signature in signatures)


def which(
    host: Host, loaded: Loaded, fields: dict[str, Any], name: str | None
) -> tuple[str, dict[str, Any]]:
    """The model asked for, and the fields that are left for its form."""
    models = loaded.manifest.models
    if not models:
        raise host.unserved()
    if name is None:
        if "model" in fields:
            fields = dict(fields)
            name = fields.pop("model")
        else:
            name = host.settings.model or (next(iter(models)) if len(models) == 1 else "")
    if not isinstance(name, str):
        raise Invalid(
            "must be the name of a model", where="model", do=f"there are: {listing(models)}"
        )
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


def control(batch: Sequence[Asked]) -> list[Outcome]:
    """What the active version says to requests that are all for it."""
    first = batch[0]
    began = time.perf_counter()
    ran = run(first.control, [one.request for one in batch])
    took = 1000 * (time.perf_counter() - began)
    version = first.route.active.version
    return [Outcome(one, version, first.control, took, fault(one)) for one in ran]


def harm(outcomes: Sequence[Outcome], treated: bool) -> tuple[int, int, bool]:
    """What requests that ran together say of their version: how many they are, how many of them failed,
    and whether they took too long. What the control fails at too is not held against a treatment."""
    failures = [one for one in outcomes if one.failure]
    refused = sum(one.failure == REFUSED for one in failures)
    failed = sum(one.failure in FAILED and bool(one.why) is treated for one in failures)
    slow = any(one.failure == "slow" for one in failures)
    return len(outcomes) - refused, failed, slow or max(one.took for one in outcomes) > ALERT


def fault(said: Predictions | Exception) -> str:
    """How the active version failed; REFUSED where the request is at fault."""
    if not isinstance(said, Exception):
        return ""
    return REFUSED if isinstance(said, Invalid) else explain(said)[0]


def treat(host: Host, batch: Sequence[Asked]) -> list[Outcome]:
    """What one treatment says, and where it fails what the control does."""
    first = batch[0]
    assert first.treatment is not None
    version, ready = first.treatment.version, first.loaded.of(first.model, first.treatment)
    own = ready.engine.form is not first.control.form
    timeout = host.settings.predictor.timeout

    def work() -> list[Predictions | Exception]:
        requests = [validated(ready.engine, one.fields) if own else one.request for one in batch]
        return run(ready.engine, requests)

    began = time.perf_counter()
    try:
        ran: list[Predictions | Exception] = ready.aside.call(work, timeout)
    except Exception as error:  # noqa: BLE001  # a treatment may raise anything; the control answers
        ran = [error] * len(batch)
    took = 1000 * (time.perf_counter() - began)
    if isinstance(ran[0], Overrun):  # one that is refused at once would have taken as long
        took = max(took, 1000 * timeout)
    outcomes = [Outcome(one, version, ready.engine, took) for one in ran]
    failed = [place for place, one in enumerate(ran) if isinstance(one, Exception)]
    instead = control([batch[place] for place in failed]) if failed else []
    for place, other in zip(failed, instead, strict=True):
        outcomes[place] = fallen_back(host, batch[place], outcomes[place], other)
    return outcomes


def fallen_back(host: Host, asked: Asked, outcome: Outcome, instead: Outcome) -> Outcome:
    """The control's answer, marked and counted; its own error where it has none.

    What the control refuses too is the request's fault, and not counted against the treatment.
    """
    assert isinstance(outcome.said, Exception)
    kind, why = explain(outcome.said)
    if isinstance(instead.said, Exception):
        failure = REFUSED if instead.failure == REFUSED else kind
        return instead._replace(took=outcome.took, failure=failure)
    host.fell_back(asked.model, asked.stream.experiment, outcome.version, kind)
    return instead._replace(took=outcome.took, failure=kind, why=f"{outcome.version} {why}")


def decided(predictions: Predictions, thresholds: Decision) -> Predictions:
    """The predictions, each that has a confidence with what to do about it."""
    accept, review = thresholds.accept, thresholds.review
    for prediction in predictions:
        confidence = prediction.get("confidence")
        if confidence is not None:
            prediction["decision"] = decide(confidence, accept, review)
    return predictions
