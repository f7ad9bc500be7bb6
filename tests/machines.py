"""Two machines that share a repository and a store of weights."""

from dataclasses import dataclass
from pathlib import Path

import forge
from conftest import Kt, git

from kt.registry import record
from kt.workspace import Workspace


@dataclass(frozen=True)
class Two:
    """ours has deployed v1; both have all of it. store: the folder of weights, where it is one."""

    ours: Workspace
    theirs: Workspace
    bare: Path
    store: Path


def two(first: Workspace, kt: Kt, url: str = "../store") -> Two:
    """Made beside the first machine's workspace, all paths between them relative: the whole can be copied."""
    folder = first.root.parent
    settings = first.root / "kt.toml"
    settings.write_text(settings.read_text() + f'\n[remote]\nurl = "{url}"\n')
    git(first.root, "commit", "--quiet", "-am", "a store")
    git(folder, "init", "--quiet", "--bare", "bare")
    git(first.root, "remote", "add", "origin", "../bare")
    ours = Workspace(first.root)
    forge.give(ours, named(ours, "v1"))
    assert kt("push", at=ours).code == 0
    git(
        folder / "bare",
        "symbolic-ref",
        "HEAD",
        f"refs/heads/{git(ours.root, 'branch', '--show-current')}",
    )
    git(folder, "clone", "--quiet", "bare", "theirs")
    theirs = Workspace(folder / "theirs")
    git(theirs.root, "remote", "set-url", "origin", "../bare")
    assert kt("pull", at=theirs).code == 0
    return Two(ours, theirs, folder / "bare", folder / "store")


def named(place: Workspace, name: str) -> forge.Candidate:
    """A version of m that is registered, as a candidate."""
    return forge.Candidate("m", name, record.read(place, "m", name).sha256)


def register(place: Workspace, name: str, padding: int = 0) -> forge.Candidate:
    """A new version of m that is committed, as kt register commits it. padding: bytes."""
    made = forge.version(place, "m", name, padding=padding)
    git(place.root, "add", "registry")
    git(place.root, "commit", "--quiet", "-m", name)
    return made


def head(place: Workspace) -> str:
    return git(place.root, "rev-parse", "HEAD")


def clean(place: Workspace, kt: Kt) -> bool:
    """As kt wrote it, and as git has it."""
    return not git(place.root, "status", "--porcelain") and kt("verify", at=place).code == 0
