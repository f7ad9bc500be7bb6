"""What the verbs share that train models and score them: what is named on the command line, and what is told."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output

if TYPE_CHECKING:
    from kt.config import Compute
    from kt.models.plots import Picture

Files = Annotated[
    list[Path],
    typer.Option(
        "--data",
        metavar="PATH",
        help="A CSV, a .csv.gz, a .npz or a folder of them; may be given again.",
    ),
]


What = Annotated[
    str,
    typer.Argument(
        metavar="FILE|MODEL@VERSION",
        help="A checkpoint or a version.",
        autocompletion=complete.versions,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="DIR", help="A folder for pictures of it (pip install 'kt[plot]')."
    ),
]


def compute() -> "Compute":
    """Where work for many processes runs: as the workspace says, or here where there is none."""
    from kt import config

    found = options.any_workspace()
    return found.settings.compute if found else config.Compute()


def drawn(folder: Path, *pictures: "Iterator[Picture]") -> list[str]:
    """The files of these pictures, once they are written."""
    from kt.models import plots

    paths = [str(path) for path in plots.write(chain(*pictures), folder)]
    output.step("pictures", ", ".join(paths) or "none: this family has nothing to show on one")
    return paths


def refuse_untrainable(family: Any, name: str) -> None:
    from kt.errors import Invalid
    from kt.models.family import is_trainable

    if not is_trainable(family):
        raise Invalid(
            f"{name} has no TASK, or neither loss nor fit: kt can neither train nor score it",
            do="score it where it was trained; what comes of its live answers, tell kt feedback",
        )


def root() -> Path:
    """Where a family of the user's own is found: the workspace, or here where there is none."""
    found = options.any_workspace()
    return found.root if found else options.here()


def opened(what: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Family, module, signature and record of training of a checkpoint file or of MODEL@VERSION.

    Raises Invalid.
    """
    from kt.registry import register
    from kt.workspace import Workspace

    is_version = "@" in what and not Path(what).exists()
    workspace = options.workspace() if is_version else Workspace(root())
    found, training = register.found(workspace, what)
    return found.family, found.module, found.signature, training


def calibrated(tried: dict[str, Any]) -> str:
    """What calibration came to: platt, ece 0.0612 to 0.0140, brier 0.3010 to 0.2954 on 450 answers."""
    moves = (
        f"{name} {tried['before'][name]:.4f} to {tried['after'][name]:.4f}"
        for name in ("ece", "brier")
    )
    kept = "" if tried["kept"] else ": not kept"
    return f"{tried['method']}, {', '.join(moves)} on {tried['judged_on']:,} held out{kept}"


def warn_of_leaks(leaks: list[dict[str, Any]]) -> None:
    for leak in leaks:
        output.warn(leak["says"])


def warn_of_no_gain(scores: dict[str, Any]) -> None:
    from kt.models import gain

    found = gain.of(scores)
    if found and not found.is_sure:
        output.warn(found.warning)


def lines(summary: dict[str, Any], part: str) -> Iterator[str]:
    """The scores for people: one a line, with its interval; then the references'. part: "test" or so."""
    from kt.models import gain

    width = max(11, *map(len, [*summary["intervals"], *summary.get("references", {})]))
    for name, (low, high) in summary["intervals"].items():
        shown = "undefined" if summary[name] is None else f"{summary[name]:.4f}"
        between = "" if low is None else f"[{low:.4f}, {high:.4f}]"
        yield f"  {name:<{width}} {shown}  {between}".rstrip()
    (fine, many), (whose, few) = summary["counts"].items()
    of = f"{part} {whose}" if part != "all" else whose
    yield f"  {many:,} {fine} of {few:,} {of}, 95 % intervals over {whose}"
    shown_of = dict.fromkeys((summary["metric"], "auc", "nll", "cosine"))  # its own first
    for name, scores in summary.get("references", {}).items():
        values = (f"{key} {scores[key]:.4f}" for key in shown_of if scores.get(key) is not None)
        yield f"  {name:<{width}} {'  '.join(values)}"
    if found := gain.of(summary):
        yield f"  {'gain':<{width}} {found}"
