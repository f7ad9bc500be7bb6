import pytest
from hypothesis import given
from hypothesis import strategies as st

from kt.jobs import runs
from kt.jobs.runs import (
    EMPTY,
    Failed,
    Finished,
    Held,
    Impossible,
    Learnt,
    Released,
    Settled,
    Started,
)

AT = "2026-01-20T09:00:00Z"


def common(seq, job="nightly", reason=""):
    return {
        "seq": seq,
        "at": AT,
        "by": "ana",
        "job": job,
        "reason": reason,
        "prev": "0" * 64 if seq > 1 else "",
    }


def started(seq, job="nightly", **reasons):
    data = Learnt(source="files", sha256="a" * 64, counts=[500], until=AT)
    return Started(
        **common(seq, job), model="m", reasons=reasons or {"samples": "many"}, data=data, seed=0
    )


def kept(seq, run, job="nightly"):
    return Finished(**common(seq, job), run=run, outcome="kept")


def test_a_run_that_goes_on_has_no_end():
    job = runs.fold([started(1)]).job("nightly")
    assert job.open.number == 1
    assert job.open.outcome == "running"
    assert job.success is None


def test_kept_is_a_success_and_moves_the_cut_off():
    job = runs.fold([started(1), kept(2, 1)]).job("nightly")
    assert job.success.number == 1
    assert job.success.started.data.samples == 500
    assert job.runs[0].outcome == "kept"
    assert job.open is None


def test_failures_count_until_a_success():
    events = []
    for seq in (1, 3, 5):
        events += [started(seq), Failed(**common(seq + 1), run=seq, how="timeout")]
    assert runs.fold(events).job("nightly").failures == 3
    assert runs.fold([*events, started(7), kept(8, 7)]).job("nightly").failures == 0


def test_a_job_that_fails_more_often_than_it_may_be_tried_again_is_to_be_held():
    events = []
    for seq in (1, 3, 5):
        events += [started(seq), Failed(**common(seq + 1), run=seq, how="interrupted")]
    job = runs.fold(events).job("nightly")
    assert runs.must_hold(job, 2) == "it has failed 3 times in a row"
    assert not runs.must_hold(job, 3)
    released = runs.fold([*events, Released(**common(7))]).job("nightly")
    assert not runs.must_hold(released, 0)


def test_jobs_do_not_mix():
    state = runs.fold([started(1), started(2, "weekly")])
    assert state.job("nightly").open.number == 1
    assert state.job("weekly").open.number == 2
    assert state.job("another") == EMPTY


def test_two_candidates_that_an_alert_called_for_and_that_were_no_better_are_enough():
    events = [started(1, alert="accuracy"), kept(2, 1), started(3, alert="accuracy")]
    assert not runs.no_cure(runs.fold(events).job("nightly"))
    job = runs.fold([*events, kept(4, 3)]).job("nightly")
    assert "no better" in runs.no_cure(job)


def deployed(seq, run):
    made = {"outcome": "deployed", "version": "v2", "experiment": f"nightly-{run}"}
    return Finished(**common(seq), run=run, **made)


def tried(seq, how):
    """A run for an alert, whose candidate got traffic and came to this."""
    return [
        started(seq, alert="accuracy"),
        deployed(seq + 1, seq),
        Settled(**common(seq + 2), run=seq, how=how),
    ]


def test_a_candidate_that_was_taken_out_of_traffic_has_cured_nothing():
    events = [started(1, alert="accuracy"), deployed(2, 1)]
    job = runs.fold(events).job("nightly")
    assert job.trial.number == 1
    assert job.trial.outcome == "deployed"
    job = runs.fold([*tried(1, "aborted"), *tried(4, "ended")]).job("nightly")
    assert job.trial is None
    assert [run.outcome for run in job.runs] == ["aborted", "ended"]
    assert runs.no_cure(job)
    events = [*tried(1, "aborted"), *tried(4, "promoted"), *tried(7, "aborted")]
    assert not runs.no_cure(runs.fold(events).job("nightly"))


def test_candidates_kept_for_other_reasons_hold_nothing():
    events = [event for seq in (1, 3, 5) for event in (started(seq), kept(seq + 1, seq))]
    assert not runs.no_cure(runs.fold(events).job("nightly"))


def test_a_hold_lasts_until_it_is_released():
    events = [Held(**common(1, reason="exams"))]
    assert runs.fold(events).job("nightly").held == "exams"
    assert not runs.fold([*events, Released(**common(2))]).job("nightly").held


@pytest.mark.parametrize(
    "events",
    [
        [started(1), started(2)],
        [kept(1, 1)],
        [started(1), kept(2, 7)],
        [started(1), kept(2, 1), kept(3, 1)],
        [started(1), kept(2, 1), Settled(**common(3), run=1, how="ended")],
        [*tried(1, "ended"), Settled(**common(4), run=1, how="promoted")],
    ],
)
def test_what_cannot_follow(events):
    with pytest.raises(Impossible):
        runs.fold(events)


@given(st.lists(st.sampled_from(["start", "kept", "fail", "hold", "release"]), max_size=30))
def test_a_journal_of_what_may_follow_always_adds_up(steps):
    state, seq, events = runs.State(), 1, []
    for step in steps:
        job = state.job("nightly")
        event = {
            "start": lambda seq=seq: started(seq),
            "kept": lambda seq=seq, job=job: kept(seq, job.open.number) if job.open else None,
            "fail": lambda seq=seq, job=job: (
                Failed(**common(seq), run=job.open.number, how="failed") if job.open else None
            ),
            "hold": lambda seq=seq: Held(**common(seq)),
            "release": lambda seq=seq: Released(**common(seq)),
        }[step]()
        if event is None or (step == "start" and job.open):
            continue
        state, seq, events = runs.fold([event], state), seq + 1, [*events, event]
    job = state.job("nightly")
    assert runs.fold(events).job("nightly") == job
    assert len([run for run in job.runs if run.ended is None]) == (job.open is not None)
    assert job.failures <= sum(run.outcome == "failed" for run in job.runs)


def test_an_event_reads_back_as_it_was_written():
    for event in (
        started(1),
        kept(2, 1),
        Failed(**common(3), run=1, how="stopped"),
        Settled(**common(4), run=1, how="aborted"),
        Held(**common(5)),
    ):
        raw = {"seq": event.seq, **runs.body(event), "prev": event.prev}
        assert runs.one.validate_python(raw) == event
        assert runs.describe(raw)
