"""What recording adds to an answer.

    python bench/monitoring.py record [--calls 20000]      half a minute

In the way: what a request waits for (asked for: the median below 5 µs a prediction). CPU: all of it, with the
adding up of notes, 32 at a time. The id is not of recording, it is there for outcomes. Features are taken of
ten requests a second. Log: what keeping requests adds (store.log_inputs), to a unit that is not of the sample
and to one that is, with its fifty answers; nothing where it is off. `yardstick` is a loop of known cost, in turns with the rest: to compare machines by.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
from load import show

from kt import clock
from kt.config import Settings
from kt.models import tracing
from kt.predictor import sampler
from kt.predictor.record import Recorder, Seen
from kt.store.batch import Stream
from kt.store.secret import Secret, master

ANSWERS = 50
FORM: Any = tracing


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=20_000)
    options = parser.parse_args()
    sampler.MOST = 1 << 40  # nobody writes here
    show([costs(experiment, options.calls) for experiment in ("", "trial")])


def costs(experiment: str, calls: int) -> dict[str, object]:
    engine, requests, predictions = asked()
    turn = itertools.cycle(requests).__next__
    stream = Stream("tutor", "v1", "control", experiment, 1, 1, kind="probability")
    recorder = Recorder(on=True)
    recorder.know(Secret(keys=(master(1, clock.now(), lambda size: b"k" * size),)))

    def record() -> None:
        request = turn()
        entry = recorder.begin(stream, [request.student_id])
        scores = recorder.scores(engine, predictions)
        features = recorder.features(entry, engine, request)
        recorder.end(entry, [Seen(4.2, "", False, scores, features)])

    entry = recorder.begin(stream, ["s-1"])
    scores = recorder.scores(engine, predictions)
    answer = {
        "version": "v1",
        "prediction_id": recorder.identity(entry, 0, scores),
        "predictions": predictions,
    }
    logs = {share: logging(share) for share in (None, 1e-9, 1.0)}

    def log(share: float | None) -> None:
        request = turn()
        logs[share].log(entry, request.student_id, request, FORM, answer, scores)

    timed = medians(
        {
            "in the way": record,
            "log off": lambda: log(None),
            "log another": lambda: log(1e-9),
            "log one": lambda: log(1.0),
            "id": lambda: recorder.identity(entry, 0, scores),
            "features": lambda: tracing.features(turn(), engine.signature),
            "yardstick": yardstick,
        },
        calls,
    )
    return {"µs": experiment or "no experiment", **timed, "CPU": cpu(record, calls)}


def logging(share: float | None) -> Recorder:
    """One that keeps the requests of this share of the units, or none."""
    if share is None:
        return Recorder(on=True)
    table = {"log_inputs": share, "log_fields": ["items", "answers"]}
    recorder = Recorder(on=True, sampler=sampler.Sampler(Settings.model_validate({"store": table})))
    recorder.know(Secret(keys=(master(1, clock.now(), lambda size: b"k" * size),)))
    return recorder


def asked() -> tuple[Any, list[tracing.Request], list[dict[str, Any]]]:
    """A version, requests of many students, and what it answers."""
    rng = np.random.default_rng(0)
    signature = tracing.Signature(items=tuple(map(str, range(100))), categories=2, window=150)
    requests = [
        tracing.Request(
            student_id=f"s-{n}",
            answers=[
                {"item": str(item), "response": int(response)}
                for item, response in zip(
                    rng.integers(100, size=ANSWERS), rng.integers(2, size=ANSWERS), strict=True
                )
            ],
            items=["20"],
        )
        for n in range(1_000)
    ]
    prediction = {"item": "20", "probabilities": [0.3, 0.7], "expected": 0.7, "confidence": 0.7}
    return SimpleNamespace(form=tracing, signature=signature), requests, [prediction]


def medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median microseconds of each, all in turns, less those of nothing."""
    found: dict[str, list[int]] = {name: [] for name in ("", *calls)}
    now = time.perf_counter_ns
    for _ in range(rounds):
        for name, call in (("", nothing), *calls.items()):
            began = now()
            call()
            found[name].append(now() - began)
    middle = {name: median(times) / 1000 for name, times in found.items()}
    return {name: middle[name] - middle[""] for name in calls}


def cpu(call: Callable[[], object], rounds: int) -> float:
    """Mean microseconds of CPU."""
    began = time.process_time()
    for _ in range(rounds):
        call()
    return 1e6 * (time.process_time() - began) / rounds


def nothing() -> None: ...


def yardstick() -> int:
    """A hundred rounds of Python: some 2 µs where the bar was set."""
    total = 0
    for n in range(100):
        total += n * n
    return total


if __name__ == "__main__":
    main()
