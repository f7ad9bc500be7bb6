"""What the shell completes: models, versions and experiments. Reads names, loads nothing heavy.

A completion that fails completes nothing: a person who types has not asked for an error.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kt.cli import output
from kt.errors import KtError

if TYPE_CHECKING:
    from kt.workspace import Workspace


@contextmanager
def as_asked() -> Iterator[None]:
    """Bash takes `m@v1` for three words, and puts what is completed in the place of `@v1` alone."""
    typed = os.environ.get("COMP_WORDS", "").split("\n")
    if os.environ.get("_KT_COMPLETE") != "complete_bash" or "@" not in typed:
        yield
        return
    words, before = joined(typed[: int(os.environ["COMP_CWORD"]) + 1])
    os.environ.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines():
            output.write(line.removeprefix(before))


def joined(typed: Sequence[str]) -> tuple[list[str], str]:
    """What was split at each @, put together; and what of the last word bash leaves as it is."""
    words, before, after_at = [""], "", True
    for word in typed:
        before = words[-1].removesuffix("@") if word == "@" or after_at else ""
        if word == "@" or after_at:
            words[-1] += word
        else:
            words.append(word)
        after_at = word == "@"
    return words, before


def names(
    context: typer.Context, incomplete: str, of: "Callable[[Workspace], list[str]]"
) -> list[str]:
    from kt import workspace

    chosen = context.find_root().params.get("workspace") or ""
    try:
        found = of(workspace.find(Path.cwd(), chosen))
    except (KtError, OSError):
        return []
    return [name for name in found if name.startswith(incomplete)]


def models(context: typer.Context, incomplete: str) -> list[str]:
    from kt.registry import record

    return names(context, incomplete, record.models)


def versions(context: typer.Context, incomplete: str) -> list[str]:
    """MODEL@VERSION, the newest first."""
    from kt.registry import record

    def of(workspace: "Workspace") -> list[str]:
        return [
            f"{model}@{version}"
            for model in record.models(workspace)
            for version in reversed(record.versions(workspace, model))
        ]

    return names(context, incomplete, of)


def past(context: typer.Context, incomplete: str) -> list[str]:
    """Versions that a rollback may go to: those that were active, the last one first."""
    from kt.deployments import audit

    def of(workspace: "Workspace") -> list[str]:
        _, state = audit.read(workspace)
        wanted = context.params.get("model") or workspace.settings.model
        held = [
            held
            for model, serving in state.models.items()
            if not wanted or model == wanted
            for held in serving.past.values()
            if serving.active and held.version != serving.active.version
        ]
        return [one.version for one in sorted(held, key=lambda one: -one.seq)]

    return names(context, incomplete, of)


def experiments(context: typer.Context, incomplete: str) -> list[str]:
    from kt.deployments import audit

    def of(workspace: "Workspace") -> list[str]:
        _, state = audit.read(workspace)
        return [held.experiment.name for held in state.models.values() if held.experiment]

    return names(context, incomplete, of)


def courses(context: typer.Context, incomplete: str) -> list[str]:
    """Experiments that run or have ended, the latest first, and what else kt experiment takes."""
    from kt.deployments import audit
    from kt.deployments.courses import courses as told

    def of(workspace: "Workspace") -> list[str]:
        book, _ = audit.read(workspace)
        return ["list", "plan", *dict.fromkeys(one.name for one in reversed(told(book.events)))]

    return names(context, incomplete, of)


def jobs(context: typer.Context, incomplete: str) -> list[str]:
    return names(context, incomplete, lambda workspace: list(workspace.settings.jobs))


def mastery(context: typer.Context, incomplete: str) -> list[str]:
    return names(context, incomplete, lambda workspace: list(workspace.settings.mastery))
