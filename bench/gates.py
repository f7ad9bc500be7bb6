"""What judging a version costs, gate by gate, and what looking for leaks in data costs: processor seconds.

    python bench/gates.py                 the gates, on untrained weights of several sizes
    python bench/gates.py --data DIR      and the leak checks, on the data sets in there

Bar: each gate milliseconds to seconds. The first call of each counts, as in a registration.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kt.models import data, gpcm, leaks, sakt
from kt.models.split import split
from kt.registry.gate import Subject
from kt.registry.gates import causality, finite, health, likelihood
from kt.registry.load import Loaded
from kt.registry.record import Spec

GATES = (finite, causality, health, likelihood)
SIZES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sakt, small, 100 items": (sakt, {"items": 100, **sakt.SIZES["small"]}),
    "gpcm, medium, 100 items": (gpcm, {"items": 100, **gpcm.SIZES["medium"]}),
    "gpcm, medium, 3,000 items": (gpcm, {"items": 3000, **gpcm.SIZES["medium"]}),
    "sakt, 125 MB": (sakt, {"items": 1000, "d_model": 2048, "heads": 8, "window": 50}),
}
DATA = ("assist2009_updated", "assist2015", "assist2017_pid", "medical_graded")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path)
    given = asked.parse_args()
    torch.set_num_threads(1)
    print(f"{'CPU ms':28}" + "".join(f"{name_of(gate):>12}" for gate in GATES))
    for name, (family, config) in SIZES.items():
        judged = subject(family, config)
        costs = [cost(partial(gate.judge, judged, None, gate.Settings())) for gate in GATES]
        print(f"{name:28}" + "".join(f"{ms:12.0f}" for ms in costs))
    for name in DATA if given.data else ():
        parts = split(data.read(given.data / name))
        ms = cost(partial(leaks.find, parts.train, parts.test or parts.valid))
        print(f"leaks in {name:20}{ms:11.0f}")


def subject(family: Any, config: dict[str, Any]) -> Subject:
    settings = family.Config(**config)
    model = family.Model(settings).requires_grad_(False).eval()
    spec = Spec(family=name_of(family), config={}, form=family.FORM.__name__, signature={})
    loaded = Loaded(spec, family, family.FORM, family.signature(settings), model)
    return Subject("untrained", loaded, Path(), None)


def name_of(module: Any) -> str:
    return str(module.__name__).rpartition(".")[2]


def cost(act: Callable[[], Any]) -> float:
    """Milliseconds of processor time."""
    before = time.process_time()
    act()
    return (time.process_time() - before) * 1000


if __name__ == "__main__":
    main()
