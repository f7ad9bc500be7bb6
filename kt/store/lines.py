"""A file of outcomes, read line by line: CSV with a header, or JSON lines.

    prediction_id,outcome,place          {"prediction_id": ID, "outcome": 1}
    ID,1,                                {"prediction_id": ID, "outcome": [1, null, 0]}
    ID,"[1, null, 0]",

A cell of an outcome is read as JSON, and True and False as Python writes them. Every line stands by
itself, so that one that is wrong is told by its number and costs nothing but itself.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from kt import files, http
from kt.errors import Invalid

LONGEST = 100_000  # bytes of a line
COLUMNS = ("prediction_id", "outcome", "place")
Parse = Callable[[bytes], Any]


class Line(NamedTuple):
    """entry: its JSON, or why it has none. size: bytes."""

    number: int
    entry: Any | Invalid
    size: int


def read(path: Path) -> Iterator[Line]:
    """The lines that are not empty. Raises Invalid for a file that is no such, Unavailable for one that
    cannot be read."""
    with files.named("read", path), path.open("rb") as file:
        numbered = enumerate(split(file), 1)
        match path.suffix.lower():
            case ".jsonl" | ".ndjson":
                parse: Parse = http.parse
            case ".csv":
                parse = of_columns(path, next(numbered, (1, b""))[1])
            case _:
                raise Invalid(
                    f"{path}: is it CSV or JSON lines?", do="name it .csv, .jsonl or .ndjson"
                )
        for number, text in numbered:
            if text.strip():
                yield Line(number, parsed(parse, text), len(text))


def split(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends; one that is too long is cut, so that no file fills the memory."""
    first = True
    while text := file.readline(LONGEST + 1):
        rest = text
        while len(rest) > LONGEST and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST + 1)
        yield text.removeprefix(b"\xef\xbb\xbf") if first else text
        first = False


def parsed(parse: Parse, text: bytes) -> Any | Invalid:
    if len(text) > LONGEST:
        return Invalid(
            f"the line is longer than {LONGEST} bytes", do="cut it: a line holds one outcome"
        )
    try:
        return parse(text)
    except Invalid as error:
        return error


def of_columns(path: Path, header: bytes) -> Parse:
    """What reads the lines of a CSV file by its first."""
    names = [name.strip() for name in cells(header)]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names) or not set(names) >= {"prediction_id", "outcome"}:
        raise Invalid(
            f"{path}: its columns are {', '.join(names)[:100] or 'none'}",
            where="line 1",
            do=f"begin it with a line of names: {','.join(COLUMNS)}, the last if it is needed",
        )

    def parse(text: bytes) -> dict[str, Any]:
        row = cells(text)
        if len(row) != len(names):
            raise Invalid(
                f"the line has {len(row)} cells, its header {len(names)}",
                do="give it a cell for each name, empty where there is none",
            )
        values = dict(zip(names, row, strict=True))
        entry = {
            "prediction_id": values["prediction_id"].strip(),
            "outcome": value(values["outcome"]),
        }
        return entry | ({"place": value(values["place"])} if values.get("place") else {})

    return parse


def cells(text: bytes) -> list[str]:
    try:
        return next(csv.reader([text.decode("utf-8", "replace")], strict=True), [])
    except csv.Error as error:
        raise Invalid(f"the line is not CSV: {error}", do="close its quotes") from None


def value(cell: str) -> Any:
    text = cell.strip()
    return http.parse((text.lower() if text in ("True", "False") else text).encode())
