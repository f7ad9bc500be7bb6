"""The options that many verbs share, and the stamp that every change carries."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kt.cli import complete, output

if TYPE_CHECKING:
    from kt.deployments.history import State
    from kt.deployments.plan import Stamp
    from kt.workspace import Workspace


LONGEST = 2_000  # characters of a reason


def set_json(asked: bool) -> bool:
    output.run.json = output.run.json or asked
    return asked


def set_quiet(asked: bool) -> bool:
    output.run.quiet = output.run.quiet or asked
    return asked


Json = Annotated[
    bool, typer.Option("--json", callback=set_json, help="One JSON document on stdout.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=set_quiet, help="Print no steps and no result.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check and show everything, write nothing.")
]
ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="With --dry-run: exit 10 if something would change.")
]
Registered = Annotated[
    str,
    typer.Argument(
        metavar="MODEL@VERSION", help="A registered version.", autocompletion=complete.versions
    ),
]
Version = Annotated[
    str,
    typer.Option("--version", metavar="V", help="The version's name; the next free vN without."),
]
Family = Annotated[
    str,
    typer.Option(
        "--family",
        metavar="F",
        help="The family of bare weights: a name, or a dotted path of yours.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration of bare weights, as JSON."),
]
Example = Annotated[
    Path | None,
    typer.Option(
        "--example",
        metavar="FILE",
        help="With --trust-code: a request as JSON, or tensors by name, to trace the module with.",
    ),
]
Trust = Annotated[
    str | None,
    typer.Option(
        "--trust-code",
        metavar="REASON",
        help="Run the code in the file, shut in, to make data of it; recorded and shown.",
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Past the judging gates, never the safety ones; recorded."),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, kept in the history.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="The model, where there are several.",
        autocompletion=complete.models,
    ),
]


def here() -> Path:
    """The folder that the command is run in. Raises Unavailable where somebody has removed it."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        from kt.errors import Unavailable

        raise Unavailable("the folder you are in is gone", do="go to another: cd") from error


def workspace() -> "Workspace":
    """The workspace that the command is about."""
    from kt import workspace as workspaces

    found = workspaces.find(here(), output.run.workspace)
    _ = found.settings  # a kt.toml that is wrong is an error of every command
    return found


def any_workspace() -> "Workspace | None":
    """The workspace that the command is about, if there is one: some verbs do without."""
    from kt import workspace as workspaces

    found = workspaces.find_any(here(), output.run.workspace)
    if found:
        _ = found.settings  # as above
    return found


def version_of(what: str) -> tuple[str, str]:
    """MODEL@VERSION as the two names. Raises Invalid."""
    from kt.config import check_name
    from kt.errors import Invalid

    model, at, version = what.partition("@")
    if not at:
        raise Invalid(
            f"{what[:64]!r} names no version", do="write it as MODEL@VERSION; see them: kt models"
        )
    return check_name(model, "a model"), check_name(version, "a version")


def stamp(reason: str) -> "Stamp":
    """Who, when, why."""
    from kt import clock, git
    from kt.deployments.plan import Stamp

    return Stamp(text(git.identity()), output.iso(clock.now()), kept(reason, "--reason"))


def kept(reason: str, option: str) -> str:
    """A reason as it is kept. Raises Invalid where it is too long."""
    from kt.errors import Invalid

    if len(reason) > LONGEST:
        raise Invalid(
            f"it has {len(reason)} characters, at most {LONGEST} are kept",
            where=option,
            do="say it in fewer words",
        )
    return text(reason)


def vouched(reason: str | None) -> str:
    """Why the code in a file may run; empty where it may not. Raises Invalid without a reason."""
    from kt.errors import Invalid

    if reason is None:
        return ""
    if not reason.strip():
        raise Invalid(
            "code is run for a reason alone",
            where="--trust-code",
            do="say why: --trust-code REASON",
        )
    return kept(reason.strip(), "--trust-code")


def text(given: str) -> str:
    """What a terminal hands over as Unicode: bytes that are none are replaced."""
    return given.encode("utf-8", "replace").decode()


def must_agree(yes: bool) -> None:
    """What cannot be undone asks first; where nobody can be asked, it needs --yes."""
    from kt.errors import Invalid

    if not yes and not sys.stdin.isatty():
        raise Invalid("this cannot be undone, and there is no terminal to ask on", do="add --yes")


def agree(yes: bool, about: Sequence[str], question: str) -> None:
    """Go on only if a person says so. Raises typer.Abort."""
    if yes:
        return
    for line in about:
        output.say(line)
    typer.confirm(question, abort=True, err=True)


def choose(workspace: "Workspace", state: "State", model: str) -> str:
    """The model that a command means: the one named, kt.toml's, or the only one."""
    from kt.errors import Invalid

    name = model or workspace.settings.model
    if name:
        if name not in state.models:
            raise Invalid(
                f"nothing of {name} is deployed",
                where="--model",
                do=f"deployed are: {', '.join(sorted(state.models)) or 'none'}",
            )
        return name
    if len(state.models) == 1:
        return next(iter(state.models))
    if not state.models:
        raise Invalid("nothing is deployed yet", do="deploy a model: kt deploy FILE")
    raise Invalid(
        "several models are deployed", do=f"name one: --model {' | '.join(sorted(state.models))}"
    )


def seconds(text: str, option: str = "--every") -> int:
    """A duration as people write it: 30s, 10m, 1h, 2d. Raises Invalid, also for one over ten years."""
    from kt.errors import Invalid
    from kt.event import LONGEST as LONGEST_TIME

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if not text.isascii() or not text[:-1].isdecimal() or text[-1:] not in units or len(text) > 9:
        raise Invalid(
            f"{text[:20]!r} is no duration", where=option, do="write it as 30s, 10m, 1h or 2d"
        )
    lasts = int(text[:-1]) * units[text[-1]]
    if lasts > LONGEST_TIME:
        raise Invalid(f"{text} is over ten years", where=option, do="give a shorter time: 3650d")
    return lasts
