"""The model door: a file that nobody vouches for is opened in a process of its own that is shut in.

    parent   opens the file, starts the child with it, hashes it, believes only well-formed answers
    child    shuts itself in (confine.py), imports torch while the parent hashes; then reads weights,
             fits them to the family, writes the version into the staging folder, runs the gates;
             a crash, a leak or an endless loop ends it alone

Where a person vouches for a file that is code, another child comes first: it runs the code and leaves
a file of plain data (trusted.py) in a folder of its own, which then takes the same way as any other.

The two speak JSON lines: the order on the child's standard input; on its standard output the steps as
they happen, then the outcome.
"""

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kt import errors, process, staging
from kt.errors import Invalid, KtError, Refused, Unavailable
from kt.registry import checkpoint, confine, gate, load, onnx, trusted
from kt.registry.record import WEIGHTS, Source, VersionRecord
from kt.registry.register import Prepared, Progress, Request, named_model, prepare
from kt.workspace import Workspace

SECONDS = 120  # of processor time, and a second for each SPEED bytes of the file
SPEED = 20_000_000
MEMORY = 3 << 30  # bytes, and SHARE times the file's size
SHARE = 6
DISTRUST = "trust nothing of this file: ask whoever made it"
LONGEST = 100_000_000  # bytes that the child may say: some parts of a checkpoint, and the steps


@contextmanager
def prepared(
    workspace: Workspace, request: Request, active: Mapping[str, str], progress: Progress
) -> Iterator[Prepared]:
    """Everything about a file that is decided before the lock. It is discarded unless adopted.

    active: the active version of each model. Raises Invalid, Refused or Unavailable, with nothing changed.
    """
    if request.trust:
        trusted.refuse_forbidden(workspace, "--trust-code runs the code in a file")
    with staging.staging(workspace) as folder:
        with (
            checkpoint.descriptor_of(request.path) as held,
            started(folder, held) as child,
        ):
            refuse_full(folder, held, request)
            file = checkpoint.through(held, request.path)
            source = checkpoint.source_of(file, request.path, code=bool(request.trust))
            progress(
                "hashing", f"{source.name}  {source.size:,} bytes  sha256:{source.sha256[:12]}…"
            )
            plain = rewritten(workspace, request, held, source, folder) if request.trust else None
            if request.trust:
                told = "has run, shut in" if plain else "has not run: the file is plain data"
                progress("code", told)
            order = order_of("prepare", workspace, request, *(plain or (file, source)))
            outcome = ask(child, order | {"active": dict(active)}, source, progress)
            ready = believed(outcome, folder / "version", request.path)
        if plain is not None and not ready.existing:
            marks = {"source": source, "trusted": request.trust}
            ready = replace(ready, draft=ready.draft.model_copy(update=marks))
        yield ready


def refuse_full(folder: Path, held: int, request: Request) -> None:
    """Raises Unavailable where there is no room for the version, nor for what code would leave of it."""
    needed = os.fstat(held).st_size * (3 if request.trust else 1)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise Unavailable(
            f"{folder} has {free / 1e6:.2f} MB free, {request.path.name} needs {needed / 1e6:.2f}",
            do="make room: kt gc",
        )


def rewritten(
    workspace: Workspace, request: Request, held: int, source: Source, folder: Path
) -> tuple[Path, Source] | None:
    """Have the code in a file run; what it leaves is data, of which there is a copy in `folder` then.

    A copy, because something that the code has started may live on and write what it left. None
    where there was no need to: the file is data.
    """
    with staging.staging(workspace) as room:
        with started(room, held) as child:
            file = checkpoint.through(held, request.path)
            order = order_of("rewrite", workspace, request, file, source)
            ask(child, order, source, lambda *_: None)
        left = room / trusted.LEFT
        if not os.path.lexists(left):
            return None
        with checkpoint.descriptor_of(left) as written:
            copy = checkpoint.copied(checkpoint.through(written, left), left, folder)
    return copy, checkpoint.source_of(copy, left)


def order_of(
    task: str, workspace: Workspace, request: Request, file: Path, source: Source
) -> dict[str, Any]:
    """What a child is told. task: "prepare" or "rewrite". file: where it reads the bytes of request.path."""
    return {
        "task": task,
        "workspace": str(workspace.root),
        "request": asdict(request),
        "file": str(file),
        "source": source.model_dump(mode="json"),
    }


@contextmanager
def started(folder: Path, held: int) -> "Iterator[subprocess.Popen[bytes]]":
    """The child, shut into `folder` and waiting for its order. It ends with the block.

    held: the descriptor of the file that it will read.
    """
    with subprocess.Popen(
        [*process.command("kt.registry.door"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=process.environment(OMP_NUM_THREADS="1", TMPDIR=str(folder)),
        pass_fds=(held,),
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            kill(child)


def kill(child: "subprocess.Popen[bytes]") -> None:
    """It ends, and whatever it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of it is left
        os.killpg(child.pid, signal.SIGKILL)


def ask(
    child: "subprocess.Popen[bytes]", order: Mapping[str, Any], source: Source, progress: Progress
) -> dict[str, Any]:
    """Have the child do it. Raises what the child raised, or Invalid where it did not come to an end."""
    assert child.stdin is not None
    seconds = SECONDS + source.size // SPEED
    # the processor's time is limited by the kernel; one that only sleeps is ended by this
    seconds_in_forks = 2 * onnx.SECONDS  # the graph, and the steps
    timer = threading.Timer((seconds + seconds_in_forks) * 2, kill, (child,))
    timer.start()
    try:
        child.stdin.write(json.dumps(order, default=str).encode())
        child.stdin.close()
        outcome = listen(child, progress)
    except BrokenPipeError:
        outcome = {}
    finally:
        timer.cancel()
    if not outcome:
        end(child)
        raise Invalid(
            f"could not be opened: {how_it_ended(child.returncode, seconds)}",
            where=str(order["request"]["path"]),
            do="a sound file of weights needs no more; save it again",
        )
    if "error" in outcome:
        raise raised(outcome["error"])
    return outcome


def listen(child: "subprocess.Popen[bytes]", progress: Progress) -> dict[str, Any]:
    """Tell the steps as they come; return the outcome, nothing where there is none."""
    for line in lines(child):
        try:
            said = json.loads(line)
        except ValueError:
            return {}
        match said:
            case {"step": [name, text]}:
                progress(str(name), str(text))
            case {"error": dict()} | {"done": _}:
                return dict(said)
            case _:
                break
    return {}


def lines(child: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    assert child.stdout is not None
    rest = b""
    for part in process.heard(child.stdout.fileno(), lambda: child.poll() is not None, LONGEST):
        *whole, rest = (rest + part).split(b"\n")
        yield from whole


def end(child: subprocess.Popen[bytes]) -> None:
    """Let it end by itself, which says how; one that does not is killed."""
    try:
        child.wait(1)
    except subprocess.TimeoutExpired:
        kill(child)
        child.wait()


def how_it_ended(code: int, seconds: int) -> str:
    if code == -signal.SIGXCPU:
        return "it takes longer to read than a file of its size may"
    if code == -signal.SIGKILL:
        return f"it took more than {seconds} s, or more memory than there is"
    if code < 0:
        return f"it made the loader crash ({signal.Signals(-code).name})"
    return (
        "it needs more memory than a file of its size may" if code else "it ended its loader early"
    )


KINDS: dict[str, type[KtError]] = {
    "not passed": gate.NotPassed,
    "refused": Refused,
    "corrupt": errors.Corrupt,
    "unavailable": errors.Unavailable,
}


def raised(error: Mapping[str, Any]) -> KtError:
    """The child's error as the parent's."""
    return KINDS.get(str(error.get("kind")), Invalid)(
        str(error.get("what")), where=str(error.get("where", "")), do=str(error.get("do", ""))
    )


def believed(outcome: Mapping[str, Any], staged: Path, path: Path) -> Prepared:
    """The child's outcome, if it is one: it may have run foreign code. Raises Invalid."""
    try:
        done = outcome["done"]
        draft = VersionRecord.model_validate(done["draft"])
        if draft.reference is not None:
            draft.reference.check()
        ready = Prepared(
            model=str(done["model"]),
            wanted=str(done["wanted"]),
            existing=str(done["existing"]),
            parent=None if done["parent"] is None else str(done["parent"]),
            forced=bool(done["forced"]),
            draft=draft,
            staged=staged,
            heals=bool(done["heals"]),
        )
    except (ValidationError, KeyError, TypeError, errors.Corrupt) as error:
        raise Invalid("made its loader answer nonsense", where=str(path), do=DISTRUST) from error
    if not ready.existing and load.header(staged / WEIGHTS) != draft.spec:
        raise Invalid(
            "made its loader write other weights than it names", where=str(path), do=DISTRUST
        )
    if not ready.existing:
        for file, made in draft.exports.items():
            load.check_export(staged / file, made.sha256)
    return ready


def main() -> None:
    """The child: shut in, read the order, do it, say what came of it."""
    folder = Path(sys.argv[1])
    missing = confine.confine(folder)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a family prints is not an answer
    gc.disable()  # a tenth of the time that torch's import takes, for nothing
    import torch  # noqa: F401  # here: the parent is hashing meanwhile

    gc.enable()
    gc.freeze()  # nor is it looked through again, 0.2 s each time
    order = json.loads(sys.stdin.buffer.read())

    def say(what: Mapping[str, Any]) -> None:
        out.write(json.dumps(what, default=str).encode() + b"\n")

    request, source = request_of(order["request"]), Source.model_validate(order["source"])
    confine.bound(cpu=SECONDS + source.size // SPEED, memory=MEMORY + SHARE * source.size)
    try:
        if order["task"] == "rewrite":
            say({"done": rewrite(order, request, source, folder, missing)})
        else:
            say({"done": made(order, request, source, folder, lambda *step: say({"step": step}))})
    except KtError as error:
        say(
            {
                "error": {
                    "kind": "not passed" if isinstance(error, gate.NotPassed) else error.kind,
                    "what": error.what,
                    "where": error.where,
                    "do": error.do,
                }
            }
        )
    except MemoryError:
        say(
            {
                "error": {
                    "kind": "invalid",
                    "what": "needs more memory than a file of its size may",
                    "where": str(request.path),
                }
            }
        )
    except Exception as error:  # noqa: BLE001  # a family is foreign code
        what = f"cannot be made a version: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        say({"error": {"kind": "invalid", "what": what, "where": str(request.path)}})


def made(
    order: Mapping[str, Any], request: Request, source: Source, folder: Path, progress: Progress
) -> dict[str, Any]:
    """The task for data: a version."""
    workspace = Workspace(Path(order["workspace"]))
    file, active = Path(order["file"]), order["active"]
    ready = prepare(workspace, request, file, source, folder, active, progress)
    names = ("model", "wanted", "existing", "parent", "forced", "heals")
    fields = {name: getattr(ready, name) for name in names}
    return fields | {"draft": ready.draft.model_dump(mode="json")}


def rewrite(
    order: Mapping[str, Any],
    request: Request,
    source: Source,
    folder: Path,
    missing: Sequence[str],
) -> bool:
    """The task for code: a file of data. Raises Refused where the child is not wholly shut in."""
    if missing:
        raise Refused(
            f"this machine cannot shut foreign code in: {', '.join(missing)} would be open to it",
            do="register the file on Linux 6.7 or later, or save its weights",
        )
    workspace = Workspace(Path(order["workspace"]))
    family = request.family or workspace.settings.of(named_model(workspace, request)).family
    trusted.rewrite(
        workspace.root,
        Path(order["file"]),
        source,
        request.path,
        folder,
        family="" if family == "exported" else family,
        example=request.example,
    )
    return True


def request_of(said: Mapping[str, Any]) -> Request:
    """A request as it came through JSON."""
    paths = {name: Path(said[name]) for name in ("path", "config", "example") if said[name]}
    return Request(**{**said, **paths})


if __name__ == "__main__":
    main()
