"""What a predictor serves: the versions of a manifest, loaded and tried, as values that a request keeps to its end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np

from kt.deployments.manifest import Manifest, Route, Version
from kt.errors import Invalid
from kt.models import family
from kt.predictor import record
from kt.predictor.aside import Aside
from kt.predictor.engine import Engine, Key
from kt.predictor.shadow import Shadow
from kt.stats.scored import Kind
from kt.store.batch import Stream

WARM = 2  # requests in the batch that warms a version


@dataclass(frozen=True)
class Ready:
    """A version that serves. aside: where it runs as a treatment, under a time limit. kind: of what it
    predicts, as its form scores it."""

    version: str
    engine: Engine
    aside: Aside
    kind: Kind


@dataclass(frozen=True)
class Loaded:
    """What serves, and all that it names in memory. follows: the manifest as kt wrote it, with the
    versions that are in quarantine and the treatments that are out. why: the reason for what is left
    out. streams: by model, as record.streams. shadows: by model."""

    manifest: Manifest
    ready: Mapping[Key, Ready]
    follows: Manifest
    why: str = ""
    streams: Mapping[str, Mapping[str, Stream]] = field(default_factory=dict)
    shadows: Mapping[str, Shadow] = field(default_factory=dict)

    def of(self, model: str, version: Version) -> Ready:
        return self.ready[Key(model, version.version, version.sha256)]

    @cached_property
    def active(self) -> dict[str, Engine]:
        """The engine of the active version of each model."""
        routes = self.manifest.models.items()
        return {model: self.of(model, route.active).engine for model, route in routes}

    @cached_property
    def bounded(self) -> bool:
        """Whether no request can hold up whoever answers it: no treatment is tried, and no code but kt's runs."""
        routes = self.manifest.models.items()
        return all(route.split is None and self.active[model].bounded for model, route in routes)


EMPTY = Manifest(kt=1, seq=0, head="", models={})
NOTHING = Loaded(EMPTY, {}, EMPTY)


def serving(what: Manifest) -> Iterator[Key]:
    """The versions that answer requests under a manifest."""
    for model, route in what.models.items():
        yield key_of(model, route.active)
        for treatment in route.experiment.treatments if route.experiment else ():
            yield key_of(model, treatment)


def previous(what: Manifest, hours: float, at: datetime) -> Iterator[Key]:
    """The versions that are kept loaded for a rollback."""
    for model, route in what.models.items():
        if route.previous and at - since(route, at) < timedelta(hours=hours):
            yield key_of(model, route.previous)


def since(route: Route, at: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(route.since)
    except ValueError:
        return at
    return found if found.tzinfo else at


def key_of(model: str, version: Version) -> Key:
    return Key(model, version.version, version.sha256)


def warm(engine: Engine, key: Key) -> Kind:
    """One batch through everything that a request passes. The kind of its predictions. Raises Invalid
    where the answer is not one."""
    requests = engine.form.example(engine.signature, np.random.default_rng(0), WARM)
    for batch in (requests[-1:], requests):
        outputs = engine.run(engine.form.collate(batch, engine.signature))
        if wrong := family.problem(outputs, engine.form.PROBABILITIES):
            raise Invalid(
                f"{key.model} {key.version} answers what is no answer: {wrong}",
                do="deploy another version: kt rollback",
            )
        answers = engine.form.answer(outputs, batch, engine.signature)
    return record.kind(engine, [prediction for answer in answers for prediction in answer])


def streams(loaded: Loaded) -> dict[str, dict[str, Stream]]:
    """Who answers, by model."""
    return {
        model: record.streams(
            model,
            route,
            {key.version: ready.kind for key, ready in loaded.ready.items() if key.model == model},
        )
        for model, route in loaded.manifest.models.items()
    }


def describe(what: Manifest) -> str:
    """A manifest in one line: "sakt v3, v4 at 10 %"."""
    return "; ".join(f"{model} {said(route)}" for model, route in what.models.items()) or "nothing"


def said(route: Route) -> str:
    treatments = route.experiment.treatments if route.experiment else ()
    beside = (
        f"{one.version} at {one.traffic:g} %" if route.split else f"{one.version} as a shadow"
        for one in treatments
    )
    return ", ".join((route.active.version, *beside))
