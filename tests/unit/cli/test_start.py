"""A ctrl-C is one line and exit code 130, whenever it comes: no traceback, and nothing goes on."""

import subprocess
import sys

import pytest

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
    "as the verb begins or ends": """
from kt.cli import app
app.main = lambda: signal.raise_signal(signal.SIGINT)
""",
    "after the verb": """
from kt.cli import app
app.main = lambda: print("done")
atexit.register(signal.raise_signal, signal.SIGINT)
""",
}


@pytest.mark.parametrize("when", WHEN)
def test_a_ctrl_c_is_one_line_whenever_it_comes(when: str) -> None:
    program = (
        f"import atexit, signal, sys, time\nfrom kt.cli import start\n{WHEN[when]}\nstart.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (130, "kt: interrupted\n")
    assert ran.stdout == ("done\n" if when == "after the verb" else "")


def test_what_else_goes_wrong_in_a_del_is_told_as_python_tells_it() -> None:
    program = (
        "from kt.cli import app, start\n"
        "class Broken:\n    def __del__(self): raise ValueError('oh')\n"
        "app.main = Broken\nstart.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
    assert "ValueError: oh" in ran.stderr
