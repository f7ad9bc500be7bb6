"""What a power cut does to git is found, and kt doctor --fix records anew what git has lost."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import forge
import pytest
from conftest import Kt, git

from kt import clock, powercut
from kt.deployments.events import HISTORY
from kt.workspace import Workspace

NOW = clock.now().timestamp()


def lost(root: Path, name: str) -> None:
    """An object whose name did not survive."""
    digest = git(root, "rev-parse", name)
    (root / ".git" / "objects" / digest[:2] / digest[2:]).unlink()


def spoilt(root: Path, index: bytes) -> None:
    (root / ".git" / "index").write_bytes(index)


def torn(root: Path) -> bytes:
    """The index with one entry's size as it never was: git reads it all the same."""
    index = bytearray((root / ".git" / "index").read_bytes())
    index[12 + 39] ^= 1
    return bytes(index)


def locked(root: Path) -> None:
    lock = root / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (0, 0))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "the last commit lacks what it names": lambda root: lost(root, "HEAD"),
    "lacks what it names": lambda root: lost(root, f"HEAD:{HISTORY}"),
    "commit lacks": lambda root: lost(root, "HEAD:deployments"),
    "index is damaged": lambda root: spoilt(root, bytes(100)),
    ".git/index is damaged": lambda root: spoilt(root, torn(root)),
    "index.lock is from before this machine started": locked,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_git_is_in_step_again(what: str, workspace: Workspace, kt: Kt) -> None:
    root = workspace.root
    for name in ("v1", "v2"):
        assert kt("deploy", f"m@{name}", at=root).code == 0
    assert powercut.found(root, 0.0) == []
    (root / "mine.txt").write_text("not kt's")
    git(root, "add", "mine.txt")
    DAMAGE[what](root)
    assert what in powercut.found(root, NOW)[0]
    fixed = kt("doctor", "--fix", at=root)
    assert powercut.found(root, NOW) == [], fixed.err
    assert json.loads(git(root, "show", f"HEAD:{HISTORY}")) == json.loads(
        (root / HISTORY).read_text()
    )
    assert git(root, "status", "--porcelain") in ("A  mine.txt", "?? mine.txt")
    assert kt("deploy", "m@v3", at=root).code == 0
    assert kt("verify", at=root).code == 0


def test_without_a_whole_commit_a_person_must_help(workspace: Workspace, kt: Kt) -> None:
    (workspace.root / ".git" / "logs" / "HEAD").unlink()
    lost(workspace.root, "HEAD")
    done = kt("doctor", "--fix", at=workspace)
    assert done.code == 5
    assert "take the branch from another clone" in done.err


def test_a_record_that_git_lost_is_committed_and_a_file_of_somebodys_is_not(
    workspace: Workspace, kt: Kt
) -> None:
    forge.version(workspace, "n", "v1")
    (workspace.root / "jobs" / "notes.txt").write_text("mine")
    said = kt("doctor", "--fix", at=workspace).err
    assert "committed what git had not recorded: registry/n/v1/record.json" in said
    assert git(workspace.root, "status", "--porcelain") == "?? jobs/notes.txt"
