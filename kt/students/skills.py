"""Which items practise a skill: a CSV of the columns item,skill with a row for each skill of an item, or the data."""

from hashlib import sha256
from pathlib import Path
from typing import Protocol

from kt.errors import Invalid
from kt.models.data import natural
from kt.models.forms import ITEM, SKILL, opened, table

Items = dict[str, set[str]]  # by skill, in natural order


class Named(Protocol):
    """Data whose items may have a skill each, in the order of their names; () where none is known."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def skills(self) -> tuple[str, ...]: ...


def digest(path: Path) -> str:
    """Of the file, by which a change of it is seen. Raises Invalid where it cannot be read."""
    content, _ = whole(path)
    return sha256(content).hexdigest()


def whole(path: Path) -> tuple[bytes, list[str]]:
    """Its bytes, and its lines."""
    if not path.is_file():
        raise Invalid(
            "there is no such file", where=str(path), do="write one with the columns item,skill"
        )
    ((_, content, lines),) = opened(path)
    return content, lines


def read(path: Path) -> Items:
    """The items of each skill. Raises Invalid."""
    _, lines = whole(path)
    header, rows = table(path, lines)
    columns = [
        next((header.index(name) for name in names if name in header), -1)
        for names in (ITEM, SKILL)
    ]
    if -1 in columns:
        raise Invalid(
            f"the columns are {','.join(header)[:120]}" if header else "nothing is in it",
            where=f"{path}:1",
            do="write a row for each skill of an item, under the columns item,skill",
        )
    found: Items = {}
    for where, row in rows:
        item, skill = (row[column].strip() for column in columns)
        if not item or not skill:
            raise Invalid(
                "an item and a skill need a name",
                where=where,
                do="name both, or leave the line out",
            )
        found.setdefault(skill, set()).add(item)
    if not found:
        raise Invalid("no item has a skill in it", where=str(path), do="write rows: item,skill")
    return ordered(found)


def of(data: Named) -> Items:
    """As the data's own column has it; nothing where it has none."""
    found: Items = {}
    for item, skill in zip(data.names, data.skills, strict=False):
        if skill:
            found.setdefault(skill, set()).add(item)
    return ordered(found)


def ordered(found: Items) -> Items:
    return {skill: found[skill] for skill in sorted(found, key=natural)}
