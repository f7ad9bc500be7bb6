"""What a function of your own gives, row by row. A sample is a row, a mapping whose keys are the columns of `kt train`.

    def nightly():                      # in answers.py, in the workspace
        for answer in fetch():
            yield {"student_id": answer.who, "item": answer.item, "response": answer.right}

    [[jobs.nightly.data]]
    name = "function"
    call = "answers.nightly"

It is called in the workspace's folder, whenever somebody looks whether the job is due, and then again to train:
rows in time order, the same ones first. A source that can count for less is a module of its own, with the names that this one has.
"""

import contextlib
import csv
from collections.abc import Generator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from kt import plugins
from kt.errors import Invalid, Unavailable
from kt.workspace import Workspace


class Settings(BaseModel, extra="forbid"):
    call: str = Field(pattern=rf"^{plugins.DOTTED}\.[A-Za-z_]\w*$")  # module and function


def collect(workspace: Workspace, settings: Settings, folder: Path) -> list[Path]:
    """Its rows, as a file in `folder`. Raises Invalid or Unavailable."""
    path = folder / "function.csv"
    columns: list[str] = []
    with path.open("w", newline="") as file, contextlib.closing(rows(workspace, settings)) as given:
        out = csv.writer(file)
        for row in given:
            if not columns:
                columns = list(row)
                out.writerow(columns)
            if row.keys() != set(columns):
                raise Invalid(
                    f"{settings.call} gives rows of {', '.join(row)} and of {', '.join(columns)}",
                    do="let all its rows have the same names",
                )
            out.writerow([row[name] for name in columns])
    if not columns:
        raise Invalid(
            f"{settings.call} gives no rows",
            do="let it give the rows to learn from, or wait until there are some",
        )
    return [path]


def count(workspace: Workspace, settings: Settings) -> int:
    return sum(1 for _ in rows(workspace, settings))


def new(workspace: Workspace, settings: Settings, before: int, since: datetime | None) -> int:
    return max(0, count(workspace, settings) - before)


def rows(workspace: Workspace, settings: Settings) -> Generator[Mapping[str, Any], None, None]:
    """What the function gives. Raises Invalid where it is none, or gives no mappings; Unavailable where it fails."""
    module, _, name = settings.call.rpartition(".")
    function = getattr(plugins.load_own(module, workspace.root), name, None)
    if not callable(function):
        raise Invalid(
            f"{module} has no function {name}",
            where="kt.toml, call of a function",
            do='write the function there, or mend its name: call = "module.function"',
        )
    try:
        with contextlib.chdir(workspace.root):
            for row in function():
                if not isinstance(row, Mapping):
                    raise Invalid(
                        f"{settings.call} gives {type(row).__name__}, no mapping",
                        do="let it give dicts of the same names, one a row",
                    )
                yield row
    except Invalid:
        raise
    except Exception as error:
        raise Unavailable(
            f"{settings.call} failed: {type(error).__name__}: {str(error)[:200]}",
            do="mend it, and try it: kt retrain --check",
        ) from error
