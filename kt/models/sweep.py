"""Many trainings of one family, each with other settings, of which the best on the validation units is kept.

    lr=0.001,0.003   slots=10,20,40        every combination, or of them `tries` drawn at random
    lr=0.0003..0.01  dropout=0.0..0.5      drawn anew for each try: by ratio where both ends are above 0

What is kept for testing is looked at once, by the one that won.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kt import compute, files, plugins
from kt.config import Compute
from kt.errors import Invalid
from kt.models import metrics
from kt.models.run import Epoch, Options, resume_file
from kt.models.task import Data
from kt.models.train import Trained, learn, prepare, train

MOST = 1_000  # tries

Chosen = dict[str, Any]  # the settings of one try
Range = tuple[float, float, bool]  # the ends, and whether only whole numbers


@dataclass(frozen=True)
class Axis:
    """One setting: the values it may take, or the range that they are drawn from."""

    name: str
    values: tuple[str, ...] = ()
    bounds: Range | None = None

    def draw(self, rng: np.random.Generator) -> Any:
        if self.bounds is None:
            return self.values[int(rng.integers(len(self.values)))]
        low, high, whole = self.bounds
        if low > 0:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return round(value) if whole else float(f"{value:.3g}")


@dataclass(frozen=True)
class Try:
    """What came of one: its best metric on the validation units, or why there is none."""

    number: int  # from 1
    chosen: Chosen
    metric: float | None
    epochs: int
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Swept:
    """The one that won, trained and scored as by `train`, and what came of each, the best first."""

    trained: Trained
    tries: tuple[Try, ...]


def axes(texts: Sequence[str]) -> list[Axis]:
    """NAME=A,B,.. or NAME=LOW..HIGH. Raises Invalid."""
    found = []
    for text in texts:
        name, _, given = text.partition("=")
        values = tuple(filter(None, (part.strip() for part in given.split(","))))
        if not name or not values:
            raise Invalid(
                f"{text[:64]!r} is not NAME=A,B", where="--sweep", do="write lr=0.001,0.003"
            )
        between = re.fullmatch(r"(.+)\.\.(.+)", values[0]) if len(values) == 1 else None
        found.append(
            Axis(name, bounds=bounds(text, *between.groups())) if between else Axis(name, values)
        )
    if len({axis.name for axis in found}) < len(found):
        raise Invalid("a setting is named twice", where="--sweep", do="list all its values in one")
    return found


def bounds(text: str, low: str, high: str) -> Range:
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.inf, -math.inf
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise Invalid(f"{text[:64]!r} is no range", where="--sweep", do="write lr=0.0003..0.01")
    return *ends, bool(re.fullmatch(r"-?\d+", low) and re.fullmatch(r"-?\d+", high))


def draw(along: Sequence[Axis], tries: int | None, seed: int) -> list[Chosen]:
    """The settings of each try, no two alike. Raises Invalid where nothing says how many."""
    names = [axis.name for axis in along]
    open_ended = [axis.name for axis in along if axis.bounds]
    size = math.prod(len(axis.values) for axis in along if not axis.bounds)
    if open_ended and tries is None:
        raise Invalid(f"{open_ended[0]} is a range", where="--sweep", do="say how many: --tries 20")
    if not open_ended and size > MOST and tries is None:
        raise Invalid(
            f"{size} combinations are too many", where="--sweep", do="say how many: --tries 20"
        )
    if not open_ended and (tries is None or tries >= size):
        grid = itertools.product(*(axis.values for axis in along))
        return [dict(zip(names, values, strict=True)) for values in grid]
    assert tries is not None
    rng = np.random.default_rng(seed)
    found: dict[str, Chosen] = {}
    for _ in range(100 * tries):  # ranges of whole numbers may have fewer values
        one = {axis.name: axis.draw(rng) for axis in along}
        found.setdefault(json.dumps(one), one)
        if len(found) == tries:
            break
    return list(found.values())


def sweep(
    name: str,
    root: Path,
    data: Data,
    valid: Data,
    chosen: Sequence[Chosen],
    *,
    test: Data | None,
    settings: Mapping[str, Any],
    options: Options,
    out: Path,
    how: Compute,
    threads: int = 1,
    about: Mapping[str, Any] | None = None,
    on_try: Callable[[Try], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Swept:
    """Train the family `name` with each of the chosen settings, and write the best to `out`.

    root: where a family of the user's own is found. A sweep that was killed goes on with the same call:
    what each try has is kept in a folder beside `out`, until the best is written. about: more for the record.
    Raises Invalid where every try fails, with the first one's reason.
    """
    family = family_of(name, root)
    given = [placed(one, settings, options) for one in chosen]
    for own, opts in given:  # a setting that does not fit is told before all the work
        prepare(family, data, valid, own, opts)
    folder = out.with_name(out.name + ".sweep")
    folder.mkdir(parents=True, exist_ok=True)
    kept = [folder / f"{digest(one)}.resume" for one in chosen]
    jobs = [
        (root, name, data, valid, own, opts, path, threads)
        for (own, opts), path in zip(given, kept, strict=True)
    ]
    tries = []
    with closing(compute.each(attempt, jobs, how)) as results:
        for number, (epochs, error) in enumerate(results, 1):
            best = next((epoch.metric for epoch in reversed(epochs) if epoch.best), None)
            seconds = round(sum(epoch.seconds for epoch in epochs), 3)
            tries.append(Try(number, chosen[number - 1], best, len(epochs), seconds, error))
            on_try(tries[-1])
    ranked = rank(tries, metrics.higher_is_better(family.METRIC))
    if ranked[0].metric is None:
        raise Invalid(
            ranked[0].error, where="--sweep", do="every try failed; this is the first one's reason"
        )
    place = ranked[0].number - 1
    own, opts = given[place]
    files.write_whole(resume_file(out), kept[place].read_bytes())
    trained = train(
        family, name, data, valid,
        test=test, settings=own, options=opts, out=out, on_epoch=on_epoch,
        about={**(about or {}), "sweep": [asdict(one) for one in ranked]},
    )  # fmt: skip
    for path in kept:
        files.discard(path)
    folder.rmdir()
    return Swept(trained, tuple(ranked))


def attempt(
    root: Path,
    name: str,
    data: Data,
    valid: Data,
    settings: Mapping[str, Any],
    options: Options,
    beside: Path,
    threads: int,
) -> tuple[tuple[Epoch, ...], str]:
    """The epochs of one try, in a process of its own; why it failed, where it did."""
    torch.set_num_threads(threads)
    try:
        state, _ = learn(prepare(family_of(name, root), data, valid, settings, options), beside)
    except Invalid as error:
        return (), str(error)
    return tuple(state.history), ""


def family_of(name: str, root: Path) -> Any:
    return plugins.load("models", name, root, ("Config", "Model", "METRIC", "TASK"))


def placed(chosen: Chosen, settings: Mapping[str, Any], options: Options) -> tuple[Chosen, Options]:
    """What is chosen, in its place: an option of training, or a setting of the family."""
    known = {field.name: type(getattr(options, field.name)) for field in fields(options)}
    own = {key: value for key, value in chosen.items() if key not in known}
    try:
        changed = {key: known[key](value) for key, value in chosen.items() if key in known}
    except ValueError as error:
        raise Invalid(
            str(error), where="--sweep", do="give values that the option takes: kt train --help"
        ) from error
    return {**settings, **own}, replace(options, **changed)


def digest(chosen: Chosen) -> str:
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def rank(tries: Sequence[Try], higher_is_better: bool) -> list[Try]:
    """The best first; those that failed last."""
    sign = -1 if higher_is_better else 1
    return sorted(tries, key=lambda one: math.inf if one.metric is None else sign * one.metric)
