"""The workspace is the nearest kt.toml at or above, or the one named."""

from pathlib import Path

import pytest

from kt import workspace
from kt.errors import Invalid


def test_the_nearest_one_above_is_found(tmp_path: Path) -> None:
    (tmp_path / "kt.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert workspace.find(tmp_path / "a" / "b").root == tmp_path.resolve()


def test_one_that_is_named_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kt.toml").touch()
    monkeypatch.setenv("KT_WORKSPACE", str(tmp_path / "b"))
    assert workspace.find(tmp_path / "a").root.name == "b"
    assert workspace.find(tmp_path / "a", str(tmp_path / "c")).root.name == "c"


def test_none_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no kt\.toml in") as error:
        workspace.find(tmp_path)
    assert "kt init" in error.value.do
    with pytest.raises(Invalid, match="is not a workspace"):
        workspace.find(tmp_path, str(tmp_path))
