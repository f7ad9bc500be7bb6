"""init, verify, config, help: the workspace itself."""

from pathlib import Path
from typing import Annotated

import typer

from kt.cli import options, output
from kt.cli.options import Json


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; here without.")] = Path(),
    json: Json = False,
) -> None:
    """Make a workspace: kt.toml with every setting commented, the four folders, a git repository.

    Example: kt init my-models
    """
    from kt import config, files, git
    from kt.doctor import IGNORED
    from kt.errors import Refused
    from kt.workspace import ROOMS

    root = folder.resolve()
    if (root / "kt.toml").exists():
        raise Refused(f"{root} is a workspace already", do="see what is live: kt status")
    made = ["kt.toml"]
    with files.named("make", root):
        for room in ROOMS:
            (root / room).mkdir(parents=True, exist_ok=True)
            (root / room / ".gitkeep").touch()
            made.append(f"{room}/.gitkeep")
    ignore = root / ".gitignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    files.write_whole(
        ignore, "\n".join([*lines, *(line for line in IGNORED if line not in lines), ""]).encode()
    )
    made.append(".gitignore")
    files.write_whole(root / "kt.toml", config.template().encode())
    problem = git.start(root)
    if not problem:
        problem = git.commit(root, made, "kt init").problem
    if problem:
        output.warn(f'not in git: {problem}; set git = "off" in kt.toml if that is meant')
    output.emit(
        {"root": root, "git": not problem},
        f"made a workspace in {root}.  Next: kt deploy FILE, or kt demo",
    )


def verify(
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="Let the history on disk stand, though this machine wrote another."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Whether everything is as kt wrote it: histories, manifest, records, weights, git. Exits 4 if not.

    Example: kt verify --fix
    """
    from kt.deployments import deploy as room
    from kt.deployments import verify
    from kt.errors import Corrupt
    from kt.jobs import book as runs
    from kt.monitors import history as alerts
    from kt.registry import absence

    workspace = options.workspace()
    _ = workspace.settings  # a broken kt.toml is an error of its own
    if fix or accept:
        for note in room.accept(workspace) if accept else room.fix(workspace):
            output.warn(note)
    findings = [*verify.everything(workspace), *alerts.verify(workspace), *runs.verify(workspace)]
    book = len(findings)
    away = absence.everywhere(workspace)
    result = {
        "ok": not findings,
        "findings": [finding.__dict__ for finding in findings],
        "absent": [{"model": model, "version": version} for model, version in away],
    }
    lines = [f"{finding.where}: {finding.what}\n    {finding.do}" for finding in findings]
    output.emit(
        result,
        [
            *lines,
            f"{book} things are not as kt wrote them"
            if book > 1
            else "1 thing is not as kt wrote it",
        ]
        if findings
        else "everything is as kt wrote it"
        + (f"; away on purpose: the weights of {', '.join(map('@'.join, away))}" if away else ""),
    )
    if findings:
        raise typer.Exit(Corrupt.code)


def config(
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="One setting or table; all without.")
    ] = "",
    json: Json = False,
) -> None:
    """Every setting: its value here, its default, its unit and what it means.

    Example: kt config predictor
    """
    from kt import config as settings
    from kt.errors import Invalid

    workspace = options.workspace()
    values = workspace.settings.model_dump(mode="json")
    rows = []
    for known in settings.known_settings():
        if key and known.key != key and not known.key.startswith(f"{key}."):
            continue
        value = settings.lookup(values, known.key)
        rows.append(
            {
                "key": known.key,
                "value": value,
                "default": known.default,
                "type": known.type,
                "unit": known.unit or None,
                "meaning": known.meaning,
            }
        )
    if not rows:
        raise Invalid(f"there is no setting {key[:64]!r}", do="see them all: kt config")
    cells = [
        (
            r["key"],
            "-" if r["value"] is None else settings.toml(r["value"]),
            r["unit"] or "",
            r["meaning"],
        )
        for r in rows
    ]
    from tabulate import tabulate

    text = tabulate(
        cells,
        headers=("SETTING", "VALUE", "UNIT", "MEANING"),
        tablefmt="plain",
        disable_numparse=True,
    )
    output.emit({"file": workspace.root / "kt.toml", "settings": rows}, text)
