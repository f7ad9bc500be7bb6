"""A change is made whole under one lock: old or new, whatever goes wrong, and the next command finishes it."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forge
import pytest

from kt import change, files, git, locks, staging
from kt.change import Adopt, Change, Write
from kt.errors import Refused, Unavailable, Unconfirmed
from kt.workspace import Workspace

TWO = Change("m: two files", [Write("deployments/a.json", b"1"), Write("deployments/b.json", b"2")])


def found(place: Workspace) -> dict[str, bytes]:
    folder = place.root / "deployments"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def fails(name: str) -> Any:
    """A rename that fails for files of this name, and for no others."""
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, target)

    return replace


def unsynced(name: str) -> Any:
    """A sync that fails for folders of this name, and for no others."""

    def sync(folder: Path) -> None:
        if folder.name == name:
            raise Unconfirmed("not synced")

    return sync


def test_files_are_written_in_order_and_noted_until_committed(place: Workspace) -> None:
    with change.locked(place, "deploy") as lock:
        assert change.apply(TWO, lock) == git.Committed()
    assert found(place) == {"a.json": b"1", "b.json": b"2"}
    assert change.pending(place) == {}  # git is off


def test_the_first_rename_that_fails_changes_nothing(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with staging.staging(place) as folder:
        (folder / "v9").mkdir()
        (folder / "v9" / "record.json").touch()
        adopt = Adopt(folder / "v9", "registry/n/v9", ("registry/n/v9/record.json",))
        with change.locked(place, "deploy") as lock:
            monkeypatch.setattr(Path, "replace", fails("a.json"))
            with pytest.raises(Unavailable, match=r"a\.json: Input/output error"):
                change.apply(Change("x", [adopt, *TWO.files]), lock)
    assert found(place) == {}
    assert not (place.root / "registry" / "n" / "v9").exists()


def test_after_the_first_rename_a_failure_is_no_longer_a_refusal(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with change.locked(place, "deploy") as lock:
        monkeypatch.setattr(Path, "replace", fails("b.json"))
        with pytest.raises(Unconfirmed, match="the change is recorded, but cannot write"):
            change.apply(TWO, lock)
    assert found(place) == {"a.json": b"1"}


def test_a_change_that_is_not_whole_is_not_committed_until_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with change.locked(workspace, "deploy") as lock, monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails("b.json"))
        with pytest.raises(Unconfirmed):
            change.apply(TWO, lock)
    assert git.committed(workspace.root, "deployments/a.json") is None
    (workspace.root / "deployments" / "b.json").write_bytes(
        b"2"
    )  # as its room would, by recovering
    with change.locked(workspace, "deploy") as lock:
        change.catch_up(lock)
    assert git.committed(workspace.root, "deployments/b.json") == b"2"


def test_a_sync_that_fails_after_a_rename_does_not_stop_the_rest(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with change.locked(place, "deploy") as lock:
        monkeypatch.setattr(files, "sync_folder", unsynced("deployments"))
        with pytest.raises(Unconfirmed, match="not synced"):
            change.apply(TWO, lock)
    assert found(place) == {"a.json": b"1", "b.json": b"2"}


def test_a_note_that_cannot_be_synced_is_a_refusal(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with change.locked(place, "deploy") as lock:
        monkeypatch.setattr(files, "sync_folder", unsynced(".kt"))
        with pytest.raises(Unavailable, match="not synced"):
            change.apply(TWO, lock)
    assert found(place) == {}


def test_a_full_disk_while_staging_leaves_nothing(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with change.locked(place, "deploy") as lock:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left"):
            change.apply(TWO, lock)
    assert found(place) == {}
    assert change.pending(place) == {}


def test_a_deploy_needs_few_syncs(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = [forge.version(place, "n", name) for name in ("v1", "v2")]
    forge.give(place, candidate[0])
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    forge.give(place, candidate[1])
    deployed = len(calls)
    forge.back(place, "n")
    assert deployed <= 10
    assert len(calls) - deployed <= 6


def test_a_second_command_waits_and_is_told_who_holds_the_lock(place: Workspace) -> None:
    with (
        change.locked(place, "deploy"),
        pytest.raises(
            Unavailable, match=rf"locked by kt deploy, process {os.getpid()}, since 20..-"
        ),
        change.locked(place, "rollback", wait=0.05),
    ):
        pass
    with change.locked(place, "rollback", wait=0):
        pass


def test_a_lock_ends_with_its_holder(place: Workspace) -> None:
    script = (
        "import os, sys; from pathlib import Path; from kt import change; from kt.workspace import Workspace\n"
        "with change.locked(Workspace(Path(sys.argv[1])), 'deploy'): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(place.root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with change.locked(place, "deploy", wait=0):
        pass


def test_a_merge_in_progress_is_refused_before_the_lock(workspace: Workspace) -> None:
    (workspace.root / ".git" / "MERGE_HEAD").touch()
    with pytest.raises(Refused, match="a merge is in progress"), change.locked(workspace, "deploy"):
        pass


def test_what_git_could_not_commit_the_next_command_commits(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with change.locked(workspace, "deploy") as lock, monkeypatch.context() as patch:
        patch.setattr(git, "commit", lambda *_: git.Committed(problem="busy"))
        assert change.apply(TWO, lock).problem == "busy"
    assert change.pending(workspace)["paths"] == ["deployments/a.json", "deployments/b.json"]
    with change.locked(workspace, "deploy") as lock:
        change.catch_up(lock)
        assert lock.notes == ["committed what an interrupted command had left: m: two files"]
    assert change.pending(workspace) == {}
    assert git.committed(workspace.root, "deployments/b.json") == b"2"


def test_a_lock_that_kept_git_from_running_is_anothers_and_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "LOCK_WAIT", 0.0)
    index = workspace.root / ".git" / "index.lock"
    index.touch()
    with change.locked(workspace, "deploy") as lock:
        assert "index.lock exists" in change.apply(TWO, lock).problem
    assert index.exists()
    old = change.time_of_day() - 30  # as after the wait for it
    os.utime(index, (old, old))
    with change.locked(workspace, "deploy") as lock:
        change.catch_up(lock)
    assert index.exists()
    index.unlink()
    with change.locked(workspace, "deploy") as lock:
        change.catch_up(lock)
    assert change.pending(workspace) == {}


def test_a_lock_that_came_while_a_commit_was_pending_is_anothers_and_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "LOCK_WAIT", 0.0)
    now = change.time_of_day()
    with change.locked(workspace, "deploy") as lock, monkeypatch.context() as patch:
        patch.setattr(change, "time_of_day", lambda: now - 60)
        patch.setattr(git, "commit", lambda *_: git.Committed(problem="busy", began=False))
        change.apply(TWO, lock)
        patch.setattr(change, "time_of_day", lambda: now)
        change.apply(TWO, lock)
    index = workspace.root / ".git" / "index.lock"
    index.touch()
    os.utime(index, (now - 30, now - 30))
    with change.locked(workspace, "deploy") as lock:
        change.catch_up(lock)
    assert index.exists()


def test_a_note_that_makes_no_sense_is_none(place: Workspace) -> None:
    place.local.mkdir()
    for text in (
        "",
        "[]",
        '{"paths": 1}',
        '{"paths": [], "git_since": "x"}',
        json.dumps({"paths": []}),
    ):
        (place.local / change.PENDING).write_text(text)
        assert change.pending(place) == {}


def test_left_overs_are_swept_under_the_lock(place: Workspace) -> None:
    files.stage(place.root / "deployments" / "history.json", b"half")
    dead = place.local / staging.STAGING / "0123456789abcdef"
    dead.mkdir(parents=True)
    with staging.staging(place) as living:
        with change.locked(place, "deploy"):
            pass
        assert living.exists()
        assert not dead.exists()
    assert not living.exists()
    assert found(place) == {}


def test_a_staging_folder_that_was_swept_before_it_was_locked_is_made_again(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, swept = locks.take, []

    def take(descriptor: int) -> bool:
        if not swept:
            swept.extend((place.local / staging.STAGING).iterdir())
            swept[0].rmdir()
        return real(descriptor)

    monkeypatch.setattr(staging, "take", take)
    with staging.staging(place) as folder:
        assert folder.exists()


def test_rooms_on_another_file_system_are_told(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "rename", rename)
    with staging.staging(place) as folder, pytest.raises(Unavailable) as refused:
        change.adopt(Adopt(folder, "registry/m/v9", ()), place.root / "registry" / "m" / "v9")
    assert "another file system than .kt/" in refused.value.what
    assert refused.value.do == "put .kt/ and the folders beside it on one: kt doctor"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_fact_is_written_waits_for_its_end(
    number: signal.Signals, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).parent.name == "deployments":
            signal.raise_signal(number)
        return real(self, target)

    with change.locked(place, "deploy") as lock:
        monkeypatch.setattr(Path, "replace", replace)
        change.apply(TWO, lock)
    assert len(found(place)) == 2
    told: list[int] = []
    before = signal.signal(number, lambda came, _: told.append(came))
    try:
        change.heed()  # as what goes on does
        change.heed()
    finally:
        signal.signal(number, before)
    assert told == [number], "it has waited, and comes once"


def test_a_room_that_is_a_link_is_refused(place: Workspace, tmp_path: Path) -> None:
    (place.root / "jobs").rmdir()
    (place.root / "jobs").symlink_to(tmp_path)
    with pytest.raises(Refused, match="jobs/ is a symbolic link"):
        change.must_be_workspace(place.root)
