"""Faults at every file-changing system call of kt and of its git, by an outside fault injector.

    PYTHONPATH=.:tests python bench/crash.py FAULTPOINT [--modes kill,torn,ENOSPC+] [--scenes deploy,register,pull] [--most N]
    PYTHONPATH=.:tests python bench/crash.py FAULTPOINT --modes power --fs ext4
    PYTHONPATH=.:tests python bench/crash.py FAULTPOINT --races deploy,gc [--most N]

FAULTPOINT is the path of faultpoint.py, which runs a command once for each such call and injects one
fault exactly there. Each state is judged by this file (`--check`): every part of it is as it was before or
as a run without a fault leaves it, and whole; the exit code is true; what a killed command left is known
to `kt doctor`. Where the command is run again (`retry`) all of it is as without a fault, git is in step
and nothing is left over. `--races`: each of these commands is frozen at each call while each of the
others runs. Prints the broken points of each scene and mode; the bar is 0.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import world
from world import RACES, SCENES, Scene, Seen

from kt import files
from kt.deployments import gc, verify
from kt.errors import KtError
from kt.store import secret
from kt.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
MODES = "kill,kill-tree,torn,short,ENOSPC+,EIO,EROFS,EMFILE,term,int"
KT = f"{sys.executable} -m kt"
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
    about.add_argument("--scenes", default=",".join(SCENES))
    about.add_argument("--races", default="", help=f"of {','.join(RACES)}: all pairs of these")
    about.add_argument("--most", default="0", help="points of each mode, evenly; 0: all")
    about.add_argument("--fs", default="posix", help="of the mode power: posix or ext4")
    about.add_argument("--jobs", default="2")
    about.add_argument("--show", default="5", help="broken points shown of each mode")
    about.add_argument("--check", metavar="SCENE", help="judge FP_DIR, as the injector asks")
    about.add_argument("--make", metavar="SCENE", help="make the world of a scene here")
    given = about.parse_args()
    os.environ.update(ENVIRONMENT)
    if given.make:
        return world.make(Path.cwd(), scene(given.make))
    if given.check:
        why = check(given.check)
        print(why)
        sys.exit(why != "")
    if given.faultpoint is None:
        about.error("name faultpoint.py")
    races = given.races.split(",") if given.races else []
    names = [f"{a}+{b}" for a in races for b in races] or given.scenes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        broken = sum(run(given, name, Path(folder)) for name in names)
    print(f"broken points in all: {broken}")
    sys.exit(broken > 0)


def scene(name: str) -> Scene:
    """By its name, or of two commands at once: "deploy+gc"."""
    first, plus, second = name.partition("+")
    if not plus:
        return SCENES[first]
    pulls = "pull" in (first, second)
    before = (*world.BOTH, *(["ours push"] if pulls else []))
    also = world.ALSO.get(first, world.ALSO.get(second, ""))
    return Scene(RACES[first], before, at="theirs" if pulls else "ours", shared=True, also=also)


def run(given: argparse.Namespace, name: str, folder: Path) -> int:
    """All faults of a scene. folder: for the worlds, made once each."""
    what = scene(name)
    me = f"{sys.executable} {Path(__file__).resolve()}"
    race = name.partition("+")[2]
    made, answer = (
        folder / str(abs(hash((what.before, what.shared, what.also)))),
        folder / "answer.json",
    )
    if not made.exists():
        made.mkdir()
        subprocess.run(f"{me} --make {name}", shell=True, cwd=made, check=True)
    answer.unlink(missing_ok=True)
    subprocess.run(
        [
            sys.executable, str(given.faultpoint), "--mode", "race" if race else given.modes,
            "--template", str(made), "--check", f"{me} --check {name}",
            *(["--race-cmd", f"cd {{dir}}/{what.at} && exec {KT} {RACES[race]}"] if race else []),
            *(["--retry"] if given.modes != "power" else []),
            *(["--no-locks"] if what.also else []),  # of the tables: half of the calls
            "--tracebacks", "--max-points", given.most, "--fs", given.fs, "--jobs", given.jobs,
            "--show", given.show, "--json", str(answer), "--timeout", "600",
            "--", "sh", "-c", f"cd {{dir}}/{what.at} && exec {KT} {what.command}",
        ],
        check=False,
    )  # fmt: skip
    found = json.loads(answer.read_text()) if answer.exists() else {"modes": {"none": {}}}
    counts = {
        mode: (one.get("tested", 0), one.get("broken", 1), one.get("tracebacks", 0))
        for mode, one in found["modes"].items()
    }
    print(f"{name}: calls {found.get('calls')}; runs, broken, tracebacks of each mode: {counts}")
    return sum(broken + traces for _, broken, traces in counts.values())


def check(name: str) -> str:
    """What is wrong with FP_DIR after a fault in a scene's command; empty where nothing is."""
    what = scene(name)
    now, before, after = (Path(os.environ[f"FP_{key}"]) for key in ("DIR", "BEFORE", "AFTER"))
    code, retry = os.environ.get("FP_EXIT", ""), os.environ["FP_PHASE"] == "retry"
    place = Workspace((now / what.at).resolve())
    said = now.with_name(f"{now.name}.said")  # the exit code before the retry
    if os.environ["FP_MODE"] == "power" and (place.root / secret.FILE).exists():
        (place.root / secret.FILE).chmod(files.PRIVATE)  # the injector's states have no modes
    try:
        seen, old = world.look(now, what), world.look(before, what)
        if "+" in name:
            codes = [code, os.environ.get("FP_RACE_EXIT", "0")]
            clean = os.environ["FP_MODE"] == "none"
            return raced(name.split("+")[: 1 if clean else 2], codes, old, seen) or (
                in_step(place, fetched="pull" in name)
            )
        new = world.look(after, what)
        if retry:
            again = what.again or (what.more and said.read_text() in ("0", "75", "130"))
            return done(seen, new, again=again) or in_step(place)
        said.write_text(code)
        wrong = judge(what, old, new, seen, code) or sound(place)
        return wrong or (mended(place) if os.environ["FP_MODE"] == "power" else "")
    except (KtError, OSError, subprocess.CalledProcessError) as error:
        return str(error)


def judge(what: Scene, old: Seen, new: Seen, now: Seen, code: str) -> str:
    """What is wrong with a state between two, by the exit code that led to it ("killed": by none)."""
    if now.events not in (old.events, new.events):
        return f"the history has {len(now.events)} events"
    if now.branch not in (old.branch, new.branch):
        return f"the shared history has {len(now.branch)} events"
    if not old.store <= now.store <= new.store:
        return "the store lacks or has what it should not"
    if not world.served(now.branch) <= now.store and now.store:
        return "the shared history names weights that the store lacks"
    for key in old.versions.keys() | now.versions.keys():
        if now.versions.get(key) not in (old.versions.get(key), new.versions.get(key)):
            return f"{key} is neither old nor new: {now.versions.get(key, ('', 'gone'))[1]}"
    for name, part in now.also.items():
        if not begins(old.also[name], part) or not begins(part, new.also[name]):
            return f"{name} are neither old nor new: {part}"
    if code in ("0", "75") and now != new:
        return "it said done, and it is not"
    failed = code.isdigit() and code not in ("0", "75", "130")
    if failed and (now == new if what.partly else now != old):
        return f"it said not done (exit {code}), and something has happened"
    return ""


def done(now: Seen, new: Seen, *, again: bool) -> str:
    """Whether the command that was typed again has come to its end, or, where it may, gone further."""
    further = (
        again
        and begins(new.events, now.events)
        and all(begins(part, now.also[name]) for name, part in new.also.items())
    )
    return (
        "" if further or now == new else f"the same command again has not finished it: {now.also}"
    )


def begins(first: Sequence[str], whole: Sequence[str]) -> bool:
    return whole[: len(first)] == first


def raced(names: Sequence[str], codes: Sequence[str], old: Seen, now: Seen) -> str:
    """What is wrong after two commands at once: each that said done is done, each other one is not."""
    kinds = {
        "deploy": "deployed",
        "promote": "promoted",
        "rollback": "rolled_back",
        "monitor": "experiment_ended",
        "retrain": "deployed",
    }
    made = [json.loads(event)["kind"] for event in now.events[len(old.events) :]]
    done = [name for name, code in zip(names, codes, strict=False) if code in ("0", "75")]
    if bad := [code for code in codes if code not in ("0", "3", "5", "75")]:
        return f"exit code {bad[0]}"
    if now.events[: len(old.events)] != old.events:
        return "an event is gone"
    came = len(old.branch) - len(old.events) if "pull" in done else 0
    if came and now.events[: len(old.branch)] != old.branch:
        return "the pull said done, and their events are not here"
    due = sorted(kinds[name] for name in done if name in kinds)
    if names[0] == names[-1] != "rollback":
        due = due[:1]  # the second has nothing to do
    if {"promoted", "rolled_back"} & {*made} and "experiment_ended" not in made:
        due = [kind for kind in due if kind != "experiment_ended"]  # it had ended before
    if sorted(made[max(came, 0) :]) != due:
        return f"{', '.join(done)} said done; these events came: {made}"
    added = bool({"register", "retrain"} & {*done})
    if ("k/v1" in now.versions) != added:
        return f"{', '.join(done)} said done, and k/v1 is{'' if added else ' not'} missing"
    if "push" in done and not len(old.events) <= len(now.branch) <= len(now.events):
        return "the push said done, and the branch is not where this machine was"
    if old.branch == old.events[: len(old.branch)] and now.branch != now.events[: len(now.branch)]:
        return "the branch has what is not here"
    return ""


def sound(place: Workspace) -> str:
    """What a killed or failed command may not leave behind."""
    for finding in verify.everything(place):
        if not finding.fixable:
            return f"{finding.where}: {finding.what}"
    unknown = leftovers(place) - {path.resolve() for path in gc.leftovers(place)}
    return f"kt doctor does not know of {unknown.pop()}" if unknown else ""


def mended(place: Workspace) -> str:
    """What kt doctor cannot mend after a power cut. The machine has started since: locks are from before."""
    for lock in (place.root / ".git").rglob("*.lock"):
        os.utime(lock, (0, 0))
    command = [sys.executable, "-m", "kt", "doctor", "--fix"]
    done = subprocess.run(command, cwd=place.root, capture_output=True, text=True, check=False)
    return in_step(place) and f"{in_step(place)}; kt doctor said: {' '.join(done.stderr.split())}"


def in_step(place: Workspace, *, fetched: bool = False) -> str:
    """What is not as a command leaves it that nobody has disturbed.

    fetched: a pull that is refused keeps what it has fetched for the next one.
    """
    for finding in verify.everything(place):
        return f"{finding.where}: {finding.what}"
    left = [path for path in leftovers(place) if not fetched or path.parent.name != "incoming"]
    if left:
        return f"{left[0]} is left"
    if locks := [*(place.root / ".git").rglob("*.lock")]:
        return f"{locks[0].name} is left"
    if changed := world.typed(place.root, "git", "status", "--porcelain"):
        return f"git is not in step: {changed.splitlines()[0]}"
    return ""


def leftovers(place: Workspace) -> set[Path]:
    """Temporary files and folders, wherever they are."""
    folders = {*(place.local / "staging").glob("*")}
    asides = {path for path in place.root.rglob(f"{files.ASIDE}*") if not folders & {*path.parents}}
    return folders | asides | {*(place.local / "incoming").glob("*")}


if __name__ == "__main__":
    main()
