"""A version's steps in ONNX Runtime: states of histories without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kt.models.family import Arrays
from kt.registry import record, session, weights
from kt.registry.record import STEPS
from kt.registry.steps import ASK, BEGINS, PAYS, WAYS
from kt.workspace import Workspace


@dataclass(frozen=True)
class Graph:
    """One step, of one student. takes, gives: the names of its inputs and outputs, and what they are called outside.

    sizes: of the axes of what it takes; text where any size will do.
    """

    call: Callable[[list[str], dict[str, np.ndarray]], list[np.ndarray]]
    takes: dict[str, str]
    gives: dict[str, str]
    sizes: dict[str, tuple[int | str, ...]]
    tables: Arrays

    def fits(self, state: Arrays) -> bool:
        return all(
            isinstance(size, str) or size == length
            for name, array in state.items()
            for size, length in zip(self.sizes.get(name, ()), array.shape, strict=False)
        )

    def run(self, given: Arrays) -> dict[str, np.ndarray]:
        fed = {own: given[name] for own, name in self.takes.items()}
        said = self.call(list(self.gives), {**fed, **self.tables})
        return dict(zip(self.gives.values(), said, strict=True))


@dataclass(frozen=True)
class Steps:
    """pays: events of a history from which a state is worth its keep.

    begins, ways: those of fixed sizes first, so that the first that fits is the one.
    """

    pays: int
    begins: tuple[Graph, ...]
    ways: tuple[Graph, ...]
    asking: Graph

    @property
    def slides(self) -> bool:
        """Whether there is a way on from a full window."""
        return len(self.ways) == len(WAYS)

    def begin(self, history: Arrays) -> Arrays:
        """The state after a history, as collate makes it of one request."""
        begin = next(graph for graph in self.begins if graph.fits(history))
        return begin.run(history)

    def advance(self, state: Arrays, event: Arrays) -> Arrays:
        """The state after one more event, each array (1,) of HISTORY."""
        way = next(graph for graph in self.ways if graph.fits(state))
        return way.run({**state, **event})

    def ask(self, state: Arrays, asked: Arrays) -> dict[str, np.ndarray]:
        return self.asking.run({**state, **asked})


def load(root: Path, model: str, version: str, threads: int) -> Steps | None:
    """The steps, where kt has made some, of a version whose graph is loaded: session.load has checked both."""
    workspace = Workspace(root)
    if not record.read(workspace, model, version).steps.sha256:
        return None
    return opened(record.folder(workspace, model, version), threads)


def opened(folder: Path, threads: int = 1) -> Steps:
    """The steps, already checked, of the version in `folder`, ready to run. Raises Corrupt, Unavailable."""
    said, held = weights.mapped(folder / STEPS)

    def graph(name: str) -> Graph:
        ran = session.started(held[name].tobytes(), folder / STEPS, threads)
        inputs = {one.name: tuple(one.shape) for one in ran.get_inputs()}
        return Graph(
            ran.run,
            {own: outside(own) for own in inputs if own not in held},
            {one.name: outside(one.name) for one in ran.get_outputs()},
            {outside(own): sizes for own, sizes in inputs.items()},
            {own: held[own] for own in inputs if own in held},
        )

    begins, ways = (
        tuple(graph(name) for name in reversed(names) if name in held) for names in (BEGINS, WAYS)
    )
    return Steps(int(said[PAYS]), begins, ways, graph(ASK))


def outside(name: str) -> str:
    return name.rpartition(".")[2]
