"""What copies of requests showed of each shadow, from all processes together and after their end."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, select, update

from kt.store import schema
from kt.store.database import Store
from kt.store.rows import insert
from kt.store.tally import Key, Report, Tally, merged, read


def add(connection: Connection, seen: Mapping[Key, Tally], minute: int) -> None:
    """Add to what is known of each shadow. minute: now."""
    table = schema.shadows
    for key, tally in sorted(seen.items(), key=lambda item: item[0]):
        names = dict(zip(("model", "experiment", "version", "phase"), key, strict=True))
        row = [table.c[name] == value for name, value in names.items()]
        row.append(table.c.source == "")
        # The insert comes first: it waits for another process that tells of the same shadow.
        nothing = {**names, "source": "", "at": minute * 60, "document": "{}"}
        connection.execute(insert(connection, table).values(nothing).on_conflict_do_nothing())
        known = connection.scalars(select(table.c.document).where(*row).with_for_update()).one()
        document = json.dumps((read(json.loads(known)) + tally).card())
        connection.execute(update(table).where(*row).values(document=document, at=minute * 60))


def shadows(store: Store) -> list[Report]:
    """One report a shadow, whichever machine it came from."""
    columns = schema.shadows.c
    asked = select(
        columns.model, columns.experiment, columns.version, columns.phase, columns.document
    )
    with store.read() as connection:
        return merged(
            Report(model, experiment, version, phase, read(json.loads(document)))
            for model, experiment, version, phase, document in connection.execute(asked)
        )
