"""Random commands on a real workspace: the deployment history keeps its promises after every one."""

import tempfile
from pathlib import Path

import forge
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kt import journal
from kt.deployments import audit, deploy, events, manifest, verify
from kt.deployments.history import EMPTY, Serving, State, fold
from kt.errors import Invalid, Refused

MODELS = st.sampled_from(["m", "n"])
VERSIONS = st.sampled_from(["v1", "v2", "v3"])
NAMES = st.sampled_from(["x", "y"])
TRAFFIC = st.sampled_from([0.0, 1.0, 12.5, 50.0, 100.0])


class Deployments(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.place = forge.workspace(Path(self.folder.name))
        self.known = {
            (model, name): forge.version(self.place, model, name)
            for model in ("m", "n")
            for name in ("v1", "v2", "v3")
        }
        self.seq = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def state(self) -> State:
        return audit.read(self.place)[1]

    def serving(self, model: str) -> Serving:
        return self.state.serving(model)

    def active(self, model: str) -> str:
        held = self.serving(model).active
        return held.version if held else ""

    def deployed(
        self, model: str, version: str, traffic: float | None = None, name: str = ""
    ) -> bool:
        try:
            return (
                forge.give(self.place, self.known[model, version], traffic, name).event is not None
            )
        except Refused:
            return False

    def rolled_back(self, model: str, version: str = "", *, bad: bool = False) -> bool:
        try:
            return forge.back(self.place, model, version, bad=bad).event is not None
        except Refused:
            return False

    @rule(model=MODELS, version=VERSIONS)
    def deploy(self, model: str, version: str) -> None:
        free = self.serving(model).experiment is None
        self.deployed(model, version)
        assert (self.active(model) == version) or not free

    @rule(model=MODELS, version=VERSIONS, name=NAMES, traffic=TRAFFIC)
    def experiment(self, model: str, version: str, name: str, traffic: float) -> None:
        before = self.active(model)
        if self.deployed(model, version, traffic, name):
            now = self.serving(model).experiment
            assert now is not None
            assert (now.name, now.version, now.traffic) == (name, version, traffic)
        assert self.active(model) == before

    @rule(model=MODELS, version=VERSIONS, name=NAMES)
    def shadow(self, model: str, version: str, name: str) -> None:
        before = self.active(model)
        try:
            done = deploy.deploy(
                self.place,
                self.known[model, version],
                forge.STAMP,
                traffic=None,
                experiment=name,
                shadow=True,
                dry_run=False,
            )
        except Refused:
            return
        route = done.after.models[model]
        assert route.experiment
        assert (route.experiment.name, route.experiment.shadow) == (name, True)
        assert route.answering == [before] == [self.active(model)]

    @rule(name=NAMES, traffic=TRAFFIC)
    def ramp(self, name: str, traffic: float) -> None:
        try:
            done = deploy.ramp(self.place, name, traffic, forge.STAMP)
        except Refused:
            return
        routes = [route for route in done.after.models.values() if route.experiment]
        assert traffic in [
            route.experiment.treatments[0].traffic for route in routes if route.experiment
        ]

    @rule(name=NAMES)
    def promote(self, name: str) -> None:
        before = self.state
        try:
            deploy.promote(
                self.place, name, forge.STAMP, evidence={"verdict": "better"}, force=False
            )
        except Refused:
            return
        for model, serving in before.models.items():
            if serving.experiment and serving.experiment.name == name:
                assert self.active(model) == serving.experiment.version

    @rule(name=NAMES)
    def end(self, name: str) -> None:
        before = {model: self.active(model) for model in ("m", "n")}
        try:
            deploy.end(self.place, name, forge.STAMP)
        except Refused:
            return
        assert before == {model: self.active(model) for model in ("m", "n")}

    @rule(model=MODELS, bad=st.booleans())
    def roll_back(self, model: str, bad: bool) -> None:
        before = self.serving(model)
        if self.rolled_back(model, bad=bad) and before.experiment:
            assert self.active(model) == (before.active and before.active.version)
            assert self.serving(model).experiment is None

    @rule(model=MODELS, version=VERSIONS)
    def roll_back_to(self, model: str, version: str) -> None:
        if self.rolled_back(model, version):
            assert self.active(model) == version

    @rule(model=MODELS, version=VERSIONS)
    def deploy_then_roll_back_is_nothing(self, model: str, version: str) -> None:
        before = self.serving(model)
        if (
            before.active
            and before.active.version not in before.bad
            and self.deployed(model, version)
        ):
            assert self.rolled_back(model)
            after = self.serving(model)
            assert [held.version for held in after.stack] == [held.version for held in before.stack]
            assert after.experiment == before.experiment

    @rule(model=MODELS)
    def two_rollbacks_do_not_swing_back(self, model: str) -> None:
        left = self.active(model)
        experiment = self.serving(model).experiment
        if experiment is None and self.rolled_back(model) and self.rolled_back(model):
            here = [held.version for held in self.serving(model).stack]
            assert left != self.active(model) or left in here

    @precondition(lambda self: self.seq)
    @rule()
    def an_older_state_is_the_fold_of_the_head(self) -> None:
        book = journal.read(self.place.root / events.HISTORY)
        middle = book.seq // 2
        assert audit.fold(book.head_to(middle)).seq == middle

    @rule()
    def a_dry_run_writes_nothing(self) -> None:
        path = self.place.root / events.HISTORY
        before = path.read_bytes() if path.exists() else b""
        try:
            deploy.roll_back(self.place, lambda _: "m", forge.STAMP, dry_run=True)
            deploy.ramp(self.place, "x", 33.0, forge.STAMP, dry_run=True)
        except (Refused, Invalid):
            pass
        assert before == (path.read_bytes() if path.exists() else b"")

    @invariant()
    def the_file_folds_to_the_state(self) -> None:
        if not hasattr(self, "place"):
            return
        book = journal.read(self.place.root / events.HISTORY)
        typed = [events.one.validate_python(event) for event in book.events]
        folded = fold(typed, EMPTY)
        assert folded.models == self.state.models
        assert folded.seq >= self.seq  # nothing is ever taken out
        self.seq = folded.seq

    @invariant()
    def the_manifest_is_the_fold(self) -> None:
        if not hasattr(self, "place"):
            return
        path = self.place.root / manifest.MANIFEST
        found = manifest.parse(path.read_bytes()) if path.exists() else manifest.manifest(EMPTY)
        assert found == manifest.manifest(self.state)
        for route in found.models.values():
            shares = (
                [one.traffic for one in route.experiment.treatments] if route.experiment else []
            )
            assert 0 <= sum(shares) <= 100
            assert not (route.experiment and route.experiment.shadow and sum(shares))

    @invariant()
    def all_is_as_kt_wrote_it(self) -> None:
        if hasattr(self, "place"):
            assert verify.everything(self.place) == []


TestDeployments = Deployments.TestCase
TestDeployments.settings = settings(max_examples=25, stateful_step_count=25)
