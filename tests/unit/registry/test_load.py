"""A version is loaded only if its bytes are those that were deployed, every time."""

import json
from pathlib import Path

import forge
import pytest

from kt import files
from kt.errors import Corrupt, Invalid
from kt.models import sakt
from kt.registry import load, record
from kt.workspace import Workspace


@pytest.fixture
def path(place: Workspace) -> Path:
    return record.weights(place.root, "m", "v1")


def test_the_header_says_what_runs_the_weights(path: Path) -> None:
    assert load.header(path) == forge.SPEC
    assert load.check(path, files.digest(path)) == forge.SPEC


def test_any_flipped_bit_is_found(path: Path) -> None:
    data, sha256 = path.read_bytes(), files.digest(path)
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(Corrupt, match="the weights have sha256"):
            load.check(path, sha256)


def test_half_a_file_is_found(path: Path) -> None:
    sha256 = files.digest(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="the weights have sha256"):
        load.check(path, sha256)


@pytest.mark.parametrize("kind", ["missing", "link", "folder"])
def test_only_a_file_in_its_place_is_weights(kind: str, path: Path, tmp_path: Path) -> None:
    sha256 = files.digest(path)
    path.replace(tmp_path / "elsewhere")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(Corrupt, match="the weights are"):
        load.check(path, sha256)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"__metadata__": {}}', b'{"__metadata__": {"kt": "{}"}}', b"[" * 5000, b"\xff"],
)
def test_a_header_that_says_nothing_is_named(text: bytes, path: Path) -> None:
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(Corrupt, match=r"does not say which family|is no safetensors"):
        load.header(path)


def test_a_header_longer_than_its_file_is_not_read(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(Corrupt, match="is no safetensors file"):
        load.header(path)


def test_a_configuration_that_the_family_does_not_take_is_named(
    place: Workspace, path: Path
) -> None:
    odd = forge.SPEC.model_copy(update={"config": {"items": "many"}})
    with pytest.raises(Corrupt, match="sakt does not take this configuration"):
        load.open_weights(place.root, path, odd)


def test_weights_that_do_not_fill_the_family_are_refused(place: Workspace, path: Path) -> None:
    with pytest.raises(Invalid, match="Missing key"):
        load.open_weights(place.root, path, forge.SPEC)


def test_many_missing_keys_leave_room_for_those_that_are_too_many() -> None:
    said = "Error(s) in loading:\n\tMissing: " + '"a.b", ' * 100 + '\n\tUnexpected: "c".'
    assert load.misfit(RuntimeError(said)).endswith('"a.b", …; Unexpected: "c"')


@pytest.mark.parametrize(
    ("names", "do"),
    [
        (
            ["module.a", "module.b"],
            "DataParallel wraps it: torch.save(model.module.state_dict(), FILE)",
        ),
        (["_orig_mod.a"], "torch.compile wraps it: torch.save(model._orig_mod.state_dict(), FILE)"),
        (
            ["_orig_mod.module.a", "_orig_mod.module.b.c"],
            "torch.compile wraps it: torch.save(model._orig_mod.module.state_dict(), FILE)",
        ),
        (
            ["net.core.a", "net.core.b.c"],
            "another module wraps it: torch.save(model.net.core.state_dict(), FILE)",
        ),
        (["net.a", "net.d"], "check the family and its configuration"),
        (["module.a", "b"], "check the family and its configuration"),
        ([], "check the family and its configuration"),
    ],
)
def test_weights_of_a_wrapped_model_are_told_by_their_names(names: list[str], do: str) -> None:
    assert load.to_fit(names, ["a", "b.c"]) == do


def test_a_family_is_a_name_or_a_dotted_path(place: Workspace) -> None:
    assert load.family(place.root, "sakt") is sakt
    with pytest.raises(Invalid, match="there is no nothing"):
        load.family(place.root, "nothing")


def test_a_spec_is_all_that_the_header_holds(path: Path) -> None:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["kt"]) == forge.SPEC.model_dump()
