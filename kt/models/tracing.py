"""The form of knowledge tracing: a student's answers and the items to ask next, in; probabilities out.

    request  {"student_id": "s-17", "answers": [{"item": "19", "response": 1}], "items": ["20", "21"]}
    answer   [{"item": "20", "probabilities": [0.3, 0.7], "expected": 0.7, "confidence": 0.7}, ...]

Answers stand oldest first and may be none; of a longer history the last `window` are used. A client
that keeps no histories asks for a state ("state": true), and with the next request hands in that and
only the answers since. An item
is a row of the families' tables: row 0 is padding and means nothing, row 1 is any item that the
vocabulary lacks, the vocabulary begins at row 2.

No torch here: a process that runs exported weights imports this and numpy.
"""

import base64
import math
import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from statistics import NormalDist
from typing import Annotated, Any, Protocol, Self

import numpy as np
import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from kt.errors import Invalid
from kt.models.calibrate import Calibrator, calibrated, fits
from kt.models.family import Port
from kt.stats.scored import Scores

PADDING = 0
UNKNOWN = 1
RESERVED = 2  # rows before the vocabulary's first

MAX_ANSWERS = 10_000
MAX_ITEMS = 1_000

UNIT = "student_id"
PAST = "what was answered"
PROBABILITIES = ("probabilities", "attention")  # attention: where a family shows it
STACKS = False
HISTORY = ("items", "responses")
SAMPLE = ("student_id", "item", "response")
NEEDS = ("items",)
RECENT = 50  # answers that are watched

# TypedDict and not BaseModel: fifty answers are validated in 10 µs rather than 30.
STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class Signature(BaseModel):
    """What a version knows: its items in the order of its rows, its categories, its window.

    calibration: what its probabilities go through before anybody sees them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: Annotated[tuple[str, ...], Field(min_length=1)]
    categories: Annotated[int, Field(ge=2)]  # responses are 0 .. categories - 1
    window: Annotated[int, Field(ge=1)]  # the most past answers that are used
    calibration: Calibrator | None = Field(default=None, exclude_if=operator.not_)

    @model_validator(mode="after")
    def calibration_fits(self) -> Self:
        if not fits(self.calibration, self.categories):
            raise ValueError(f"this calibration is not for {self.categories} categories")
        return self

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each item."""
        return {item: row for row, item in enumerate(self.items, RESERVED)}


class Sized(Protocol):
    """The configuration of a family of knowledge tracing, as far as all of them agree."""

    @property
    def items(self) -> int: ...
    @property
    def categories(self) -> int: ...
    @property
    def window(self) -> int: ...


def numbered(config: Sized) -> Signature:
    """Items named "0", "1", ...: for weights that come without their vocabulary."""
    names = tuple(map(str, range(config.items)))
    return Signature(items=names, categories=config.categories, window=config.window)


@with_config(STRICT)
class Answer(TypedDict):
    """One past answer."""

    item: str
    response: StrictInt


Packed = TypeAdapter(tuple[list[str], list[StrictInt]])  # items and responses


def unpacked(state: Any) -> bool | list[Answer]:
    """The answers that a state stands for; as it is, whether one is wanted."""
    if isinstance(state, bool):
        return state
    try:
        data = base64.b64decode(state, b"-_", validate=True)
        if checked(data[CHECK:]) != data:
            raise ValueError
        items, responses = Packed.validate_json(data[CHECK:])
        if len(items) > MAX_ANSWERS:
            raise ValueError
        return [
            Answer(item=item, response=response)
            for item, response in zip(items, responses, strict=True)
        ]
    except (ValueError, TypeError):
        raise PydanticCustomError("state", NO_STATE) from None


NO_STATE = "Is no state that a predictor gave: send the whole history in answers, and true"
CHECK = 8  # bytes


def checked(packed: bytes) -> bytes:
    """With a check in front. No secret: who makes a state up says what they could say in answers."""
    return blake2b(packed, digest_size=CHECK, person=b"kt state 1").digest() + packed


class Request(BaseModel):
    """The body of one prediction."""

    model_config = STRICT

    student_id: str | None = None
    state: Annotated[
        bool | list[Answer],
        PlainValidator(unpacked),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]}),
        Field(exclude_if=operator.not_),
    ] = False
    answers: Annotated[list[Answer], Field(max_length=MAX_ANSWERS)]  # oldest first
    items: Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS)]  # asked next

    @model_validator(mode="after")
    def goes_on(self) -> Self:
        """Before the answers stand those that a state stands for."""
        if isinstance(self.state, list):
            self.answers = [*self.state, *self.answers]
            self.state = True
        return self


def state(request: Request, window: int) -> str:
    """What stands for the last `window` answers of a request, for any version."""
    answers = request.answers[-window:]
    packed = orjson.dumps(
        [[answer["item"] for answer in answers], [answer["response"] for answer in answers]]
    )
    return base64.urlsafe_b64encode(checked(packed)).decode()


def collate(requests: Sequence[Request], signature: Signature) -> dict[str, np.ndarray]:
    """Requests as arrays, padded on the right.

    items, responses: (B, T) int64, T at least 1; lengths: (B,) int64; asked: (B, M) int64.
    Raises Invalid where a response is not one of the signature's categories.
    """
    histories = [request.answers[-signature.window :] for request in requests]
    B = len(requests)
    T = max(1, *map(len, histories)) if B else 1
    M = max((len(request.items) for request in requests), default=1)
    items = np.zeros((B, T), np.int64)
    responses = np.zeros((B, T), np.int64)
    asked = np.zeros((B, M), np.int64)
    row = signature.rows.get
    for b, (request, history) in enumerate(zip(requests, histories, strict=True)):
        n, m = len(history), len(request.items)
        given = [answer["response"] for answer in history]
        if n and (max(given) >= signature.categories or min(given) < 0):
            raise _outside(request, signature)
        items[b, :n] = [row(answer["item"], UNKNOWN) for answer in history]
        responses[b, :n] = given
        asked[b, :m] = [row(item, UNKNOWN) for item in request.items]
    lengths = np.array([len(history) for history in histories], np.int64)
    return {"items": items, "responses": responses, "lengths": lengths, "asked": asked}


def answer(
    outputs: Mapping[str, np.ndarray], requests: Sequence[Request], signature: Signature
) -> list[list[dict[str, Any]]]:
    """For each request, one prediction for each item asked, in the order asked.

    expected: the mean response, in [0, categories - 1]. confidence: the probability of the likeliest
    category. Whatever else the family puts out (B, M, ...) stands beside them under its name.
    """
    p = calibrated(outputs["probabilities"], signature.calibration)
    expected = (p @ np.arange(signature.categories, dtype=p.dtype)).tolist()
    confidence = p.max(-1).tolist()
    others = {name: values.tolist() for name, values in outputs.items() if name != "probabilities"}
    answers = []
    for b, (request, row) in enumerate(zip(requests, p.tolist(), strict=True)):
        # not strict: what is left over is padding. Written out: a hundred items in 20 µs, not 70.
        predictions: list[dict[str, Any]] = [
            {"item": item, "probabilities": each, "expected": mean, "confidence": most}
            for item, each, mean, most in zip(
                request.items, row, expected[b], confidence[b], strict=False
            )
        ]
        for name, values in others.items():
            for prediction, value in zip(predictions, values[b], strict=False):
                prediction[name] = value
        answers.append(predictions)
    return answers


def narrower(old: Signature, new: Signature) -> str:
    """What requests made for `old` would no longer get from `new`."""
    if new.categories < old.categories:
        return f"it knows {new.categories} categories, not the {old.categories}"
    if lost := [item for item in old.items if item not in new.rows]:
        return (
            f"it lacks {len(lost)} items ({lost[0]}, ...)"
            if len(lost) > 1
            else f"it lacks the item {lost[0]}"
        )
    return ""


def example(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """`count` requests with histories from none to a full window, over items the signature knows."""
    known = np.array(signature.items)  # once: it takes milliseconds where they are many
    lengths = np.linspace(0, signature.window, count).round().astype(int).tolist()
    return [
        Request(
            student_id=f"example-{b}",
            answers=[
                Answer(item=item, response=int(response))
                for item, response in zip(
                    rng.choice(known, n).tolist(),
                    rng.integers(signature.categories, size=n),
                    strict=True,
                )
            ],
            items=rng.choice(known, int(rng.integers(1, 5))).tolist(),
        )
        for b, n in enumerate(lengths)
    ]


def unlike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """All answered worst and all best, asked about an item among them: the answers cannot all agree.

    Of every second history all answers are to one item: some models carry nothing over to others.
    """
    known = np.array(signature.items)
    pairs = []
    for number in range(4):
        items = rng.choice(known, min(signature.window, 8)).tolist()
        if number % 2:
            items = items[-1:] * len(items)
        worst, best = (
            Request(
                answers=[Answer(item=item, response=response) for item in items], items=items[-1:]
            )
            for response in (0, signature.categories - 1)
        )
        pairs.append((worst, best))
    return pairs


def alike(signature: Signature, rng: np.random.Generator) -> list[tuple[Request, Request]]:
    """One history, asked about one item first and then about others: the first answer stays."""
    (request,) = example(signature, rng, 2)[1:]
    asked, *others = rng.choice(signature.items, 4).tolist()
    beside: list[list[str]] = [[], others, others[:1], others[1:2]]
    first, *rest = (request.model_copy(update={"items": [asked, *more]}) for more in beside)
    return [(first, each) for each in rest]


def population(signature: Signature, rng: np.random.Generator, count: int) -> list[Request]:
    """Students as unlike as a standard normal ability makes them, on items of middling difficulty.

    All are asked about one item first; the others are shared out among them, at most 32 each.
    """
    levels = [NormalDist().inv_cdf((b + 0.5) / count) for b in range(count)]
    known = np.array(signature.items)
    common, *others = rng.permutation(known).tolist()
    requests = []
    for b, level in enumerate(levels):
        items = rng.choice(known, min(signature.window, 20)).tolist()
        right = rng.binomial(signature.categories - 1, 1 / (1 + math.exp(-level)), len(items))
        answers = [
            Answer(item=item, response=response)
            for item, response in zip(items, right.tolist(), strict=True)
        ]
        requests.append(Request(answers=answers, items=[common, *others[b::count][:32]]))
    return requests


def ports(signature: Signature) -> tuple[list[Port], list[Port]]:
    """The history as items and responses, one a past answer, and the items asked next."""
    takes = [
        Port("items", "text", (-1,)),
        Port("responses", "int64", (-1,)),
        Port("asked", "text", (-1,)),
    ]
    gives = [
        Port("item", "text", (-1,)),
        Port("probabilities", "float32", (-1, signature.categories)),
        Port("expected", "float32", (-1,)),
        Port("confidence", "float32", (-1,)),
    ]
    return takes, gives


def fields(tensors: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """A history may be left out; an axis of one in front, as of a batch, is taken off."""
    known = [port.name for port in ports(signature)[0]]
    for name in tensors:
        if name not in known:
            raise Invalid(
                "there is no such input",
                where=f"inputs.{name[:64]}",
                do=f"this model takes {', '.join(known)}",
            )
    items, responses = vector(tensors, "items"), vector(tensors, "responses")
    if len(items) != len(responses):
        raise Invalid(
            f"has {len(responses)} elements where items has {len(items)}",
            where="inputs.responses",
            do="send a response for each item, in the order of the items",
        )
    return {
        "answers": [
            {"item": item, "response": response}
            for item, response in zip(items, responses, strict=True)
        ],
        "items": vector(tensors, "asked"),
    }


def vector(tensors: Mapping[str, Any], name: str) -> list[Any]:
    value = tensors.get(name, [])
    while type(value) is list and len(value) == 1 and type(value[0]) is list:
        value = value[0]
    if type(value) is not list or list in map(type, value):
        raise Invalid("must be a list", where=f"inputs.{name}", do="send a flat list")
    return value


def tensors(predictions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Each name that predictions have as one array, a prediction a row."""
    columns = {name: [each[name] for each in predictions] for name in predictions[0]}
    return {name: _array(column) for name, column in columns.items()}


def scored(predictions: Sequence[Mapping[str, Any]], signature: Any) -> Scores:
    """Of two categories the second is the positive."""
    if len(predictions[0]["probabilities"]) == 2:
        return Scores("probability", [each["probabilities"][1] for each in predictions])
    p = [each["probabilities"] for each in predictions]
    most = [each["confidence"] for each in predictions]
    return Scores("category", most, list(map(list.index, p, most)))


def features(request: Request, signature: Signature) -> dict[str, float]:
    """answers, asked: how many. right: the mean of RECENT responses, in [0, 1]. unknown: the share of
    items asked that the version does not know."""
    recent, asked = request.answers[-RECENT:], request.items
    found: dict[str, float] = {
        "answers": len(request.answers),
        "asked": len(asked),
        "unknown": 1 - sum(map(signature.rows.__contains__, asked)) / len(asked),
    }
    if recent:
        total = sum(map(RESPONSE, recent))
        found["right"] = total / len(recent) / (signature.categories - 1)
    return found


RESPONSE = operator.itemgetter("response")


def sample(
    request: Mapping[str, Any], place: int, outcome: float, signature: Signature
) -> tuple[str, str]:
    """The outcome of a prediction is the response to the item that was asked."""
    return request["items"][place], str(int(outcome))


def past(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What had been answered before."""
    return [(answer["item"], str(answer["response"])) for answer in request.get("answers") or ()]


def _array(column: list[Any]) -> np.ndarray:
    found = np.array(column, object if type(column[0]) is str else None)
    return found.astype(np.float32) if found.dtype.kind == "f" else found


def _outside(request: Request, signature: Signature) -> Invalid:
    """The complaint about the first answer whose response is no category."""
    first = max(0, len(request.answers) - signature.window)
    place, given = next(
        (place, given)
        for place, given in enumerate(request.answers[first:], first)
        if not 0 <= given["response"] < signature.categories
    )
    return Invalid(
        f"response is {given['response']}, this model knows 0 to {signature.categories - 1}",
        where=f"answers.{place}.response",
        do="send the category's number; the lowest is 0",
    )
