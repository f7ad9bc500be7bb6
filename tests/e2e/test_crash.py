"""Killed, or refused by the disk, at every single call that changes a file: old or new, and the same command again works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Kt, git
from dying import points

from kt import journal
from kt.deployments import audit, gc, manifest
from kt.registry import absence, load, record
from kt.workspace import Workspace

pytestmark = pytest.mark.e2e

PROMOTE = ("promote", "x", "--force", "--reason", "test")


def seq(root: Path) -> int:
    """The events in the history, which must be sound."""
    book = journal.read(root / "deployments" / "history.json")
    audit.fold(book)
    found = root / manifest.MANIFEST
    if found.exists():
        manifest.parse(found.read_bytes())
    return book.seq


def is_in_step(root: Path, kt: Kt, head: int) -> None:
    """History, manifest and git tell one story, and nothing is left over."""
    assert seq(root) == head
    assert kt("verify", at=root).code == 0
    assert [*root.rglob(".aside-*")] == []
    if (root / ".git").is_dir():
        assert not (root / ".git" / "index.lock").exists()
        assert git(root, "status", "--porcelain") == ""
        committed = git(root, "show", "HEAD:deployments/history.json")
        assert committed == (root / "deployments" / "history.json").read_text().strip()


def prepared(root: Path, kt: Kt, command: tuple[str, ...]) -> int:
    """Something to deploy over, promote, ramp, end, step or roll back. Returns the events so far."""
    assert kt("deploy", "m@v1", at=root).code == 0
    if command[0] in ("promote", "ramp", "end"):
        assert kt("deploy", "m@v2", "--traffic", "10", "--ab-test", "x", at=root).code == 0
    if command[0] == "canary":
        assert kt("deploy", "m@v2", "--canary", "5,25,50,100", at=root).code == 0
    if command[0] == "rollback":
        assert kt("deploy", "m@v2", at=root).code == 0
    return seq(root)


COMMANDS = [("deploy", "m@v3"), PROMOTE, ("rollback",)]
LIKE_THEM = [("ramp", "x", "20"), ("end", "x"), ("canary", "step", "--now")]  # a sample will do
NAMES = [command[0] for command in COMMANDS]


@pytest.mark.parametrize(
    ("command", "every"),
    [*((command, 1) for command in COMMANDS), *((command, 3) for command in LIKE_THEM)],
    ids=[command[0] for command in COMMANDS + LIKE_THEM],
)
def test_killed_at_any_call_it_is_old_or_new_and_the_next_command_goes_on(
    command: tuple[str, ...], every: int, workspace: Workspace, tmp_path: Path, kt: Kt
) -> None:
    before = prepared(workspace.root, kt, command)
    states = set()
    for root, code, _ in points(workspace.root, tmp_path, "kill", command, every):
        assert code == -9
        states.add(seq(root) - before)
        again = kt(*command, at=root)
        assert again.code == 0, again.err
        is_in_step(root, kt, before + 1)
    assert states == {0, 1}  # both sides of the rename were met


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_what_the_disk_refuses_is_refused_cleanly_or_done(
    command: tuple[str, ...], fault: str, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    before = prepared(place.root, kt, command)
    for root, code, said in points(place.root, tmp_path, fault, command):
        assert "Traceback" not in said
        done = seq(root) > before
        assert code in ((0, 75) if done else (5,)), (said, done)
        if not done:
            assert kt(*command, at=root).code == 0
        assert kt("verify", "--fix", at=root).code == 0
        is_in_step(root, kt, before + 1)


def here(root: Path) -> set[str]:
    """The versions of m whose weights are on this machine and are what their records say."""
    place = Workspace(root)
    found = {one.version: one.size for one in gc.stored(place) if one.model == "m"}
    for name, size in found.items():
        if size:
            load.check(record.weights(root, "m", name), record.read(place, "m", name).sha256)
        else:
            assert absence.of(place, "m", name) is not None
    return {name for name, size in found.items() if size}


@pytest.mark.parametrize("fault", ["kill", "ENOSPC", "EIO"])
def test_gc_removes_each_version_or_leaves_it_and_goes_on(
    fault: str, place: Workspace, tmp_path: Path, kt: Kt
) -> None:
    command = ("gc", "--keep", "1", "--yes")
    assert kt("deploy", "m@v3", at=place).code == 0
    for root, code, said in points(place.root, tmp_path, fault, command):
        assert "Traceback" not in said
        assert {"v3"} <= here(root)
        if code in (0, 75):
            assert here(root) == {"v3"}
        else:
            assert code == (-9 if fault == "kill" else 5)
        assert kt(*command, at=root).code == 0
        assert here(root) == {"v3"}
        assert [*root.rglob(".aside-*")] == []
        is_in_step(root, kt, 1)


@pytest.mark.slow
def test_a_register_that_is_killed_adds_the_version_once(
    workspace: Workspace, checkpoints: Path, tmp_path: Path, kt: Kt
) -> None:
    command = ("register", str(checkpoints / "1.pt"), "--model", "n")
    assert kt("deploy", "m@v1", at=workspace).code == 0
    for root, code, _ in points(workspace.root, tmp_path, "kill", command, every=7):
        assert code == -9
        assert kt(*command, at=root).code == 0
        assert record.versions(Workspace(root), "n") == ["v1"]
        assert [*(root / ".kt" / "staging").iterdir()] == []
        is_in_step(root, kt, 1)


KILLING = """#!/bin/sh
# git that dies in the middle of a commit together with its command, as kill -9 would leave it
case " $* " in *" commit "*) : > {lock}; kill -9 $PPID $$;; esac
exec {git} "$@"
"""


def test_a_git_that_is_killed_with_its_command_blocks_nobody(
    workspace: Workspace, tmp_path: Path, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace.root
    assert kt("deploy", "m@v1", at=root).code == 0
    found = shutil.which("git")
    assert found is not None
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(KILLING.format(lock=root / ".git" / "index.lock", git=found))
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
        killed = subprocess.run(
            [sys.executable, "-m", "kt", "deploy", "m@v2"],
            cwd=root,
            capture_output=True,
            check=False,
        )
    assert killed.returncode == -9
    assert (root / ".git" / "index.lock").exists()
    assert seq(root) == 2
    again = kt("deploy", "m@v1", at=root)
    assert again.code == 0
    assert "removed the lock of a git command that was killed" in again.err
    is_in_step(root, kt, 3)
