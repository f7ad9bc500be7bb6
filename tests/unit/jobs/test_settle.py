"""An experiment that a job began is promoted or ended by its verdict, and by nothing else."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kt.deployments import audit, deploy
from kt.deployments.plan import Stamp
from kt.jobs import runs, settle
from kt.jobs.runs import Finished, Learnt, Started

NOW = datetime(2026, 1, 22, 9, tzinfo=UTC)
AT = "2026-01-20T09:00:00Z"
STAMP = Stamp("ana", AT)
JOB = "nightly"


def common(seq):
    return {"seq": seq, "at": AT, "by": "ana", "job": JOB, "prev": "0" * 64 if seq > 1 else ""}


def job(experiment):
    data = Learnt(source="files", sha256="a" * 64, counts=[500], until=AT)
    began = Started(**common(1), model="m", reasons={"samples": "many"}, data=data, seed=0)
    ended = Finished(**common(2), run=1, outcome="deployed", version="v2", experiment=experiment)
    return runs.fold([began, ended]).job(JOB)


@pytest.fixture
def running(place):
    """v1 is active, v2 has a tenth of the traffic as the experiment nightly-1."""
    for version, share in (("v1", None), ("v2", 10.0)):
        candidate = deploy.version_of(place, "m", version)
        deploy.deploy(
            place,
            candidate,
            STAMP,
            traffic=share,
            experiment="nightly-1" if share else "",
            dry_run=False,
        )
    return place


def said(monkeypatch, state, verdict, broken=None):
    found = SimpleNamespace(state=state, verdict=verdict, broken=broken)
    monkeypatch.setattr(settle.experiment, "report", lambda *_: found)
    monkeypatch.setattr(settle.told, "summary", lambda report: {"verdict": report.verdict})


def test_a_better_one_takes_all_the_traffic_on_evidence(running, monkeypatch):
    said(monkeypatch, "treatment_better", "better")
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == "promote nightly-1: it is better"
    _, state = audit.read(running)
    assert state.serving("m").active.version == "v2"
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == ""


@pytest.mark.parametrize("state", ["treatment_worse", "no_difference", "expired", "invalid"])
def test_one_that_is_not_better_is_ended(running, monkeypatch, state):
    said(monkeypatch, state, "worse" if state == "treatment_worse" else "undecided")
    assert settle.settle(running, job("nightly-1"), "kt", NOW).startswith("end nightly-1: ")
    book, after = audit.read(running)
    assert after.serving("m").active.version == "v1"
    assert after.serving("m").experiment is None
    assert book.events[-1]["reason"].startswith("by itself: ")


def test_without_a_verdict_and_where_a_guardrail_is_broken_it_waits(running, monkeypatch):
    said(monkeypatch, "collecting", "undecided")
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == ""
    said(monkeypatch, "treatment_better", "undecided", broken="errors")
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == ""
    said(monkeypatch, "no_difference", "undecided", broken="errors")
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == ""


def test_what_somebody_else_began_is_left_alone(running, monkeypatch):
    said(monkeypatch, "treatment_better", "better")
    assert settle.settle(running, job("weekly-7"), "kt", NOW) == ""
    assert settle.settle(running, runs.EMPTY, "kt", NOW) == ""


def test_nothing_recorded_is_no_verdict(running):
    assert settle.settle(running, job("nightly-1"), "kt", NOW) == ""
