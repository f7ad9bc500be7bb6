"""The verbs that make versions and score them: train, evaluate."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, options, output
from kt.cli.options import Json, Quiet

if TYPE_CHECKING:
    from kt.config import Compute
    from kt.models.folds import Fold
    from kt.models.plots import Picture
    from kt.models.sweep import Try
    from kt.models.task import Data, Leak, Parts
    from kt.models.train import Epoch, Options, Progress, Trained
    from kt.models.warm import Start

Files = Annotated[
    list[Path],
    typer.Option(
        "--data",
        metavar="PATH",
        help="A CSV, a .csv.gz, a .npz or a folder of them; may be given again.",
    ),
]


What = Annotated[
    str,
    typer.Argument(
        metavar="FILE|MODEL@VERSION",
        help="A checkpoint or a version.",
        autocompletion=complete.versions,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="DIR", help="A folder for pictures of it (pip install 'kt[plot]')."
    ),
]


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


def train(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY",
            help="gpcm, gpcm_transformer, gpcm_bayes, sakt, bet, bet_classifier, wide_deep_irt, memory_gru, naive_bayes, marginal, irt, pfa, best_lr, or the dotted path of a family of your own.",
        ),
    ],
    data: Files,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where the checkpoint goes.")
    ],
    valid: Annotated[
        list[Path] | None,
        typer.Option(
            "--valid", metavar="PATH", help="Who decides when to stop; a part of --data without."
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="NAME", help="small, medium or large.")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the family (d_model=64); may be given again.",
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FILE|MODEL@VERSION",
            help="Begin with the weights of this one, of the same family and settings; --window may differ.",
            autocompletion=complete.versions,
        ),
    ] = "",
    window: Annotated[
        int | None,
        typer.Option("--window", min=1, help="The most past answers (vectors) that are used."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="At most so many; 100 without.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience", min=1, help="Epochs without improvement before it stops; 8 without."
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Histories in one; 64 without.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", min=0, help="Standard errors that an improvement must exceed; 0 without."
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option("--accumulate", min=1, help="Batches that make one step; 1 without."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Adam's step size; 0.001 without.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all chance in it.")] = 0,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=A,B",
            help="Try all combinations, or draw from a range LOW..HIGH; may be given again.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            metavar="K",
            min=2,
            max=100,
            help="Cross-validate first: train K times without a K-th of the students, scored on these.",
        ),
    ] = None,
    tries: Annotated[
        int | None, typer.Option("--tries", min=1, help="So many of a sweep, drawn at random.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="cpu, cuda or cuda:N.")
    ] = "cpu",
    precision: Annotated[
        Precision,
        typer.Option("--precision", help="Of matrix products; bfloat16 is for GPUs."),
    ] = Precision.float32,
    threads: Annotated[
        int,
        typer.Option("--threads", min=1, help="Of torch; one is as fast and repeats bit for bit."),
    ] = 1,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on where a killed run of the same stopped."),
    ] = True,
    plot: Plot = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a family on students' answers; the best epoch becomes a checkpoint to deploy.

    The data: student_id,item,response with a header, each student's answers in order, responses
    counted from 0. Also read: pyKT's CSV, the three-line files of DKVMN, the four-line files of AKT,
    and a table with a student a line and an item a column. Students in files called test* or of
    pyKT's fold -1 are kept for testing, the others are split by a hash of their id.

    memory_gru learns which vector follows in a document, from .npz files with the arrays vectors (E, D),
    document (names) and offsets (where each begins, and the end), and bank (10,000 vectors that the next
    one is looked for among; without it drawn from all). Split by document; texts that overlap are refused.

    Epochs, patience, margin, batch and lr are the family's own where it has such. A killed run goes on with the
    same command. Beside any other family of students' answers the references (marginal, irt, pfa, best_lr)
    are fitted on the same students, and the gain over the best of them is shown, with its interval.

    With 1,000 validation answers or more the probabilities are calibrated on a part of them, and that is
    kept if it helps on the rest: by a temperature; of two categories by Platt's curve, from 5,000 on by
    isotonic regression.

    With --from it goes on from another's weights, as on short contexts first and then on long ones.

    With --folds K it is trained K times more, in processes of their own, each time without a K-th of the
    students, and scored on these: how good such a training is on others, and how far that varies.

    With --sweep the family is trained with each of the settings in processes of their own (compute in kt.toml
    says where), and the one that is best on the validation students is kept.

    Example: kt train sakt --data answers.csv --out model.pt

    Example: kt train gpcm --data answers.csv --out model.pt --sweep lr=0.001,0.003 --sweep slots=10,20
    """
    import torch

    from kt import change
    from kt.errors import Invalid
    from kt.models import origin, plots, task
    from kt.models.train import Options
    from kt.models.train import train as run
    from kt.workspace import Workspace

    if plot:
        plots.require()
    code = trainable(family)
    room = task.of(code)
    given = chosen(code, size, settings or [], room.DECIDES)
    if window is not None:
        given["window"] = window
    begun = warm(start, code, bool(sweep))
    if begun:
        made = begun.settings
        given = {key: made[key] for key in made if key not in room.DECIDES} | given
    everything = room.read(data)
    parts = room.split(everything, room.read(valid) if valid else None)
    output.step("data", tally(parts.train, parts.valid, parts.test))
    torch.set_num_threads(threads)
    how = Options.of(
        code,
        epochs=epochs,
        patience=patience,
        margin=margin,
        batch=batch,
        accumulate=accumulate,
        lr=lr,
        seed=seed,
        device=device,
        precision=precision.value,
    )
    about = {
        "origin": origin.of(
            code, data, root(), valid=valid or (), commit=change.commit_of(Workspace(root()))
        )
    }
    if folds:
        if sweep or begun:
            raise Invalid(
                "it goes with neither --sweep nor --from",
                where="--folds",
                do="find the settings first, then cross-validate them",
            )
        units = room.without_test(everything)
        about["cross_validation"] = validated(family, units, folds, given, how, threads)
    if sweep:
        trained = swept(family, parts, sweep, tries, given, how, out, threads, about)
    else:
        with progress(code.METRIC) as (on_epoch, on_batch):
            trained = run(
                code,
                family,
                parts.train,
                parts.valid,
                test=parts.test,
                settings=given,
                options=how,
                out=out,
                resume=resume,
                start=begun,
                about=about,
                on_epoch=on_epoch,
                on_batch=on_batch,
            )
        if trained.resumed:
            output.step("resumed", f"after epoch {trained.resumed}")
    if calibration := trained.training["calibration"]:
        output.step("calibration", calibrated(calibration))
    part = trained.training["scored_on"]["part"]
    summary = trained.summary()
    warn_of_leaks(trained.training["leaks"])
    warn_of_no_gain(summary)
    result = {
        "file": str(out),
        "family": family,
        "config": trained.config.model_dump(mode="json"),
        "scores": summary,
        "training": trained.training,
        "resumed": trained.resumed,
    }
    if plot:
        held_out = parts.valid if parts.test is None else parts.test
        result["pictures"] = drawn(
            plot,
            plots.learnt(trained.history, code.METRIC),
            plots.predicted(trained.scores.predicted),
            plots.traced(trained.model, trained.signature, held_out),
        )
    best = trained.training["best_epoch"]
    text = [
        f"{out}: {family}, epoch {best} of {len(trained.history)}, {trained.training['seconds']:.0f} s",
        *lines(summary, part),
        f"Next: kt deploy {out}",
    ]
    output.emit(result, text)


def warm(name: str, code: Any, sweep: bool) -> "Start | None":
    """What --from names. Raises Invalid where training cannot begin with it."""
    from kt.errors import Invalid
    from kt.models.warm import Start

    if not name:
        return None
    if sweep:
        raise Invalid("a sweep begins each try anew", where="--from", do="leave out one of the two")
    family, module, signature, _ = opened(name)
    if family.Model is not code.Model or not hasattr(code, "loss"):
        raise Invalid(
            f"{name} is of another family, or of one that is fitted at once", where="--from"
        )
    return Start(name, module, signature)


def swept(
    family: str,
    parts: "Parts",
    given: list[str],
    tries: int | None,
    settings: dict[str, Any],
    how: "Options",
    out: Path,
    threads: int,
    about: dict[str, Any],
) -> "Trained":
    """The best of a sweep, each try told as it ends and all of them ranked at the end."""
    from kt.models import sweep as room

    chosen = room.draw(room.axes(given), tries, how.seed)
    output.step("sweep", f"{len(chosen)} tries")

    def told(one: "Try") -> None:
        metric = f"{one.metric:.4f}" if one.metric is not None else one.error
        took = f"{one.epochs} epoch{'s' * (one.epochs != 1)}, {one.seconds:.1f} s"
        output.step(f"try {one.number}", f"{metric}  {shown(one)}  {took}")

    def shown(one: "Try") -> str:
        return " ".join(f"{key}={value}" for key, value in one.chosen.items())

    done = room.sweep(
        family,
        root(),
        parts.train,
        parts.valid,
        chosen,
        test=parts.test,
        settings=settings,
        options=how,
        out=out,
        how=compute(),
        threads=threads,
        about=about,
        on_try=told,
    )
    output.step("best", f"try {done.tries[0].number}  {shown(done.tries[0])}")
    return done.trained


def validated(
    family: str,
    data: Any,
    folds: int,
    settings: dict[str, Any],
    how: "Options",
    threads: int,
) -> dict[str, Any]:
    """What cross-validation came to, for the record; told as it goes."""
    from kt.models import folds as room

    def told(fold: "Fold") -> None:
        output.step(f"fold {fold.number}", f"{line(fold.scores.items())}  {fold.epochs} epochs")

    def line(scores: "Iterable[tuple[str, float]]") -> str:
        return "  ".join(f"{name} {value:.4f}" for name, value in scores)

    done = room.validate(
        family,
        root(),
        data,
        folds,
        settings=settings,
        options=how,
        how=compute(),
        threads=threads,
        on_fold=told,
    )
    means = (f"{name} {mean:.4f} ± {apart:.4f}" for name, (mean, apart) in done.means.items())
    output.step("folds", f"{'  '.join(means)} from one to the next")
    return done.summary()


def compute() -> "Compute":
    """Where work for many processes runs: as the workspace says, or here where there is none."""
    from kt import config
    from kt.errors import Invalid

    try:
        return options.workspace().settings.compute
    except Invalid:
        if output.run.workspace:
            raise
        return config.Compute()


def evaluate(
    what: What,
    data: Files,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            "--train",
            metavar="PATH",
            help="Answers to fit references on, to show the gain over them; may be given again.",
        ),
    ] = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Score a checkpoint or a version on held-out answers, with intervals over students.

    Each answer is predicted from the same student's answers before it; first answers are not scored.
    Students kept for testing are scored where the data has such, otherwise all are. A warning tells
    where scores are too good: copied rows, or students or whole histories that were trained on.

    With --train the references (marginal, irt, pfa, best_lr) are fitted on those answers, without the
    students kept for testing, and the gain over the best of them is shown.

    Example: kt evaluate sakt@v2 --data answers/test.csv --train answers/train.csv
    """
    from kt.models import plots, task
    from kt.models.evaluate import evaluate as score
    from kt.models.references import beside

    if plot:
        plots.require()
    code, module, signature, training = opened(what)
    refuse_untrainable(code, what)
    room = task.of(code)
    found = room.read(data)
    held_out = room.only_test(found)
    part = "test" if len(held_out.units) < len(found.units) else "all"
    scores = score(code, module, signature, held_out, how=compute())
    summary = scores.summary()
    others = room.without_test(room.read(train)) if train else None
    if others is not None:
        refuse_shared_units(others, held_out)
        if compared := beside(code, scores, signature, others, held_out):
            summary |= compared.summary()
        else:
            output.warn(
                "no references: the model has too many categories for them, or a task without"
            )
    leaks = [asdict(leak) for leak in task.leaks(code, others, held_out)]
    leaks += [asdict(leak) for leak in seen(training, held_out) if part == "all"]
    warn_of_leaks(leaks)
    warn_of_no_gain(summary)
    result = {
        "evaluated": what,
        "data": {"name": found.source, "sha256": found.sha256, "part": part},
        "leaks": leaks,
        "scores": summary,
    }
    if plot:
        result["pictures"] = drawn(
            plot, plots.predicted(scores.predicted), plots.traced(module, signature, held_out)
        )
    output.emit(result, [f"{what} on {found.source}", *lines(summary, part)])


def trainable(name: str) -> Any:
    """A family that can be trained, by its name or dotted path. Raises Invalid."""
    from kt import plugins
    from kt.registry import load

    family = plugins.load("models", name, root(), (*load.FAMILY, "SIZES"))
    refuse_untrainable(family, name)
    return family


def drawn(folder: Path, *pictures: "Iterator[Picture]") -> list[str]:
    """The files of these pictures, once they are written."""
    from kt.models import plots

    paths = [str(path) for path in plots.write(chain(*pictures), folder)]
    output.step("pictures", ", ".join(paths))
    return paths


def refuse_untrainable(family: Any, name: str) -> None:
    from kt.errors import Invalid
    from kt.models.family import is_trainable

    if not is_trainable(family):
        raise Invalid(
            f"{name} has no TASK, or neither loss nor fit: kt can neither train nor score it"
        )


def root() -> Path:
    """Where a family of the user's own is found: the workspace, or here where there is none."""
    from kt.errors import Invalid

    try:
        return options.workspace().root
    except Invalid:
        if output.run.workspace:
            raise
        return Path.cwd()


def chosen(code: Any, size: str, settings: list[str], decided: frozenset[str]) -> dict[str, Any]:
    """The settings of --size and --set together. Raises Invalid."""
    from kt.errors import Invalid

    if size and size not in code.SIZES:
        raise Invalid(
            f"there is no size {size[:64]!r}",
            where="--size",
            do=f"there are: {', '.join(code.SIZES)}" if code.SIZES else "leave it out",
        )
    given = dict(code.SIZES[size]) if size else {}
    for pair in settings:
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key:
            raise Invalid(
                f"{pair[:64]!r} is not KEY=VALUE", where="--set", do="write --set d_model=64"
            )
        if key in decided:
            raise Invalid(f"{key} comes from the data", where="--set", do="leave it out")
        given[key] = value
    return given


def opened(what: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Family, module, signature and record of training of a checkpoint file or of MODEL@VERSION.

    Raises Invalid.
    """
    from kt.registry import register
    from kt.workspace import Workspace

    is_version = "@" in what and not Path(what).exists()
    workspace = options.workspace() if is_version else Workspace(root())
    found, training = register.found(workspace, what)
    return found.family, found.module, found.signature, training


def refuse_shared_units(train: "Data", held_out: "Data") -> None:
    """Raises Invalid where a reference would be fitted on those it is scored on, or on nobody."""
    from kt.errors import Invalid

    shared = sorted(set(train.units) & set(held_out.units))
    if shared or not train.units:
        _, whose = train.counts
        raise Invalid(
            f"{len(shared)} {whose} are in --data too ({shared[0]}, ...)"
            if shared
            else f"all its {whose} are kept for testing",
            where=f"--train {train.source}",
            do="give others: those that the model was trained on",
        )


def calibrated(tried: dict[str, Any]) -> str:
    """What calibration came to: platt, ece 0.0612 to 0.0140, brier 0.3010 to 0.2954 on 450 answers."""
    moves = (
        f"{name} {tried['before'][name]:.4f} to {tried['after'][name]:.4f}"
        for name in ("ece", "brier")
    )
    kept = "" if tried["kept"] else ": not kept"
    return f"{tried['method']}, {', '.join(moves)} on {tried['judged_on']:,} held out{kept}"


def seen(training: dict[str, Any], data: "Data") -> "Iterator[Leak]":
    """The leak that these are the data of training, as a checkpoint tells of it."""
    from kt.models.task import Leak

    told = training.get("data")
    if isinstance(told, dict) and told.get("sha256") == data.sha256:
        *_, count = data.counts.values()
        yield Leak("seen", count, count, "the model was trained on these very data: give others")


def warn_of_leaks(leaks: list[dict[str, Any]]) -> None:
    for leak in leaks:
        output.warn(leak["says"])


def warn_of_no_gain(scores: dict[str, Any]) -> None:
    from kt.models import gain

    found = gain.of(scores)
    if found and not found.is_sure:
        output.warn(found.warning)


def lines(summary: dict[str, Any], part: str) -> Iterator[str]:
    """The scores for people: one a line, with its interval; then the references'. part: "test" or so."""
    from kt.models import gain

    width = max(11, *map(len, [*summary["intervals"], *summary.get("references", {})]))
    for name, (low, high) in summary["intervals"].items():
        shown = "undefined" if summary[name] is None else f"{summary[name]:.4f}"
        between = "" if low is None else f"[{low:.4f}, {high:.4f}]"
        yield f"  {name:<{width}} {shown}  {between}".rstrip()
    (fine, many), (whose, few) = summary["counts"].items()
    of = f"{part} {whose}" if part != "all" else whose
    yield f"  {many:,} {fine} of {few:,} {of}, 95 % intervals over {whose}"
    shown_of = dict.fromkeys((summary["metric"], "auc", "nll", "cosine"))  # its own first
    for name, scores in summary.get("references", {}).items():
        values = (f"{key} {scores[key]:.4f}" for key in shown_of if scores.get(key) is not None)
        yield f"  {name:<{width}} {'  '.join(values)}"
    if found := gain.of(summary):
        yield f"  {'gain':<{width}} {found}"


def tally(train: "Data", valid: "Data", test: "Data | None") -> str:
    """How much each part has: train 80 students, 1,200 answers."""
    parts = [("train", train), ("validation", valid), *([("test", test)] if test else [])]
    return " · ".join(
        f"{name} " + ", ".join(f"{count:,} {what}" for what, count in [*part.counts.items()][::-1])
        for name, part in parts
    )


@contextmanager
def progress(
    metric: str,
) -> "Iterator[tuple[Callable[[Epoch], None], Callable[[Progress], None]]]":
    """What to call after an epoch (a line on stderr) and after a batch (a bar, if a person watches)."""

    def told(epoch: "Epoch") -> None:
        best = "  best" if epoch.best else ""
        norm = "" if epoch.norm is None else f"  gradient {epoch.norm:.2g}"
        values = (
            f"loss {epoch.loss:.4f}{norm}  {metric} {epoch.metric:.4f}  {epoch.seconds:.1f} s{best}"
        )
        output.step(f"epoch {epoch.number}", values)

    if output.run.quiet or not output.interactive():
        yield told, lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[values]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("epoch 1", values="", total=None)

        def moved(at: "Progress") -> None:
            best = "" if at.best is None else f"  best {metric} {at.best:.4f}"
            bar.update(
                task,
                description=f"epoch {at.epoch} of {at.epochs} at most",
                completed=at.done,
                total=at.batches,
                values=f"loss {at.loss:.4f}  gradient {at.norm:.2g}{best}",
            )

        def ended(epoch: "Epoch") -> None:
            told(epoch)
            bar.reset(task, description=f"epoch {epoch.number + 1}", values="")

        yield ended, moved
