"""Each verb reads, plans, and writes once; no traffic goes to weights that are not what they were."""

import forge
import pytest

from kt import change, git
from kt.change import Change
from kt.deployments import audit, deploy
from kt.deployments.events import HISTORY
from kt.errors import Corrupt, Refused
from kt.registry import record
from kt.workspace import Workspace


def give(
    place: Workspace, name: str, traffic: float | None = None, experiment: str = ""
) -> deploy.Done:
    return forge.give(place, deploy.version_of(place, "m", name), traffic, experiment)


def test_a_deployment_is_told_with_what_was_before_and_after(place: Workspace) -> None:
    done = give(place, "v1")
    assert done.event is not None
    assert (done.event["kind"], done.event["seq"], done.before.models) == ("deployed", 1, {})
    assert done.after.models["m"].active.version == "v1"
    assert done.record == done.after.head == audit.read(place)[0].head
    assert give(place, "v1").event is None


def test_a_dry_run_is_the_same_and_writes_nothing(place: Workspace) -> None:
    candidate = deploy.version_of(place, "m", "v1")
    would = deploy.deploy(place, candidate, forge.STAMP, traffic=None, experiment="", dry_run=True)
    assert not (place.root / HISTORY).exists()
    did = give(place, "v1")
    assert (would.event, would.after) == (did.event, did.after)


def test_a_commit_says_what_has_happened(workspace: Workspace) -> None:
    done = give(workspace, "v1")
    assert done.commit
    assert git.committed(workspace.root, HISTORY) == (workspace.root / HISTORY).read_bytes()


def test_a_change_that_git_does_not_take_is_done_all_the_same(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "commit", lambda *_: git.Committed(problem="it sulks"))
    done = give(workspace, "v1")
    assert done.commit == ""
    assert done.warnings == [
        "done, but not committed to git: it sulks; the next kt command will commit it"
    ]


@pytest.mark.parametrize("harm", ["gone", "flipped"])
def test_weights_that_are_harmed_get_no_traffic(harm: str, place: Workspace) -> None:
    for name in ("v1", "v2"):
        give(place, name)
    give(place, "v3", 10.0, "x")
    for name in ("v1", "v3"):
        path = record.weights(place.root, "m", name)
        data = path.read_bytes()
        path.unlink() if harm == "gone" else path.write_bytes(data[:-1] + b"?")
    kind = Refused if harm == "gone" else Corrupt
    with pytest.raises(kind):
        deploy.promote(place, "x", forge.STAMP, evidence={"verdict": "better"}, force=False)
    assert forge.back(place).event is not None  # the experiment ends: that needs no weights
    with pytest.raises(kind, match="weights"):
        forge.back(place)  # to v1
    with pytest.raises(kind):
        give(place, "v3")
    with pytest.raises(kind):
        give(place, "v1", 10.0, "y")
    state = audit.read(place)[1].serving("m")
    assert state.active is not None
    assert (state.active.version, state.experiment) == ("v2", None)


def test_a_version_that_a_gate_refused_is_marked_wherever_it_serves(place: Workspace) -> None:
    give(place, "v1")
    forge.version(place, "m", "v9", failed=True)
    give(place, "v9", 10.0, "x")
    assert audit.read(place)[1].serving("m").forced == {"v9"}


def leave_pending(place: Workspace, done: deploy.Done) -> None:
    """As if the command had been killed after its rename: its note stands."""
    place.local.mkdir(exist_ok=True)
    change.note(place, Change("x", [], fact=done.record))


def test_a_rollback_that_was_killed_and_typed_again_goes_back_once(place: Workspace) -> None:
    for name in ("v1", "v2", "v3"):
        give(place, name)
    leave_pending(place, forge.back(place))
    again = forge.back(place)
    assert again.event is not None
    assert again.event["seq"] == 4
    assert (again.before.models["m"].active.version, again.after.models["m"].active.version) == (
        "v3",
        "v2",
    )
    assert "it is finished" in again.notes[-1]
    assert forge.back(place).after.models["m"].active.version == "v1"


def test_a_note_of_something_else_does_not_stop_a_rollback(place: Workspace) -> None:
    for name in ("v1", "v2"):
        give(place, name)
    leave_pending(place, give(place, "v3"))
    assert forge.back(place).after.models["m"].active.version == "v2"


def test_an_unrelated_file_of_a_developer_stays_staged(workspace: Workspace) -> None:
    from conftest import git as run

    (workspace.root / "source.py").write_text("x")
    run(workspace.root, "add", "source.py")
    give(workspace, "v1")
    assert run(workspace.root, "diff", "--cached", "--name-only") == "source.py"


def test_a_merge_in_progress_stops_a_dry_run_too(workspace: Workspace) -> None:
    (workspace.root / ".git" / "MERGE_HEAD").touch()
    for dry_run in (True, False):
        with pytest.raises(Refused, match="a merge is in progress"):
            deploy.deploy(
                workspace,
                deploy.version_of(workspace, "m", "v1"),
                forge.STAMP,
                traffic=None,
                experiment="",
                dry_run=dry_run,
            )
