"""kt key: the API keys of this workspace's predictor, and the secret that signs prediction ids."""

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
            "--days", metavar="N", min=1, help="How long it holds; without, until revoked."
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
    from datetime import timedelta

    from kt import clock
    from kt.errors import Invalid
    from kt.predictor import keys as room

    workspace = options.workspace()
    if action == "rotate":
        rotate(workspace)
        return
    path = workspace.root / workspace.settings.predictor.keys
    now = clock.now()
    held = room.read(path)
    if action == "list":
        rows = [known.model_dump(mode="json") for known in held.keys]
        cells = [
            (
                known.id,
                ", ".join(known.roles),
                "yes" if known.holds(output.iso(now)) else "no",
                known.created_at,
                known.expires_at or "-",
                known.revoked_at or "-",
                known.note,
            )
            for known in held.keys
        ]
        headers = ("ID", "ROLES", "HOLDS", "CREATED", "EXPIRES", "REVOKED", "NOTE")
        text = output.table(headers, cells) if cells else "there are no keys: kt key new"
        output.emit({"file": path, "keys": rows}, text)
        return
    if action == "new":
        expires = output.iso(now + timedelta(days=days)) if days else None
        changed, text, made = room.new(held, role or ["predict"], note, output.iso(now), expires)
        room.write(path, changed)
        output.emit(
            {"id": made.id, "key": text, "roles": made.roles, "expires_at": expires},
            [
                text,
                f"Keep it: it is shown once.  It may {', '.join(made.roles)}.  Take it back: kt key revoke {made.id}",
            ],
        )
        return
    if action == "revoke":
        if not name:
            raise Invalid("name the key to revoke", do="see them: kt key list")
        room.write(path, room.revoke(held, name, output.iso(now)))
        output.emit({"id": name, "revoked_at": output.iso(now)}, f"{name} is revoked")
        return
    raise Invalid(f"there is no kt key {action[:40]}", do=f"choose from: {', '.join(ACTIONS)}")


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
