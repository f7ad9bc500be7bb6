"""What a model gains over the references fitted beside it, as its scores tell. No torch here."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Name = Annotated[str, Field(pattern=r"^[\w@/]{1,40}$")]


class Gain(BaseModel):
    """The difference in one score from the best reference, above zero where the model is better.

    low, high: its 95 % interval over students, both scored on the same draws of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metric: Name
    over: Name  # the reference
    value: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        return self.low > 0

    def __str__(self) -> str:
        value, low, high, how = self.value, self.low, self.high, "better"
        if value < 0:
            value, low, high, how = -value, -high, -low, "worse"
        return f"{self.metric} {how} by {value:.4f} [{low:z.4f}, {high:z.4f}] than {self.over}"

    @property
    def warning(self) -> str:
        """What to say where the gain is not sure."""
        return f"no gain over {self.over}, which kt train fits in seconds: {self}"


def best_of(values: Mapping[str, float], higher_is_better: bool) -> str | None:
    """The reference with the best score; None where no score is defined."""
    defined = {name: value for name, value in values.items() if math.isfinite(value)}
    if not defined:
        return None
    return max(defined, key=lambda name: defined[name] if higher_is_better else -defined[name])


def of(scores: Mapping[str, Any]) -> Gain | None:
    """The gain that a record or a checkpoint tells of; None where it tells of none."""
    try:
        return Gain.model_validate(scores["gain"])
    except (KeyError, ValidationError):
        return None
