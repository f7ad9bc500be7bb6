"""kt doctor: each thing that may be wrong with a machine is found, named, and mended where that is safe."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import forge
import pytest
from conftest import Kt, git

from kt import change, clock, doctor, staging
from kt.doctor import Finding
from kt.models.recurrence import Tier
from kt.predictor import quarantine
from kt.predictor.engine import Key
from kt.registry import record
from kt.store import connect
from kt.store.batch import Batch, Traffic
from kt.store.rollup import roll_up
from kt.store.traffic import append
from kt.workspace import Workspace


def of(place: Workspace | None, check: str) -> Finding:
    return next(one for one in doctor.examine(place, clock.now()) if one.check == check)


def test_a_workspace_as_kt_init_makes_it_is_set_up(workspace: Workspace, kt: Kt) -> None:
    found = doctor.examine(workspace, clock.now())
    # the machine that runs the tests may have an old kernel or a full disk
    assert {one.check for one in found if one.health != "ok"} <= {"sandbox", "space"}
    assert all(one.do for one in found if one.health != "ok")


def test_without_a_workspace_it_says_how_to_make_one(tmp_path: Path, kt: Kt) -> None:
    ran = kt("doctor", "--json", at=tmp_path)
    assert ran.code == 12
    assert ran.document["result"]["checks"][-1]["do"] == "make one: kt init"


def test_the_exit_code_is_the_worst_that_was_found(workspace: Workspace, kt: Kt) -> None:
    git(workspace.root, "checkout", "--quiet", "--detach")
    assert kt("doctor", at=workspace).code in (11, 12)
    (workspace.root / "kt.toml").write_text("nonsense = 1\n")
    ran = kt("doctor", "--json", at=workspace)
    assert ran.code == 12
    assert ran.document["result"]["health"] == "problem"


def test_git_that_knows_no_user_is_a_warning(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(workspace, "identity").what == "Ana <ana@example.org>"
    for name in (
        "GIT_AUTHOR_NAME",
        "GIT_AUTHOR_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL",
    ):
        monkeypatch.delenv(name)
    git(workspace.root, "config", "user.useConfigOnly", "true")
    assert of(workspace, "identity").health == "warning"


def test_a_broken_kt_toml_is_a_finding(workspace: Workspace) -> None:
    (workspace.root / "kt.toml").write_text("nonsense = 1\n")
    found = of(Workspace(workspace.root), "settings")
    assert found.health == "problem"
    assert "nonsense" in found.what


def test_what_signatures_rest_on_is_checked_where_they_are_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(one.check == "signatures" for one in doctor.examine(workspace, clock.now()))
    (workspace.root / "kt.toml").write_text("[signing]\nrequire_signature = true\n")
    strict = Workspace(workspace.root)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert "nobody's signature counts" in of(strict, "signatures").what
    (workspace.root / "allowed_signers").touch()
    assert of(strict, "signatures").health == "ok"
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "ssh-keygen" in of(strict, "signatures").what


@pytest.mark.parametrize("marker", ["MERGE_HEAD", "rebase-merge", "CHERRY_PICK_HEAD"])
def test_git_in_the_middle_of_something(workspace: Workspace, marker: str) -> None:
    (workspace.root / ".git" / marker).touch()
    assert of(workspace, "branch").health == "problem"


def test_a_detached_head_is_a_warning(workspace: Workspace) -> None:
    git(workspace.root, "checkout", "--quiet", "--detach")
    assert of(workspace, "branch").health == "warning"


def test_a_lock_of_git_is_named(workspace: Workspace) -> None:
    (workspace.root / ".git/index.lock").touch()
    assert "index.lock" in of(workspace, "git lock").what


def test_no_repository_is_a_problem_unless_git_is_off(place: Workspace) -> None:
    assert of(place, "git") == Finding("git", "ok", "off in kt.toml")
    (place.root / "kt.toml").write_text("")
    assert of(Workspace(place.root), "git").health == "problem"


def test_a_repository_that_git_init_did_not_finish_is_none(workspace: Workspace, kt: Kt) -> None:
    """A full disk ended it before it wrote HEAD."""
    (workspace.root / ".git" / "HEAD").unlink()
    mended = kt("doctor", "--fix", at=workspace)
    assert mended.code == 12, mended.err
    assert "git init" in of(workspace, "git").do
    git(workspace.root, "init", "--quiet")  # as it says
    assert of(workspace, "git").health == "ok"


def test_no_git_command_is_a_problem(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert of(workspace, "git").what == "there is no git command"


def test_weights_that_git_would_take_are_a_problem_that_fix_mends(
    workspace: Workspace, kt: Kt
) -> None:
    (workspace.root / ".gitignore").write_text("mine\n")
    assert of(workspace, "weights").health == "problem"
    kt("doctor", "--fix", at=workspace)
    assert of(workspace, "weights").health == "ok"
    assert (workspace.root / ".gitignore").read_text().startswith("mine\n")


def test_weights_in_git_are_a_problem(workspace: Workspace) -> None:
    path = record.weights(workspace.root, "m", "v1")
    git(workspace.root, "add", "--force", str(path))
    assert "registry/m/v1/model.safetensors" in of(workspace, "weights").what


def test_what_killed_commands_left_is_found_and_removed(workspace: Workspace, kt: Kt) -> None:
    left = workspace.root / "deployments/.aside-1234-history.json"
    left.write_text("half")
    secret = workspace.root / ".aside-1234-secret.json"
    secret.write_text("half")
    staged = workspace.local / staging.STAGING / "dead"
    staged.mkdir(parents=True)
    assert of(workspace, "leftovers").what.startswith("3 of killed commands")
    assert "removed 3 left-overs" in kt("doctor", "--fix", at=workspace).err
    assert not left.exists()
    assert not secret.exists()
    assert not staged.exists()


def test_a_version_in_quarantine_gets_another_try(workspace: Workspace, kt: Kt) -> None:
    calls = quarantine.Calls()
    with calls.note(Key("m", "v1", "1" * 64)):
        for _ in range(quarantine.MOST):
            quarantine.bury(workspace.local, calls, -11, False, clock.now())
    assert "tried again" in kt("doctor", "--fix", at=workspace).err
    assert not quarantine.read(workspace.local).held


def test_a_pending_commit_is_found_and_made(workspace: Workspace, kt: Kt) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kt.git.commit", lambda *_: change.git.Committed(problem="a disk was full"))
        forge.give(workspace, forge.Candidate("m", "v1", record.read(workspace, "m", "v1").sha256))
    assert of(workspace, "commit").health == "warning"
    kt("doctor", "--fix", at=workspace)
    assert of(workspace, "commit").health == "ok"
    assert "deploy v1" in git(workspace.root, "log", "-1", "--format=%s")


def test_the_holder_of_the_lock_is_named(workspace: Workspace) -> None:
    with change.locked(workspace, "deploy"):
        assert f"kt deploy, process {os.getpid()}" in of(workspace, "lock").what
    assert of(workspace, "lock").what == "free"


def test_a_folder_that_is_a_link_is_a_problem(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / "jobs/.gitkeep").unlink()
    (workspace.root / "jobs").rmdir()
    (workspace.root / "jobs").symlink_to(tmp_path)
    assert "symbolic link" in of(workspace, "folders").what


def test_an_event_of_the_future_is_a_warning(place: Workspace) -> None:
    forge.give(place, forge.Candidate("m", "v1", record.read(place, "m", "v1").sha256))
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    found = next(one for one in doctor.examine(place, long_ago) if one.check == "clock")
    assert "later than now" in found.what


def test_checks_that_take_long_make_no_skew(workspace: Workspace) -> None:
    a_minute_ago = clock.now() - timedelta(minutes=1)  # when the checks began
    found = next(one for one in doctor.examine(workspace, a_minute_ago) if one.check == "clock")
    assert found.health == "ok"


def test_a_store_that_is_not_there_is_a_warning(place: Workspace, tmp_path: Path) -> None:
    (place.root / "kt.toml").write_text(f'git = "off"\n[remote]\nurl = "{tmp_path}/nowhere"\n')
    assert of(Workspace(place.root), "store").health == "warning"


def test_a_degraded_predictor_is_a_warning(place: Workspace) -> None:
    from kt.predictor.presence import Place, Presence

    card = Place(place.local)
    try:
        card.tell(
            Presence(
                card.descriptor,
                "h",
                "http://x",
                0,
                "",
                [],
                "degraded",
                "why",
                "2026-01-01T00:00:00Z",
            )
        )
        assert "degraded: why" in of(place, "predictor").what
    finally:
        card.leave()


def test_one_check_that_fails_does_not_hide_the_next(place: Workspace) -> None:
    (place.root / "deployments/history.json").write_text("[")
    checks = {one.check: one.health for one in doctor.examine(place, clock.now())}
    assert checks["predictors"] == "problem"
    assert checks["clock"] == "problem"
    assert checks["folders"] == "ok"


def test_the_json_has_a_row_for_each_line(workspace: Workspace, kt: Kt) -> None:
    rows = json.loads(kt("doctor", "--json", at=workspace).out)["result"]["checks"]
    assert {"check", "health", "what", "do"} == set(rows[0])


def test_it_says_how_memory_networks_train_and_what_makes_it_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numba = pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    assert of(None, "training").what == f"compiled by numba {numba.__version__}"
    slow = Tier("torch", None, "off by 0.1")
    monkeypatch.setattr("kt.models.recurrence.tier", lambda: slow)
    assert of(None, "training").health == "warning"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    found = of(None, "training")
    assert (found.health, found.what) == ("ok", "by torch alone")
    assert "kt[fast]" in found.do


def test_the_tables_are_looked_at_and_never_made(workspace: Workspace) -> None:
    assert of(workspace, "tables").what.startswith("none yet")
    assert not (workspace.root / "kt.db").exists()
    now = int(clock.now().timestamp()) // 60
    store = connect.open(workspace.root, workspace.settings)
    for number, minute in enumerate((now - 2, now - 4 * 24 * 60)):
        batch = Batch(traffic={(1, minute): Traffic(assigned=1)})
        append(store, "a", number, batch, now - 2)
    assert of(workspace, "tables").health == "warning"
    assert "last written 2 minutes ago; minutes of 4 days ago" in of(workspace, "tables").what
    roll_up(store, clock.now())
    assert of(workspace, "tables").health == "ok"


def test_damaged_tables_are_a_problem_with_a_way_out(workspace: Workspace) -> None:
    (workspace.root / "kt.db").write_bytes(b"no tables" * 1000)
    assert of(workspace, "tables").health == "problem"
    assert "move it away" in of(workspace, "tables").do


def test_tables_may_be_switched_off(workspace: Workspace) -> None:
    (workspace.root / "kt.toml").write_text('[store]\nurl = ""\n')
    assert "off in kt.toml" in of(Workspace(workspace.root), "tables").what


def test_gc_verify_and_mending_leave_the_tables_alone(workspace: Workspace, kt: Kt) -> None:
    connect.open(workspace.root, workspace.settings)
    before = (workspace.root / "kt.db").read_bytes()
    for command in (["gc", "--yes"], ["verify", "--fix"], ["doctor", "--fix"]):
        kt(*command, at=workspace)
    assert (workspace.root / "kt.db").read_bytes() == before
    assert kt("verify", at=workspace).code == 0
    assert git(workspace.root, "status", "--porcelain") == ""
