"""What a file is is read from its bytes, the usual accidents have each their own sentence, and only weights are read."""

import argparse
import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import re
import sys
import tarfile
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kt.errors import Invalid, KtError, Unavailable
from kt.registry import checkpoint
from kt.registry.checkpoint import Opened

WEIGHTS = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}


def opened(path: Path) -> Opened:
    with checkpoint.opening(path) as (file, source):
        return checkpoint.read(file, source, path)


def saved(path: Path, what: Any = None, **options: Any) -> Path:
    torch.save(WEIGHTS if what is None else what, path, **options)
    return path


def numpy_file(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def tar_file(name: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a git-lfs pointer"),
        (b"outs:\n- md5: 0\n  path: m.pt\n", "is a DVC pointer"),
        (gzip.compress(b"x", mtime=0), "is gzip data"),
        (b"hello, world\n", "is a text file"),
        (pickle.dumps([1]), "is a bare pickle"),
        (b"\x93NUMPY\x01\0", "is a numpy array"),
        (bz2.compress(b"x"), "is compressed: unpack it first"),
        (lzma.compress(b"x"), "is compressed: unpack it first"),
        (tar_file("m.pt"), "is a tar archive: unpack it first"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 80, "is an HDF5 file"),
        (b"\x08\x08\x12\x07pytorch\x1a\x05" + b"\0" * 80, "is an ONNX graph"),
        (zipped("models/m.pt", "readme.txt"), "is a zip archive of files: unpack it"),
        (zipped("config.json", "model.weights.h5"), "is a zip archive without weights"),
        (b"\0\1\2\3" * 20, "is of no format that kt knows"),
        (b"PK\x03\x04 and then nothing", ""),
        (zipped("a/data.txt"), ""),
        (zipped("m/data.pkl", "m/constants.pkl", "m/code/m.py"), "code"),
        (zipped("m/.data/extern_modules", "m/x.py"), ""),
        (numpy_file(a=np.ones(3)), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_model_is_told_by_its_name(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    with pytest.raises(KtError) as error:
        opened(path)
    assert what in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling", "none", "loop"])
def test_only_a_regular_file_is_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "loop":
        path.symlink_to(path)
    with pytest.raises(Invalid):
        opened(path)


@pytest.mark.skipif(sys.platform != "linux", reason="a file whose first byte cannot be read")
def test_a_disk_that_does_not_give_a_file_is_told_with_its_name() -> None:
    with pytest.raises(Unavailable, match="cannot read /proc/self/mem: Input/output error"):
        opened(Path("/proc/self/mem"))


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "m.pt").symlink_to(saved(tmp_path / "real.pt"))
    found = opened(tmp_path / "m.pt")
    assert found.source.name == "m.pt"
    assert set(found.tensors) == {"a", "b"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_a_name_that_is_no_text_is_kept_as_one(tmp_path: Path) -> None:
    found = opened(saved(tmp_path / os.fsdecode(b"m\xff.pt")))
    assert found.source.name == "m\ufffd.pt"


def test_a_file_larger_than_any_model_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "m.pt").open("wb") as file:
        file.truncate(checkpoint.MAX_SIZE + (1 << 30))
    with pytest.raises(Invalid, match="GiB"):
        opened(tmp_path / "m.pt")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", ""])
def test_a_state_dict_may_be_nested(key: str, tmp_path: Path) -> None:
    whole = {key: WEIGHTS, "epoch": 3} if key else WEIGHTS
    found = opened(saved(tmp_path / "m.pt", whole))
    assert torch.equal(found.tensors["a"], WEIGHTS["a"])
    assert found.family == ""


BESIDE = {
    "args": argparse.Namespace(lr=0.1, out=Path("runs")),
    "loss": np.float64(0.3),
    "random": np.random.get_state(),
    "seen": defaultdict(list, {"a": [1]}),
    "last": deque([0.1, 0.2], maxlen=5),
    "when": datetime(2026, 1, 1, tzinfo=UTC),
    "rows": range(3),
    "torch": torch.__version__,
    "kind": np.float32,
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_a_training_script_saves_beside_weights_is_passed_over(
    what: str, tmp_path: Path
) -> None:
    found = opened(saved(tmp_path / "m.pt", {"model": WEIGHTS, what: BESIDE[what]}))
    assert torch.equal(found.tensors["a"], WEIGHTS["a"])


def test_what_is_passed_over_is_never_made(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    held = checkpoint.read_torch(saved(tmp_path / "m.pt", BESIDE), tmp_path, mapped=True)
    assert not isinstance(held["args"], argparse.Namespace)
    assert not vars(held["args"])
    assert held["seen"] == {"a": [1]}
    after = torch.serialization.get_safe_globals()
    assert set(after) == set(before), "nobody else's torch.load is given stand-ins"


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_old_format_of_torch_is_read(protocol: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    found = opened(path)
    assert found.source.format == "torch legacy"
    assert torch.equal(found.tensors["b"], WEIGHTS["b"])


class Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1)


def test_a_program_may_need_no_weights(tmp_path: Path) -> None:
    program = torch.export.export(Sum(), (torch.ones(2, 3),))
    with (tmp_path / "m.pt2").open("wb") as file:
        torch.export.save(program, file)
    found = opened(tmp_path / "m.pt2")
    assert found.family == "exported"
    assert not found.tensors


def test_safetensors_are_read_also_with_a_long_header(tmp_path: Path) -> None:
    many = {f"layer.{number}.weight": torch.zeros(1) for number in range(2000)}
    save_file(many, tmp_path / "m.safetensors")
    found = opened(tmp_path / "m.safetensors")
    assert found.source.format == "safetensors"
    assert len(found.tensors) == 2000


@pytest.mark.parametrize("cut", [9, 60, -1])
def test_half_a_file_of_safetensors_is_refused(cut: int, tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "whole")
    (tmp_path / "m").write_bytes((tmp_path / "whole").read_bytes()[:cut])
    with pytest.raises(Invalid):
        opened(tmp_path / "m")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_half_a_file_of_torch_is_refused(share: float, tmp_path: Path) -> None:
    data = saved(tmp_path / "whole.pt").read_bytes()
    (tmp_path / "m.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(Invalid):
        opened(tmp_path / "m.pt")


@pytest.mark.parametrize("record", ["m/data/0", "m/data/1"])
def test_a_record_that_is_shorter_than_its_weights_is_refused(record: str, tmp_path: Path) -> None:
    """torch would take what follows in the file for the rest of them."""
    saved(tmp_path / "whole.pt", {"a": torch.ones(4), "b": torch.ones(64)})
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "m.pt", "w") as short,
    ):
        for name in whole.namelist():
            renamed = f"m/{name.partition('/')[2]}"
            data = whole.read(name)
            short.writestr(renamed, data[:-4] if renamed == record else data)
    with pytest.raises(Invalid, match="shorter than the weights"):
        opened(tmp_path / "m.pt")


class Gadget:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("KT_MARKER",))


@pytest.mark.parametrize("legacy", [False, True])
def test_what_would_run_code_is_refused_and_does_not(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "m.pt", {"a": Gadget()}, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(Invalid, match="holds more than weights"):
        opened(path)
    assert not (tmp_path / "KT_MARKER").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_of_a_later_protocol_is_told(legacy: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", _use_new_zipfile_serialization=not legacy, pickle_protocol=4)
    with pytest.raises(Invalid, match="protocol 4") as error:
        opened(path)
    assert "without pickle_protocol" in error.value.do


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x02c__builtin__\neval\n.", r"more than weights \(eval\)"),
        (b"\x80\x02cargparse\nAction\n.", r"more than weights \(argparse.Action\)"),
        (b"\x80\x02\x82\x01.", "more than weights$"),  # EXT1
        (b"\x80\x02X\x01\0\0\0aQ.", r"more than weights \(str\)"),
    ],
)
def test_what_is_more_than_weights_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/version", "3")
    with pytest.raises(Invalid) as error:
        opened(tmp_path / "m.pt")
    assert re.search(said, error.value.what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ([1, 2], "holds a list, not weights by name"),
        ({}, "holds no weights"),
        ({"a": 1}, "'a' is a int, not a tensor"),
        ({"a": np.ones(1)}, "'a' is a numpy ndarray, not a tensor"),
        (argparse.Namespace(), "holds a Namespace, not weights by name"),
        ({1: torch.ones(1)}, "the key 1 is no text"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, "is not a dense tensor of real numbers"),
        ({"a": torch.ones(2, 2).to_sparse()}, "is not a dense tensor"),
        ({"a": torch.ones(1, device="meta")}, "is not a dense tensor"),
    ],
)
def test_what_is_no_state_dict_is_named(what: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said):
        opened(saved(tmp_path / "m.pt", what))


def checkpoint_of(**more: Any) -> dict[str, Any]:
    return {"kt": 1, "family": "sakt", "config": {"items": 1}, "state_dict": WEIGHTS, **more}


def test_a_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    whole = checkpoint_of(scores={"auc": 0.5}, model="tutor", training={"seed": 1})
    found = opened(saved(tmp_path / "m.pt", whole))
    assert (found.family, found.config, found.model) == ("sakt", {"items": 1}, "tutor")
    assert (found.scores, found.training, found.signature) == ({"auc": 0.5}, {"seed": 1}, None)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scores": [0.7]}, "its scores is a list"),
        ({"family": 3}, "its family is a int"),
        ({"scores": {"auc": torch.tensor(0.7)}}, "its scores cannot be kept as JSON"),
        ({"training": {"steps": 2**70}}, "its training cannot be kept as JSON"),
        ({"config": {1: 2}}, "its config cannot be kept as JSON"),
        ({"training": {"log": "x" * checkpoint.PART}}, "its training takes 10,000,010 bytes"),
    ],
)
def test_what_a_checkpoint_says_is_json(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said):
        opened(saved(tmp_path / "m.pt", checkpoint_of(**more)))


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is no JSON file"), ("[]", "is no JSON object"), ('{"config": 1}', "must be objects"), ("[" * 100_000, "is no JSON")],
)  # fmt: skip
def test_a_configuration_is_an_object(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(Invalid, match=said):
        checkpoint.read_config(path)


def test_a_configuration_may_bring_its_signature(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"items": 3}))
    assert checkpoint.read_config(path) == ({"items": 3}, None)
    path.write_text(json.dumps({"config": {"items": 3}, "signature": {"items": ["a"]}}))
    assert checkpoint.read_config(path) == ({"items": 3}, {"items": ["a"]})


def overwritten(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def overwritten_with_its_old_times(path: Path) -> None:
    about = path.stat()
    overwritten(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replaced(path: Path) -> None:
    saved(path.with_suffix(".new")).replace(path)


@pytest.mark.parametrize(
    "change", [overwritten, overwritten_with_its_old_times, cut, replaced], ids=lambda change: change.__name__
)  # fmt: skip
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = saved(tmp_path / "m.pt")

    def opened() -> None:
        with checkpoint.opening(path) as (file, source):
            checkpoint.read(file, source, path)
            change(path)

    with pytest.raises(Invalid, match="has changed while it was read") as error:
        opened()
    assert "once it is whole" in error.value.do


def test_that_it_changed_is_what_is_said_whatever_it_led_to(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt")

    def opened() -> None:
        with checkpoint.opening(path) as (file, source):
            cut(path)
            checkpoint.read(file, source, path)

    with pytest.raises(Invalid, match="has changed while it was read"):
        opened()
