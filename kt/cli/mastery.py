"""kt mastery: how well students master skills, as was measured last; and that it is measured anew."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import DryRun, Json, Quiet

if TYPE_CHECKING:
    from kt.cli.progress import Moved
    from kt.jobs.aggregate import Done, Given
    from kt.store.database import Store
    from kt.store.students import Row, Run, Skill
    from kt.workspace import Workspace

ACTIONS = ("show", "update")


def mastery(
    action: Annotated[
        str, typer.Argument(metavar="[show|update]", help="What to do; show without.")
    ] = "show",
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="A [mastery.NAME] of kt.toml; all without.",
            autocompletion=complete.mastery,
        ),
    ] = "",
    unit: Annotated[
        str, typer.Option("--unit", metavar="ID", help="One student, as the data name it.")
    ] = "",
    skill: Annotated[str, typer.Option("--skill", metavar="S", help="Only this skill.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="With update: also where it is not due.")
    ] = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Show how well students master skills; with update, measure it anew where that is due.

    Mastery is what a student is expected to earn now of the items that stand for a skill, in the mean, from 0 to 1:
    what the active version would answer, asked about the same items for everybody. Due is what is older than `every`,
    or was measured by another version or by other skills. For cron, where kt daemon does not see to it:

        */30 * * * * nice kt mastery update --quiet

    Example: kt mastery --unit s-17
    """
    from kt.errors import Invalid

    if action not in ACTIONS:
        raise Invalid(
            f"there is no kt mastery {action[:40]}", do=f"choose from: {', '.join(ACTIONS)}"
        )
    other, given = (
        ("show", {"--unit": unit, "--skill": skill})
        if action == "update"
        else ("update", {"--force": force, "--dry-run": dry_run})
    )
    for option, value in given.items():
        if value:
            raise Invalid(f"it goes with {other} alone", where=option, do="see: kt mastery --help")
    workspace = options.workspace()
    names = chosen(workspace, name)
    if action == "update":
        update(workspace, names, force=force, dry_run=dry_run)
    else:
        show(workspace, names, unit, skill)


def chosen(workspace: "Workspace", name: str) -> list[str]:
    """The one of this name; without one all of them. Raises Invalid where there is none."""
    from kt.errors import Invalid

    known = list(workspace.settings.mastery)
    if not known:
        raise Invalid(
            "there is no mastery to measure",
            where="kt.toml",
            do="say of which model: [mastery.NAME], see: kt config mastery",
        )
    if name and name not in known:
        raise Invalid(f"there is no mastery {name[:64]}", do=f"name one: {', '.join(known)}")
    return [name] if name else known


def update(workspace: "Workspace", names: list[str], *, force: bool, dry_run: bool) -> None:
    """One after another; what is wrong with one keeps none of the others from being measured."""
    from kt import clock
    from kt.errors import KtError
    from kt.jobs import aggregate

    done, wrong = [], list[KtError]()
    for name in names:
        asked = aggregate.Asked(workspace, name, workspace.settings.mastery[name], clock.now, force)
        try:
            done.append(aggregate.update(asked, output.step, counting, dry_run=dry_run))
        except KtError as why:
            wrong.append(why)
    for one in done:
        if one.given and one.given.missing:
            output.step("unknown", missing(one.asked.model, one.given))
    for error in wrong[1:]:
        output.warn(str(error))
    if wrong:
        raise wrong[0]
    output.emit({"mastery": [said(one) for one in done]}, map(line, done))


def missing(model: str, given: "Given") -> str:
    """What the version does not know: how many items, and skills of which it knows none."""
    every = given.missing + len(given.measure.items)
    text = f"to {model}@{given.version}: {given.missing:,} of {every:,} items"
    if given.unknown:
        first, *others = given.unknown
        more = f" and of {len(others):,} skills more" if others else ""
        text += f", all of {first}{more}"
    return text


def counting(many: int) -> AbstractContextManager["Moved"]:
    from kt.cli import progress

    return progress.counting("students", many)


def said(done: "Done") -> dict[str, Any]:
    given, one = done.given, done.measured
    return {
        "name": done.asked.name,
        "due": done.why or None,
        "model": done.asked.model,
        "version": given.version if given else None,
        "skills": len(given.measure.skills) if given else None,
        "items": len(given.measure.items) if given else None,
        "unknown_items": given.missing if given else None,
        "unknown_skills": given.unknown if given else [],
        "students": one.students if one else None,
        "seconds": one.ended - one.at if one else None,
    }


def line(done: "Done") -> str:
    name, given, one = done.asked.name, done.given, done.measured
    if given is None:
        return f"{name}: not due.  See: kt mastery show {name}"
    what = f"of {len(given.measure.skills):,} skills by {done.asked.model}@{given.version}"
    if one is None:
        return f"{name}: due: {done.why}; would measure mastery {what}, {len(given.data.students):,} students"
    return f"{name}: mastery {what}, {one.students:,} students.  See: kt mastery show {name}"


def show(workspace: "Workspace", names: list[str], unit: str, skill: str) -> None:
    """What was measured last; nothing is computed."""
    from kt.store import connect, students

    store = connect.peek(workspace.root, workspace.settings)
    result, lines = [], list[str]()
    for name in names:
        one = students.last(store, name) if store else None
        lines += ["", *head(name, one)] if lines else head(name, one)
        document: dict[str, Any] = {"name": name, "measured": measured(one)}
        if store and one and unit:
            rows = of_unit(store, workspace, name, unit, skill)
            document["unit"] = [row._asdict() | {"unit": row.unit.hex()} for row in rows]
            document["unit"] = [dated(row) for row in document["unit"]]
            lines += student(rows, one)
        elif store and one:
            found = [row for row in students.skills(store, name) if skill in ("", row.skill)]
            document["skills"] = [dated(row._asdict()) for row in found]
            lines += everybody(found, one)
        result.append(document)
    output.emit({"mastery": result}, lines)


def of_unit(
    store: "Store", workspace: "Workspace", name: str, unit: str, skill: str
) -> "list[Row]":
    from kt.store import pseudonym, secret, students

    units = pseudonym.labelled(secret.read(workspace.root), unit)
    return [row for row in students.student(store, name, units) if skill in ("", row.skill)]


def measured(one: "Run | None") -> dict[str, Any] | None:
    if one is None:
        return None
    found = {"model": one.model, "version": one.version, "students": one.students}
    return found | {"at": iso(one.at), "ended": iso(one.ended) if one.is_whole else None}


def dated(row: dict[str, Any]) -> dict[str, Any]:
    """Its times as ISO 8601."""
    times = {key: row[key] for key in ("at", "answered_at") if key in row}
    return row | {key: None if at is None else iso(at) for key, at in times.items()}


def head(name: str, one: "Run | None") -> list[str]:
    if one is None:
        return [f"{name}: not measured yet.  Next: kt mastery update {name}"]
    if not one.is_whole:
        return [f"{name}: {one.model}@{one.version}, begun {iso(one.at)}, not ended"]
    return [f"{name}: {one.model}@{one.version}, {iso(one.at)}, {one.students:,} students"]


def everybody(found: "list[Skill]", one: "Run") -> list[str]:
    """A line a skill; who was measured by an earlier version or at an earlier time has one apart."""
    from kt.store.students import HIGH, LOW

    mixed = any(row.at != one.at for row in found)
    rows = [
        (
            row.skill,
            row.items,
            f"{row.students:,}",
            f"{row.mean:.3f}",
            share(row.low / row.students),
            share(row.high / row.students),
            f"{row.version} {iso(row.at)}" if mixed else "",
        )
        for row in found
    ]
    headers = ("SKILL", "ITEMS", "STUDENTS", "MEAN", f"< {LOW:g}", f"> {HIGH:g}", "MEASURED")
    return output.table(headers, rows).splitlines() if rows else ["no such skill was measured"]


def student(rows: "list[Row]", one: "Run") -> list[str]:
    if not rows:
        return ["nothing is known of this student"]
    cells = [
        (
            row.skill,
            f"{row.mastery:.3f}",
            row.items,
            row.answers,
            "" if row.answered_at is None else iso(row.answered_at),
            f"{row.version} {iso(row.at)}" if row.at != one.at else "",
        )
        for row in rows
    ]
    headers = ("SKILL", "MASTERY", "ITEMS", "ANSWERS", "LAST ANSWER", "MEASURED")
    return output.table(headers, cells).splitlines()


def share(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def iso(seconds: int) -> str:
    from datetime import UTC, datetime

    return output.iso(datetime.fromtimestamp(seconds, UTC))
