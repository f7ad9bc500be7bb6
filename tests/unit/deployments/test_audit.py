"""Reading back, and finding whatever is not as kt wrote it: each fault on its own, each with its way out."""

import json
import shutil
from pathlib import Path

import forge
import pytest
from conftest import git

from kt import journal
from kt.deployments import audit, deploy, verify
from kt.deployments.events import HISTORY
from kt.deployments.manifest import MANIFEST
from kt.errors import Corrupt, Invalid
from kt.registry import record
from kt.workspace import Workspace


@pytest.fixture
def live(place: Workspace) -> Workspace:
    """v1, then v2, then v3 on 10 %, each a day later."""
    for day, name in enumerate(("v1", "v2"), 12):
        stamp = forge.Stamp("ana", f"2026-01-{day}T09:00:00Z")
        deploy.deploy(
            place,
            deploy.version_of(place, "m", name),
            stamp,
            traffic=None,
            experiment="",
            dry_run=False,
        )
    stamp = forge.Stamp("ana", "2026-01-14T09:30:00Z")
    deploy.deploy(
        place,
        deploy.version_of(place, "m", "v3"),
        stamp,
        traffic=10.0,
        experiment="x",
        dry_run=False,
    )
    return place


def found(place: Workspace) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in verify.everything(place)]


def edit(place: Workspace, old: str, new: str, path: str = HISTORY) -> None:
    text = (place.root / path).read_text()
    assert old in text
    (place.root / path).write_text(text.replace(old, new, 1))


def test_nothing_is_found_where_nothing_is_wrong(live: Workspace, place: Workspace) -> None:
    assert verify.everything(live) == []


@pytest.mark.parametrize(
    ("when", "seq"),
    [
        ("2026", 3), ("2026-01", 3), ("2025", 0), ("2026-01-11", 0), ("2026-01-12", 1), ("2026-01-13", 2),
        ("2026-01-14", 3), ("2026-01-14T09", 3), ("2026-01-14T09:29", 2), ("2026-01-14T09:30:00Z", 3),
        ("2026-01-14T09:29:59Z", 2), ("2999", 3),
    ],
)  # fmt: skip
def test_a_time_is_the_state_at_its_end(when: str, seq: int, live: Workspace) -> None:
    assert audit.at_time(audit.read(live)[0], when).seq == seq


@pytest.mark.parametrize("when", ["yesterday", "2026-1-1", "12:00", "2026-01-14 09:30", "\x1b[2J"])
def test_what_is_no_time_is_refused(when: str, live: Workspace) -> None:
    with pytest.raises(Invalid, match="is no time"):
        audit.at_time(audit.read(live)[0], when)


def test_an_event_is_named_by_number_or_by_the_beginning_of_its_digest(live: Workspace) -> None:
    book, _ = audit.read(live)
    assert audit.find_record(book, "2") == 2
    assert audit.find_record(book, journal.digest(book.events[1])[:7]) == 2
    for reference in ("0", "4", "zz", "", "999999", "-1"):
        with pytest.raises(Invalid, match="names no event"):
            audit.find_record(book, reference)


def test_an_event_that_cannot_follow_is_named_by_its_line(live: Workspace) -> None:
    book = journal.Journal(live.root / HISTORY, [], b"")
    events = [
        {k: v for k, v in e.items() if k not in ("seq", "prev")} for e in audit.read(live)[0].events
    ]
    book.path.write_bytes(book.append([events[0], events[0]]).text)
    with pytest.raises(Corrupt, match="event 2: it cannot follow: v1 is active already") as error:
        audit.read(live)
    assert error.value.where.endswith("history.json:3")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"traffic":10.0', '"traffic":101', "event 3"),
        ('"at":"2026-01-14', '"at":"2026-02-31', "event 3"),
        ('"by":"ana"', '"by":"eve"', "event 1"),
        ('"kind":"experiment_started"', '"kind":"rumour"', "event 3"),
        ('"version":"v3"', '"version":"../v3"', "event 3"),
    ],
)
def test_a_history_that_was_edited_is_told_and_taken_back(
    old: str, new: str, what: str, live: Workspace
) -> None:
    before = (live.root / HISTORY).read_bytes()
    edit(live, old, new)
    assert any(what in finding for finding in found(live))
    with pytest.raises(Corrupt):
        forge.back(live)
    deploy.fix(live)
    assert (live.root / HISTORY).read_bytes() == before
    assert verify.everything(live) == []


def test_the_last_event_has_two_witnesses(live: Workspace) -> None:
    edit(live, '"experiment":"x"', '"experiment":"y"')
    assert found(live)[0].startswith("deployments/history.json:4: event 3 is not the one")
    shutil.rmtree(live.local)  # a fresh clone
    assert found(live)[0].startswith(
        "deployments/history.json:4: event 3 is not the one that deployments/active.json"
    )
    with pytest.raises(Corrupt, match="event 3 is not the one"):
        forge.back(live)
    deploy.accept(live)
    assert verify.everything(live) == []


@pytest.mark.parametrize("clone", [False, True])
@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_history_that_ends_earlier_is_taken_back(keep: int, clone: bool, live: Workspace) -> None:
    before = (live.root / HISTORY).read_bytes()
    book = audit.read(live)[0]
    events = [{k: v for k, v in e.items() if k not in ("seq", "prev")} for e in book.events[:keep]]
    (live.root / HISTORY).write_bytes(journal.Journal(book.path, [], b"").append(events).text)
    if clone:
        shutil.rmtree(live.local)
    assert any(f"ends at event {keep}" in finding for finding in found(live))
    with pytest.raises(Corrupt, match=f"ends at event {keep}"):
        forge.back(live)
    if not clone:
        deploy.fix(live)
        assert (live.root / HISTORY).read_bytes() == before
        assert verify.everything(live) == []


def test_a_history_that_is_gone_is_taken_back(live: Workspace) -> None:
    (live.root / HISTORY).unlink()
    assert "ends at event 0" in found(live)[0]
    deploy.fix(live)
    assert verify.everything(live) == []


def test_a_history_that_another_machine_has_carried_on_is_followed(
    live: Workspace, tmp_path: Path
) -> None:
    other = Workspace(tmp_path / "other")
    shutil.copytree(live.root, other.root)
    forge.back(other)
    for path in (HISTORY, MANIFEST):
        shutil.copy(other.root / path, live.root / path)
    assert verify.everything(live) == []
    assert forge.back(live).event is not None


@pytest.mark.parametrize("text", [None, "", "{}", "<<<<<<< HEAD\n{}", "[]"])
def test_a_manifest_is_derived_and_made_anew(text: str | None, live: Workspace) -> None:
    path = live.root / MANIFEST
    before = path.read_bytes()
    path.unlink() if text is None else path.write_text(text)
    assert found(live)[0].startswith("deployments/active.json")
    assert deploy.fix(live)
    assert path.read_bytes() == before


def test_a_manifest_that_serves_something_else_is_found(live: Workspace) -> None:
    edit(live, '"traffic": 10.0', '"traffic": 90.0', MANIFEST)
    assert found(live) == ["deployments/active.json: is not what the history says"]


def test_weights_and_records_are_looked_at(live: Workspace) -> None:
    path = record.weights(live.root, "m", "v1")
    path.write_bytes(path.read_bytes() + b"x")
    record.weights(live.root, "m", "v2").unlink()
    edit(live, '"by": "ana"', '"by": "eve"', "registry/m/v3/record.json")
    (live.root / "registry" / "m" / "v4").mkdir()
    said = "\n".join(found(live))
    assert "v1/model.safetensors: the weights have sha256" in said
    assert "v2/model.safetensors: the weights are missing" in said
    assert "v3/record.json: is not what kt wrote" in said
    assert "registry/m/v4: is no version" in said


def test_a_version_that_the_history_names_and_that_is_gone_is_found(live: Workspace) -> None:
    shutil.rmtree(live.root / "registry" / "m" / "v1")
    assert found(live) == ["registry/m/v1: is named by the history and is not there"]


def test_a_version_that_was_exchanged_is_found(live: Workspace) -> None:
    forge.version(live, "n", "v1")
    shutil.rmtree(live.root / "registry" / "m" / "v1")
    shutil.copytree(live.root / "registry" / "n" / "v1", live.root / "registry" / "m" / "v1")
    assert any("m/v1" in finding for finding in found(live))


def test_what_git_has_committed_is_a_witness(workspace: Workspace) -> None:
    for name in ("v1", "v2"):
        forge.give(workspace, deploy.version_of(workspace, "m", name))
    edit(workspace, '"by":"ana"', '"by":"eve"')
    git(workspace.root, "commit", "--quiet", "--all", "--message", "forged")
    shutil.rmtree(workspace.local)
    assert "event 1 was changed after it was written" in found(workspace)[0]
    git(workspace.root, "revert", "--no-edit", "HEAD")
    assert verify.everything(workspace) == []


def test_a_checkout_of_an_older_commit_is_taken_back(workspace: Workspace) -> None:
    for name in ("v1", "v2"):
        forge.give(workspace, deploy.version_of(workspace, "m", name))
    git(workspace.root, "checkout", "--quiet", "HEAD~1", "--", "deployments")
    assert "ends at event 1, this machine has written 2" in found(workspace)[0]
    deploy.fix(workspace)
    assert verify.everything(workspace) == []
    assert git(workspace.root, "diff", "HEAD", "--stat") == ""


def test_fields_of_a_newer_kt_are_kept(place: Workspace) -> None:
    forge.give(place, deploy.version_of(place, "m", "v1"))
    book = audit.read(place)[0]
    event = {k: v for k, v in book.events[0].items() if k not in ("seq", "prev")} | {
        "of_tomorrow": 1
    }
    book.path.write_bytes(journal.Journal(book.path, [], b"").append([event]).text)
    deploy.accept(place)
    forge.give(place, deploy.version_of(place, "m", "v2"))
    assert json.loads(book.path.read_bytes())[0]["of_tomorrow"] == 1
    assert verify.everything(place) == []
