"""What the shell completes, asked as bash asks."""

import subprocess
import sys
from pathlib import Path

import forge
import pytest

from kt.registry import record
from kt.workspace import Workspace

ASK = "import sys; sys.argv[0] = 'kt'; from kt.cli.app import main; main()"


def completed(typed: str, at: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words = typed.split(" ")
    monkeypatch.setenv("_KT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    return asked(at)


def asked(at: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=at, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.fixture
def lived(place: Workspace) -> Workspace:
    """v1 and v2 were active one after the other, v3 is the treatment of `bigger`."""
    of = {
        name: forge.Candidate("m", name, record.read(place, "m", name).sha256)
        for name in ("v1", "v2", "v3")
    }
    forge.give(place, of["v1"])
    forge.give(place, of["v2"])
    forge.give(place, of["v3"], 10, "bigger")
    return place


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("kt show m@", ["m@v3", "m@v2", "m@v1"]),
        ("kt deploy m@v2", ["m@v2"]),
        ("kt diff m@v1 m@v3", ["m@v3"]),
        ("kt promote ", ["bigger"]),
        ("kt ramp b", ["bigger"]),
        ("kt rollback ", ["v1"]),
        ("kt rollback --model ", ["m"]),
        ("kt models ", ["m"]),
        ("kt status x", []),
    ],
)
def test_names_are_completed(
    lived: Workspace, monkeypatch: pytest.MonkeyPatch, typed: str, expected: list[str]
) -> None:
    assert completed(typed, lived.root, monkeypatch) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kt", "show", "m", "@"], ["@v3", "@v2", "@v1"]),
        (["kt", "show", "m", "@", "v2"], ["@v2"]),
        (["kt", "diff", "m", "@", "v1", "m", "@", "v"], ["@v3", "@v2", "@v1"]),
        (["kt", "diff", "m", "@", "v1", "m"], ["m@v3", "m@v2", "m@v1"]),
        (["kt", "diff", "m", "@", "v1", ""], ["m@v3", "m@v2", "m@v1"]),
    ],
)
def test_bash_which_splits_at_an_at_is_told_what_comes_from_there(
    lived: Workspace, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: list[str]
) -> None:
    monkeypatch.setenv("_KT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert asked(lived.root) == expected


def test_the_workspace_that_was_typed_counts(
    lived: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(f"kt -C {lived.root} models ", tmp_path, monkeypatch) == ["m"]


def test_a_broken_workspace_completes_nothing(
    lived: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lived.root / "deployments/history.json").write_text("[")
    assert completed("kt promote ", lived.root, monkeypatch) == []
    assert completed("kt promote ", tmp_path, monkeypatch) == []
