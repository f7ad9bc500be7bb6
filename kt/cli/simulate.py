"""kt simulate: answers drawn from a truth that is written beside them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kt.cli import output
from kt.cli.options import Json


def simulate(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="What is drawn: gpcm, irt, events, tokens or chains."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder that the files go to.")
    ],
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="gpcm: the set synthetic_500_200_4 that deep-gpcm reports on, exactly.",
        ),
    ] = False,
    students: Annotated[
        int, typer.Option("--students", metavar="N", help="gpcm, irt, events: how many.")
    ] = 1000,
    items: Annotated[int, typer.Option("--items", metavar="N", help="Likewise.")] = 100,
    categories: Annotated[
        int,
        typer.Option(
            "--categories", metavar="N", help="gpcm: responses from 0 on; tokens: labels."
        ),
    ] = 4,
    units: Annotated[int, typer.Option("--units", metavar="N", help="tokens: how many.")] = 15_000,
    documents: Annotated[
        int, typer.Option("--documents", metavar="N", help="chains: how many.")
    ] = 1000,
    dimension: Annotated[
        int, typer.Option("--dimension", metavar="N", help="chains: of a vector.")
    ] = 64,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Of all chance in it.")
    ] = 0,
    json: Json = False,
) -> None:
    """Draw students' answers, labelled units or documents of vectors from a known truth, and truth.json beside them.

    gpcm: students who learn, responses in several categories. irt: two periods of right and wrong answers,
    before.csv and after.csv, with some items drifting and the population moving. events: answers.csv with
    response times and help, of students who now and then only pretend to work. tokens: units with a label
    and tokens in no order, one in three for testing, and how likely each label is by Bayes' rule. chains: train.npz and test.npz,
    documents whose vectors follow one another, and the most that a predictor can find.

    Example: kt simulate gpcm --out learners --students 500
    """
    from kt.errors import Invalid

    if kind not in KINDS:
        raise Invalid(f"there is no simulation {kind[:64]!r}", do=f"there are: {', '.join(KINDS)}")
    if published and kind != "gpcm":
        raise Invalid(f"no {kind} data are published", where="--published", do="leave it out")
    asked = Asked(out, students, items, categories, units, documents, dimension, seed, published)
    about = KINDS[kind](asked)
    what = {"tokens": "units", "chains": "vectors"}.get(kind, "answers")
    shown = ", ".join(f"{name} {count:,} {what}" for name, count in about[what].items())
    text = f"{out}: {shown}, truth.json.  Next: {about.pop('next')}"
    output.emit({"folder": str(out), "kind": kind} | about, text)


@dataclass(frozen=True)
class Asked:
    """What the command line says, to each kind what it takes of it."""

    out: Path
    students: int
    items: int
    categories: int
    units: int
    documents: int
    dimension: int
    seed: int
    published: bool


def gpcm(asked: Asked) -> dict[str, Any]:
    from kt.models import simulate as room

    drawn = (
        room.published()
        if asked.published
        else room.learning(
            students=asked.students,
            items=asked.items,
            categories=asked.categories,
            seed=asked.seed,
        )
    )
    return {
        "published": asked.published,
        "students": len(drawn.students),
        "test_students": drawn.testing,
        "answers": room.write(drawn, asked.out),
        "test_nll_of_the_truth": drawn.truth.get("test_nll_of_the_truth"),
        "next": f"kt train gpcm --data {asked.out} --out model.pt",
    }


def irt(asked: Asked) -> dict[str, Any]:
    from kt.models.simulate import write_tables
    from kt.models.simulate_irt import simulate

    drawn = simulate(students=asked.students, items=asked.items, seed=asked.seed)
    tables = {"before.csv": drawn.before, "after.csv": drawn.after}
    return {
        "students": 2 * asked.students,
        "answers": write_tables(tables, drawn.truth, asked.out),
        "next": f"kt train irt --data {asked.out / 'before.csv'} --out model.pt",
    }


def events(asked: Asked) -> dict[str, Any]:
    from kt.models.simulate import write_tables
    from kt.models.simulate_events import simulate

    drawn = simulate(students=asked.students, items=asked.items, seed=asked.seed)
    return {
        "students": asked.students,
        "answers": write_tables({"answers.csv": drawn.events}, drawn.truth, asked.out),
        "next": f"kt train irt --data {asked.out} --out model.pt",
    }


def tokens(asked: Asked) -> dict[str, Any]:
    from kt.models.simulate import write_tables
    from kt.models.simulate_tokens import simulate

    drawn = simulate(units=asked.units, labels=asked.categories, seed=asked.seed)
    tables = {"train.csv": drawn.train, "test.csv": drawn.test}
    return {
        "units": write_tables(tables, drawn.truth, asked.out),
        "test_nll_of_the_truth": drawn.truth["test_nll_of_the_truth"],
        "test_accuracy_of_the_truth": drawn.truth["test_accuracy_of_the_truth"],
        "next": f"kt train bet_classifier --data {asked.out} --out model.pt",
    }


def chains(asked: Asked) -> dict[str, Any]:
    from kt.models import simulate_chains as room

    drawn = room.simulate(documents=asked.documents, dimension=asked.dimension, seed=asked.seed)
    vectors, truth = room.write(drawn, asked.out)
    return {
        "documents": asked.documents,
        "test_documents": drawn.testing,
        "vectors": vectors,
        room.BEST: truth[room.BEST],
        "next": f"kt train memory_gru --data {asked.out} --out model.pt",
    }


KINDS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "gpcm": gpcm,
    "irt": irt,
    "events": events,
    "tokens": tokens,
    "chains": chains,
}
