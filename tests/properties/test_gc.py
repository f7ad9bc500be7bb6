"""Whatever has happened: what gc would remove, nothing serves and no near rollback leads to."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from kt.deployments import need, plan
from kt.deployments.events import AnyEvent
from kt.deployments.history import EMPTY, State, fold
from kt.deployments.manifest import manifest
from kt.deployments.need import Stored
from kt.deployments.plan import Candidate, Stamp
from kt.errors import KtError

MODELS = ("a", "b")
VERSIONS = tuple(f"v{n}" for n in range(1, 7))
STAMP = Stamp("ana", "2026-01-01T00:00:00Z", "why")
STORED = [
    Stored(model, version, "2026-01-01T00:00:00Z", 1) for model in MODELS for version in VERSIONS
]

Step = Callable[[State], list[AnyEvent]]


def candidates() -> st.SearchStrategy[Candidate]:
    return st.builds(
        Candidate, st.sampled_from(MODELS), st.sampled_from(VERSIONS), st.just("a" * 64)
    )


def experiment_of(state: State, model: str) -> str:
    running = state.serving(model).experiment
    return running.name if running else "none"


steps = st.one_of(
    st.builds(lambda c: lambda s: plan.deploy(s, c, STAMP), candidates()),
    st.builds(
        lambda c, n: lambda s: plan.experiment(s, c, n, 10, STAMP),
        candidates(),
        st.sampled_from("xyz"),
    ),
    st.builds(
        lambda m: lambda s: plan.promote(s, experiment_of(s, m), STAMP, evidence=None, force=True),
        st.sampled_from(MODELS),
    ),
    st.builds(lambda m: lambda s: plan.roll_back(s, m, STAMP), st.sampled_from(MODELS)),
    st.builds(lambda m: lambda s: plan.end(s, experiment_of(s, m), STAMP), st.sampled_from(MODELS)),
    st.builds(
        lambda m, v, bad: lambda s: plan.roll_back(s, m, STAMP, version=v, bad=bad),
        st.sampled_from(MODELS),
        st.sampled_from(("", *VERSIONS)),
        st.booleans(),
    ),
)


def after(happened: list[Step]) -> State:
    state = EMPTY
    for step in happened:
        try:
            state = fold(step(state), state)
        except KtError:
            continue  # refused: nothing has happened
    return state


@settings(max_examples=1000)
@given(st.lists(steps, min_size=10, max_size=40), st.integers(1, 3))
def test_nothing_that_serves_or_a_rollback_reaches_is_removed(
    happened: list[Step], keep: int
) -> None:
    state = after(happened)
    removed = {one.key for one in need.unneeded(STORED, need.needed(state, STORED, keep=keep))}
    for model, serving in state.models.items():
        assert not {(model, version) for version in serving.labels} & removed
        lately = sorted(serving.past.values(), key=lambda held: held.seq)[-keep:]
        assert not {(model, held.version) for held in lately} & removed
    for _ in range(keep + 1):  # as often as kept, and the first may only end an experiment
        for route in manifest(state).models.items():
            named = {(route[0], one.version) for one in need.versions_in(route[1])}
            assert not named & removed
        for model in MODELS:
            running = state.serving(model).experiment
            try:
                state = fold(plan.roll_back(state, model, STAMP), state)
                if running:
                    state = fold(plan.roll_back(state, model, STAMP), state)
            except KtError:
                continue


@given(st.lists(steps, max_size=40), st.integers(1, 5))
def test_gc_frees_what_is_neither_new_nor_was_lately_active(
    happened: list[Step], keep: int
) -> None:
    state = after(happened)
    kept = need.needed(state, STORED, keep=keep).keys() & {one.key for one in STORED}
    for model in MODELS:
        labels = len(state.serving(model).labels)
        # active, treatment, previous; both kinds of rollback target; the newest
        assert len([key for key in kept if key[0] == model]) <= 3 + 3 * keep + labels


@given(st.sets(st.tuples(st.sampled_from(MODELS), st.sampled_from(VERSIONS))))
def test_what_a_predictor_serves_is_never_removed(served: set[tuple[str, str]]) -> None:
    reasons = need.needed(EMPTY, STORED, served, keep=1)
    assert not served & {one.key for one in need.unneeded(STORED, reasons)}
