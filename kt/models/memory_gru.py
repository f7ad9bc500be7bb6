"""Memory GRU: the vector that follows in a document, by a recurrent network that reads a learnt memory.

    x_t = L2(input_t)                                          directions alone count
    read(q) = softmax(cos(q, M_i) / T) M                       slots M, found by their content
    h_t = GRU([x_t; read(x_t)], h_{t-1})
    y_t = L2(x_t + W relu(V [h_t; read(U h_t)]))               the next vector, as a step from the last

The GRU is Cho et al. 2014; reading by content with a sharpness is Graves, Wayne and Danihelka 2014: without
it all slots are read nearly alike. Slots are parameters and no user writes to them. The step is not
normalised, so that it may be short, and it begins at nothing: untrained, the model says the last vector
again.

The loss of an event, y against the vector x that followed, both of length 1 in D dimensions:

    |y - x|^2 / D + (1 - y.x) / 2 - alpha log( exp(y.x / tau) / sum over c of exp(y.c / tau) )

whose last term (InfoNCE, van den Oord 2018) tells x from candidates c: the vectors that followed in this batch
and in those before it. It is what Hit@k asks for; cosine alone is learnt by saying what is usual.
"""

import math
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from kt.models import vectors
from kt.models.family import State
from kt.models.vectors import MAX_DIMENSION, Signature

FORM = vectors
TASK = "kt.models.chains"
METRIC = "hit@5/10000"

SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden": 128, "layers": 1, "slots": 64},
    "medium": {"hidden": 256, "layers": 2, "slots": 256},
    "large": {"hidden": 512, "layers": 4, "slots": 2048},
}
# patience and margin: stop when three epochs together gain less than one standard error
RECIPE: dict[str, Any] = {"patience": 3, "margin": 1.0, "batch": 32, "lr": 3e-3}


class Config(BaseModel):
    """Sizes of the network, and what it is trained to; part of the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: Annotated[int, Field(ge=2, le=MAX_DIMENSION)]  # D, of a vector
    window: Annotated[int, Field(ge=1)] = 100  # the most past vectors that are used
    hidden: Annotated[int, Field(ge=1)] = 128  # H, of each layer's state
    layers: Annotated[int, Field(ge=1)] = 1
    slots: Annotated[int, Field(ge=1)] = 64  # of the memory
    temperature: Annotated[float, Field(gt=0)] = 0.1  # of reading, at first: training moves it
    contrast: Annotated[float, Field(ge=0)] = 1.0  # alpha, the weight of InfoNCE
    tau: Annotated[float, Field(gt=0)] = 0.03  # its temperature, at first: training moves it
    negatives: Annotated[int, Field(ge=0, le=4096)] = 512  # from batches before


def signature(config: Config) -> Signature:
    return Signature(dimension=config.dimension, window=config.window)


class Model(nn.Module):
    """B documents, T vectors of D dimensions, H hidden, N slots."""

    PAYS = 10
    SLIDES = False  # what a vector did to h cannot be taken out again

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, H = config.dimension, config.hidden
        self.config = config
        self.memory = nn.Parameter(torch.randn(config.slots, D) / math.sqrt(D))
        self.log_sharpness = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.tau)))  # of InfoNCE alone
        self.recur = nn.GRU(2 * D, H, config.layers, batch_first=True)
        self.query = nn.Linear(H, D)
        self.fuse = nn.Linear(H + D, H)
        self.step = nn.Linear(H, D)
        nn.init.zeros_(self.step.weight)
        nn.init.zeros_(self.step.bias)

    def forward(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) what follows each vector, from it and those before it.

        Padding stands on the right, after every vector that counts, so lengths are not looked at.
        """
        x = F.normalize(vectors, dim=-1)
        h, _ = self.recur(torch.cat([x, self._read(x)], -1))  # (B, T, H)
        return self._next(x, h)

    def serve(self, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """vector (B, D): what follows the last of each document."""
        return self.ask(self.begin(vectors, lengths))

    def begin(self, vectors: Tensor, lengths: Tensor) -> State:
        """hidden (B, layers, H) after these vectors (B, T, D), last (B, D): of each document (B,) so many."""
        if torch.compiler.is_exporting():
            # torch.export writes a GRU of one length only; what stands behind a document changes nothing
            vectors = F.pad(vectors, (0, 0, 0, self.config.window - vectors.shape[1]))
        x = F.normalize(vectors, dim=-1)
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1)
        any_yet = (lengths > 0).view(-1, 1, 1)

        def at_last(each: Tensor) -> Tensor:  # (B, 1, ...)
            return each.gather(1, last.expand(-1, 1, each.shape[2])) * any_yet

        h, hidden = torch.cat([x, self._read(x)], -1), []
        start = x.new_zeros(1, x.shape[0], self.config.hidden)
        # one by one: only of its last layer a GRU tells every h
        for layer in self.recur.all_weights:
            h, _ = torch.gru(h, start, [*layer], True, 1, 0.0, False, False, True)  # (B, T, H)
            hidden.append(at_last(h))
        return {"hidden": torch.cat(hidden, 1), "last": at_last(x).squeeze(1)}

    def advance(self, state: State, vectors: Tensor) -> State:
        """The state after one more vector of each document, (B, D). It goes on for as long as a document
        does: of more vectors than a window it remembers those that serve no longer looks at."""
        x = F.normalize(vectors, dim=-1)
        h, hidden = torch.cat([x, self._read(x)], -1), []
        for layer, before in zip(self.recur.all_weights, state["hidden"].unbind(1), strict=True):
            h = torch.gru_cell(
                h, before, *layer
            )  # (B, H); nn.GRU takes a sixth longer for one event
            hidden.append(h)
        return {"hidden": torch.stack(hidden, 1), "last": x}

    def ask(self, state: State) -> dict[str, Tensor]:
        """What serve gives, within 1e-5."""
        return {"vector": self._next(state["last"], state["hidden"][:, -1])}

    def _next(self, x: Tensor, h: Tensor) -> Tensor:
        """(..., D) from the last vector (..., D) and the state after it (..., H)."""
        recalled = self._read(F.normalize(self.query(h), dim=-1))
        step = self.step(F.relu(self.fuse(torch.cat([h, recalled], -1))))
        return F.normalize(x + step, dim=-1)

    def _read(self, q: Tensor) -> Tensor:
        """(..., D) the slots, weighted by how like they are to q (..., D) of length 1."""
        # the lengths and not the slots are divided by: a slot has D numbers
        scale = self.log_sharpness.exp() / self.memory.norm(dim=-1).clamp(min=1e-12)  # (N,)
        weights: Tensor = (q @ self.memory.T * scale).softmax(-1)  # (..., N)
        return weights @ self.memory


def loss(
    model: Model, vectors: Tensor, lengths: Tensor, candidates: Tensor, documents: Tensor
) -> Tensor:
    """The sum over the events: one for each vector (B, T, D), what follows it.

    candidates (C, D) of documents (C,): what followed, first in the n events of this batch in their order.
    """
    event = torch.arange(vectors.shape[1], device=vectors.device) < lengths.unsqueeze(1)
    y: Tensor = model(vectors, lengths)[event]  # (n, D)
    n, D = y.shape
    cosine = (y * candidates[:n]).sum(-1)
    # between vectors of length 1 the squared distance is 2 - 2 cos
    regression = ((2 / D + 0.5) * (1 - cosine)).sum()
    C = n + model.config.negatives
    # a document's own vectors are near one another, and no bank is full of them: to be told from them
    # costs a tenth of Hit@5
    own = documents[:n].unsqueeze(1) == documents[:C]
    own.fill_diagonal_(False)
    logits = (y @ candidates[:C].T * model.log_scale.exp()).masked_fill(own, -math.inf)
    contrast = F.cross_entropy(logits, torch.arange(n, device=y.device), reduction="sum")
    return regression + model.config.contrast * contrast
