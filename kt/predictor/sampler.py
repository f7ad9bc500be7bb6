"""A sample of what is asked and answered, on its way into the tables: where kt.toml asks for it, and else free.

Whole units are sampled rather than requests, by their pseudonym: what is learnt from later is histories,
which a sample of requests would leave with holes, and every process of every machine chooses the same
units. A request that names nobody is chosen by the id of its answer.

What waits to be written is text, and no more than MOST of it: what comes on top is left out, and counted.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from kt import clock
from kt.config import Settings
from kt.stats.scored import Scores
from kt.store.batch import Batch, Logged, Stream
from kt.store.ids import answer_id
from kt.store.pseudonym import Pseudonyms

MOST = 8_000_000  # characters that wait
UNLOGGED = "unlogged"  # requests of the sample that were left out, among the tables' counters
PREDICTIONS = "predictions"  # of an answer, among the fields to keep
SHARES = 1 << 32


class Sampler:
    """Any thread may call any of it."""

    def __init__(self, settings: Settings) -> None:
        models = {"", *settings.models}
        self.on = any(settings.log_of(model)[0] for model in models)
        self._settings = settings
        self._pseudonyms: Pseudonyms | None = None
        self._rows: list[Logged] = []
        self._streams: dict[int, Stream] = {}
        self._waiting = 0  # characters, those that are being written too
        self._left_out = 0
        self._lock = threading.Lock()

    def know(self, pseudonyms: Pseudonyms) -> None:
        """Until they are known nothing is kept."""
        self._pseudonyms = pseudonyms

    def offer(
        self, stream: Stream, unit: str | None, request: Any, hidden: str, answer: Mapping[str, Any],
        scores: Scores,
    ) -> None:  # fmt: skip
        """Keep a request if it is one of the sample. hidden: the field that names the unit. scores: of the
        answer's predictions."""
        share, fields = self._settings.log_of(stream.model)
        if not share or self._pseudonyms is None:
            return
        who = b"" if unit is None else self._pseudonyms.labelled(unit)
        if not sampled(who or answer_id(answer["prediction_id"]), share):
            return
        kept = {field: getattr(request, field, None) for field in fields if field != hidden}
        kept.pop(PREDICTIONS, None)
        said = answered(answer, scores, whole=PREDICTIONS in fields)
        name = answer_id(answer["prediction_id"])
        row = Logged(name, stream.id, clock.moment(), who, text(kept), text(said))
        with self._lock:
            if self._waiting + row.size > MOST:
                self._left_out += 1
            else:
                self._waiting += row.size
                self._rows.append(row)
                self._streams[stream.id] = stream

    def take(self, batch: Batch) -> None:
        """Put what was kept since this was last called into a batch that is to be written."""
        with self._lock:
            batch.logged, self._rows = self._rows, []
            batch.streams |= self._streams
            self._streams = {}
            left_out, self._left_out = self._left_out, 0
        if left_out:
            batch.counts[clock.second() // 60, UNLOGGED] += left_out

    def release(self, rows: Iterable[Logged]) -> None:
        """These have been written, or given up: there is room for others."""
        with self._lock:
            self._waiting -= sum(row.size for row in rows)


def sampled(name: bytes, share: float) -> bool:
    """By its last bytes, which nothing else is chosen by: neither a unit's bucket nor its variant."""
    return int.from_bytes(name[-4:]) < share * SHARES


def answered(answer: Mapping[str, Any], scores: Scores, *, whole: bool) -> dict[str, Any]:
    """What is kept of an answer: who gave it, and of its predictions what outcomes are compared with, or all."""
    kept = {name: answer[name] for name in ("version", "fallback") if name in answer}
    return kept | {PREDICTIONS: answer[PREDICTIONS] if whole else numbers(scores)}


def numbers(scores: Scores) -> list[dict[str, Any]]:
    match scores.kind:
        case "category":
            both = zip(scores.categories, scores.values, strict=True)
            return [{"category": category, "probability": p} for category, p in both]
        case "probability":
            return [{"probability": p} for p in scores.values]
        case "number":
            return [{"value": value} for value in scores.values]
        case _:
            return [{} for _ in scores.values]


def text(value: Any) -> str:
    return orjson.dumps(value, default=plain).decode()


def plain(value: Any) -> Any:
    """A part of a request that is a pydantic model."""
    return value.model_dump(mode="json")
