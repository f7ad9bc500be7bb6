"""The form of classification: what is found in a unit (a document, an image, a visit) in, its label out.

    request  {"unit": "mail-17", "tokens": ["cheap", "watches", "cheap"]}
    answer   [{"label": "spam", "probabilities": [0.1, 0.9], "confidence": 0.9, ...}]

Tokens are names, in an order that may mean something or not; of more than `window` the first are used,
and there may be none. Probabilities stand in the order of the version's labels. Rows of tables are as
in `tracing.py`: padding, unknown, then the vocabulary. No torch here.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kt.errors import Invalid
from kt.models import tracing
from kt.models.calibrate import Calibrator, calibrated, fits
from kt.models.family import Port
from kt.models.tracing import RECENT, RESERVED, UNKNOWN

MAX_TOKENS = 10_000

UNIT = "unit"
PAST = "the tokens"
PROBABILITIES = ("probabilities",)
STACKS = False
SAMPLE = ("unit", "label", "tokens")
NEEDS = ("tokens",)
tensors = tracing.tensors
scored = tracing.scored


class Signature(BaseModel):
    """What a version knows: its tokens in the order of their rows, its labels, its window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Annotated[tuple[str, ...], Field(min_length=1)]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    window: Annotated[int, Field(ge=1)]  # the most tokens that are used
    calibration: Calibrator | None = Field(default=None, exclude_if=operator.not_)

    @model_validator(mode="after")
    def calibration_fits(self) -> Self:
        if not fits(self.calibration, len(self.labels)):
            raise ValueError(f"this calibration is not for {len(self.labels)} labels")
        return self

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each token."""
        return {token: row for row, token in enumerate(self.tokens, RESERVED)}


class Sized(Protocol):
    """The configuration of a family of classification, as far as all of them agree."""

    @property
    def tokens(self) -> int: ...
    @property
    def labels(self) -> int: ...
    @property
    def window(self) -> int: ...


def numbered(config: Sized) -> Signature:
    """Tokens and labels named "0", "1", ...: for weights that come without their vocabulary."""
    return Signature(
        tokens=tuple(map(str, range(config.tokens))),
        labels=tuple(map(str, range(config.labels))),
        window=config.window,
    )


class Request(BaseModel):
    """The body of one prediction."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    unit: str | None = None
    tokens: Annotated[list[str], Field(max_length=MAX_TOKENS)]


def collate(requests: Sequence[Request], signature: Signature) -> dict[str, np.ndarray]:
    """Requests as arrays, padded on the right: tokens (B, T) int64, T at least 1; lengths (B,) int64."""
    given = [request.tokens[: signature.window] for request in requests]
    lengths = np.array([len(tokens) for tokens in given], np.int64)
    rows = np.zeros((len(given), max(1, int(lengths.max(initial=0)))), np.int64)
    row = signature.rows.get
    for b, tokens in enumerate(given):
        rows[b, : len(tokens)] = [row(token, UNKNOWN) for token in tokens]
    return {"tokens": rows, "lengths": lengths}


def answer(
    outputs: Mapping[str, np.ndarray], requests: Sequence[Request], signature: Signature
) -> list[list[dict[str, Any]]]:
    """For each request its likeliest label, and how likely each is.

    confidence: the probability of that label. Whatever else the family puts out (B, ...) stands beside.
    """
    p = calibrated(outputs["probabilities"], signature.calibration)  # (B, K)
    others = {name: values.tolist() for name, values in outputs.items() if name != "probabilities"}
    return [
        [
            {
                "label": signature.labels[best],
                "probabilities": each,
                "confidence": each[best],
                **{name: values[b] for name, values in others.items()},
            }
        ]
        for b, (each, best) in enumerate(zip(p.tolist(), p.argmax(-1).tolist(), strict=True))
    ]


def narrower(old: Signature, new: Signature) -> str:
    """What requests made for `old` would no longer get from `new`."""
    for what, before, after in (
        ("label", old.labels, set(new.labels)),
        ("token", old.tokens, set(new.tokens)),
    ):
        if lost := [name for name in before if name not in after]:
            return (
                f"it lacks {len(lost)} {what}s ({lost[0]}, ...)"
                if len(lost) > 1
                else f"it lacks the {what} {lost[0]}"
            )
    return ""


def example(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """`count` requests with no token up to a full window, of those that the signature knows."""
    known = np.array(signature.tokens)  # once: it takes milliseconds where they are many
    lengths = np.linspace(0, signature.window, count).round().astype(int).tolist()
    return [
        Request(unit=f"example-{b}", tokens=rng.choice(known, n).tolist())
        for b, n in enumerate(lengths)
    ]


def unlike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """Units of a few tokens, each of its own."""
    known = np.array(signature.tokens)
    drawn = [rng.choice(known, min(signature.window, 8)).tolist() for _ in range(8)]
    requests = [Request(tokens=tokens) for tokens in drawn]
    return list(zip(requests[::2], requests[1::2], strict=True))


def alike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """Nothing in a request is beside the point."""
    return []


def population(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """Units of few tokens and of many, each of a handful of different ones."""
    known = np.array(signature.tokens)
    requests = []
    for n in np.linspace(1, min(signature.window, 30), count).round().astype(int).tolist():
        handful = rng.choice(known, 5)
        requests.append(Request(tokens=rng.choice(handful, n).tolist()))
    return requests


def sample(
    request: Mapping[str, Any], place: int, outcome: float, signature: Signature
) -> tuple[str, str]:
    """The outcome is the label's place among the version's. Tokens with a space in them are not learnt."""
    tokens = [token for token in request["tokens"] if not any(map(str.isspace, token))]
    return signature.labels[int(outcome)], " ".join(tokens)


def ports(signature: Signature) -> tuple[list[Port], list[Port]]:
    takes = [Port("tokens", "text", (-1,))]
    gives = [
        Port("label", "text", (1,)),
        Port("probabilities", "float32", (1, len(signature.labels))),
        Port("confidence", "float32", (1,)),
    ]
    return takes, gives


def fields(tensors: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """An axis of one in front, as of a batch, is taken off."""
    if unknown := [name for name in tensors if name != "tokens"]:
        raise Invalid(
            "there is no such input",
            where=f"inputs.{unknown[0][:64]}",
            do="this model takes tokens",
        )
    return {"tokens": tracing.vector(tensors, "tokens")}


def features(request: Request, signature: Signature) -> dict[str, float]:
    """tokens: how many. unknown: the share of the first ones that the version does not know."""
    found: dict[str, float] = {"tokens": len(request.tokens)}
    if first := request.tokens[:RECENT]:
        found["unknown"] = 1 - sum(map(signature.rows.__contains__, first)) / len(first)
    return found
