"""gc, push, pull: which weights lie on this machine."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from kt.cli import complete, live, options, output
from kt.cli.options import DryRun, ExitCode, Json, Quiet, Reason
from kt.cli.progress import watching

if TYPE_CHECKING:
    from kt.deployments.blobs import Blob
    from kt.deployments.need import Key, Stored
    from kt.deployments.pull import Pulled


def gc(
    keep: Annotated[
        int,
        typer.Option(
            "--keep",
            metavar="N",
            min=1,
            help="Of each model the N newest versions and N steps of rollback stay.",
        ),
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Free space: remove the weights of versions that nothing needs, and what killed commands left.

    Needed is what the manifest, an experiment, a running predictor or a label names, what the next N
    rollbacks lead to, and the N newest versions of each model. Records stay; `kt pull MODEL@VERSION`,
    or registering the same file again, brings weights back.

    Example: kt gc --dry-run
    """
    from kt.deployments import gc as room
    from kt.errors import ACTION_NEEDED, Unavailable
    from kt.predictor import presence

    workspace = options.workspace()

    def served() -> set[tuple[str, str]]:
        return presence.served(workspace)

    if not dry_run:
        options.must_agree(yes)
    plan = room.look(workspace, served, keep)
    freed = sum(one.size for one in plan.remove) + plan.leftovers
    lines = listing(plan.remove)
    result: dict[str, Any] = {
        "dry_run": dry_run,
        "removed": [row(one) for one in plan.remove],
        "kept": [
            {"model": model, "version": version, "why": why}
            for (model, version), why in sorted(plan.kept.items())
        ],
        "leftovers": plan.leftovers,
        "freed": freed,
    }
    if dry_run or not freed:
        text = f"{output.bytes_of(freed)} would be freed" if freed else "nothing to remove"
        output.emit(result, [*lines, text])
        if dry_run and exit_code and freed:
            raise typer.Exit(ACTION_NEEDED)
        return
    question = f"remove the weights of {count(plan.remove)}, {output.bytes_of(freed)}?"
    options.agree(yes, lines, question)
    agreed = {one.key for one in plan.remove}
    done = room.collect(workspace, served, keep, agreed, options.stamp(""))
    for note in done.notes:
        output.warn(note)
    for error in done.failed:
        output.warn(str(error))
    result |= {"removed": [row(one) for one in done.removed], "freed": done.freed}
    output.emit(
        result,
        [
            *(lines if yes else []),
            f"removed the weights of {count(done.removed)}: {output.bytes_of(done.freed)} freed",
        ],
    )
    if done.failed:
        raise typer.Exit(Unavailable.code)


def row(one: "Stored") -> dict[str, Any]:
    return {"model": one.model, "version": one.version, "size": one.size}


def listing(remove: "list[Stored] | Any") -> list[str]:
    return [f"  {one.model}@{one.version}  {output.bytes_of(one.size)}" for one in remove]


def count(of: Any) -> str:
    return "1 version" if len(of) == 1 else f"{len(of)} versions"


def push(
    name: Annotated[
        str, typer.Argument(metavar="[REMOTE]", help="A git remote, if not the one in kt.toml.")
    ] = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Give other machines what is here: weights to the store of kt.toml, then the branch to git.

    The store is a folder or any URL of fsspec ([remote] url); weights lie in it by their sha256. The
    branch only ever goes forward: where another machine has pushed meanwhile, this is refused.

    Example: kt push
    """
    from kt.deployments import push as room
    from kt.errors import ACTION_NEEDED

    with watching() as watch:
        done = room.push(options.workspace(), name, dry_run=dry_run, tell=output.step, watch=watch)
    for note in done.notes:
        output.warn(note)
    result = {
        "dry_run": dry_run,
        "sent": [moved(one) for one in done.sent],
        "absent": [named(key) for key in done.absent],
        "branch": done.branch or None,
        "commit": done.commit or None,
        "moved": done.moved,
    }
    would = "would be " if dry_run else ""
    size = output.bytes_of(sum(one.size for one in done.sent))
    lines = [f"  {one.name}  {output.bytes_of(one.size)}" for one in done.sent if dry_run]
    text = []
    if done.sent:
        text.append(
            f"the weights of {count({one.key for one in done.sent})}, {size}, {would or 'are '}sent"
        )
    if done.moved:
        text.append(f"{done.branch} {would or 'is '}moved to {done.commit[:7]}")
    output.emit(result, [*lines, "; ".join(text) or "nothing to push: all of it is there"])
    if dry_run and exit_code and (done.sent or done.moved):
        raise typer.Exit(ACTION_NEEDED)


def pull(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[REMOTE|MODEL@VERSION]",
            help="A git remote, if not the one in kt.toml; or one version, for its weights alone.",
            autocompletion=complete.versions,
        ),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Again and again, until interrupted.")
    ] = False,
    every: Annotated[
        float,
        typer.Option(
            "--every", metavar="S", min=0.2, max=86_400, help="With --follow: seconds in between."
        ),
    ] = 10.0,
    keep: Annotated[
        int,
        typer.Option(
            "--keep",
            metavar="N",
            min=1,
            help="Of each model fetch the N newest versions and N steps of rollback.",
        ),
    ] = 3,
    everything: Annotated[
        bool, typer.Option("--all", help="Fetch the weights of every version.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Their history stands, also where it does not go on from the one here; needs --reason and is recorded.",
        ),
    ] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    exit_code: ExitCode = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Take over what other machines have pushed: the weights that their manifest names, then the rest.

    Weights are hashed on arrival, their history is checked against the one here, and predictors follow
    once all is there. Only a fast-forward is followed: where two machines have deployed, both sides
    are shown and a person decides: `--force` lets theirs stand, in a commit that has both behind it.
    A pull that was interrupted goes on where it stopped.

    Example: kt pull --follow --every 30
    """
    from kt.errors import ACTION_NEEDED, Invalid

    if force and (follow or not reason):
        raise Invalid(
            "a forced pull is one decision, and needs a reason",
            where="--force",
            do="say why, without --follow: kt pull --force --reason TEXT",
        )
    if "@" in what:
        pull_one(what)
        return

    def once() -> bool:
        return pull_once(
            what,
            keep,
            reason,
            everything=everything,
            force=force,
            dry_run=dry_run,
            silent=follow,
        )

    if follow:
        again_and_again(once, every)
    if once() and dry_run and exit_code:
        raise typer.Exit(ACTION_NEEDED)


def again_and_again(look: Callable[[], object], every: float) -> NoReturn:
    """Look every so many seconds, until interrupted. What fails is told once, and not at every look."""
    from kt.errors import KtError

    said = ""
    while True:
        try:
            look()
            said = ""
        except KtError as error:
            if str(error) != said:
                output.say(f"kt: {error}")
                if error.do:
                    output.say(f"    {error.do}")
            said = str(error)
        live.rest(every)


def pull_once(
    name: str,
    keep: int,
    reason: str,
    *,
    everything: bool,
    force: bool,
    dry_run: bool,
    silent: bool,
) -> bool:
    """One pull and what it prints; with `silent` nothing where nothing has changed."""
    from kt.deployments import pull as room

    with watching() as watch:
        done = room.pull(
            options.workspace(),
            name,
            options.stamp(reason),
            keep=keep,
            everything=everything,
            force=force,
            dry_run=dry_run,
            tell=output.step,
            watch=watch,
        )
    for note in done.notes:
        output.warn(note)
    for key in done.absent:
        output.warn(f"the weights of {'@'.join(key)} are not in the store")
    if done.problem:
        output.warn(
            f"done, but git does not follow yet: {done.problem}; the next kt command tries again"
        )
    changed = bool(done.got or done.moved)
    if silent and not changed:
        return False
    result = {
        "dry_run": dry_run,
        "got": [moved(one) for one in done.got],
        "absent": [named(key) for key in done.absent],
        "events": done.events,
        "commit": done.commit or None,
        "moved": done.moved,
        "behind": done.behind or None,
    }
    output.emit(result, [*told_of(done, "would be" if dry_run else "")])
    return changed


def told_of(done: "Pulled", would: str) -> Iterator[str]:
    """A pull for people. would: "would be" where it has not happened."""
    from kt.deployments.events import describe

    for event in done.events:
        yield f"  event {event['seq']}  {event['at']}  {event['model']}: {describe(event)}"
    text = []
    if done.got:
        size = output.bytes_of(sum(one.size for one in done.got))
        whose = count({one.key for one in done.got})
        text.append(f"the weights of {whose}, {size}, {would or 'are'} fetched")
    if done.moved:
        text.append(f"this branch {would or 'is'} moved to {done.commit[:7]}")
    yield "; ".join(text) or "nothing to pull: all of it is here"
    if done.behind:
        yield f"{done.behind}.  Give it what is here: kt push"
    if done.joined:
        yield "What stood here is in git behind it.  Let the others have it: kt push"


def pull_one(what: str) -> None:
    """The weights of one version."""
    from kt.deployments import pull as room

    key = options.version_of(what)
    with watching() as watch:
        got = room.fetch_one(options.workspace(), key, watch=watch)
    result = {
        "dry_run": False,
        "got": [moved(one) for one in got],
        "absent": [],
        "events": [],
        "commit": None,
        "moved": False,
    }
    text = f"the weights of {what} are here" + ("" if got else " already")
    output.emit(result, f"{text}.  Next: kt deploy {what}")


def moved(one: "Blob") -> dict[str, Any]:
    return {
        "model": one.key[0],
        "version": one.key[1],
        "file": one.file,
        "sha256": one.sha256,
        "size": one.size,
    }


def named(key: "Key") -> dict[str, str]:
    return {"model": key[0], "version": key[1]}
