"""The kt command: every verb, the options they share, and the one place where an error becomes an exit code.

Only Typer is imported here, and the file of the verb that is asked for, which imports its room when it
runs: `kt --help` and `kt status` start at once.
"""

import gc
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import typer

from kt import __version__
from kt.cli import complete, early, interrupt, output
from kt.cli.options import Json, here
from kt.errors import EXIT_CODES, INTERRUPTED, Invalid, KtError, Unavailable

# Where in kt.cli each verb is. In the order in which a model meets them.
VERBS = {
    "init": "workspace.init",
    "demo": "demo.demo",
    "simulate": "simulate.simulate",
    "train": "train.train",
    "evaluate": "evaluate.evaluate",
    "calibrate": "calibrate.calibrate",
    "items": "items.items",
    "drift": "items.drift",
    "gaming": "gaming.gaming",
    "register": "registry.register",
    "deploy": "deploy.deploy",
    "status": "status.status",
    "ramp": "deployments.ramp",
    "canary": "canary.canary",
    "experiment": "experiments.experiment",
    "promote": "deployments.promote",
    "end": "deployments.end",
    "rollback": "deployments.rollback",
    "history": "status.history",
    "dashboard": "dashboard.dashboard",
    "monitor": "monitors.monitor",
    "alerts": "monitors.alerts",
    "export": "export.export",
    "models": "registry.models",
    "show": "registry.show",
    "reproduce": "reproduce.reproduce",
    "sign": "registry.sign",
    "diff": "diff.diff",
    "serve": "serve.serve",
    "key": "keys.key",
    "predict": "serve.predict",
    "feedback": "feedback.feedback",
    "requests": "requests.requests",
    "privacy": "privacy.privacy",
    "retrain": "jobs.retrain",
    "jobs": "jobs.jobs",
    "runs": "runs.runs",
    "backtest": "backtest.backtest",
    "mastery": "mastery.mastery",
    "daemon": "jobs.daemon",
    "verify": "workspace.verify",
    "doctor": "doctor.doctor",
    "gc": "storage.gc",
    "push": "storage.push",
    "pull": "storage.pull",
    "config": "workspace.config",
    "help": "app.help_on",
}

# Verbs that answer and end, and serve, which only tells its server what was asked for. In them Python collects no garbage before
# they have made this many objects, and none at the end: it would go over whatever SQLAlchemy and pydantic define,
# again and again.
BRIEF = {
    "status", "ramp", "canary", "experiment", "promote", "end", "rollback", "history", "alerts", "models", "show",
    "key", "jobs", "runs", "retrain", "config", "serve",
}  # fmt: skip
OBJECTS = 50_000


CRON = """\
Two lines do what kt daemon does; both at once do nothing twice.

  * * * * *     cd WORKSPACE && { kt monitor --once --quiet; kt canary step --quiet; }
  */30 * * * *  cd WORKSPACE && kt retrain --deploy --quiet

kt export cron writes them with the paths that cron needs. Each prints nothing where there is
nothing to tell, so that cron mails nothing. kt retrain asks the triggers itself; to act otherwise
where it is due, exit code 10 says so:

  kt retrain --check --quiet; [ $? -eq 10 ] && ./ask-for-a-machine

Where kt.toml has mastery measured, a third: kt export cron writes all of them.

  */30 * * * *  cd WORKSPACE && nice kt mastery update --quiet
"""


def help_on(
    context: typer.Context,
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="exit-codes, cron, or a verb.")
    ] = "",
    json: Json = False,
) -> None:
    """What the exit codes mean, or a verb's own help.

    Example: kt help exit-codes
    """
    if topic == "exit-codes":
        rows = [{"code": code, "meaning": meaning} for code, meaning in EXIT_CODES]
        lines = [f"{code:>3}  {meaning}" for code, meaning in EXIT_CODES]
        output.emit({"exit_codes": rows}, lines)
        return
    if topic == "cron":
        output.emit({"topic": topic, "text": CRON}, CRON)
        return
    root = context.find_root()
    verbs: dict[str, Any] = getattr(root.command, "commands", {})
    verb = verbs.get(topic) if topic else root.command
    if verb is None:
        known = ", ".join(VERBS)
        raise Invalid(
            f"there is no help on {topic[:64]!r}", do=f"there is on: exit-codes, cron, {known}"
        )
    about = root if verb is root.command else typer.Context(verb, parent=root, info_name=topic)
    text = verb.get_help(about)
    output.emit({"topic": topic, "text": text}, text)


def in_short(verb: Callable[..., Any]) -> str:
    """The first clause of a verb's help, which fits the list of all of them."""
    return re.split(r"[:;,]|\.\s", verb.__doc__ or "")[0]


def command_line(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """The command with these verbs."""
    app = typer.Typer(
        name="kt",
        help="Takes trained PyTorch models into production and keeps them healthy.",
        epilog="Start with: kt demo.  Exit codes: kt help exit-codes.",
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(shared)
    for name in verbs:
        file, _, function = VERBS[name].partition(".")
        verb = getattr(importlib.import_module(f"kt.cli.{file}"), function)
        app.command(name, short_help=in_short(verb))(verb)
    return app


def wanted(given: Sequence[str]) -> Iterable[str]:
    """The verbs that this command line may run or tell of: the one that it plainly begins with, else all."""
    verb = early.verb(given)
    return [verb] if verb in VERBS and verb != "help" else VERBS


def version(asked: bool) -> None:
    if asked:
        output.write(f"kt {__version__}")
        raise typer.Exit


def shared(
    context: typer.Context,
    workspace: Annotated[
        str,
        typer.Option(
            "--workspace", "-C", metavar="DIR", help="The workspace, if not the folder you are in."
        ),
    ] = "",
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    output.run.workspace = workspace
    output.run.command = context.invoked_subcommand or ""
    here()  # numpy and torch, too, fail where it is gone, each in its own way
    if context.invoked_subcommand is None:
        output.write(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Never shows a traceback for what a person can mend."""
    # kt has no plugins of pydantic; to look for some it reads the metadata of every package there is
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    given = sys.argv[1:] if arguments is None else list(arguments)
    output.run.json = "--json" in given  # also where the command line is wrong
    output.any_text()
    verbs = wanted(given)
    brief = arguments is None and BRIEF.issuperset(verbs)  # else this process goes on
    if brief:
        gc.set_threshold(OBJECTS)
    try:
        with complete.as_asked():
            code = command_line(verbs)(given, prog_name="kt", standalone_mode=False)
    except (KtError, OSError) as error:
        code = fail(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as ended:  # so Typer ends, with 1, where nobody reads our pipe any more
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        code = fail(ended.__context__)
    except Exception as error:
        problem = usage(error)
        if problem is None and not interrupt.pressed:
            output.bug(error)
            raise
        if problem is not None:
            output.fail(problem)
        code = INTERRUPTED if problem is None else problem.code
    if code == INTERRUPTED:  # Typer may have met it first
        output.interrupted()
    if brief:
        gc.freeze()
    sys.exit(code if isinstance(code, int) else 0)


def fail(error: KtError | OSError) -> int:
    if isinstance(error, BrokenPipeError):
        sys.stdout = None  # whoever read us has read enough; nothing more can be flushed
        return 0
    if isinstance(error, OSError):  # of a file that nobody expected to fail
        named = f"{error.filename}: " if error.filename else ""
        error = Unavailable(
            f"{named}{error.strerror or type(error).__name__}",
            do="mend it, then see what is so: kt status",
        )
    output.fail(error)
    return error.code


def usage(error: Exception) -> Invalid | None:
    """A wrong command line, which Typer words; None for any other exception."""
    words = getattr(error, "format_message", None)
    if words is None:
        return None
    verb = f" {output.run.command}" if output.run.command else ""
    return Invalid(str(words()).rstrip("."), do=f"see: kt{verb} --help")
