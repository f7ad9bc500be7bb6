"""The kt command: every verb, the options they share, and the one place where an error becomes an exit code.

Only Typer is imported here; each verb imports its room when it runs, so that `kt --help` and
`kt status` start at once.
"""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from kt import __version__
from kt.cli import demo, deployments, diff, models, output, registry, serve, storage
from kt.cli import workspace as workspaces
from kt.cli.options import Json
from kt.errors import EXIT_CODES, INTERRUPTED, KtError

app = typer.Typer(
    name="kt",
    help="Takes trained PyTorch models into production and keeps them healthy.",
    epilog="Start with: kt demo.  Exit codes: kt help exit-codes.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def help_on(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="exit-codes, or a verb.")] = "",
    json: Json = False,
) -> None:
    """What the exit codes mean, or a verb's own help.

    Example: kt help exit-codes
    """
    if topic == "exit-codes":
        rows = [{"code": code, "meaning": meaning} for code, meaning in EXIT_CODES]
        output.emit({"exit_codes": rows}, output.table(("CODE", "MEANING"), EXIT_CODES))
        return
    app([topic, "--help"] if topic else ["--help"], standalone_mode=False)


# In the order in which a model meets them.
VERBS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("init", workspaces.init),
    ("demo", demo.demo),
    ("simulate", models.simulate),
    ("train", models.train),
    ("evaluate", models.evaluate),
    ("register", registry.register),
    ("deploy", deployments.deploy),
    ("status", deployments.status),
    ("ramp", deployments.ramp),
    ("promote", deployments.promote),
    ("end", deployments.end),
    ("rollback", deployments.rollback),
    ("history", deployments.history),
    ("models", registry.models),
    ("show", registry.show),
    ("diff", diff.diff),
    ("serve", serve.serve),
    ("predict", serve.predict),
    ("verify", workspaces.verify),
    ("gc", storage.gc),
    ("config", workspaces.config),
    ("help", help_on),
)
for name, verb in VERBS:
    app.command(name)(verb)


def version(asked: bool) -> None:
    if asked:
        output.write(f"kt {__version__}")
        raise typer.Exit


@app.callback()
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


def main() -> None:
    """The console script. Never shows a traceback for what a person can mend."""
    try:
        code = app(standalone_mode=False)
    except KtError as error:
        output.fail(error)
        code = error.code
    except typer.Exit as done:
        code = done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        output.say("kt: interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = 0  # whoever read us has read enough
        sys.stdout = None  # nothing more can be flushed
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        show = getattr(error, "show", None)  # a wrong command line, as Typer words it
        if show:
            show()
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)
