"""A disk that is really full: a rollback goes through, what needs room is refused, and gc makes some."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Kt, git
from forge import version

from kt.workspace import Workspace

pytestmark = pytest.mark.e2e


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Write until nothing fits any more."""
    with (disk / "big").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert shutil.disk_usage(disk).free == 0


@pytest.fixture
def place(disk: Path, kt: Kt) -> Workspace:
    """v1 to v5 are registered, v1 to v3 were deployed one after the other, and the disk is full."""
    made = Workspace(disk / "w")
    assert kt("init", str(made.root)).code == 0
    for name in ("v1", "v2", "v3", "v4", "v5"):
        version(made, "m", name)
    git(made.root, "add", "registry")
    git(made.root, "commit", "--quiet", "-m", "versions")
    for name in ("v1", "v2", "v3"):
        assert kt("deploy", f"m@{name}", at=made).code == 0
    fill(disk)
    return made


def test_rollbacks_go_through_and_git_records_them(place: Workspace, disk: Path, kt: Kt) -> None:
    for active in ("v2", "v1"):
        done = kt("rollback", at=place)
        assert done.code == 0, done.err
        assert "not committed" not in done.err
        assert f"→ {active}" in done.out
        assert kt("verify", at=place).code == 0
        assert git(place.root, "--no-optional-locks", "status", "--porcelain") == ""
        fill(disk)


def test_a_new_version_is_refused_and_the_reserve_stays_for_a_rollback(
    place: Workspace, checkpoints: Path, kt: Kt
) -> None:
    done = kt("register", str(checkpoints / "1.pt"), "--model", "n", at=place)
    assert done.code == 5
    assert "has 0.00 MB free, 1.pt needs" in done.err
    assert kt("rollback", at=place).code == 0


def test_gc_makes_room(place: Workspace, kt: Kt) -> None:
    assert kt("gc", "--keep", "1", "--yes", at=place).code == 0
    assert kt("verify", at=place).code == 0
