"""kt key: the API keys of this workspace's predictor, and the secret that signs prediction ids."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json, Quiet

if TYPE_CHECKING:
    from kt.workspace import Workspace

ACTIONS = ("new", "list", "revoke", "rotate")


def key(
    action: Annotated[str, typer.Argument(metavar="new|list|revoke|rotate", help="What to do.")],
    name: Annotated[str, typer.Argument(metavar="[ID]", help="The key to revoke.")] = "",
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="R", help="predict, feedback or read; several by several."),
    ] = None,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="Whose it is, or what for.")
    ] = "",
    days: Annotated[
        int | None,
        typer.Option(
            "--days",
            metavar="N",
            min=1,
            max=36_500,
            help="How long it holds; without, until revoked.",
        ),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """API keys: make, list and revoke them. A running predictor follows within a second.

    rotate is for the secret that signs prediction ids: the old one is kept for as long as outcomes may
    come (store.horizon) and rows of units be found by it (kt privacy). Units count as others afterwards,
    so do it between experiments.

    Example: kt key new --role predict --note "the web app"
    """
    from kt.errors import Invalid

    workspace = options.workspace()
    match action:
        case "new":
            make(workspace, role or ["predict"], note, days)
        case "list":
            show(workspace)
        case "revoke":
            revoke(workspace, name)
        case "rotate":
            rotate(workspace)
        case _:
            raise Invalid(
                f"there is no kt key {action[:40]}", do=f"choose from: {', '.join(ACTIONS)}"
            )


def make(workspace: "Workspace", roles: list[str], note: str, days: int | None) -> None:
    from datetime import timedelta

    from kt import clock
    from kt.predictor import keys as room

    now = clock.now()
    expires = output.iso(now + timedelta(days=days)) if days else None
    with changing(workspace) as path:
        changed, text, made = room.new(room.read(path), roles, note, output.iso(now), expires)
        room.write(path, changed)
    may, back = ", ".join(made.roles), f"kt key revoke {made.id}"
    output.emit(
        {"id": made.id, "key": text, "roles": made.roles, "expires_at": expires},
        [text, f"Keep it: it is shown once.  It may {may}.  Take it back: {back}"],
    )


def show(workspace: "Workspace") -> None:
    from kt import clock
    from kt.predictor import keys as room

    path, now = keys_file(workspace), output.iso(clock.now())
    held = room.read(path).keys
    cells = [
        (
            known.id,
            ", ".join(known.roles),
            "yes" if known.holds(now) else "no",
            known.created_at,
            known.expires_at or "-",
            known.revoked_at or "-",
            known.note,
        )
        for known in held
    ]
    headers = ("ID", "ROLES", "HOLDS", "CREATED", "EXPIRES", "REVOKED", "NOTE")
    text = output.table(headers, cells) if cells else "there are no keys: kt key new"
    output.emit({"file": path, "keys": [known.model_dump(mode="json") for known in held]}, text)


def revoke(workspace: "Workspace", name: str) -> None:
    from kt import clock
    from kt.errors import Invalid
    from kt.predictor import keys as room

    if not name:
        raise Invalid("name the key to revoke", do="see them: kt key list")
    now = output.iso(clock.now())
    with changing(workspace) as path:
        room.write(path, room.revoke(room.read(path), name, now))
    output.emit({"id": name, "revoked_at": now}, f"{name} is revoked")


def keys_file(workspace: "Workspace") -> Path:
    return workspace.root / workspace.settings.predictor.keys


@contextmanager
def changing(workspace: "Workspace") -> Iterator[Path]:
    """The file of the keys, for one command at a time: of two that read it the second would take back what the
    first has written. Not the workspace's lock: a key is revoked in the middle of a git merge too."""
    from kt import locks
    from kt.errors import Unavailable

    wait, words = workspace.settings.lock_wait, f"kt key, process {os.getpid()}"
    with locks.holding(workspace.local / "keys", words, wait) as holder:
        if holder:
            raise Unavailable(f"the keys are being changed by {holder}", do="run this again")
        yield keys_file(workspace)


def rotate(workspace: "Workspace") -> None:
    """A new secret for prediction ids; the old one is kept as long as it is needed."""
    from datetime import timedelta

    from kt import change, clock
    from kt.store import secret
    from kt.store.rollup import KEEP

    needed = max(*workspace.settings.store.kept, timedelta(minutes=KEEP))
    with change.locked(workspace, "key rotate"):
        changed = secret.rotate(secret.read(workspace.root), clock.now(), needed)
        secret.write(workspace.root, changed)
    ids = [key.id for key in changed.keys]
    output.emit(
        {"file": workspace.root / secret.FILE, "signs": ids[-1], "reads": ids},
        f"key {ids[-1]} signs prediction ids now; it and {len(ids) - 1} before it are read."
        f"  Copy {secret.FILE} to every machine that serves this workspace.",
    )
