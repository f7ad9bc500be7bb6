"""A version with another calibrator: the same weights, and probabilities that hold again.

Fitted on the older 70 % of what came true, judged on the newer 30 %: outcomes that the tables keep, by
bins of the score, or held-out data of one's own. What was said has been through the version's present
calibrator, so that the new one comes after it; the two are made one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kt.errors import Invalid, Refused
from kt.models import calibrate, checkpoint, reference, task
from kt.models.calibrate import FITTED, LEAST, Method, Outcomes, Tried, composed
from kt.models.metrics import Categorical
from kt.registry.load import Loaded
from kt.registry.record import VersionRecord
from kt.store import labels
from kt.store.database import Store
from kt.store.labels import Labels
from kt.store.streams import streams

LOOKED_BACK = 90 * 1_440  # minutes; older outcomes say little of today


@dataclass(frozen=True)
class Evidence:
    """older: (n,) which of the outcomes are fitted on. on: what they are, in words.

    features: of the requests, as a reference keeps them.
    """

    known: Outcomes
    older: np.ndarray
    source: Literal["data", "outcomes"]
    on: str
    features: dict[str, str]


def refuse_unable(what: str, loaded: Loaded, method: Method) -> None:
    """Raises Invalid where the version's answers take no such calibrator."""
    if "calibration" not in type(loaded.signature).model_fields:
        raise Invalid(
            f"{what} gives no probabilities of categories: there is nothing to calibrate",
            do="name a version whose answers are probabilities: kt models",
        )
    if method in ("platt", "isotonic") and not calibrate.fits(PLATT, categories(loaded)):
        raise Invalid(
            f"{method} is for two categories, {what} has {categories(loaded)}",
            where="--method",
            do="leave it out, or: --method temperature",
        )


PLATT = calibrate.Platt(a=-1.0, b=0.0)


def categories(loaded: Loaded) -> int:
    signature: Any = loaded.signature
    found: int = getattr(signature, "categories", 0) or len(signature.labels)
    return found


def of_data(loaded: Loaded, paths: Sequence[Path]) -> Evidence:
    """Held-out answers: the first units of the data, in its order, are fitted on, the others judged on.

    Raises Invalid where the data do not fit the version.
    """
    room: Any = task.of(loaded.family)
    data = room.only_test(room.read(paths))
    predicted = room.predict(loaded.module, loaded.signature, data)
    assert isinstance(predicted, Categorical)
    known = Outcomes(predicted.probabilities, predicted.outcomes)
    if known.count < LEAST:
        raise Invalid(
            f"{known.count:,} answers to judge by, {LEAST:,} are needed",
            where=data.source,
            do="give more data, or wait for more outcomes",
        )
    older = predicted.unit < round(FITTED * len(predicted.units))
    features = reference.features(room, loaded.form, loaded.signature, data)
    return Evidence(known, older, "data", data.source, features)


def of_outcomes(store: Store | None, loaded: Loaded, known: VersionRecord, end: int) -> Evidence:
    """What came true of the version's live answers before minute `end`. store: None where there are no tables.

    Raises Invalid for more than two categories, Refused where there are too few outcomes.
    """
    what = f"{known.model}@{known.version}"
    if categories(loaded) > 2:
        raise Invalid(
            f"{what} has {categories(loaded)} categories, of which the tables keep one probability",
            do="give held-out answers: --data FILE",
        )
    rows = recorded(store, known, end) if store else []
    counts = np.array([sum(n for *_, n in bins(seen)) for _, seen in rows])
    if counts.sum() < LEAST:
        raise Refused(
            f"{int(counts.sum()):,} outcomes of {what} are known, {LEAST:,} are needed",
            do="give held-out answers: --data FILE; or wait for outcomes: POST /feedback",
        )
    until = int(np.searchsorted(counts.cumsum(), FITTED * counts.sum())) + 1
    if until == len(rows):
        raise Refused(
            f"the outcomes of {what} are of one hour: none are newer than what is fitted on",
            do="wait for more, or give held-out answers: --data FILE",
        )
    told = [
        (p, label, n, place < until)
        for place, (_, seen) in enumerate(rows)
        for p, label, n in bins(seen)
    ]
    p, label, n, older = (np.array(column) for column in zip(*told, strict=True))
    first, last = (day(rows[place][0]) for place in (0, -1))
    return Evidence(
        Outcomes(np.stack([1 - p, p], 1), label, n.astype(float)),
        older,
        "outcomes",
        f"outcomes of predictions from {first} to {last}",
        known.reference.features if known.reference else {},
    )


def recorded(store: Store, known: VersionRecord, end: int) -> list[tuple[int, Labels]]:
    """Outcomes by the minute of their predictions or the hour, oldest first."""
    ids = [
        one.id
        for one in streams(store, known.model)
        if one.version == known.version and one.kind == "probability"
    ]
    found = labels.series(store, ids, end - LOOKED_BACK, end, ("bins",))
    return sorted(((minute, seen) for _, minute, _, seen in found), key=lambda row: row[0])


def day(minute: int) -> str:
    return datetime.fromtimestamp(60 * minute, UTC).date().isoformat()


def bins(seen: Labels) -> list[tuple[float, int, int]]:
    """The mean probability of a bin, whether it came true, and how many of these there are."""
    return [
        (total / n, label, n)
        for label, scores in ((1, seen.positives), (0, seen.negatives))
        for n, total in zip(scores.counts, scores.sums, strict=True)
        if n > 0
    ]


def attempt(evidence: Evidence, method: Method) -> Tried:
    """Raises Refused where all that came true is one category."""
    tried = calibrate.attempt(evidence.known, evidence.older, method)
    if tried is None:
        raise Refused(f"all of {evidence.on} came out alike", do="give other answers: --data FILE")
    return tried


def write(
    path: Path, known: VersionRecord, loaded: Loaded, evidence: Evidence, tried: Tried
) -> None:
    """The version with the calibrator, as a file to register. Raises Refused where the two make none."""
    signature: Any = loaded.signature
    both = composed(signature.calibration, tried.calibrator)
    if both is None:
        raise Refused(
            f"the new calibrator cannot come after that of {known.model}@{known.version}",
            do="train it again: kt train",
        )
    newer = evidence.known.take(~evidence.older).through(tried.calibrator)
    told = {"of": f"{known.model}@{known.version}", "on": evidence.on}
    checkpoint.save(
        path,
        family=known.spec.family,
        config=loaded.family.Config.model_validate(known.spec.config),
        signature=signature.model_copy(update={"calibration": both}),
        state_dict=loaded.module.state_dict(),
        scores={},  # those of training are of other probabilities
        training=known.training | {"calibration": tried.summary() | told},
        reference=reference.summary(evidence.source, newer, evidence.features),
    )
