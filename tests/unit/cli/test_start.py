"""A ctrl-C is one line and exit code 130, whenever it comes: no traceback, and nothing goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kt.cli import early, start
from kt.errors import INTERRUPTED
from kt.workspace import Workspace

WHEN = {
    "while the verbs are imported": """
class Finder:
    def find_spec(self, name, *_):
        if name == "kt.cli.app":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
""",
    "in a __del__": """
class Repo:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def verb():
    Repo()
    time.sleep(600)

from kt.cli import app
app.main = verb
""",
    "where another exception is made of it, as pydantic does": """
def verb(*_, **__):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError from None

from kt.cli import app
app.command_line = lambda _: verb
""",
    "in the exec of a text": """
def verb():
    try:
        exec("import signal; signal.raise_signal(signal.SIGINT)")
    except KeyboardInterrupt:
        sys.stderr.write("kt: interrupted\\n")
        sys.exit(130)

from kt.cli import app
app.main = verb
""",
    "as the verb begins or ends": """
from kt.cli import app
app.main = lambda: signal.raise_signal(signal.SIGINT)
""",
    "after the verb": """
def verb():
    print("done")
    atexit.register(signal.raise_signal, signal.SIGINT)

from kt.cli import app
app.main = verb
""",
}


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """As a module: `python -m kt` ends otherwise than `python -c` where Python saw the KeyboardInterrupt first."""
    (folder / "typed.py").write_text(program)
    typed = [sys.executable, "-m", "typed"]
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        typed,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("when", WHEN)
def test_a_ctrl_c_is_one_line_whenever_it_comes(when: str, tmp_path: Path) -> None:
    program = (
        f"import atexit, signal, sys, time\nfrom kt.cli import start\n{WHEN[when]}\nstart.main()"
    )
    ran = run(tmp_path, program)
    assert (ran.returncode, ran.stderr) == (130, "kt: interrupted\n")
    assert ran.stdout == ("done\n" if when == "after the verb" else "")


def test_when_all_is_done_and_told_it_changes_nothing(tmp_path: Path) -> None:
    program = (
        "import signal\nfrom kt.cli import app, start\n"
        "class Last:\n    def __del__(self, end=signal.raise_signal): end(2)\n"
        "last = Last()\napp.main = lambda: print('done')\nstart.main()"
    )
    ran = run(tmp_path, program)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")
    assert start.INTERRUPTED == INTERRUPTED


def test_what_else_goes_wrong_in_a_del_is_told_as_python_tells_it(tmp_path: Path) -> None:
    program = (
        "from kt.cli import app, start\n"
        "class Broken:\n    def __del__(self): raise ValueError('oh')\n"
        "app.main = Broken\nstart.main()"
    )
    ran = run(tmp_path, program)
    assert ran.returncode == 0
    assert "ValueError: oh" in ran.stderr


SERVING = {
    "in a child that reads the command line, as a terminal sends it to both": """
import os
from kt.cli import app
def verb():
    os.kill(os.getppid(), 2)
    signal.raise_signal(2)
app.main = verb
""",
    "before the server listens": """
serving.told = lambda: {"run": {}, "settings": {}, "insecure": False}
serving.serve = lambda *_: signal.raise_signal(2)
""",
}


@pytest.mark.parametrize("when", SERVING)
def test_a_ctrl_c_to_a_server_that_begins_is_one_line(when: str, tmp_path: Path) -> None:
    ran = run(
        tmp_path, f"import signal\nfrom kt.cli import serving\n{SERVING[when]}\nserving.main()"
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "kt: interrupted\n")


@pytest.mark.parametrize(
    ("given", "verb"),
    [
        (["serve", "--port", "0"], "serve"),
        (["-C", "serve", "status"], "status"),
        (["--workspace", "w"], ""),
        (["--workspace=w", "serve"], ""),
        (["--help"], ""),
        ([], ""),
    ],
)
def test_the_verb_of_a_command_line_before_anything_is_imported(
    given: list[str], verb: str
) -> None:
    assert early.verb(given) == verb


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["serve", "--help"], 0, "Usage: kt serve"),
        (["--workspace=.", "serve", "--port", "much"], 2, "'--port'"),
        (["serve"], 2, "kt init"),
    ],
)
def test_serve_reads_its_command_line_in_a_child(
    given: list[str], code: int, said: str, tmp_path: Path
) -> None:
    typed = f"import sys\nfrom kt.cli import start\nsys.argv[1:] = {given}\nstart.main()"
    ran = run(tmp_path, typed)
    assert ran.returncode == code
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("privacy find - <&-", 2),
        ("status --json >/dev/full", 5),
        ("status >&- 2>&-", 0),
        ("serve --port 99999999 >&-", 2),
    ],
)
def test_a_stream_that_is_closed_or_full_is_no_bug(line: str, code: int, place: Workspace) -> None:
    command = f"{sys.executable} -m kt {line}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=place.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("stream", "line", "code"), [("stdout", "verify", 0), ("stderr", "show nobody@v1", 2)]
)
def test_a_pipe_that_nobody_reads_changes_no_exit_code(
    stream: str, line: str, code: int, place: Workspace
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kt", *line.split()]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run(command, cwd=place.root, **streams, check=False)
    os.close(writer)
    assert done.returncode == code
    assert {done.stdout, done.stderr} == {None, b""}


@pytest.mark.parametrize("line", ["status", "init", "train irt --data d --out m.pt"])
def test_a_folder_that_is_gone_is_named(line: str, tmp_path: Path) -> None:
    command = f"mkdir here && cd here && rmdir ../here && {sys.executable} -m kt {line}"
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert done.stderr.startswith("kt: the folder you are in is gone")
