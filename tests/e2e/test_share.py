"""Two machines, for real: killed at any call, over an S3 server, one following the other."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forge
import machines
import pytest
import s3fs
from conftest import Kt, git
from dying import THROUGH, Dying
from machines import Two, clean, head, register

from kt import journal
from kt.deployments import audit, manifest
from kt.registry import record
from kt.workspace import Workspace

pytestmark = pytest.mark.e2e


@pytest.fixture
def two(workspace: Workspace, kt: Kt) -> Two:
    """Ours has deployed a new version and changed a file of the repository, not pushed yet."""
    made = machines.two(workspace, kt)
    forge.give(made.ours, register(made.ours, "v4"))
    (made.ours.root / "notes.txt").write_text("of ours\n")
    git(made.ours.root, "add", "notes.txt")
    git(made.ours.root, "commit", "--quiet", "-m", "notes")
    return made


def copies(two: Two, command: str, name: str, to: Path) -> Iterator[tuple[Path, str]]:
    """Everything, after the command was killed at every third call in turn, until it comes through."""
    with Dying() as dying:
        for at in range(1, 300, 3):
            shutil.rmtree(to, ignore_errors=True)
            shutil.copytree(
                two.bare.parent, to, symlinks=True, ignore=shutil.ignore_patterns("copy")
            )
            code, said = dying.run(to / name, at, "kill", (command,))
            if code == THROUGH:
                assert at > 10, said
                return
            assert code == -9, said
            yield to, said
    raise AssertionError("the command never comes to its end")


def whole(store: Path) -> bool:
    """Every name in the store is the digest of what it names."""
    return all(
        hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        for path in store.iterdir()
        if not path.name.startswith(".")
    )


def has_what_it_serves(place: Workspace) -> bool:
    _, state = audit.read(place)
    return all(
        hashlib.sha256(
            record.weights(place.root, model, route.active.version).read_bytes()
        ).hexdigest()
        == route.active.sha256
        for model, route in manifest.manifest(state).models.items()
    )


def test_a_push_that_is_killed_at_any_call_publishes_nothing_by_half(
    two: Two, tmp_path: Path, kt: Kt
) -> None:
    for copy, _ in copies(two, "push", two.ours.root.name, tmp_path / "copy"):
        assert whole(copy / "store/weights")
        events = json.loads(git(copy / "bare", "show", "HEAD:deployments/history.json"))
        journal.check(events, Path("bare"))
        if len(events) == 2:
            assert len([*(copy / "store/weights").glob("[0-9a-f]*")]) == 4
        ours = Workspace(copy / two.ours.root.name)
        assert kt("push", at=ours).code == 0
        assert git(copy / "bare", "rev-parse", "HEAD") == head(ours)
        assert clean(ours, kt)


def test_a_pull_that_is_killed_at_any_call_is_old_or_new_and_goes_on(
    two: Two, tmp_path: Path, kt: Kt
) -> None:
    assert kt("push", at=two.ours).code == 0
    states = set()
    for copy, _ in copies(two, "pull", "theirs", tmp_path / "copy"):
        theirs = Workspace(copy / "theirs")
        states.add(audit.read(theirs)[1].seq)
        assert has_what_it_serves(theirs)
        assert kt("pull", at=theirs).code == 0
        assert head(theirs) == head(two.ours)
        assert (theirs.root / "notes.txt").exists()
        assert clean(theirs, kt)
        kt("doctor", "--fix", at=theirs)
        assert [*theirs.root.rglob(".aside-*")] == []
    assert states == {1, 2}


def test_weights_go_through_an_s3_server(endpoint: str, workspace: Workspace, kt: Kt) -> None:
    two = machines.two(workspace, kt, "s3://models/team")
    made = register(two.ours, "v4")
    forge.give(two.ours, made)
    assert kt("push", at=two.ours).code == 0
    assert kt("pull", at=two.theirs).code == 0
    assert has_what_it_serves(two.theirs)
    assert clean(two.theirs, kt)
    assert s3fs.S3FileSystem().exists(f"models/team/weights/{made.sha256}")


def test_a_machine_that_follows_serves_what_the_other_deploys(two: Two, kt: Kt) -> None:
    command = [sys.executable, "-m", "kt", "pull", "--follow", "--every", "0.2", "--json"]
    follower = subprocess.Popen(command, cwd=two.theirs.root, stdout=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        assert kt("push", at=two.ours).code == 0
        told = json.loads(follower.stdout.readline())["result"]
        assert told["moved"]
        assert [event["version"] for event in told["events"]] == ["v4"]
        assert audit.read(two.theirs)[1].serving("m").active is not None
    finally:
        follower.terminate()
        follower.communicate()
    assert head(two.theirs) == head(two.ours)
