"""A name in kt.toml is a file in a folder, or a module of the user's own."""

from pathlib import Path

import pytest

from kt import plugins
from kt.errors import Invalid
from kt.registry import gate


def test_an_unknown_name_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="there is no fairness in kt/registry/gates") as error:
        plugins.load(gate.FOLDER, "fairness", tmp_path, gate.HOLDS)
    assert (
        "there are: calibration, causality, finite, health, latency, likelihood, regression, signature, size"
        in error.value.do
    )


@pytest.mark.parametrize(
    "name", ["../finite", "finite/..", "__init__", "", "a b", ".finite", "finite."]
)
def test_a_path_is_no_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        plugins.load(gate.FOLDER, name, tmp_path, gate.HOLDS)


def test_a_module_that_lacks_something_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="it lacks Settings, SAFETY, judge") as error:
        plugins.load(gate.FOLDER, "os.path", tmp_path, gate.HOLDS)
    assert error.value.do.startswith("kt/registry/gates/")


@pytest.mark.parametrize(
    ("text", "what"),
    [("1 / 0", "ZeroDivisionError"), ("import nothing_of_that_name", "No module named"), ("a b", "SyntaxError"), ("exit(2)", "SystemExit: 2")],
)  # fmt: skip
def test_a_module_of_ones_own_that_does_not_import_is_told_in_one_line(
    text: str, what: str, tmp_path: Path
) -> None:
    (tmp_path / "broken_plugin.py").write_text(text)
    with pytest.raises(Invalid, match=rf"broken_plugin cannot be imported: .*{what}"):
        plugins.load(gate.FOLDER, "broken_plugin", tmp_path, gate.HOLDS)


@pytest.mark.parametrize(
    ("folder", "holds"),
    [
        ("models", ("Config", "Model", "FORM", "METRIC", "signature")),
        (gate.FOLDER, gate.HOLDS),
    ],
)
def test_every_plugin_holds_what_its_folder_asks_for(
    folder: str, holds: tuple[str, ...], tmp_path: Path
) -> None:
    found = plugins.names(folder)
    assert found
    for name in found:
        plugins.load(folder, name, tmp_path, holds)


def test_a_module_of_ones_own_is_told_from_kts(tmp_path: Path) -> None:
    (tmp_path / "mine_alone.py").write_text("HELD = 1\n")
    assert plugins.is_ours(plugins.load("models", "irt", tmp_path, ()))
    assert not plugins.is_ours(plugins.load("models", "mine_alone", tmp_path, ("HELD",)))
