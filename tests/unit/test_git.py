"""Git records exactly kt's own paths, is never asked to undo, and can never fail a change."""

import os
import subprocess
from pathlib import Path

import pytest

from kt import clock, git
from kt.errors import Refused


def call(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    call(tmp_path, "init", "--quiet", "--initial-branch", "main")
    (tmp_path / "a.json").write_text("1")
    call(tmp_path, "add", "a.json")
    call(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "a.json").write_text("2")
    return tmp_path


def test_exactly_these_paths_are_committed(repo: Path) -> None:
    (repo / "source.py").write_text("x")
    (repo / "notes.txt").write_text("y")
    call(repo, "add", "source.py")
    done = git.commit(repo, ["a.json"], "second")
    assert done == git.Committed(call(repo, "rev-parse", "HEAD"))
    assert call(repo, "show", "--name-only", "--format=%s") == "second\n\na.json"
    assert call(repo, "diff", "--cached", "--name-only") == "source.py"  # still staged
    assert "?? notes.txt" in call(repo, "status", "--porcelain")


def test_nothing_new_is_no_commit(repo: Path) -> None:
    git.commit(repo, ["a.json"], "second")
    assert git.commit(repo, ["a.json"], "third") == git.Committed()


def test_a_hook_cannot_veto_a_fact(repo: Path) -> None:
    hook = repo / ".git" / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert git.commit(repo, ["a.json"], "second").commit


def test_a_detached_head_takes_the_commit(repo: Path) -> None:
    call(repo, "checkout", "--quiet", "--detach")
    assert git.commit(repo, ["a.json"], "second").commit == call(repo, "rev-parse", "HEAD")


def test_where_there_is_no_identity_kt_is_one(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{who}_{what}")
    call(repo, "config", "user.useConfigOnly", "true")
    assert git.commit(repo, ["a.json"], "second").commit
    assert call(repo, "log", "-1", "--format=%an") == "kt"


def test_an_ignored_path_is_committed_too(repo: Path) -> None:
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "b.log").write_text("1")
    assert git.commit(repo, ["b.log"], "second").commit


def test_a_folder_within_a_repository_is_committed_there(repo: Path) -> None:
    (repo / "models").mkdir()
    (repo / "models" / "b.json").write_text("1")
    assert git.commit(repo / "models", ["b.json"], "second").commit
    assert call(repo, "show", "--name-only", "--format=") == "models/b.json"


def test_a_worktree_is_a_repository(repo: Path) -> None:
    call(repo, "worktree", "add", "--quiet", "-b", "side", "tree")
    (repo / "tree" / "a.json").write_text("3")
    assert git.commit(repo / "tree", ["a.json"], "second").commit == call(repo, "rev-parse", "side")
    folder = git.folder_of(repo / "tree")
    assert folder is not None
    assert folder.name == "tree"
    (repo / ".git" / "refs" / "heads" / "side.lock").touch()
    assert git.clear_own_locks(repo / "tree", clock.now().timestamp())
    assert not (repo / ".git" / "refs" / "heads" / "side.lock").exists()


def test_no_repository_is_a_problem_and_no_error(tmp_path: Path) -> None:
    assert "no git repository" in git.commit(tmp_path, ["a.json"], "x").problem
    assert git.committed(tmp_path, "a.json") is None
    git.refuse_if_busy(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [("MERGE_HEAD", "a merge"), ("rebase-merge", "a rebase"), ("REVERT_HEAD", "a revert")],
)
def test_what_waits_for_a_person_is_refused(name: str, what: str, repo: Path) -> None:
    (repo / ".git" / name).touch()
    with pytest.raises(Refused, match=f"{what} is in progress"):
        git.refuse_if_busy(repo)


def test_a_lock_that_stays_is_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "LOCK_WAIT", 0.0)
    (repo / ".git" / "index.lock").touch()
    assert "index.lock exists" in git.commit(repo, ["a.json"], "second").problem


def test_a_change_of_weights_alone_needs_no_commit(repo: Path) -> None:
    before = git.head(repo)
    (repo / "a.json").write_text("by hand")
    assert git.commit(repo, [], "weights are back") == git.Committed()
    assert git.head(repo) == before


def test_what_git_refuses_is_told_in_its_words(repo: Path) -> None:
    done = git.commit(repo, ["none.json"], "second")
    assert "did not match any files" in done.problem
    assert "\n" not in done.problem


@pytest.mark.parametrize("name", ["index.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_the_locks_of_a_killed_git_are_removed(name: str, repo: Path) -> None:
    before = clock.now().timestamp()
    (repo / ".git" / name).touch()
    assert git.clear_own_locks(repo, before)
    assert not (repo / ".git" / name).exists()
    assert git.commit(repo, ["a.json"], "second").commit
    assert not git.clear_own_locks(repo, before)


def test_an_older_lock_is_somebody_elses(repo: Path) -> None:
    lock = repo / ".git" / "index.lock"
    lock.touch()
    os.utime(lock, (1000, 1000))
    assert not git.clear_own_locks(repo, clock.now().timestamp())
    assert lock.exists()


def test_the_lock_of_a_git_that_lives_is_left_alone(repo: Path) -> None:
    lock = repo / ".git" / "index.lock"
    lock.touch()
    with subprocess.Popen(
        ["git", "cat-file", "--batch"], cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as living:
        assert living.stdin is not None
        assert living.stdout is not None
        living.stdin.write(b"HEAD\n")
        living.stdin.flush()
        living.stdout.readline()  # it runs
        assert not git.clear_own_locks(repo, clock.now().timestamp())
        living.stdin.close()
    assert git.clear_own_locks(repo, clock.now().timestamp())


def test_what_was_committed_is_read_as_bytes(repo: Path) -> None:
    assert git.committed(repo, "a.json") == b"1"
    assert git.committed(repo, "none.json") is None


def test_a_repository_is_made_once(tmp_path: Path) -> None:
    assert git.start(tmp_path) == ""
    (tmp_path / "a").mkdir()
    assert git.start(tmp_path / "a") == ""
    assert not (tmp_path / "a" / ".git").exists()
