"""Room that is held while there is some, and given back where the disk is full."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import forge
import pytest

from kt import reserve
from kt.deployments import audit, verify
from kt.errors import Unavailable
from kt.workspace import Workspace


def size(place: Workspace) -> int:
    return (place.local / reserve.NAME).stat().st_size


def full_until_it_is_given_back(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A disk on which nothing can be synced as long as there is a reserve. Returns what is refused, as it is."""
    real, refused = os.fsync, []

    def fsync(descriptor: int) -> None:
        if (place.local / reserve.NAME).exists():
            refused.append(descriptor)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return refused


@pytest.fixture
def deployed(place: Workspace) -> Workspace:
    """v1, then v2 of the model n."""
    for name in ("v1", "v2"):
        forge.give(place, forge.version(place, "n", name))
    return place


def test_every_command_leaves_a_reserve_that_grows_with_the_history(deployed: Workspace) -> None:
    assert size(deployed) == 2 * reserve.SIZE
    (deployed.root / "deployments" / "other.json").write_bytes(bytes(reserve.SIZE))
    forge.back(deployed, "n")
    assert size(deployed) == 4 * reserve.SIZE


def test_it_takes_half_of_what_is_free_at_most_and_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free in (3000, 1500):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        reserve.keep(tmp_path, [])
        assert (tmp_path / reserve.NAME).stat().st_size == 1500


def test_a_rollback_on_a_full_disk_spends_it_and_takes_it_again(
    deployed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        refused = full_until_it_is_given_back(deployed, patch)
        forge.back(deployed, "n")
        assert len(refused) == 1
    active = audit.read(deployed)[1].serving("n").active
    assert active is not None
    assert active.version == "v1"
    assert verify.everything(deployed) == []
    assert size(deployed) == 2 * reserve.SIZE


def test_without_a_reserve_a_full_disk_refuses_and_nothing_is_changed(
    deployed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="quota"):
            forge.back(deployed, "n")
    assert audit.read(deployed)[0].seq == 2
    assert [*deployed.root.rglob(".aside-*")] == []


def test_what_else_fails_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / reserve.NAME).touch()

    def broken() -> None:
        raise Unavailable("x") from OSError(errno.EIO, "x")

    with pytest.raises(Unavailable):
        reserve.spend(tmp_path, broken)
    assert (tmp_path / reserve.NAME).exists()
