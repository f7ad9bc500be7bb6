"""Faults at every file-changing system call of kt and of its git, by an outside fault injector.

    python bench/crash.py FAULTPOINT [--modes kill,torn,ENOSPC+] [--verbs deploy,promote,rollback] [--jobs N]

FAULTPOINT is the path of faultpoint.py, which runs a command once for each such call and injects one
fault exactly there. Each state is judged by this file (`--check`): history, manifest and registry are
sound; the exit code is true; where the command is run again (`retry`) everything is in step, git too.
Prints the broken points of each verb and mode; the bar is 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODES = "kill,kill-tree,torn,short,ENOSPC+,EIO,EROFS,EMFILE,term,int"
KT = f"{sys.executable} -m kt"
VERBS = {
    "deploy": ("deploy m@v1", "deploy m@v3"),
    "promote": ("deploy m@v1 && {kt} deploy m@v2 -t 10 --ab-test x", "promote x --force --reason bench"),
    "rollback": ("deploy m@v1 && {kt} deploy m@v2 && {kt} deploy m@v3", "rollback"),
}  # fmt: skip
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "PYTHONDONTWRITEBYTECODE": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": "bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}  # fmt: skip


def main() -> None:
    about = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    about.add_argument("faultpoint", nargs="?", type=Path)
    about.add_argument("--modes", default=MODES)
    about.add_argument("--verbs", default=",".join(VERBS))
    about.add_argument("--jobs", default="2")
    about.add_argument("--show", default="5", help="broken points shown of each mode")
    about.add_argument("--check", action="store_true", help="judge FP_DIR, as the injector asks")
    about.add_argument("--make", type=Path, help="make the workspace that is then deployed in")
    given = about.parse_args()
    os.environ.update(ENVIRONMENT)
    if given.check:
        sys.exit(check())
    if given.make:
        return make(given.make)
    if given.faultpoint is None:
        about.error("name faultpoint.py")
    broken = sum(run(given, verb) for verb in given.verbs.split(","))
    print(f"broken points in all: {broken}")
    sys.exit(broken > 0)


def make(root: Path) -> None:
    import forge

    from kt import git

    place = forge.workspace(root, git=True)
    (root / ".gitignore").write_text(".kt/\nregistry/**/model.*\n")
    for name in ("v1", "v2", "v3"):
        forge.version(place, "m", name)
    git.start(root)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", "begin"], cwd=root, check=True)


def run(given: argparse.Namespace, verb: str) -> int:
    before, command = VERBS[verb]
    me = f"{sys.executable} {Path(__file__).resolve()}"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        subprocess.run(
            [
                sys.executable, str(given.faultpoint), "--mode", given.modes, "--retry", "--tracebacks",
                "--setup", f"cd {{dir}} && {me} --make . && {KT} {before.format(kt=KT)}",
                "--check", f"{me} --check", "--jobs", given.jobs, "--show", given.show,
                "--json", str(answer), "--", "sh", "-c", f"cd {{dir}} && exec {KT} {command}",
            ],
            check=False,
        )  # fmt: skip
        found = json.loads(answer.read_text()) if answer.exists() else {}
    print(f"{verb}: {json.dumps(found)[:2000]}")
    return count(found)


def count(found: object) -> int:
    """Every number called broken in what the injector says."""
    if isinstance(found, dict):
        own = found.get("broken")
        return own if isinstance(own, int) else sum(count(value) for value in found.values())
    return sum(count(value) for value in found) if isinstance(found, list) else 0


def check() -> int:
    """Whether FP_DIR is sound and the exit code true. Says what is not."""
    from kt.deployments import audit, manifest
    from kt.errors import KtError
    from kt.workspace import Workspace

    place, old = (Workspace(Path(os.environ[name]).resolve()) for name in ("FP_DIR", "FP_BEFORE"))
    retry = os.environ["FP_PHASE"] == "retry"
    code = os.environ.get("FP_EXIT", "")
    try:
        book, _ = audit.read(place)
        before, _ = audit.read(old)
        path = place.root / manifest.MANIFEST
        if path.exists():
            manifest.parse(path.read_bytes())
        if book.events[: before.seq] != before.events:
            return broken("an event is gone")
        new = book.seq - before.seq
        if not 0 <= new <= 2 or (new == 2 and not retry):
            return broken(f"{new} new events")
        if not retry and code == "0" and not new:
            return broken("it said done, and nothing happened")
        if not retry and code.isdigit() and code not in ("0", "75", "130") and new:
            return broken(f"it said not done (exit {code}), and it happened")
        findings = [f for f in audit.verify(place) if retry or not f.fixable]
        if findings:
            return broken(f"{findings[0].where}: {findings[0].what}")
    except (KtError, OSError) as error:
        return broken(str(error))
    if retry:
        if not new:
            return broken("the same command again did nothing")
        if (place.root / ".git" / "index.lock").exists():
            return broken("index.lock is left")
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=place.root, capture_output=True, text=True, check=False
        )  # fmt: skip
        if status.stdout.strip():
            return broken(f"git is not in step: {status.stdout.splitlines()[0]}")
    return 0


def broken(why: str) -> int:
    print(why)
    return 1


if __name__ == "__main__":
    main()
