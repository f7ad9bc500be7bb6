"""What training and evaluation look like, as pictures: `kt train --plot DIR`, `kt evaluate --plot DIR`.

    learning.png      loss and metric of each epoch
    reliability.png   what was predicted against what came true, with what chance does to a perfect model
    roc.png           of two categories
    items.png         what the items most asked expect of each ability
    ability.png       how some students' ability moved from answer to answer

A picture is left out where a model has nothing to show on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kt.errors import Invalid
from kt.files import write_whole
from kt.models import tracing
from kt.models.data import Data
from kt.models.metrics import Categorical
from kt.models.simulate import probabilities
from kt.models.tracing import Answer, Request

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 15
ITEMS = 8  # curves that can be told apart
STUDENTS = 6
ANSWERS = 100  # of a student's history
REACH = 4.0  # abilities shown, either way

Picture = tuple[str, "Figure"]  # the file's name, without its ending


def require() -> None:
    """Raises Invalid where pictures cannot be drawn: asked before the work, not after it."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise Invalid(
            "pictures need matplotlib", where="--plot", do="pip install 'kt[plot]'"
        ) from error


def write(pictures: Iterator[Picture], folder: Path) -> list[Path]:
    """PNG files in the folder, which is made for the first. Raises Unavailable where the disk refuses."""
    import io

    paths = []
    for name, figure in pictures:
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=150)
        paths.append(folder / f"{name}.png")
        write_whole(paths[-1], image.getvalue())
    return paths


def learnt(history: Sequence[Any], metric: str) -> Iterator[Picture]:
    """history: models.run.Epoch, of more than one epoch."""
    if len(history) < 2:
        return
    from matplotlib.ticker import MaxNLocator

    figure, (left, right) = sheet("Learning", 2)
    number = [epoch.number for epoch in history]
    left.plot(number, [epoch.loss for epoch in history], color="C0")
    left.set(xlabel="epoch", ylabel="loss, training")
    right.plot(number, [epoch.metric for epoch in history], color="C1")
    best = [epoch for epoch in history if epoch.best][-1]
    right.plot(best.number, best.metric, "o", color="C1")
    right.annotate(
        f"{best.metric:.4f}",
        (best.number, best.metric),
        (0, 8 if best.metric >= history[0].metric else -16),  # where the curve does not come from
        textcoords="offset points",
        ha="center",
    )
    right.margins(y=0.15)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    right.set(xlabel="epoch", ylabel=f"{metric}, validation")
    yield "learning", figure


def predicted(found: Any) -> Iterator[Picture]:
    """found: models.metrics.Predicted; only what has categories is drawn."""
    if not isinstance(found, Categorical):
        return
    p, outcomes = found.probabilities, found.outcomes
    if p.shape[1] == 2:
        yield reliability(p[:, 1], outcomes == 1, "predicted probability", "share that came true")
        if 0 < outcomes.sum() < len(outcomes):
            yield roc(p[:, 1], outcomes == 1)
    else:
        likeliest = p.argmax(1)
        yield reliability(p.max(1), likeliest == outcomes, "confidence", "share that was right")


def reliability(p: np.ndarray, right: np.ndarray, across: str, up: str) -> Picture:
    """p, right: (n,). The band holds 95 % of what a perfect model's bin would show."""
    cell = np.minimum((p * BINS).astype(int), BINS - 1)
    count = np.bincount(cell, minlength=BINS)
    some = count > 0
    mean = np.bincount(cell, p, BINS)[some] / count[some]
    share = np.bincount(cell, right, BINS)[some] / count[some]
    chance = 1.96 * np.sqrt(mean * (1 - mean) / count[some])
    figure, (axes, below) = sheet("Reliability", 2)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.fill_between(
        mean,
        (mean - chance).clip(0),
        (mean + chance).clip(max=1),
        color="0.85",
        label="chance, 95 %",
    )
    axes.plot(mean, share, "o-", color="C0", markersize=4, clip_on=False)
    gap = float((count[some] * np.abs(share - mean)).sum() / count.sum())
    axes.set(
        xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1), title=f"ece {gap:.4f}, n = {len(p):,}"
    )
    axes.legend(loc="upper left", frameon=False)
    below.bar((np.arange(BINS) + 0.5) / BINS, count, 0.9 / BINS, color="C0")
    below.set(xlabel=across, ylabel="predictions", xlim=(0, 1))
    return "reliability", figure


def roc(p: np.ndarray, right: np.ndarray) -> Picture:
    order = np.argsort(-p, kind="stable")
    last = np.append(np.diff(p[order]) != 0, True)  # of those that are predicted alike
    hits = np.concatenate([[0.0], right[order].cumsum()[last] / right.sum()])
    false = np.concatenate([[0.0], (~right[order]).cumsum()[last] / (~right).sum()])
    figure, (axes,) = sheet("ROC", 1)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot(false, hits, color="C0")
    axes.set(
        xlabel="share of the wrong taken for right",
        ylabel="share of the right found",
        xlim=(0, 1),
        ylim=(0, 1),
        title=f"auc {float(np.trapezoid(hits, false)):.4f}",
    )
    return "roc", figure


def traced(model: torch.nn.Module, signature: Any, data: Any) -> Iterator[Picture]:
    """The pictures of knowledge tracing, of a model whose answers have an ability or an item's parameters."""
    if not isinstance(data, Data) or not isinstance(signature, tracing.Signature):
        return
    asked = [data.names[place] for place in np.argsort(-np.bincount(data.items))[:ITEMS]]
    about = answered(model, signature, [Request(answers=[], items=asked)])
    if "discrimination" in about and "steps" in about:
        yield characteristic(asked, {name: about[name][0] for name in ("discrimination", "steps")})
    if "ability" in about:
        yield ability(model, signature, data)


def characteristic(items: Sequence[str], about: Mapping[str, np.ndarray]) -> Picture:
    """The mean response that each item expects of each ability. discrimination: (M,), steps: (M, K - 1)."""
    theta = np.linspace(-REACH, REACH, 161)
    figure, (axes,) = sheet("Items", 1)
    for item, alpha, beta in zip(items, about["discrimination"], about["steps"], strict=True):
        p = probabilities(theta, np.full(len(theta), alpha), np.tile(beta, (len(theta), 1)))
        axes.plot(theta, p @ np.arange(p.shape[1]), label=item[:16])
    axes.set(xlabel="ability", ylabel="expected response", xlim=(-REACH, REACH))
    beside(axes, "item")
    return "items", figure


def ability(model: torch.nn.Module, signature: tracing.Signature, data: Data) -> Picture:
    """After each answer of the students who gave most, on the item that is asked most."""
    figure, (axes,) = sheet("Ability", 1)
    often = data.names[int(np.bincount(data.items).argmax())]
    lengths = np.diff(data.offsets)
    for place in np.argsort(-lengths, kind="stable")[:STUDENTS]:
        begin = data.offsets[place]
        events = range(begin, begin + min(int(lengths[place]), ANSWERS))
        answers = [
            Answer(item=data.names[data.items[e]], response=int(data.responses[e])) for e in events
        ]
        requests = [Request(answers=answers[:n], items=[often]) for n in range(len(answers) + 1)]
        told = answered(model, signature, requests)["ability"][:, 0]
        axes.plot(told, label=data.students[place][:16], linewidth=1)
    axes.set(xlabel="answers", ylabel="ability")
    beside(axes, "student")
    return "ability", figure


def beside(axes: "Axes", title: str) -> None:
    """The legend at the right of the axes: curves of everywhere leave no room among them."""
    axes.legend(
        title=title, frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1)
    )


def answered(
    model: torch.nn.Module, signature: tracing.Signature, requests: Sequence[Request]
) -> dict[str, np.ndarray]:
    arrays = tracing.collate(requests, signature)
    serve: Any = model.serve
    with torch.inference_mode():
        outputs = serve(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def sheet(title: str, columns: int) -> tuple["Figure", "Sequence[Axes]"]:
    """A figure of its own, not pyplot's: nothing global, no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * columns, 4.2), layout="constrained")
    figure.suptitle(title)
    axes = [figure.add_subplot(1, columns, place + 1) for place in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes
