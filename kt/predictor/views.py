"""A model as a client sees it that knows nothing but tensors and tables: what its form says of itself.

Names of types are numpy's here ("float32"), but "text"; a protocol has its own names for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kt.deployments.manifest import Route
from kt.errors import Invalid
from kt.models.family import Port
from kt.predictor import predict
from kt.predictor.engine import Engine
from kt.predictor.host import Host
from kt.predictor.loaded import Loaded
from kt.predictor.predict import Answer, Asked


@dataclass(frozen=True)
class View:
    """A model that serves, by its active version."""

    loaded: Loaded
    model: str
    route: Route
    engine: Engine

    @property
    def form(self) -> Any:
        return self.engine.form

    @property
    def ports(self) -> tuple[list[Port], list[Port]]:
        """What it takes and what it gives."""
        takes, gives = self.form.ports(self.engine.signature)
        return takes, gives

    def fields(self, tensors: Mapping[str, Any], unit: Any) -> dict[str, Any]:
        """The JSON of a request, its tensors given as nested lists. Raises Invalid."""
        return self.of_unit(self.form.fields(tensors, self.engine.signature), unit)

    def of_unit(self, fields: dict[str, Any], unit: Any) -> dict[str, Any]:
        return fields if unit is None else {self.form.UNIT: unit} | fields


def view(host: Host, name: str | None) -> View:
    """The model of this name, or the one that is meant where none is. Raises Invalid, http.Unknown,
    Unavailable as predict does."""
    loaded = host.current
    model, _ = predict.which(host, loaded, {}, name)
    route = loaded.manifest.models[model]
    engine = loaded.of(model, route.active).engine
    if not hasattr(engine.form, "ports"):
        raise Invalid(
            f"{model} cannot be asked in tensors: its form lacks ports, fields and tensors",
            do=f"POST /models/{model}/predict",
        )
    return View(loaded, model, route, engine)


def tensors(asked: Asked, answer: Answer) -> dict[str, np.ndarray]:
    """An answer's predictions as arrays, by the form of the version that gave them."""
    trial = asked.route.experiment
    serving = (asked.route.active, *(trial.treatments if trial else ()))
    said = next(one for one in serving if one.version == answer["version"])
    found: dict[str, np.ndarray] = asked.loaded.of(asked.model, said).engine.form.tensors(
        answer["predictions"]
    )
    return found
