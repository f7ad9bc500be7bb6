"""kt gc on real files: what goes, what stays, what is said of it afterwards."""

from collections.abc import Callable
from pathlib import Path

import forge
import pytest
from conftest import Kt

from kt import staging
from kt.registry import absence, record
from kt.registry.absence import Absence
from kt.workspace import Workspace


def here(place: Workspace) -> list[str]:
    return [v for v in record.versions(place, "m") if absence.where(place, "m", v) == "here"]


@pytest.fixture
def seven(place: Workspace) -> Workspace:
    """The versions v1 to v7, of which v1 to v4 have been deployed one after the other."""
    made = {f"v{n}": forge.version(place, "m", f"v{n}") for n in (4, 5, 6, 7)}
    for name in ("v1", "v2", "v3"):
        forge.give(place, candidate(place, name))
    forge.give(place, made["v4"])
    return place


def candidate(place: Workspace, name: str) -> forge.Candidate:
    return forge.Candidate("m", name, record.read(place, "m", name).sha256)


def test_gc_removes_weights_that_nothing_needs_and_keeps_their_records(
    seven: Workspace, kt: Kt
) -> None:
    result = kt("gc", "--yes", "--keep", "1", "--json", at=seven).result
    assert [one["version"] for one in result["removed"]] == ["v1", "v2", "v5", "v6"]
    assert here(seven) == ["v3", "v4", "v7"]
    assert record.versions(seven, "m") == [f"v{n}" for n in range(1, 8)]
    assert result["freed"] == sum(one["size"] for one in result["removed"])


def test_what_was_removed_is_no_damage_and_what_was_lost_is(seven: Workspace, kt: Kt) -> None:
    kt("gc", "--yes", "--keep", "1", at=seven)
    assert kt("verify", "--json", at=seven).result["ok"]
    record.weights(seven.root, "m", "v7").unlink()
    findings = kt("verify", "--json", at=seven).document["result"]["findings"]
    assert [finding["what"] for finding in findings] == ["the weights are missing"]


def test_a_mark_does_not_excuse_a_version_that_is_served(seven: Workspace, kt: Kt) -> None:
    record.weights(seven.root, "m", "v4").unlink()
    absence.mark(seven, "m", "v4", Absence("pruned", "2026-01-01T00:00:00Z", "ana"))
    assert kt("verify", at=seven).code == 4


def test_models_show_and_verify_say_that_weights_were_removed(seven: Workspace, kt: Kt) -> None:
    kt("gc", "--yes", "--keep", "1", at=seven)
    rows = {
        row["version"]: row["weights"]
        for row in kt("models", "m", "--json", at=seven).result["versions"]
    }
    assert rows["v1"] == "pruned"
    assert rows["v4"] == "here"
    assert "removed by kt gc" in kt("show", "m@v1", at=seven).out
    assert {"model": "m", "version": "v1"} in kt("verify", "--json", at=seven).result["absent"]


@pytest.mark.parametrize(
    "arguments", [("deploy", "m@v1"), ("rollback", "v1"), ("deploy", "m@v1", "--traffic", "5")]
)
def test_a_version_without_weights_gets_no_traffic(
    seven: Workspace, kt: Kt, arguments: tuple[str, ...]
) -> None:
    kt("gc", "--yes", "--keep", "1", at=seven)
    error = kt(*arguments, "--json", at=seven).error
    assert error["code"] == 3
    assert "kt pull m@v1" in error["hint"]


def test_without_a_terminal_gc_refuses_until_told_yes(seven: Workspace, kt: Kt) -> None:
    refused = kt("gc", "--json", at=seven).error
    assert (refused["code"], refused["hint"]) == (2, "add --yes")
    assert len(here(seven)) == 7


def test_a_dry_run_removes_nothing(seven: Workspace, kt: Kt) -> None:
    ran = kt("gc", "--dry-run", "--keep", "1", "--exit-code", "--json", at=seven)
    assert ran.code == 10
    assert len(ran.document["result"]["removed"]) == 4
    assert len(here(seven)) == 7


def test_gc_removes_nothing_while_another_command_prepares_a_version(
    seven: Workspace, kt: Kt
) -> None:
    with staging.staging(seven):
        assert kt("gc", "--yes", "--keep", "1", at=seven).code == 5
    assert len(here(seven)) == 7


def test_gc_counts_and_removes_what_killed_commands_left(seven: Workspace, kt: Kt) -> None:
    left = seven.local / staging.STAGING / "dead"
    left.mkdir(parents=True)
    (left / "model").write_bytes(b"x" * 1000)
    fetched = seven.local / "incoming" / ("f" * 64)
    fetched.parent.mkdir()
    fetched.write_bytes(b"x" * 500)
    result = kt("gc", "--yes", "--json", at=seven).result
    assert (result["freed"], result["leftovers"]) == (1500, 1500)
    assert not left.exists()
    assert not fetched.exists()


def test_what_a_predictor_would_serve_after_a_restart_stays(seven: Workspace, kt: Kt) -> None:
    manifest = (seven.root / "deployments/active.json").read_text()
    (seven.local / "live.json").write_text(manifest.replace('"v4"', '"v5"'))
    kt("gc", "--yes", "--keep", "1", at=seven)
    assert "v5" in here(seven)


def test_a_weight_that_will_not_go_is_said_and_the_others_go(
    seven: Workspace, kt: Kt, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink: Callable[..., None] = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == record.weights(seven.root, "m", "v2"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    ran = kt("gc", "--yes", "--keep", "1", "--json", at=seven)
    assert ran.code == 5
    assert [one["version"] for one in ran.document["result"]["removed"]] == ["v1", "v5", "v6"]
    assert absence.where(seven, "m", "v2") == "here"
    assert not (record.folder(seven, "m", "v2") / absence.MARK).exists()


def test_registering_the_same_file_brings_the_weights_back(
    workspace: Workspace, kt: Kt, checkpoints: Path
) -> None:
    for seed in (1, 2, 3):
        assert (
            kt("deploy", str(checkpoints / f"{seed}.pt"), "--model", "tutor", at=workspace).code
            == 0
        )
    assert kt("gc", "--yes", "--keep", "1", at=workspace).code == 0
    assert absence.where(workspace, "tutor", "v1") == "pruned"
    assert kt("register", str(checkpoints / "1.pt"), "--model", "tutor", at=workspace).code == 0
    assert absence.where(workspace, "tutor", "v1") == "here"
    assert not (record.folder(workspace, "tutor", "v1") / absence.MARK).exists()
    assert kt("deploy", "tutor@v1", at=workspace).code == 0
