"""The manifest: what to serve now, and which variant a unit gets. Pure, and all a predictor needs.

It is derived from the history (`manifest(state)`) and written to active.json. A predictor knows no
event types and runs from a copied folder: the manifest, and the weights that it names.

A unit is assigned by sha256(experiment/unit) as a fraction u of the whole: to the first treatment
where u < its share. The same in every process, with no state; raising the share moves units only
into the treatment. (SHA-256 because faster hashes correlate between experiments.)
"""

import hashlib
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kt.errors import Corrupt

if TYPE_CHECKING:  # a predictor, which reads manifests and no history, would hold it in memory
    from kt.deployments.history import Experiment, Held, Serving, State

MANIFEST = "deployments/active.json"
ANEW = "write it anew from the history: kt verify --fix"
REPLACED = "replaced.json"  # in .kt/: the digests of events that a person has let go
SHA256 = r"^[0-9a-f]{64}$"


class Part(BaseModel):
    """extra: a newer kt may add fields; an older predictor serves what it knows."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, defer_build=True
    )


class Version(Part):
    """A version to load: its name, and the digest that its weights must have."""

    version: str
    sha256: str = Field(pattern=SHA256)


class Treatment(Version):
    traffic: float = Field(ge=0, le=100)  # percent of the units


class Trial(Part):
    """An experiment as the predictor sees it.

    shadow: its treatments have no traffic; they get a copy of every request, to be compared. A
    predictor that does not know the word gives them nothing.
    """

    name: str
    treatments: tuple[Treatment, ...] = Field(strict=False, min_length=1)
    phase: int  # the seq of the event that last changed the traffic
    shadow: bool = Field(default=False, exclude_if=lambda value: not value)


class Route(Part):
    """What one model serves. previous: kept loaded after `since` for a quick rollback."""

    active: Version
    since: str  # when the active version became active, ISO 8601
    seq: int  # the event that made it active
    previous: Version | None
    experiment: Trial | None

    @property
    def split(self) -> Trial | None:
        """The experiment that decides who answers; None where the active version answers all."""
        return None if self.experiment is None or self.experiment.shadow else self.experiment

    @property
    def answering(self) -> list[str]:
        """The versions that may answer a request, the active one first."""
        treatments = self.split.treatments if self.split else ()
        return [self.active.version, *(treatment.version for treatment in treatments)]


class Manifest(Part):
    """seq: the last event it is derived from; head: that event's digest. Never goes back in seq."""

    kt: int = Field(ge=1, le=1)  # of the format
    seq: int = Field(ge=0)
    head: str = Field(pattern=r"^([0-9a-f]{64})?$")
    models: dict[str, Route]


def manifest(state: "State") -> Manifest:
    """What to serve, derived from what has happened."""
    routes = {
        name: route(serving) for name, serving in sorted(state.models.items()) if serving.stack
    }
    return Manifest(kt=1, seq=state.seq, head=state.head, models=routes)


def route(serving: "Serving") -> Route:
    active = serving.stack[-1]
    previous = serving.left if serving.left and serving.left.version != active.version else None
    return Route(
        active=version(active),
        since=active.since,
        seq=active.seq,
        previous=version(previous) if previous else None,
        experiment=trial(serving.experiment) if serving.experiment else None,
    )


def version(held: "Held") -> Version:
    return Version(version=held.version, sha256=held.sha256)


def trial(experiment: "Experiment") -> Trial:
    return Trial(
        name=experiment.name,
        phase=experiment.phase,
        treatments=(
            Treatment(
                version=experiment.version, sha256=experiment.sha256, traffic=experiment.traffic
            ),
        ),
        shadow=experiment.shadow,
    )


def fraction(experiment: str, unit: str) -> float:
    """Where a unit lies in [0, 1) of an experiment."""
    hashed = hashlib.sha256(f"{experiment}/{unit}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(hashed[:8], "big") / 2**64


def treatment_for(trial: Trial, at: float) -> Treatment | None:
    """The treatment that a unit at the fraction `at` gets; None is the control."""
    lower = 0.0
    for treatment in trial.treatments:
        upper = lower + treatment.traffic / 100
        if lower <= at < upper:
            return treatment
        lower = upper
    return None


def dump(what: Manifest) -> bytes:
    """The manifest as it is written."""
    return what.model_dump_json(indent=1).encode() + b"\n"


def parse(data: bytes) -> Manifest:
    """The manifest as it was written. Raises Corrupt."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise Corrupt(
            f"{key + ': ' if key else ''}{first['msg']}",
            where=MANIFEST,
            do=ANEW,
        ) from error
