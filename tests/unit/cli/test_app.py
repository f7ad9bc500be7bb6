"""Every error becomes its exit code in one place, and every verb answers in JSON."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Kt, spawn

from kt.cli import options, output
from kt.cli.app import BRIEF, VERBS, main
from kt.errors import Corrupt, Invalid, KtError, Refused, Unavailable, Unconfirmed, Undecided
from kt.workspace import Workspace


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever is looked for in the workspace raises this."""

    def fail(error: BaseException) -> None:
        def raising(*_: object) -> None:
            raise error

        monkeypatch.setattr(options, "workspace", raising)

    return fail


@pytest.mark.parametrize("kind", [Invalid, Refused, Corrupt, Unavailable, Undecided, Unconfirmed])
def test_an_error_is_two_lines_and_its_code(kind: type[KtError], failing: Any, kt: Kt) -> None:
    failing(kind("what is wrong", where="a.json:3", do="mend it"))
    ran = kt("rollback")
    assert (ran.code, ran.out) == (kind.code, "")
    assert ran.err == "kt: a.json:3: what is wrong\n    mend it\n"
    assert kt("rollback", "--json").error == {
        "code": kind.code,
        "kind": kind.kind,
        "message": "a.json:3: what is wrong",
        "hint": "mend it",
    }


def test_a_brief_command_collects_no_garbage_in_a_process_of_its_own_alone(tmp_path: Path) -> None:
    code = """
import gc
from kt.cli.app import main
before = gc.get_threshold()
try: main({})
except SystemExit: print(gc.get_threshold() != before, gc.get_freeze_count() > 0)
"""
    for given, said in (("", "True True"), ("['models']", "False False")):
        command = [sys.executable, "-c", code.format(given), "models"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == said


def test_a_brief_verb_is_a_verb() -> None:
    assert set(VERBS) >= BRIEF


def test_a_disk_that_fails_where_nobody_thought_of_it_is_unavailable(failing: Any, kt: Kt) -> None:
    failing(OSError(errno.EIO, os.strerror(errno.EIO), "/some/file"))
    ran = kt("rollback")
    assert ran.code == 5
    assert ran.err.startswith("kt: /some/file: Input/output error\n")


def test_a_ctrl_c_is_told_in_one_line(failing: Any, kt: Kt) -> None:
    failing(KeyboardInterrupt())
    ran = kt("rollback")
    assert (ran.code, ran.err) == (130, "kt: interrupted\n")


def test_a_bug_keeps_its_traceback_and_tells_json_too(
    failing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(ZeroDivisionError("oh"))
    monkeypatch.setattr(output, "run", output.Run())
    with pytest.raises(ZeroDivisionError):
        main(["rollback", "--json"])
    assert '"message": "ZeroDivisionError: oh"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["deploy"], ["ramp", "x"], ["ramp", "x", "abc"], ["nope"], ["--nope"], ["status", "--every", "0"],
        ["history", "--last", "-1"], ["deploy", "m@v1", "--traffic", "many"], ["promote"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_command_line_is_two_lines_and_two(
    words: list[str], kt: Kt, tmp_path: Path
) -> None:
    ran = kt(*words, at=tmp_path)
    assert ran.code == 2
    assert ran.err.count("\n") == 2
    assert "--help" in ran.err


QUICK = [
    ["status"], ["models"], ["models", "m"], ["history"], ["show", "m@v1"], ["verify"], ["config"],
    ["help"], ["help", "exit-codes"], ["deploy", "m@v2", "--dry-run"], ["deploy", "m@v2"],
    ["deploy", "m@v3", "--traffic", "10", "--ab-test", "x"], ["ramp", "x", "20"], ["end", "x"],
    ["rollback"], ["diff", "m@v1", "m@v2"], ["diff", "1", "2"], ["gc", "--dry-run"], ["canary", "step"],
]  # fmt: skip


def test_every_verb_that_goes_well_is_one_document(place: Workspace, kt: Kt) -> None:
    assert kt("deploy", "m@v1", at=place).code == 0
    for words in QUICK:
        ran = kt(*words, "--json", at=place)
        assert ran.document["command"] == words[0]
        assert ran.document["ok"], ran
        assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["models"], ["history"], ["show", "m@v1"], ["verify"], ["config"], ["deploy", "m@v2"],
        ["register", "m.pt"], ["ramp", "x", "20"], ["end", "x"], ["promote", "x"], ["rollback"], ["gc", "--dry-run"],
        ["diff", "1", "2"], ["push"], ["pull"], ["canary", "step"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_verb_that_finds_no_workspace_says_so_in_one_document(
    words: list[str], kt: Kt, tmp_path: Path
) -> None:
    ran = kt(*words, "--json", at=tmp_path)
    assert ran.code == 2
    assert "kt init" in ran.error["hint"]


def test_the_list_of_verbs_is_not_cut_at_the_name_of_a_file() -> None:
    from kt.cli.app import in_short
    from kt.cli.jobs import jobs

    assert in_short(jobs) == "The jobs of kt.toml"


def test_an_empty_request_is_told_how_to_give_one(place: Workspace, kt: Kt) -> None:
    (place.root / "empty.json").write_text("\n")
    error = kt("predict", "m", "--file", "empty.json", "--json", at=place).error
    assert (error["code"], error["message"]) == (2, "there is no request")
    assert "--data" in error["hint"]


@pytest.mark.parametrize("name", ["../x", "a/b", "V1", "a b", "\x1b[2J", "ä", "x" * 65, "m@v1@v2"])
def test_a_hostile_name_is_refused_wherever_it_is_typed(
    name: str, place: Workspace, kt: Kt
) -> None:
    assert kt("deploy", "m@v1", at=place).code == 0
    before = sorted(place.root.rglob("*"))
    for words in (
        ["show", f"m@{name}"], ["deploy", f"m@{name}"], ["deploy", f"{name}@v1"], ["models", name],
        ["deploy", "m@v2", "--ab-test", name], ["rollback", name], ["status", name],
        ["history", "--model", name], ["ramp", name, "5"], ["end", name], ["rollback", "--to-record", name],
    ):  # fmt: skip
        ran = kt(*words, at=place)
        assert ran.code in (2, 3), words
        assert "\x1b" not in ran.out + ran.err
    assert before == sorted(place.root.rglob("*"))


def test_a_reason_is_kept_as_text(place: Workspace, kt: Kt) -> None:
    assert kt("deploy", "m@v1", "--reason", "caf\udce9 \x1b[31m", at=place).code == 0
    (event,) = kt("history", "--json", at=place).result["events"]
    assert event["reason"] == "caf? \x1b[31m"
    assert "\x1b" not in kt("history", at=place).out
    assert kt("deploy", "m@v2", "--reason", "x" * 2001, at=place).code == 2


BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "numpy", "safetensors", "requests", "sqlalchemy"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import socket
def refuse(*_, **__): raise OSError("no network")
socket.socket.connect = refuse
"""


@pytest.mark.parametrize("repository", ["none", "no git command"])
def test_a_rollback_needs_neither_torch_nor_network_nor_git(
    repository: str, workspace: Workspace, kt: Kt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("v1", "v2"):
        assert kt("deploy", f"m@{name}", at=workspace).code == 0
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKED)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ["PYTHONPATH"]])
    )
    if repository == "none":
        (workspace.root / ".git").rename(tmp_path / "elsewhere")
    else:
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    ran = spawn("rollback", "--json", at=workspace.root)
    assert ran.result["manifest"]["models"]["m"]["active"]["version"] == "v1", ran
    assert "not committed to git" in ran.err


def test_a_reader_that_has_read_enough_is_no_error(place: Workspace, kt: Kt) -> None:
    assert kt("deploy", "m@v1", at=place).code == 0
    reading, writing = os.pipe()
    os.close(reading)
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "kt", "history"],
        cwd=place.root,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.stderr == b""


@pytest.mark.parametrize(
    "words",
    [
        "key new --days 3000000",
        "pull --follow --every inf",
        "status --watch --every 1e300",
        "deploy m@v1 --wait --timeout inf",
        "requests --last 99999999999999999999",
    ],
)
def test_what_no_clock_and_no_table_can_hold_is_refused(workspace: Workspace, kt: Kt, words: str):
    done = kt(*words.split(), at=workspace)
    assert done.code == 2
    assert "less than or equal to" in done.err
