"""What every event of every journal holds. Pure: a room says what can happen in it.

History is truth, so an event is never changed and its fields are never removed; a reader keeps what it
does not know. `seq`, `at`, `by` and `prev` (the digest of the event before) are added when it is appended.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LONGEST = 3_650 * 86_400  # seconds that anything may last: a date much further ahead is none
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


def check_time(at: str) -> str:
    datetime.fromisoformat(at)  # raises ValueError: a 31st of February
    return at


Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"), AfterValidator(check_time)
]


class Part(BaseModel):
    """Of an event: an older kt reads what a newer one has added."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="allow", allow_inf_nan=False, defer_build=True
    )


class Base(Part):
    seq: int = Field(ge=1)
    at: Time  # shown, never used for order
    by: str
    reason: str = ""
    prev: str = Field(pattern=r"^([0-9a-f]{64})?$")  # empty in the first event


class Impossible(ValueError):
    """An event that cannot follow those before it."""


def appended(event: Base, *first: str) -> dict[str, Any]:
    """An event as it is appended, in reading order: when, who, `first`, what. Number and chain are the journal's."""
    values = event.model_dump(mode="json")
    head = {key: values.pop(key) for key in ("at", "by", *first, "kind")}
    return head | {key: value for key, value in values.items() if key not in ("seq", "prev")}
