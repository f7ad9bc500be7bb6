"""kt train: a family learns from data, and its best epoch becomes a checkpoint."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kt.cli import complete, output, progress
from kt.cli.models import (
    Files,
    Plot,
    calibrated,
    compute,
    drawn,
    lines,
    opened,
    refuse_untrainable,
    root,
    warn_of_leaks,
    warn_of_no_gain,
)
from kt.cli.options import Json, Quiet

if TYPE_CHECKING:
    from kt.models.folds import Fold
    from kt.models.run import Options
    from kt.models.sweep import Try
    from kt.models.task import Data, Parts
    from kt.models.train import Trained
    from kt.models.warm import Start


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"


def train(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY",
            help="gpcm, gpcm_transformer, gpcm_bayes, sakt, bet, bet_classifier, wide_deep_irt, memory_gru; fitted at once: marginal, irt, pfa, best_lr, naive_bayes, copy_last, mean_of_context; or the dotted path of a family of your own.",
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
        typer.Option(
            "--window", metavar="N", min=1, help="The most past answers (vectors) that are used."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", min=1, help="At most so many; 100 without."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            help="Epochs without improvement before it stops; 8 without.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", min=1, help="Histories in one; 64 without."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            metavar="X",
            min=0,
            help="Standard errors that an improvement must exceed; 0 without.",
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            "--accumulate", metavar="N", min=1, help="Batches that make one step; 1 without."
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", metavar="X", help="Adam's step size; 0.001 without.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of all chance in it.")
    ] = 0,
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
        int | None,
        typer.Option("--tries", metavar="N", min=1, help="So many of a sweep, drawn at random."),
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
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="Of torch; one is as fast and repeats bit for bit.",
        ),
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

    bet_classifier and naive_bayes learn labels, from a CSV with the columns unit,label,tokens, the tokens
    apart by spaces.

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

    from kt.models import plots, task
    from kt.models.run import Options

    if plot:
        plots.require()
    refuse_together(folds, sweep, start)
    code = trainable(family)
    room = task.of(code)
    given = chosen(code, size, settings or [], room.DECIDES)
    if window is not None:
        given["window"] = window
    begun = warm(start, code)
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
    about = {"origin": origin_of(code, data, valid or ())}
    if folds:
        units = room.without_test(everything)
        about["cross_validation"] = validated(family, units, folds, given, how, threads)
    if sweep:
        trained = swept(family, parts, sweep, tries, given, how, out, threads, about)
    else:
        trained = once(code, family, parts, given, how, out, about, start=begun, resume=resume)
    pictures = pictured(plot, code, trained, parts) if plot else None
    report(out, family, trained, pictures)


def refuse_together(folds: int | None, sweep: list[str] | None, start: str) -> None:
    from kt.errors import Invalid

    if sweep and start:
        raise Invalid("a sweep begins each try anew", where="--from", do="leave out one of the two")
    if folds and (sweep or start):
        raise Invalid(
            "it goes with neither --sweep nor --from",
            where="--folds",
            do="find the settings first, then cross-validate them",
        )


def origin_of(code: Any, data: list[Path], valid: Sequence[Path]) -> dict[str, Any]:
    """What the checkpoint comes from, for kt reproduce."""
    from kt import change
    from kt.models import origin
    from kt.workspace import Workspace

    commit = change.commit_of(Workspace(root()))
    return origin.of(code, data, root(), valid=valid, commit=commit)


def once(
    code: Any,
    family: str,
    parts: "Parts",
    settings: dict[str, Any],
    how: "Options",
    out: Path,
    about: dict[str, Any],
    *,
    start: "Start | None",
    resume: bool,
) -> "Trained":
    """One training, its epochs told as they end."""
    from kt.models.train import train

    with progress.epochs(code.METRIC) as (on_epoch, on_batch):
        trained = train(
            code,
            family,
            parts.train,
            parts.valid,
            test=parts.test,
            settings=settings,
            options=how,
            out=out,
            resume=resume,
            start=start,
            about=about,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
    if trained.resumed:
        output.step("resumed", f"after epoch {trained.resumed}")
    return trained


def pictured(folder: Path, code: Any, trained: "Trained", parts: "Parts") -> list[str]:
    from kt.models import plots

    held_out = parts.valid if parts.test is None else parts.test
    return drawn(
        folder,
        plots.learnt(trained.history, code.METRIC),
        plots.predicted(trained.scores.predicted),
        plots.traced(trained.model, trained.signature, held_out),
    )


def report(out: Path, family: str, trained: "Trained", pictures: list[str] | None) -> None:
    """What came of it, for people and as JSON."""
    training, summary = trained.training, trained.summary()
    if training["calibration"]:
        output.step("calibration", calibrated(training["calibration"]))
    warn_of_leaks(training["leaks"])
    warn_of_no_gain(summary)
    result = {
        "file": str(out),
        "family": family,
        "config": trained.config.model_dump(mode="json"),
        "scores": summary,
        "training": training,
        "resumed": trained.resumed,
    }
    if pictures is not None:
        result["pictures"] = pictures
    best, of, seconds = training["best_epoch"], len(trained.history), training["seconds"]
    text = [
        f"{out}: {family}, epoch {best} of {of}, {seconds:.0f} s",
        *lines(summary, training["scored_on"]["part"]),
        f"Next: kt deploy {out}",
    ]
    output.emit(result, text)


def warm(name: str, code: Any) -> "Start | None":
    """What --from names. Raises Invalid where training cannot begin with it."""
    from kt.errors import Invalid
    from kt.models.warm import Start

    if not name:
        return None
    family, module, signature, _ = opened(name)
    if family.Model is not code.Model or not hasattr(code, "loss"):
        raise Invalid(
            f"{name} is of another family, or of one that is fitted at once",
            where="--from",
            do="name a model of the family that is trained, or leave --from out",
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


def trainable(name: str) -> Any:
    """A family that can be trained, by its name or dotted path. Raises Invalid."""
    from kt import plugins
    from kt.registry import load

    family = plugins.load("models", name, root(), (*load.FAMILY, "SIZES"))
    refuse_untrainable(family, name)
    return family


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


def tally(train: "Data", valid: "Data", test: "Data | None") -> str:
    """How much each part has: train 80 students, 1,200 answers."""
    parts = [("train", train), ("validation", valid), *([("test", test)] if test else [])]
    return " · ".join(
        f"{name} " + ", ".join(f"{count:,} {what}" for what, count in [*part.counts.items()][::-1])
        for name, part in parts
    )
