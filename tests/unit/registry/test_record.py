"""A record is what kt wrote, to the bit; names sort as people count."""

import os
from contextlib import suppress
from pathlib import Path

import forge
import pytest

from kt.errors import Corrupt, Invalid
from kt.registry import record
from kt.workspace import Workspace


def test_a_record_is_read_as_it_was_written(place: Workspace) -> None:
    known = record.read(place, "m", "v1")
    path = record.folder(place, "m", "v1") / record.RECORD
    assert record.dump(known) == path.read_bytes()
    assert record.digest(known) == known.digest


def test_any_change_in_a_record_is_found(place: Workspace) -> None:
    path = record.folder(place, "m", "v1") / record.RECORD
    data = path.read_bytes()
    for at in range(0, len(data), 23):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with suppress(Corrupt):
            assert record.dump(record.read(place, "m", "v1")) != path.read_bytes()  # white space


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\0" * 30, b"<<<<<<< HEAD\n"])
def test_what_is_no_record_is_named(text: bytes, place: Workspace) -> None:
    (record.folder(place, "m", "v1") / record.RECORD).write_bytes(text)
    with pytest.raises(Corrupt, match="is not a record"):
        record.read(place, "m", "v1")


def test_a_pipe_in_place_of_a_record_is_not_waited_for(place: Workspace) -> None:
    path = record.folder(place, "m", "v1") / record.RECORD
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Corrupt, match="is not a regular file"):
        record.read(place, "m", "v1")


def test_a_record_of_another_version_is_not_believed(place: Workspace) -> None:
    folder = record.folder(place, "m", "v1")
    (folder / record.RECORD).replace(record.folder(place, "m", "v2") / record.RECORD)
    with pytest.raises(Corrupt, match="is not what kt wrote"):
        record.read(place, "m", "v2")


def test_an_unknown_version_is_answered_with_those_that_exist(place: Workspace) -> None:
    with pytest.raises(Invalid, match="m has no version v9") as error:
        record.read(place, "m", "v9")
    assert error.value.do == "it has: v1, v2, v3"
    with pytest.raises(Invalid, match="there is no model n") as error:
        record.read(place, "n", "v1")
    assert error.value.do == "there are: m"


def test_versions_are_counted_as_people_do(place: Workspace) -> None:
    for name in ("v10", "v9", "2024-1"):
        forge.version(place, "m", name)
    assert record.versions(place, "m") == ["2024-1", "v1", "v2", "v3", "v9", "v10"]
    assert record.next_version(place, "m") == "v11"
    assert record.next_version(place, "n") == "v1"


def test_a_folder_without_a_record_is_no_version_but_its_name_is_taken(place: Workspace) -> None:
    record.folder(place, "m", "v4").mkdir()
    assert record.versions(place, "m") == ["v1", "v2", "v3"]
    assert record.next_version(place, "m") == "v5"


def test_weights_lie_where_a_copied_folder_has_them() -> None:
    assert record.weights(Path("w"), "m", "v1") == Path("w/registry/m/v1/model.safetensors")
