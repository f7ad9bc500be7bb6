"""kt push and kt pull between two clones, a bare repository and a folder of weights."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import forge
import machines
import pytest
from conftest import Kt, git
from machines import Two, clean, head, named, register

from kt import files, journal
from kt.deployments import audit, events, manifest, push, sides
from kt.deployments import pull as room
from kt.errors import Unconfirmed
from kt.registry import absence, record
from kt.workspace import Workspace


@pytest.fixture
def two(workspace: Workspace, kt: Kt) -> Two:
    return machines.two(workspace, kt)


def seq(place: Workspace) -> int:
    return audit.read(place)[1].seq


def test_a_fresh_clone_gets_the_weights_it_needs_and_is_whole(two: Two, kt: Kt) -> None:
    for name in ("v1", "v2", "v3"):
        assert absence.where(two.theirs, "m", name) == "here"
    assert clean(two.theirs, kt)


def test_what_is_deployed_here_is_served_there(two: Two, kt: Kt) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    pushed = kt("push", "--json", at=two.ours).result
    assert [one["version"] for one in pushed["sent"]] == ["v4"]
    pulled = kt("pull", "--json", at=two.theirs).result
    assert [one["version"] for one in pulled["got"]] == ["v4"]
    assert [event["version"] for event in pulled["events"]] == ["v4"]
    assert head(two.theirs) == head(two.ours) == pulled["commit"]
    assert (
        manifest.parse((two.theirs.root / manifest.MANIFEST).read_bytes())
        .models["m"]
        .active.version
        == "v4"
    )
    assert clean(two.theirs, kt)
    assert "up to date" in git(two.theirs.root, "status")


def test_nothing_new_is_nothing_to_do(two: Two, kt: Kt) -> None:
    assert kt("push", at=two.ours).out == "nothing to push: all of it is there\n"
    assert kt("pull", at=two.theirs).out == "nothing to pull: all of it is here\n"


def test_a_dry_run_says_what_would_move_and_moves_nothing(two: Two, kt: Kt) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    before = git(two.bare, "rev-parse", "HEAD")
    ran = kt("push", "--dry-run", "--exit-code", "--json", at=two.ours)
    assert ran.code == 10
    assert ran.document["result"]["moved"]
    assert git(two.bare, "rev-parse", "HEAD") == before
    assert len(list((two.store / "weights").iterdir())) == 3
    kt("push", at=two.ours)
    assert kt("pull", "--dry-run", "--exit-code", at=two.theirs).code == 10
    assert seq(two.theirs) == 1


def test_weights_are_there_before_the_branch_moves(two: Two, kt: Kt) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    shutil.rmtree(two.store)
    two.store.write_text("no folder")
    assert kt("push", at=two.ours).code == 5
    assert git(two.bare, "rev-parse", "HEAD") != head(two.ours)


def test_a_manifest_is_not_taken_over_before_its_weights_are_here(two: Two, kt: Kt) -> None:
    forge.give(two.ours, made := register(two.ours, "v4"))
    kt("push", at=two.ours)
    (two.store / "weights" / made.sha256).unlink()
    ran = kt("pull", "--json", at=two.theirs)
    assert ran.error["code"] == 5
    assert "m@v4" in ran.error["message"]
    assert seq(two.theirs) == 1
    assert clean(two.theirs, kt)


def test_a_store_that_is_not_mounted_is_told(two: Two, kt: Kt) -> None:
    active = manifest.parse((two.theirs.root / manifest.MANIFEST).read_bytes()).models["m"].active
    record.weights(two.theirs.root, "m", active.version).unlink()
    two.store.rename(two.store.with_name("elsewhere"))
    ran = kt("pull", at=two.theirs)
    assert ran.code == 5
    assert "there is no folder" in ran.err
    assert "mount it" in ran.err


def test_weights_with_another_digest_are_refused(two: Two, kt: Kt) -> None:
    forge.give(two.ours, made := register(two.ours, "v4"))
    kt("push", at=two.ours)
    stored = two.store / "weights" / made.sha256
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    assert kt("pull", at=two.theirs).code == 4
    assert seq(two.theirs) == 1
    assert clean(two.theirs, kt)


def test_push_is_refused_where_the_remote_is_ahead(two: Two, kt: Kt) -> None:
    forge.give(two.theirs, named(two.theirs, "v2"))
    kt("push", at=two.theirs)
    error = kt("push", "--json", at=two.ours).error
    assert (error["code"], error["hint"]) == (3, "take it over first: kt pull")


def test_two_machines_that_deployed_are_both_shown_and_nothing_is_merged(two: Two, kt: Kt) -> None:
    forge.give(two.ours, named(two.ours, "v2"))
    forge.give(two.theirs, named(two.theirs, "v3"))
    assert kt("push", at=two.ours).code == 0
    before = head(two.theirs)
    for verb in ("push", "pull"):
        error = kt(verb, "--json", at=two.theirs).error
        assert error["code"] == 3
        assert "deploy v2" in error["message"]
        assert "deploy v3" in error["message"]
    assert head(two.theirs) == before
    assert clean(two.theirs, kt)


def test_the_way_out_of_a_fork_works_as_the_refusal_says(two: Two, kt: Kt) -> None:
    forge.give(two.ours, named(two.ours, "v2"))
    forge.give(two.theirs, named(two.theirs, "v3"))
    kt("push", at=two.ours)
    hint = kt("pull", "--json", at=two.theirs).error["hint"]
    assert "kt pull --force --reason TEXT, and deploy yours again" in hint
    alone = head(two.theirs)
    ran = kt("pull", "--force", "--reason", "ours was a test", at=two.theirs)
    assert "What stood here is in git behind it.  Let the others have it: kt push" in ran.out
    assert journal.read(two.theirs.root / events.HISTORY).events == (
        journal.read(two.ours.root / events.HISTORY).events
    )
    assert git(two.theirs.root, "show", "--no-patch", "--format=%P") == f"{head(two.ours)} {alone}"
    said = git(two.theirs.root, "show", "--no-patch", "--format=%B")
    assert "event 2 in place of 2, from 2 on" in said
    assert "by: ana\nreason: ours was a test\nlet go: 2 m: deploy v3" in said
    assert clean(two.theirs, kt)
    forge.give(two.theirs, named(two.theirs, "v3"))
    assert kt("push", at=two.theirs).code == 0
    assert kt("pull", at=two.ours).code == 0
    assert seq(two.ours) == 3


def test_two_that_push_at_once_lose_nothing(two: Two, kt: Kt) -> None:
    """One of the two is refused, pulls what the other pushed where it may, and no event is lost."""
    forge.give(two.ours, named(two.ours, "v2"))
    forge.give(two.theirs, named(two.theirs, "v3"))
    codes: dict[str, int] = {}

    def run(name: str, place: Workspace) -> None:
        try:
            push.push(
                place, "", dry_run=False, tell=lambda *_: None, watch=lambda *_: lambda _: None
            )
            codes[name] = 0
        except push.Refused:
            codes[name] = 3

    threads = [
        threading.Thread(target=run, args=pair) for pair in (("o", two.ours), ("t", two.theirs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes.values()) == [0, 3]
    won = two.ours if codes["o"] == 0 else two.theirs
    assert git(two.bare, "rev-parse", "HEAD") == head(won)


def test_a_pull_does_not_overwrite_what_is_changed_here(two: Two, kt: Kt) -> None:
    (two.ours.root / "notes.txt").write_text("theirs\n")
    git(two.ours.root, "add", "notes.txt")
    git(two.ours.root, "commit", "--quiet", "-m", "notes")
    forge.give(two.ours, named(two.ours, "v2"))
    kt("push", at=two.ours)
    (two.theirs.root / "notes.txt").write_text("mine\n")
    error = kt("pull", "--json", at=two.theirs).error
    assert error["code"] == 3
    assert "notes.txt" in error["message"]
    assert (two.theirs.root / "notes.txt").read_text() == "mine\n"
    assert seq(two.theirs) == 1


def test_a_pull_brings_the_rest_of_the_repository_too(two: Two, kt: Kt) -> None:
    (two.ours.root / "family.py").write_text("METRIC = 'auc'\n")
    git(two.ours.root, "add", "family.py")
    git(two.ours.root, "commit", "--quiet", "-m", "a family")
    kt("push", at=two.ours)
    kt("pull", at=two.theirs)
    assert (two.theirs.root / "family.py").exists()
    assert clean(two.theirs, kt)


def test_a_pull_that_was_killed_after_the_fact_is_finished_by_the_next_command(
    two: Two, kt: Kt
) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    (two.ours.root / "notes.txt").write_text("theirs\n" * 100)
    git(two.ours.root, "add", "notes.txt")
    git(two.ours.root, "commit", "--quiet", "-m", "notes")
    kt("push", at=two.ours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kt.commits.fast_forward", killed)
        with pytest.raises(KeyboardInterrupt):
            pull(two.theirs)
    (two.theirs.root / "notes.txt").write_text(
        "theirs\n" * 7
    )  # what a killed git had begun to write
    assert head(two.theirs) != head(two.ours)
    forge.give(two.theirs, named(two.theirs, "v2"))
    assert git(two.theirs.root, "rev-parse", "HEAD~1") == head(two.ours)
    assert (two.theirs.root / "notes.txt").read_text() == "theirs\n" * 100
    assert clean(two.theirs, kt)


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def pull(place: Workspace) -> room.Pulled:
    return room.pull(
        place,
        "",
        forge.STAMP,
        keep=3,
        everything=False,
        dry_run=False,
        tell=lambda *_: None,
        watch=lambda *_: lambda _: None,
    )


def test_a_pull_that_was_killed_before_the_fact_leaves_the_old_state(two: Two, kt: Kt) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    kt("push", at=two.ours)
    real = files.publish

    def dying(aside: Path, path: Path) -> None:
        if path.name == "history.json":
            raise KeyboardInterrupt
        real(aside, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "publish", dying)
        with pytest.raises(KeyboardInterrupt):
            pull(two.theirs)
    assert seq(two.theirs) == 1
    assert kt("pull", at=two.theirs).code == 0
    assert clean(two.theirs, kt)
    assert head(two.theirs) == head(two.ours)


def test_more_versions_than_are_needed_stay_away_until_asked_for(two: Two, kt: Kt) -> None:
    for number in range(4, 10):
        forge.give(two.ours, register(two.ours, f"v{number}"))
    kt("push", at=two.ours)
    assert kt("pull", "--keep", "1", at=two.theirs).code == 0
    assert absence.where(two.theirs, "m", "v9") == "here"
    assert absence.where(two.theirs, "m", "v5") == "not pulled"
    assert clean(two.theirs, kt)
    assert kt("deploy", "m@v5", at=two.theirs).code == 3
    assert kt("pull", "m@v5", at=two.theirs).code == 0
    assert kt("deploy", "m@v5", at=two.theirs).code == 0
    assert kt("pull", "--all", at=two.theirs).code == 0
    assert absence.everywhere(two.theirs) == []


def test_without_git_weights_alone_are_shared(two: Two, kt: Kt) -> None:
    for place in (two.ours, two.theirs):
        settings = place.root / "kt.toml"
        settings.write_text('git = "off"\n' + settings.read_text())
    record.weights(two.theirs.root, "m", "v1").unlink()
    assert kt("pull", at=two.theirs).code == 0
    assert absence.where(two.theirs, "m", "v1") == "here"


# A remote that means harm


def commit_raw(two: Two, path: str, blob: bytes, mode: str = "100644") -> None:
    """A commit on the shared branch that kt would not make."""
    import subprocess

    root = two.ours.root
    done = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=root,
        input=blob,
        capture_output=True,
        check=True,
    )
    made = done.stdout.decode().strip()
    git(root, "update-index", "--add", "--cacheinfo", f"{mode},{made},{path}")
    git(root, "commit", "--quiet", "--no-verify", "-m", "x")
    git(root, "push", "--quiet", "origin", "HEAD")


@pytest.mark.parametrize(
    ("path", "blob", "mode"),
    [
        ("registry/m/v9/record.json", b"../../../etc/passwd", "120000"),
        ("registry/m/v9/record.json", b"{}", "100644"),
        ("registry/m/v9/model.safetensors", b"weights", "100644"),
        ("registry/M!/v9/record.json", b"{}", "100644"),
        ("registry/m/v1/extra/record.json", b"{}", "100644"),
        ("registry/m/v1/record.json", b"{}", "100644"),
        ("deployments/history.json", b"[]\n", "100644"),
        ("deployments/history.json", b"not json", "100644"),
        ("deployments/history.json", b"/etc/passwd", "120000"),
        ("deployments/active.json", b"{}", "100644"),
        ("kt.toml", b"nonsense = 1\n", "100644"),
        (".kt/lock", b"", "100644"),
        ("monitors/x", b"/tmp", "120000"),
    ],
)
def test_a_commit_that_kt_would_not_make_is_not_taken_over(
    two: Two, kt: Kt, path: str, blob: bytes, mode: str
) -> None:
    before = head(two.theirs)
    commit_raw(two, path, blob, mode)
    ran = kt("pull", "--json", at=two.theirs)
    assert ran.code in (2, 3, 4), ran.out
    assert head(two.theirs) == before
    assert clean(two.theirs, kt)


def test_a_history_that_was_rewritten_is_not_taken_over(two: Two, kt: Kt) -> None:
    """The chain holds and the manifest fits, but the first event is not ours."""
    path = two.ours.root / "deployments/history.json"
    event = journal.read(path).events[0]
    other = {key: value for key, value in event.items() if key not in ("seq", "prev")} | {
        "by": "eve"
    }
    book = journal.Journal(path, [], b"").append([other])
    state = audit.fold(book)
    (two.ours.root / manifest.MANIFEST).write_bytes(manifest.dump(manifest.manifest(state)))
    commit_raw(two, "deployments/active.json", manifest.dump(manifest.manifest(state)))
    commit_raw(two, "deployments/history.json", book.text)
    error = kt("pull", "--json", at=two.theirs).error
    assert error["code"] == 3
    assert "does not go on where ours ends" in error["message"]
    assert "kt pull --force" in error["hint"]
    assert kt("pull", "--force", at=two.theirs).code == 2  # without a reason
    assert kt("pull", "--force", "--reason", "eve is right", at=two.theirs).code == 0
    assert audit.read(two.theirs)[0].events[0]["by"] == "eve"
    assert clean(two.theirs, kt)


def test_a_remote_that_was_taken_back_is_told_of_and_given_again_what_it_lost(
    two: Two, kt: Kt
) -> None:
    before = git(two.bare, "rev-parse", "HEAD")
    branch = f"origin/{git(two.bare, 'symbolic-ref', '--short', 'HEAD')}"
    forge.give(two.ours, register(two.ours, "v4"))
    said = kt("pull", at=two.ours).out.splitlines()
    lacks = f"{branch} lacks 2 commits of this machine.  Give it what is here: kt push"
    assert said == ["nothing to pull: all of it is here", lacks]
    kt("push", at=two.ours)
    kt("pull", at=two.theirs)
    git(two.bare, "update-ref", "HEAD", before)
    told = f"{branch} has been taken back from {head(two.ours)[:7]} to {before[:7]}"
    for machine in (two.ours, two.theirs):
        assert kt("pull", "--json", at=machine).document["result"]["behind"] == told
    assert "is given again what it lost" in kt("push", at=two.theirs).err
    assert git(two.bare, "rev-parse", "HEAD") == head(two.theirs)


def test_a_forced_pull_keeps_what_only_this_machine_has(two: Two, kt: Kt) -> None:
    """Both have made a v4 of their own, and one of them a v5: theirs is v4 from now on, v5 stays."""
    forge.give(two.ours, register(two.ours, "v4"))
    kt("push", at=two.ours)
    mine = forge.version(two.theirs, "m", "v4", failed=True)
    path = record.weights(two.theirs.root, "m", "v4")
    path.write_bytes(path.read_bytes() + b"0123")
    known = record.read(two.theirs, "m", "v4").model_copy(
        update={"sha256": files.digest(path), "size": path.stat().st_size}
    )
    (path.parent / record.RECORD).write_bytes(record.dump(known))
    git(two.theirs.root, "add", "registry")
    git(two.theirs.root, "commit", "--quiet", "-m", "v4")
    forge.give(two.theirs, register(two.theirs, "v5"))
    assert kt("pull", at=two.theirs).code == 3
    assert kt("pull", "--force", "--reason", "r", "--dry-run", at=two.theirs).code == 0
    assert files.digest(path) == known.sha256 != mine.sha256
    assert kt("pull", "--force", "--reason", "r", at=two.theirs).code == 0
    assert files.digest(path) == record.read(two.ours, "m", "v4").sha256
    assert (two.theirs.local / room.PUT_BY / known.sha256).exists()
    assert absence.where(two.theirs, "m", "v5") == "here"
    assert clean(two.theirs, kt)
    assert kt("push", at=two.theirs).code == 0
    assert kt("pull", at=two.ours).code == 0
    assert record.read(two.ours, "m", "v5").sha256
    assert clean(two.ours, kt)


def test_a_forced_pull_that_was_killed_before_it_noted_the_history_is_finished_by_the_next_command(
    two: Two, kt: Kt
) -> None:
    forge.give(two.ours, named(two.ours, "v2"))
    kt("push", at=two.ours)
    forge.give(two.theirs, named(two.theirs, "v3"))
    command = ("pull", "--force", "--reason", "r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kt.deployments.pull.remember", killed)
        kt(*command, at=two.theirs)
    assert kt(*command, at=two.theirs).code == 0
    events = audit.read(two.theirs)[0].events
    assert events == audit.read(two.ours)[0].events
    assert (two.theirs.local / manifest.REPLACED).exists(), "predictors let go of the other one"
    assert clean(two.theirs, kt)


def test_a_version_that_they_have_removed_stays_through_a_forced_pull(two: Two, kt: Kt) -> None:
    git(two.ours.root, "rm", "--quiet", "-r", "registry/m/v3")
    git(two.ours.root, "commit", "--quiet", "-m", "clean up")
    git(two.ours.root, "push", "--quiet", "origin", "HEAD")
    assert "versions never go" in kt("pull", "--json", at=two.theirs).error["message"]
    assert kt("pull", "--force", "--reason", "r", at=two.theirs).code == 0
    assert absence.where(two.theirs, "m", "v3") == "here"
    assert clean(two.theirs, kt)


def test_a_forced_pull_drops_no_work_of_a_person(two: Two, kt: Kt) -> None:
    forge.give(two.ours, named(two.ours, "v2"))
    kt("push", at=two.ours)
    forge.give(two.theirs, named(two.theirs, "v3"))
    (two.theirs.root / "family.py").write_text("mine\n")
    git(two.theirs.root, "add", "family.py")
    git(two.theirs.root, "commit", "--quiet", "-m", "a family")
    before = head(two.theirs)
    error = kt("pull", "--force", "--reason", "r", "--json", at=two.theirs).error
    assert error["code"] == 3
    assert "commits here have changed what is not kt's: family.py" in error["message"]
    assert head(two.theirs) == before
    assert clean(two.theirs, kt)


def test_a_remote_that_began_anew_can_be_taken_over(two: Two, kt: Kt) -> None:
    """Its branch has no commit in common with the one here."""
    branch = git(two.ours.root, "branch", "--show-current")
    git(two.ours.root, "checkout", "--quiet", "--orphan", "anew")
    (two.ours.root / events.HISTORY).unlink()
    (two.ours.root / manifest.MANIFEST).unlink()
    shutil.rmtree(two.ours.local)
    git(two.ours.root, "add", "--all")
    git(two.ours.root, "commit", "--quiet", "-m", "anew")
    forge.give(two.ours, named(two.ours, "v3"))
    git(two.ours.root, "push", "--quiet", "--force", "origin", f"HEAD:{branch}")
    assert kt("pull", "--json", at=two.theirs).error["code"] == 3
    assert kt("pull", "--force", "--reason", "moved", at=two.theirs).code == 0
    active = audit.read(two.theirs)[1].serving("m").active
    assert active
    assert active.version == "v3"
    assert clean(two.theirs, kt)


def test_what_arrived_whole_is_not_moved_again(two: Two, kt: Kt) -> None:
    """A push and a pull of three versions that stop after the first go on with the second."""
    moved: list[str] = []
    bytes_moved: list[int] = []

    def stop_once(_step: str, text: str) -> None:
        moved.append(text.partition(" ")[0])
        if len(moved) == 1:
            raise KeyboardInterrupt

    def go(verb: Callable[..., object], place: Workspace, *more: object, **options: object) -> None:
        def once() -> None:
            told = {"tell": stop_once, "watch": lambda *_: bytes_moved.append}
            verb(place, "", *more, dry_run=False, **told, **options)

        moved.clear()
        bytes_moved.clear()
        with pytest.raises(KeyboardInterrupt):
            once()
        once()

    for name in ("v4", "v5", "v6"):
        register(two.ours, name)
    size = record.read(two.ours, "m", "v4").size
    go(push.push, two.ours)
    assert sorted(moved[:3]) == ["m@v4", "m@v5", "m@v6"]
    assert sum(bytes_moved) == 3 * size
    go(room.pull, two.theirs, forge.STAMP, keep=3, everything=True)
    assert sorted(set(moved)) == ["m@v4", "m@v5", "m@v6"]
    assert sum(bytes_moved) == 3 * size
    assert clean(two.theirs, kt)


def test_no_hook_filter_or_monitor_runs(two: Two, kt: Kt, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for folder in (
        two.bare / "hooks",
        two.theirs.root / ".git/hooks",
        two.ours.root / ".git/hooks",
    ):
        folder.mkdir(exist_ok=True)
        for name in (
            "pre-push", "pre-receive", "update", "post-receive", "post-update", "post-merge",
            "post-checkout", "reference-transaction", "post-index-change", "fsmonitor-watchman",
        ):  # fmt: skip
            (folder / name).write_text(f"#!/bin/sh\ntouch {ran}\n")
            (folder / name).chmod(0o755)
    for place in (two.bare, two.theirs.root):
        git(place, "config", "core.fsmonitor", f"touch {ran}")
        git(place, "config", "uploadpack.packObjectsHook", f"touch {ran}")
    commit_raw(two, ".gitattributes", b"* filter=evil\n")
    forge.give(two.ours, named(two.ours, "v2"))
    ran.unlink(missing_ok=True)  # the commands above were git's own
    assert kt("push", at=two.ours).code == 0
    assert kt("pull", at=two.theirs).code == 0
    assert not ran.exists()
    assert seq(two.theirs) == 2


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% ran", "fd::3", "--upload-pack=touch ran", "http://127.0.0.1:9/x"]
)
def test_a_remote_that_runs_a_command_or_is_open_to_all_is_refused(
    two: Two, kt: Kt, url: str
) -> None:
    git(two.theirs.root, "config", "remote.origin.url", url)
    for verb in ("pull", "push"):
        assert kt(verb, at=two.theirs).code in (3, 5)
    assert not (two.theirs.root / "ran").exists()


@pytest.mark.parametrize("name", ["--upload-pack=x", "-c", "nobody", "../x", ""])
def test_a_name_that_is_no_remote_is_refused(two: Two, kt: Kt, name: str) -> None:
    git(two.theirs.root, "remote", "remove", "origin")
    assert kt("pull", "--json", "--", name, at=two.theirs).code == 2


def test_a_pull_is_refused_in_the_middle_of_a_merge_and_on_no_branch(two: Two, kt: Kt) -> None:
    marker = two.theirs.root / ".git/MERGE_HEAD"
    marker.write_text(head(two.theirs))
    assert kt("pull", at=two.theirs).code == 3
    marker.unlink()
    git(two.theirs.root, "checkout", "--quiet", "--detach")
    assert kt("pull", at=two.theirs).code == 3
    assert kt("push", at=two.theirs).code == 3


def test_what_is_not_committed_is_not_pushed(two: Two, kt: Kt) -> None:
    lock = two.ours.root / ".git/index.lock"
    lock.touch()
    os.utime(lock, (0, 0))  # not kt's own: that would be newer than the change
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kt.git.LOCK_WAIT", 0.1)
        forge.give(two.ours, named(two.ours, "v2"))
        assert kt("push", at=two.ours).code == 5
    lock.unlink()
    assert kt("push", at=two.ours).code == 0
    assert json.loads(git(two.bare, "show", "HEAD:deployments/history.json"))[-1]["version"] == "v2"


def test_a_merge_by_hand_is_shown_and_ends_with_one_side(two: Two, kt: Kt) -> None:
    """git pull on a machine that has deployed: the same lines of the history differ, and git says so."""
    forge.give(two.ours, named(two.ours, "v2"))
    forge.give(two.theirs, named(two.theirs, "v3"))
    assert kt("push", at=two.ours).code == 0
    root = two.theirs.root
    merge = ["git", "pull", "--quiet", "--no-rebase", "origin"]
    assert subprocess.run(merge, cwd=root, capture_output=True, check=False).returncode == 1
    for command in (("status",), ("deploy", "m@v1"), ("rollback",), ("push",)):
        stopped = kt(*command, at=root)
        assert stopped.code in (3, 4)
        assert (
            "two machines have deployed" in stopped.err or "a merge is in progress" in stopped.err
        )
    git(root, "checkout", "--quiet", "--theirs", "deployments")
    git(root, "commit", "--quiet", "--all", "--no-edit")
    assert kt("verify", "--accept", at=root).code == 0
    assert kt("deploy", "m@v3", at=root).code == 0
    assert kt("push", at=root).code == 0
    assert seq(two.theirs) == 3
    assert clean(two.theirs, kt)
    assert kt("pull", at=two.ours).code == 0
    assert seq(two.ours) == 3


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_the_lock_of_a_ref_that_a_killed_command_was_moving_is_cleared(
    verb: str, two: Two, kt: Kt
) -> None:
    root = two.theirs.root
    branch = git(root, "branch", "--show-current")
    lock = root / ".git" / "refs" / "remotes" / "origin" / f"{branch}.lock"
    lock.touch()
    assert kt(verb, at=root).code == 0
    assert lock.exists()  # nobody knows whose it is
    (two.theirs.local / sides.MOVING).touch()
    lock.touch()
    assert kt(verb, at=root).code == 0
    assert not lock.exists()
    assert not (two.theirs.local / sides.MOVING).exists()


def test_what_a_killed_pull_had_fetched_is_swept_by_the_next(two: Two, kt: Kt) -> None:
    for name in (".kt/incoming/abc", ".kt/.aside-1-history.json"):
        path = two.theirs.root / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert kt("pull", at=two.theirs).code == 0
    assert [*(two.theirs.local / "incoming").iterdir(), *two.theirs.root.rglob(".aside-*")] == []


def test_a_pull_that_can_write_nothing_says_so_and_not_that_it_is_unconfirmed(
    two: Two, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.give(two.ours, register(two.ours, "v4"))
    assert kt("push", at=two.ours).code == 0

    def refuse(folder: Path) -> None:
        if folder.name == "m@v4":  # where the new version is staged
            raise Unconfirmed("not synced")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", refuse)
        assert kt("pull", at=two.theirs).code == 5
    assert seq(two.theirs) == 1
    assert kt("pull", at=two.theirs).code == 0
    assert seq(two.theirs) == 2
