"""The rules of the house that import-linter and ruff cannot hold."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Kt

from kt.cli.app import VERBS, command_line
from kt.store import connect
from kt.workspace import ROOMS, Workspace

SOURCES = sorted((ROOT / "kt").rglob("*.py"))
HEAVY = (
    "torch", "numpy", "git", "apscheduler", "joblib", "sqlalchemy", "alembic", "psycopg", "falcon", "granian",
    "safetensors", "fsspec", "rich",
)  # fmt: skip
NAMES = list(VERBS)


def in_kt(path: Path) -> str:
    return str(path.relative_to(ROOT / "kt"))


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name == "__init__.py"], ids=in_kt)
def test_a_package_holds_one_sentence_and_nothing_to_import(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    rest = [ast.unparse(line) for line in body[1:]]
    assert not rest or (in_kt(path) == "__init__.py" and rest[0].startswith("__version__ ="))


def texts(path: Path) -> set[str]:
    """The texts of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_path_into_a_room_is_spelt_in_that_room_alone(room: str) -> None:
    """A path of files; what a message tells a person may name one."""
    for path in SOURCES:
        owner = in_kt(path).partition("/")[0]
        if owner == room or owner == "cli":
            continue
        found = {text for text in texts(path) if re.fullmatch(rf"{room}/[\w./-]+", text)}
        assert not found, f"{in_kt(path)} spells {found}"


def kinds() -> set[str]:
    """The names of KtError's kinds, also of those that a file derives from one."""
    classes = [
        (node.name, ast.unparse(node.bases[0]).rpartition(".")[2])
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    found = {"KtError"}
    while more := {name for name, base in classes if base in found} - found:
        found |= more
    return found - {"Problem"}  # a predictor's error, which brings its own hint


def test_every_error_says_what_to_do() -> None:
    known = kinds()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in known:
                named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert named.get("do", "''") != "''", f"{in_kt(path)}:{node.lineno} has no do="


def loaded_by(code: str, at: Path) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=at, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["status"], ["models"], ["history"], ["show", "m@v1"]],
    ids=" ".join,
)
def test_a_quick_command_loads_nothing_heavy(
    arguments: list[str], place: Workspace, kt: Kt
) -> None:
    assert kt("deploy", "m@v1", at=place).code == 0
    run = f"from kt.cli.app import main\ntry: main({arguments})\nexcept SystemExit as end: assert not end.code"
    assert loaded_by(run, place.root).isdisjoint(HEAVY)


def test_status_loads_what_it_shows_and_nothing_of_what_it_does_not(
    place: Workspace, kt: Kt
) -> None:
    """Of a workspace with tables and an experiment: SQLAlchemy, and no room that has nothing to say."""
    kt("deploy", "m@v1", at=place)
    kt("deploy", "m@v2", "--traffic", "50", "--ab-test", "x", at=place)
    connect.open(place.root, place.settings)
    run = "from kt.cli.app import main\ntry: main(['status'])\nexcept SystemExit as end: assert not end.code"
    loaded = loaded_by(run, place.root)
    assert {"sqlalchemy", "kt.store.traffic", "kt.monitors.verdict"} <= loaded
    assert loaded.isdisjoint(
        {*HEAVY, "kt.deployments.deploy", "kt.deployments.verify"} - {"sqlalchemy"}
    )
    rooms = ("kt.registry", "kt.models", "kt.jobs.runs", "kt.predictor.")
    assert {name for name in loaded if name.startswith(rooms)} == {
        "kt.predictor.presence",
        "kt.registry", "kt.registry.absence", "kt.registry.record",  # whether live weights are here
    }  # fmt: skip


def test_the_command_line_alone_loads_typer_and_little_else(tmp_path: Path) -> None:
    assert loaded_by("import kt.cli.app", tmp_path).isdisjoint({*HEAVY, "pydantic", "orjson"})


def test_a_command_loads_the_file_of_its_own_verb_alone(place: Workspace) -> None:
    run = f"from kt.cli.app import main\ntry: main({['-C', str(place.root), 'models']})\nexcept SystemExit: pass"
    loaded = loaded_by(run, place.root)
    assert "kt.cli.registry" in loaded
    assert loaded.isdisjoint({"kt.cli.deployments", "kt.cli.train", "kt.cli.jobs"})


@pytest.mark.parametrize(
    "module", ["kt.predictor.decision", "kt.deployments.manifest", "kt.models.tracing"]
)
def test_what_a_predictor_shares_loads_no_torch(module: str, tmp_path: Path) -> None:
    assert loaded_by(f"import {module}", tmp_path).isdisjoint({"torch", "git", "typer"})


def test_a_worker_starts_without_what_a_plain_prediction_does_not_need(tmp_path: Path) -> None:
    code = "import kt.predictor.front, kt.predictor.engines.onnx, kt.models.tracing"
    assert loaded_by(code, tmp_path).isdisjoint({*HEAVY, "sqlite3", "typer"} - {"numpy", "granian"})


def options(name: str) -> set[str]:
    import typer

    command = typer.main.get_command(command_line()).commands[name]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_shows_an_example_of_itself(name: str, kt: Kt) -> None:
    said = kt(name, "--help")
    assert said.code == 0
    assert re.search(rf"Example: kt {name}\b", " ".join(said.out.split()))
    assert kt("help", name).out.split() == said.out.split()


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_takes_json(name: str) -> None:
    assert "--json" in options(name) or name in ("serve", "demo")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("demo", "help")])
def test_every_verb_answers_a_wrong_command_line_in_json(name: str, kt: Kt, tmp_path: Path) -> None:
    ran = kt(name, "--json", "--no-such-option", at=tmp_path)
    assert ran.code == 2
    assert ran.error["kind"] == "invalid"
    assert ran.document["command"] == name


def typed(path: Path) -> list[str]:
    """The kt commands in a page: after a prompt, and alone in backquotes."""
    found = re.findall(r"^\s*\$ kt (\S+)|`kt ([a-z][\w-]*)[^`]*`", path.read_text(), re.MULTILINE)
    return [one or other for one, other in found]


@pytest.mark.parametrize("name", ["README.md", "bench/README.md"])
def test_every_command_of_the_readme_is_a_verb(name: str) -> None:
    page = ROOT / name
    assert {verb for verb in typed(page) if not verb.startswith("-")} <= set(NAMES)


def hints(path: Path) -> list[str]:
    """What the errors raised in a file tell a person to do."""
    tree = ast.parse(path.read_text())
    said = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "do"
    ]
    parts = [part for value in said for part in ast.walk(value) if isinstance(part, ast.Constant)]
    return [part.value for part in parts if isinstance(part.value, str)]


@pytest.mark.parametrize("path", [path for path in SOURCES if hints(path)], ids=in_kt)
def test_every_hint_names_a_verb_that_exists(path: Path) -> None:
    for text in hints(path):
        for verb in re.findall(r"(?:[:;|(,]|see|run|with) ?kt ([a-z][a-z-]*)", text):
            assert verb in NAMES, text
