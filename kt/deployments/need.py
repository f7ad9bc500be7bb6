"""Which versions something needs: what `kt gc` never removes, and what `kt pull` fetches. Pure.

    a manifest      the active version, the treatments, the previous version that stays loaded
    a predictor     whatever runs now or would be served after its restart
    a rollback      the versions that the next `keep` rollbacks reach, and the `keep` last active ones
    a label         ab-winner-X
    a person        the `keep` newest versions of each model, which may be about to be deployed

A rollback further back is refused by name until the weights are fetched or registered again, so
`keep` is how far a rollback reaches without either.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kt.deployments.history import Serving, State
from kt.deployments.manifest import Manifest, Part, Version, manifest

KEEP = 3
Key = tuple[str, str]  # model, version


@dataclass(frozen=True, slots=True)
class Stored:
    """A version in the registry. size: bytes of its weights on this machine."""

    model: str
    version: str
    created_at: str  # ISO 8601
    size: int = 0

    @property
    def key(self) -> Key:
        return self.model, self.version


def needed(
    state: State, stored: Iterable[Stored], served: Iterable[Key] = (), keep: int = KEEP
) -> dict[Key, str]:
    """Every version that is needed, by the first reason for it. served: what predictors hold."""
    reasons = named(manifest(state))
    for key in served:
        reasons.setdefault(key, "a predictor serves it")
    for model, serving in state.models.items():
        for version in reached(serving, keep):
            reasons.setdefault((model, version), "rollback")
        for version, labels in serving.labels.items():
            reasons.setdefault((model, version), f"label {labels[-1]}")
    for one in newest(stored, keep):
        reasons.setdefault(one.key, "new")
    return reasons


def named(what: Manifest) -> dict[Key, str]:
    """What a predictor that follows this manifest loads, the indispensable first."""
    out: dict[Key, str] = {}
    for model, route in what.models.items():
        out[model, route.active.version] = "active"
        for treatment in route.experiment.treatments if route.experiment else ():
            out.setdefault((model, treatment.version), "experiment")
    for model, route in what.models.items():
        if route.previous:
            out.setdefault((model, route.previous.version), "previous")
        for other in versions_in(route):
            out.setdefault((model, other.version), "served")
    return out


def versions_in(part: Part) -> Iterator[Version]:
    """Every version that stands anywhere in a part of a manifest, also where this page knows nothing of it."""
    if isinstance(part, Version):
        yield part
    for _, value in part:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Part):
                yield from versions_in(one)


def reached(serving: Serving, keep: int) -> list[str]:
    """Where the next rollbacks lead, and the last versions that were active in any other way."""
    active = serving.active.version if serving.active else ""
    below = dict.fromkeys(
        held.version
        for held in reversed(serving.stack)
        if held.version != active and held.version not in serving.bad
    )
    lately = sorted(serving.past.values(), key=lambda held: -held.seq)
    past = [held.version for held in lately if held.version != active]
    return [*list(below)[:keep], *past[:keep]]


def newest(stored: Iterable[Stored], keep: int) -> list[Stored]:
    """The last `keep` versions of each model, by when they were registered; of one second, the later ones."""
    of: dict[str, list[Stored]] = {}
    for one in sorted(stored, key=lambda one: one.created_at):
        of.setdefault(one.model, []).append(one)
    return [one for versions in of.values() for one in versions[: -keep - 1 : -1]]


def unneeded(stored: Iterable[Stored], reasons: Mapping[Key, str]) -> list[Stored]:
    """The versions whose weights are here and that nothing needs."""
    return [one for one in stored if one.size and one.key not in reasons]
