"""kt privacy: what the tables hold of one unit, and that it is erased."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json, Quiet

ACTIONS = ("find", "erase")


def privacy(
    action: Annotated[str, typer.Argument(metavar="find|erase", help="What to do.")],
    unit: Annotated[
        str, typer.Argument(metavar="UNIT", help="As requests name it; - reads it from stdin.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Tell which rows of the tables are of a unit (a student), or erase them.

    No table holds a unit's name: it is looked for by the pseudonyms that the keys in secret.json make of
    it, those before the last kt key rotate too. Counts and sums stay, they are of nobody; so do outcomes, by the
    id of their answer alone. What a predictor has answered in the last seconds ([predictor] flush) is
    written after: ask again then. Machines whose tables were merged into these have their own; whose
    answers stay in the data of a [mastery.NAME] is measured there again. Files are not
    searched, neither those that versions were trained on nor what git keeps: git log --all -S UNIT does.

    Example: kt privacy erase s-17 --yes
    """
    from kt.errors import Invalid
    from kt.store import connect, erasure, secret

    workspace = options.workspace()
    if action not in ACTIONS:
        raise Invalid(
            f"there is no kt privacy {action[:40]}", do=f"choose from: {', '.join(ACTIONS)}"
        )
    if action == "erase":
        options.must_agree(yes)
    name = sys.stdin.readline().rstrip("\n") if unit == "-" else unit
    if not name:
        raise Invalid(
            "is empty",
            where="UNIT",
            do="name the unit as requests do, or pipe its name in: kt privacy find -",
        )
    store = connect.peek(workspace.root, workspace.settings)
    if store is None:
        tell(dict.fromkeys((table.name for table in erasure.TABLES), 0), keys=())
        return
    held = secret.read(workspace.root)
    keys = [key.id for key in held.keys]
    found = erasure.find(store, held, name)
    if action == "find" or not any(found.values()):
        tell(found, keys)
        return
    options.agree(yes, shown(found), "erase these rows?")
    gone = erasure.erase(store, held, name)
    told = ", ".join(f"{n:,} of {table}" for table, n in gone.items() if n)
    output.emit({"found": gone, "erased": True, "keys": keys}, f"erased: {told}")


def tell(found: Mapping[str, int], keys: Sequence[int]) -> None:
    output.emit({"found": found, "erased": False, "keys": keys}, shown(found))


def shown(found: Mapping[str, int]) -> list[str]:
    if not any(found.values()):
        return ["the tables hold nothing of it"]
    from kt.store.erasure import TABLES

    rows = [(table.name, f"{found[table.name]:,}", what) for table, what in TABLES.items()]
    rows = [row for row in rows if row[1] != "0"]
    return output.table(("TABLE", "ROWS", "WHAT THEY SAY"), rows).splitlines()
