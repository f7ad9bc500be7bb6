"""What a family is: an architecture, how it is trained, and what a request to it looks like.

A family is one file that holds the names of `Family`. What its requests and answers look like is its
form: a second module, without torch, that families share (`kt/models/tracing.py` for knowledge
tracing), so that a process that runs exported weights need not import torch.

Arrays cross the border between the two by name. `Form.collate` makes them of requests, the model's
`serve` makes outputs of them, `Form.answer` makes answers of those.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from pydantic import BaseModel

from kt.stats.scored import Scores

if TYPE_CHECKING:
    import torch

Arrays = Mapping[str, np.ndarray]  # by name; the first axis of each is the request

FEATURES = 8  # of a request, that are watched


class Port(NamedTuple):
    """A tensor by which a client that speaks in tensors talks to a form.

    dtype: numpy's name of it, or "text". shape: -1 for an axis of any length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


class Form(Protocol):
    """What the requests of a family look like: a module, without torch.

    Signature: what a version expects and gives (vocabulary, categories, window); part of the version.
    Request: the JSON body of one prediction.
    UNIT: the field of Request that names the unit, who stays with a variant.
    PROBABILITIES: the outputs whose last axis lies in [0, 1] and sums to one.
    STACKS: whether the rows of a table are stacked into the tensors of one request, rather than
        each being a request.

    ports, fields and tensors are the form as protocols see it that know nothing but tensors.
    PAST, what a prediction rests on in words, unlike, alike and population are what gates ask; a form of
    whose requests nothing is known has none of them.
    scored and features are what monitoring sees of each answer; a form may lack them. They stand in
    a request's way: a few microseconds.
    SAMPLE, NEEDS, sample and past are how outcomes of logged requests become data to learn from; a form of
    which nobody learns has none of them, and past is for those whose units have one.
        SAMPLE: the columns of a line of data, the unit's first. NEEDS: the fields of a request without
        which there is none.
    """

    Signature: type[BaseModel]
    Request: type[BaseModel]
    UNIT: str
    PROBABILITIES: tuple[str, ...]
    STACKS: bool
    PAST: str
    SAMPLE: tuple[str, ...]
    NEEDS: tuple[str, ...]

    def collate(self, requests: Sequence[Any], signature: Any) -> Arrays:
        """Requests as arrays. Raises Invalid, naming the field, where one does not fit the signature."""

    def answer(
        self, outputs: Arrays, requests: Sequence[Any], signature: Any
    ) -> list[list[dict[str, Any]]]:
        """Each request's predictions, ready for JSON; `confidence` in [0, 1] where the form has one."""

    def narrower(self, old: Any, new: Any) -> str:
        """What the old signature takes and the new one does not, as a clause; empty where nothing."""

    def example(self, signature: Any, rng: np.random.Generator, count: int) -> list[Any]:
        """Requests drawn from the signature, from the shortest to the longest it allows."""

    def unlike(self, signature: Any, rng: np.random.Generator) -> list[tuple[Any, Any]]:
        """Pairs of requests whose histories differ so much that not all first predictions can agree."""

    def alike(self, signature: Any, rng: np.random.Generator) -> list[tuple[Any, Any]]:
        """Pairs of requests that differ beside the point: their first predictions must agree."""

    def population(self, signature: Any, rng: np.random.Generator, count: int) -> list[Any]:
        """Requests of so many units as unlike as people are, all asked about the same thing first."""

    def ports(self, signature: Any) -> tuple[list[Port], list[Port]]:
        """The tensors of a request and those of an answer, which may have more."""

    def fields(self, tensors: Mapping[str, Any], signature: Any) -> dict[str, Any]:
        """The JSON of the request that these are, each a nested list. Raises Invalid."""

    def tensors(self, predictions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """The predictions of one request as arrays; text as arrays of objects."""

    def scored(self, predictions: Sequence[Mapping[str, Any]], signature: Any) -> Scores:
        """The one number of each prediction of an answer that outcomes are compared with."""

    def features(self, request: Any, signature: Any) -> dict[str, float]:
        """Numbers of a request whose drift is watched, FEATURES at most."""

    def sample(
        self, request: Mapping[str, Any], place: int, outcome: float, signature: Any
    ) -> tuple[str, ...]:
        """The line of data, but for its unit, that an outcome makes of the prediction at `place`. request:
        the fields that were logged, as JSON."""

    def past(self, request: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Such lines of what came before a request."""


class Family(Protocol):
    """An architecture: a module, `kt/models/<name>.py` or a dotted path of the user's own.

    Config: the architecture's settings; part of the version.
    Model: built by Model(config); `serve(**tensors)` takes collate's arrays as tensors and returns
        the named outputs. It is all that an engine runs.
    FORM: the family's form.
    METRIC: the score that training stops on and the regression gate compares ("auc", "nll", ...).
    BLIND: True where it looks at no history on purpose; otherwise a gate refuses that.
    """

    Config: type[BaseModel]
    Model: type["torch.nn.Module"]
    FORM: Form
    METRIC: str

    def signature(self, config: Any) -> BaseModel:
        """The signature of a version whose checkpoint brings none (a bare state dict)."""


def problem(outputs: Arrays, probabilities: Sequence[str], tolerance: float = 1e-3) -> str:
    """What is wrong with a model's outputs, as a clause; empty where they are finite and in range."""
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            return f"{name} is not finite"
        if name in probabilities:
            if array.min(initial=0.0) < -tolerance or array.max(initial=0.0) > 1 + tolerance:
                return f"{name} lies outside 0 to 1"
            if array.size and np.abs(array.sum(-1) - 1).max() > tolerance:
                return f"{name} does not sum to one"
    return ""


Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor, torch.Tensor]"
"""Of knowledge tracing: items and responses (B, T), padded on the right, and lengths (B,)."""


State: TypeAlias = "Mapping[str, torch.Tensor]"
"""What a model keeps of histories, by name; the first axis of each is the student."""


class Incremental(Protocol):
    """A Model that keeps a history as a state: one more event costs the same after any number.

    A state stands for the last `window` events, as if there had been none before them, and takes no
    more room however many there were. It is never written to: any number of requests may go on from it.
    None of the three looks at what is in a tensor to decide what to do; a state of a full window may hold more.

    Events are told as the form's HISTORY names them: here the answers of knowledge tracing.

    PAYS: events from which a step costs less than serve does, as measured.
    SLIDES: whether the oldest event of a full window leaves it as another enters. Where not, a state
        stands for all events since its beginning, and none goes on beyond the window.
    """

    PAYS: int
    SLIDES: bool

    def begin(
        self, items: "torch.Tensor", responses: "torch.Tensor", lengths: "torch.Tensor"
    ) -> State:
        """The state after these answers, (B, T), of which each student gave (B,) so many, at most the window."""

    def advance(self, state: State, items: "torch.Tensor", responses: "torch.Tensor") -> State:
        """The state after one more answer of each student, (B,)."""

    def ask(self, state: State, asked: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """What serve gives for the items asked (B, M), within 1e-5."""


def is_incremental(model: type) -> bool:
    """Whether a Model is an Incremental. What it inherits from one whose serve it replaces does not count."""

    def owner(name: str) -> type | None:
        return next((one for one in model.__mro__ if name in vars(one)), None)

    return hasattr(model, "advance") and owner("advance") is owner("serve")


class Trainable(Family, Protocol):
    """A family that `kt train` can train: Stepwise or Fitted.

    TASK: what it learns, the dotted path of a `models.task.Task`. Of "kt.models.answers", knowledge
        tracing, are those whose Config takes items, categories and window and whose
        Model.forward(items, responses, lengths) gives the logits (B, T, K) of every event of a batch,
        each from the events before it, equal to serve's at the same place.
    SIZES: named settings of Config, for `--size`; may be none.
    RECIPE, if it has one: its own defaults of `models.run.Options`.
    items(model), if it has it: the parameters of its items (`models/items.py`).
    versions(), if it has it: what its numbers rest on beside torch, {name: version}.
    """

    TASK: str
    SIZES: Mapping[str, Mapping[str, Any]]


class Stepwise(Trainable, Protocol):
    """Trained down a gradient, until the validation units say stop.

    prepare(model, batches), if it has one: what is known before the first step, from all training data;
        batches as in Fitted.fit.
    """

    def loss(self, model: Any, *tensors: "torch.Tensor") -> "torch.Tensor":
        """The sum (not the mean) of the loss over the events of a step; its task says what tensors."""


@runtime_checkable
class Fitted(Trainable, Protocol):
    """Found at once from all training data, in seconds, by the same arithmetic each time."""

    def fit(self, model: Any, batches: Sequence[Any]) -> None:
        """Fill the model's parameters, those of what is unknown too. batches: the tensors of each step."""


def is_trainable(family: Any) -> bool:
    return hasattr(family, "TASK") and (hasattr(family, "loss") or hasattr(family, "fit"))
