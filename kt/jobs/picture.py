"""A backtest as a picture: the score over time with what was trained anew, and without."""

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from kt import files
from kt.errors import Invalid
from kt.jobs.hindsight import Retraining

FORMATS = (".png", ".svg", ".pdf")
BROAD: dict[str, Any] = {
    "color": "0.75",
    "linewidth": 6,
    "solid_capstyle": "butt",
}  # seen below another line
MARKS = {  # of what a training came to
    "takes over": ("^", ("first", "better")),
    "not better": ("o", ("kept",)),
    "failed": ("x", ("failed",)),
}


def require(path: Path) -> None:
    """Raises Invalid where it cannot be drawn: asked before the work, not after it."""
    from kt.models import plots

    plots.require()
    if path.suffix not in FORMATS:
        raise Invalid(
            f"{path.name} is no picture", where="--plot", do=f"name it {', '.join(FORMATS)}"
        )


def write(job: str, began: str, retrainings: Sequence[Retraining], path: Path) -> None:
    """Each stretch between two retrainings is a line, as high as the score on what came in it.

    began: the version that was active at the beginning; empty where the first training made it.
    """
    from kt.models import plots

    known = [(one, one.gain) for one in retrainings if one.gain]
    figure, (axes,) = plots.sheet(f"Backtest of {job}", 1)
    figure.set_size_inches(9, 4.2)
    for one, gain in known:
        ends = times(one.at, one.until)
        axes.plot(ends, [gain.first] * 2, **BROAD)
        axes.plot(ends, [gain.after] * 2, color="C0", linewidth=2)
    if known:
        axes.set(ylabel=f"{known[0][1].metric} on what came next")
        axes.plot([], [], color="C0", linewidth=2, label="with retraining")
        axes.plot([], [], **BROAD, label=f"{began or 'the first'} alone")
    for meaning, (mark, outcomes) in MARKS.items():
        here = [(one.at, gain.after) for one, gain in known if one.outcome in outcomes]
        if here:
            at, heights = zip(*here, strict=True)
            axes.plot(times(*at), heights, mark, color="C0", label=meaning, markersize=8)
    if known:
        figure.legend(loc="outside right upper", frameon=False)
    figure.autofmt_xdate()
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:], dpi=150)
    files.write_whole(path, image.getvalue())


def times(*at: datetime) -> np.ndarray:
    """As matplotlib takes them."""
    return np.array([one.replace(tzinfo=None) for one in at], "datetime64[s]")
