"""A file is replaced wholly or not at all, and what a disk refuses is told in one line."""

import errno
import os
from pathlib import Path

import pytest

from kt import files
from kt.errors import Corrupt, Unavailable, Unconfirmed


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    files.write_whole(tmp_path / "a" / "b.json", b"1")
    assert (tmp_path / "a" / "b.json").read_bytes() == b"1"
    assert files.sweep(tmp_path / "a") == []


@pytest.mark.parametrize("call", ["fsync", "open", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Path if call == "replace" else os, call, full)
        with pytest.raises(Unavailable, match=r"cannot write .*a\.json: No space left"):
            files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_files_that_belong_together_are_written_all_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_bytes(b"old")
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            full()
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Unavailable, match=r"test\.csv: No space left on device"):
            files.write_together({train: b"new", test: b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"train.csv": b"old"}
    files.write_together({train: b"new", test: b"new"})
    assert (train.read_bytes(), test.read_bytes()) == (b"new", b"new")


def test_a_folder_that_cannot_be_synced_is_told_as_unconfirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = files.stage(tmp_path / "a.json", b"new")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unconfirmed, match="not synced"):
        files.publish(aside, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_what_a_killed_command_left_is_swept(tmp_path: Path) -> None:
    left = files.stage(tmp_path / "a.json", b"half")
    (tmp_path / "b.json").touch()
    assert files.sweep(tmp_path) == [left]
    assert [found.name for found in tmp_path.iterdir()] == ["b.json"]
    assert files.sweep(tmp_path / "none") == []


@pytest.mark.parametrize(("sweeps", "written"), [(0, True), (2, True), (files.TRIES, False)])
def test_what_is_swept_while_it_is_written_is_written_again(
    sweeps: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A predictor writes without the lock; a command that holds it sweeps."""
    stage, left = files.stage, iter(range(sweeps))

    def swept(path: Path, data: bytes, mode: int) -> Path:
        aside = stage(path, data, mode)
        if next(left, None) is not None:
            files.sweep(path.parent)
        return aside

    monkeypatch.setattr(files, "stage", swept)
    if written:
        files.write_whole(tmp_path / "live.json", b"new")
        assert (tmp_path / "live.json").read_bytes() == b"new"
    else:
        with pytest.raises(Unavailable, match="No such file"):
            files.write_whole(tmp_path / "live.json", b"new")
    assert files.asides(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_regular_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if kind == "link":
        path.symlink_to(tmp_path / "b.json")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(Corrupt, match=r"a\.json: is not a regular file"):
        files.read(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "a.json")


def test_a_digest_is_the_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(Unavailable, match="cannot read"):
        files.digest(tmp_path / "b")
