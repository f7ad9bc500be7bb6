"""What a person types and sees: every *.txt here is played in a fresh workspace. `pytest --update` writes what was seen.

    # a remark
    $ kt status
    what is said on stdout, then
    2> what is said on stderr
    exit 3                      where the code is not 0

Times, digests and ages become <time>, <hash> and <age>. Lines that begin with `$ ` and not with
`$ kt` are for the shell. m1.pt to m3.pt are checkpoints of SAKT; m@v1 to m@v3 are registered.
"""

import re
import shlex
import subprocess
from pathlib import Path

import forge
import pytest
from conftest import Kt

HERE = Path(__file__).parent
WORDS = (
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{40}\b", "<hash>"),
    (r"\b[0-9a-f]{12}…", "<hash>…"),
    (r"(?<=, )[0-9a-f]{7}(?=\.$)", "<hash>"),
    (r"\b[0-9a-f]{7}$", "<hash>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    (r"\b\d+ s\b(?! |$)|\b\d+ s(?= ago| *$|  )", "<age>"),
    (r"p95 [\d.]+ ms", "p95 <ms>"),
    (r"\b(kt|torch) \d[\w.+]*", r"\1 <version>"),
    (r"process \d+", "process <pid>"),
    (r'"(measured|size)": [\d.]+', r'"\1": <n>'),
    (r'"torch": "[^"]+"', '"torch": <version>'),
    (r"no ONNX graph: .*", "no ONNX graph: <why>"),
    (r'"why": "[^"]*"', '"why": <why>'),
    (r"[\d,]+ bytes|(?<=torch, )[\d.]+ kB", "<n> bytes"),
)
# the verbs that need a long training or a server have tests of their own
ELSEWHERE = {
    "daemon",
    "demo",
    "simulate",
    "train",
    "evaluate",
    "serve",
    "predict",
    "push",
    "pull",
    "key",
    "feedback",
    "export",
    "sign",
}


def plain(text: str, root: Path) -> str:
    text = text.replace(str(root.resolve()), "<workspace>")
    lines = []
    for line in text.splitlines():
        for found, word in WORDS:
            line = re.sub(found, word, line)
        lines.append(re.sub(r"(<age>|<ms>) {2,}", r"\1  ", line).rstrip())  # columns move with them
    return "\n".join(lines)


def play(path: Path, root: Path, kt: Kt) -> str:
    """The transcript with what is really seen."""
    out: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("$ kt"):
            ran = kt(*shlex.split(line)[2:], at=root)
            said = plain(ran.out, root).splitlines()
            said += [f"2> {told}" for told in plain(ran.err, root).splitlines()]
            said += [f"exit {ran.code}"] * (ran.code != 0)
            out += ["", line, *said] if out and out[-1][:1] != "#" else [line, *said]
        elif line.startswith("$ "):
            subprocess.run(line[2:], shell=True, cwd=root, check=True, capture_output=True)
            out += ["", line] if out and out[-1][:1] != "#" else [line]
        elif line.startswith("#"):
            out += ["", line] if out and out[-1][:1] != "#" else [line]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_it_is_seen_as_it_is_written(
    path: Path, tmp_path: Path, kt: Kt, checkpoints: Path, request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "w"
    place = forge.workspace(root)
    for name in ("v1", "v2", "v3"):
        forge.version(place, "m", name)
    for seed in (1, 2, 3):
        (root / f"m{seed}.pt").symlink_to(checkpoints / f"{seed}.pt")
    seen = play(path, root, kt)
    if request.config.getoption("--update"):
        path.write_text(seen)
    assert seen == path.read_text()


def test_every_verb_has_a_transcript() -> None:
    from kt.cli.app import VERBS

    typed = {
        line.split()[2]
        for path in HERE.glob("*.txt")
        for line in path.read_text().splitlines()
        if line.startswith("$ kt ")
    }
    assert VERBS.keys() - ELSEWHERE <= typed
