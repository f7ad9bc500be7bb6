"""Requests through a version: each one's predictions, or why it has none."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from kt import http
from kt.errors import KtError
from kt.models import family
from kt.predictor.aside import Overrun
from kt.predictor.engine import Engine
from kt.predictor.states import Remembering

Predictions = list[dict[str, Any]]


class Nonsense(Exception):
    """A model's outputs are no answer."""


def validated(engine: Engine, fields: dict[str, Any]) -> Any:
    """The form's request. Raises Invalid with the first bad field."""
    try:
        return validation(engine.form.Request)(fields)
    except ValidationError as error:
        raise http.first_problem(error) from None


@lru_cache(64)
def validation(request: type[BaseModel]) -> Callable[[Any], Any]:
    """What model_validate calls, at three fifths of its cost."""
    return TypeAdapter(request).validator.validate_python


def run(engine: Engine, requests: Sequence[Any]) -> list[Predictions | Exception]:
    """Requests through an engine as one batch; each by itself where that fails, so that one bad
    request spoils no other. Nonsense where the outputs are not finite or not in range."""
    try:
        arrays = engine.form.collate(requests, engine.signature)
        outputs = (
            engine.resume(arrays, [getattr(one, engine.form.UNIT, None) for one in requests])
            if isinstance(engine, Remembering)
            else engine.run(arrays)
        )
        if wrong := family.problem(outputs, engine.form.PROBABILITIES):
            raise Nonsense(wrong)
        return list(engine.form.answer(outputs, requests, engine.signature))
    except Exception as error:  # noqa: BLE001  # handed to the caller, who decides
        if len(requests) == 1:
            return [error]
    return [run(engine, [request])[0] for request in requests]


def explain(error: Exception) -> tuple[str, str]:
    """The kind of a version's failure (failed, invalid or slow), and a clause that says it."""
    match error:
        case Overrun():
            return "slow", f"took too long: {error}"
        case Nonsense():
            return "invalid", f"gave no answer: {error}"
        case KtError():
            return "failed", "refused the request"
        case _:
            return "failed", f"failed: {type(error).__name__}"
