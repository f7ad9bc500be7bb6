"""What all tests share: workspaces of their own, the kt command, and tiny checkpoints."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forge
import pytest
from hypothesis import settings

from kt.cli import output
from kt.cli.app import main
from kt.workspace import Workspace

ROOT = Path(__file__).parents[1]
BARE = str(ROOT / "tests" / "bare")  # as on a machine without the exporter

settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
settings.load_profile("same every time")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="write the transcripts as they were seen"
    )


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's git configuration, nobody's home, nobody's workspace."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ana")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ana@example.org")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Ana")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "ana@example.org")
    monkeypatch.setenv("KT_USER", "ana")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([BARE, str(ROOT), str(ROOT / "tests")]))
    monkeypatch.syspath_prepend(BARE)
    monkeypatch.delenv("KT_WORKSPACE", raising=False)


@pytest.fixture
def exporter(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are exported to ONNX as they are registered."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    sys.path.remove(BARE)
    sys.modules.pop("onnxscript", None)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of torch, so that what is asked alone and in a batch is computed alike."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one document on stdout."""
        assert self.out.count("\n") == 1
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def result(self) -> Any:
        document = self.document
        assert document["ok"], document
        return document["result"]

    @property
    def error(self) -> dict[str, Any]:
        document = self.document
        assert not document["ok"]
        assert document["error"]["code"] == self.code
        found: dict[str, Any] = document["error"]
        return found


Kt = Callable[..., Ran]


@pytest.fixture
def kt(monkeypatch: pytest.MonkeyPatch) -> Kt:
    """kt("deploy", "m@v1", at=folder): the command in this process, as a person would see it."""

    def run(*arguments: str, at: Path | Workspace | None = None) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            if at is not None:
                patch.chdir(at.root if isinstance(at, Workspace) else at)
            patch.setattr(output, "run", output.Run())
            try:
                main(arguments)
                code: Any = 0
            except SystemExit as end:
                code = end.code
        assert "Traceback" not in err.getvalue()
        return Ran(code, out.getvalue(), err.getvalue())

    return run


def spawn(*arguments: str, at: Path, **options: Any) -> Ran:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "kt", *arguments]
    done = subprocess.run(
        command,
        cwd=at,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace without git, with the versions v1, v2 and v3 of the model m, of which nothing is deployed."""
    made = forge.workspace(tmp_path / "w")
    for name in ("v1", "v2", "v3"):
        forge.version(made, "m", name)
    return made


@pytest.fixture
def workspace(tmp_path: Path, kt: Kt) -> Workspace:
    """What kt init makes, with the versions v1, v2 and v3 of the model m, committed."""
    root = tmp_path / "w"
    assert kt("init", str(root)).code == 0
    made = Workspace(root)
    for name in ("v1", "v2", "v3"):
        forge.version(made, "m", name)
    git(root, "add", "registry")
    git(root, "commit", "--quiet", "-m", "three versions")
    return made


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny checkpoints of SAKT, as kt train writes them: 1.pt, 2.pt and 3.pt, by their seed."""
    import torch

    from kt.models import sakt

    folder = tmp_path_factory.mktemp("checkpoints")
    config = sakt.Config(items=10, d_model=16, heads=2, window=20)
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        whole = {
            "kt": 1,
            "family": "sakt",
            "config": config.model_dump(),
            "signature": sakt.signature(config).model_dump(),
            "scores": {"metric": "auc", "auc": 0.7},
            "training": {"seed": seed},
            "state_dict": sakt.Model(config).state_dict(),
        }
        torch.save(whole, folder / f"{seed}.pt")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published inputs and vectors that may lie beside the repository."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("there is no ../shared beside the repository")
    return folder
