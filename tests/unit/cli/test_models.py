"""Training and scoring do without a workspace; one that is there is theirs, or its kt.toml is wrong."""

from pathlib import Path

import pytest

from kt.cli import models
from kt.config import Compute
from kt.errors import Invalid


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KT_WORKSPACE", raising=False)
    return tmp_path


def test_without_a_workspace_all_is_here(here: Path) -> None:
    assert (models.root(), models.compute()) == (here, Compute())


def test_a_workspace_says_where_families_are_and_where_work_runs(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "kt.toml").write_text("[compute]\nn_jobs = 3\n")
    below = here / "data"
    below.mkdir()
    monkeypatch.chdir(below)
    assert (models.root(), models.compute().n_jobs) == (here, 3)


@pytest.mark.parametrize("ask", [models.root, models.compute])
def test_a_kt_toml_that_is_wrong_is_not_passed_over(here: Path, ask) -> None:
    (here / "kt.toml").write_text("[compute]\nn_jobz = 3\n")
    with pytest.raises(Invalid, match="n_jobz"):
        ask()


@pytest.mark.parametrize("ask", [models.root, models.compute])
def test_a_workspace_that_is_named_must_be_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, ask
) -> None:
    monkeypatch.setenv("KT_WORKSPACE", str(here))
    with pytest.raises(Invalid, match="not a workspace"):
        ask()
