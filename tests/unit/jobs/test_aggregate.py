"""kt mastery: every student's mastery in the tables, when it is due, and what stands in its way."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import forge
import numpy as np
import pytest
from predictors import Made

from kt import clock, files, locks
from kt.config import Mastery, Settings
from kt.deployments.plan import Candidate
from kt.errors import Invalid, Refused
from kt.jobs import aggregate, daemon, units
from kt.jobs.aggregate import Asked
from kt.models import answers, gpcm
from kt.models import data as room
from kt.models.calibrate import Platt
from kt.registry import load, record
from kt.store import connect, pseudonym, secret, students
from kt.store.students import Run
from kt.workspace import Workspace

NOW = datetime(2026, 1, 20, 9, tzinfo=UTC)
TOML = """
git = "off"
lock_wait = 0.1
[mastery.grades]
model = "tutor"
skills = "skills.csv"
[[mastery.grades.data]]
name = "files"
paths = ["answers.csv"]
"""
SKILLS = "item,skill\n0,one\n1,one\n1,two\n7,two\n99,one\n99,none\n"
HEAD = "student_id,item,response,time\n"
ANSWERS = HEAD + "ana,0,1,2026-01-12T09:00:00Z\nana,7,0,2026-01-13\nbo,5,1,2026-01-14\n"


@pytest.fixture
def place(tmp_path):
    """A workspace whose model tutor, v1 of v1 and v2, knows the items 0 to 8."""
    made = forge.workspace(tmp_path / "w")
    (made.root / "kt.toml").write_text(TOML)
    (made.root / "skills.csv").write_text(SKILLS)
    (made.root / "answers.csv").write_text(ANSWERS)
    place = Workspace(made.root)
    tutors = Made(place.root, {})
    for seed, name in enumerate(("v1", "v2")):
        tutors.add_tutor(name, gpcm, seed)
    deploy(place, "v1")
    return place


def deploy(place, name):
    path = record.weights(place.root, "tutor", name)
    forge.give(place, Candidate("tutor", name, files.digest(path)))


@contextlib.contextmanager
def uncounted(many):
    yield lambda more: None


def asked(place, now=NOW, *, force=False):
    place = Workspace(place.root)  # kt.toml anew
    return Asked(place, "grades", place.settings.mastery["grades"], lambda: now, force)


def update(place, now=NOW, **how):
    return aggregate.update(asked(place, now, **how), lambda *_: None, uncounted)


def known(place, unit):
    store = connect.peek(place.root, place.settings)
    names = pseudonym.labelled(secret.read(place.root), unit)
    return {row.skill: row for row in students.student(store, "grades", names)}


def test_everybody_is_asked_the_same_as_the_predictor_would_answer(place):
    done = update(place)
    assert (done.why, done.measured.students) == ("never measured", 2)
    assert (done.given.unknown, done.given.missing) == (["none"], 1)
    found = done.given.loaded
    data = room.read(place.root / "answers.csv")
    earned = answers.standing(found.run, found.signature, data, ["0", "1", "7"])
    ana, bo = known(place, "ana"), known(place, "bo")
    assert ana["one"].mastery == pytest.approx(earned[0, :2].mean(), abs=1e-6)
    assert bo["two"].mastery == pytest.approx(earned[1, 1:].mean(), abs=1e-6)
    assert (ana["one"].answers, ana["two"].answers, bo["one"].answers) == (1, 1, 0)
    assert ana["two"].answered_at == datetime(2026, 1, 13, tzinfo=UTC).timestamp()
    assert bo["one"].answered_at is None
    assert (ana["one"].items, ana["one"].version, ana["one"].at) == (2, "v1", NOW.timestamp())
    assert ana["one"].reference == bo["one"].reference != ana["two"].reference
    assert known(place, "cy") == {}


def test_no_file_of_the_workspace_names_a_student(place):
    (place.root / "answers.csv").write_text(f"{HEAD}pupil-77,0,1,2026-01-12\n")
    update(place)
    assert known(place, "pupil-77")
    for path in place.root.rglob("*"):
        if path.is_file() and path.name != "answers.csv":
            assert b"pupil-77" not in path.read_bytes(), path


RUN = Run("grades", "tutor", "v1", "abc", 0, int(NOW.timestamp()), 2)


@pytest.mark.parametrize(
    ("before", "hours", "why"),
    [
        (None, 1, "never measured"),
        (RUN, 23.9, ""),
        (RUN, 24, "24.0 h old (every 24 h)"),
        (RUN, -1, "-1.0 h old (every 24 h)"),  # a clock that was set back
        (Run("grades", "tutor", "v1", "abc", RUN.ended + 9, RUN.ended), 1, "the last run was cut off"),
        (Run("grades", "tutor", "v0", "abc", 0, RUN.ended), 1, "tutor@v1 is active"),
        (Run("grades", "other", "v1", "abc", 0, RUN.ended), 1, "tutor@v1 is active"),
        (Run("grades", "tutor", "v1", "ab", 0, RUN.ended), 1, "the skills have changed"),
    ],
)  # fmt: skip
def test_it_is_due(before, hours, why):
    given = Asked(None, "grades", Mastery(model="tutor"), clock.now)
    assert aggregate.due(before, given, "v1", "abc", NOW + timedelta(hours=hours)) == why


def test_it_is_measured_again_when_it_is_due_and_who_is_gone_from_the_data_is_gone(place):
    update(place)
    assert update(place).why == ""
    before = known(place, "ana")["one"]
    (place.root / "answers.csv").write_text(HEAD + "ana,0,1,2026-01-12\n")
    assert not update(place).why, "data that come are for the next time"
    deploy(place, "v2")
    later = NOW + timedelta(minutes=1)
    assert update(place, later).why == "tutor@v2 is active"
    after = known(place, "ana")["one"]
    assert after.version == "v2"
    assert after.mastery != before.mastery
    assert known(place, "bo") == {}
    (place.root / "skills.csv").write_text("item,skill\n0,one\n")
    assert update(place, later).why == "the skills have changed"
    assert known(place, "ana").keys() == {"one"}
    assert known(place, "ana")["one"].reference != before.reference
    assert update(place, later, force=True).why == "asked for"


def test_one_that_is_cut_off_is_due_again_and_leaves_nobody_half_done(place, monkeypatch):
    rows = "".join(f"s{n},{n % 9},1,2026-01-12\n" for n in range(9))
    (place.root / "answers.csv").write_text(HEAD + rows)
    monkeypatch.setattr(aggregate, "AT_ONCE", 2)
    update(place)
    put, calls = students.put, []

    def dying(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        put(*given)

    monkeypatch.setattr(students, "put", dying)
    later = NOW + timedelta(days=2)
    with pytest.raises(KeyboardInterrupt):
        update(place, later)
    monkeypatch.undo()
    monkeypatch.setattr(aggregate, "AT_ONCE", 2)
    times = [{row.at for row in known(place, f"s{n}").values()} for n in range(9)]
    assert all(len(of) == 1 for of in times)
    assert sum(of == {later.timestamp()} for of in times) == 4
    assert update(place, later).why == "the last run was cut off"
    assert len({row.at for n in range(9) for row in known(place, f"s{n}").values()}) == 1


def test_two_take_turns(place, kt):
    path = place.local / "mastery-grades.lock"
    with locks.holding(path, "kt mastery update grades, since noon") as holder:
        assert not holder
        busy = kt("mastery", "update", at=place)
    assert busy.code == 5
    assert busy.err.splitlines()[0].endswith(
        "it is being measured: kt mastery update grades, since noon"
    )
    found = []
    threads = [threading.Thread(target=lambda: found.append(update(place))) for _ in range(2)]
    (place.root / "kt.toml").write_text(TOML.replace("0.1", "60"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.why for done in found) == ["", "never measured"]


def test_of_more_categories_it_is_the_share_of_the_highest_response(place, monkeypatch):
    """By hand: a version that always gives these probabilities, through its calibrator."""
    p = np.array([0.1, 0.2, 0.7])
    monkeypatch.setattr(
        load.Loaded,
        "run",
        lambda _, arrays: {"probabilities": np.broadcast_to(p, (*arrays["asked"].shape, 3))},
    )
    opened = load.load

    def polytomous(*given):
        found = opened(*given)
        object.__setattr__(found, "signature", found.signature.model_copy(update={"categories": 3}))
        return found

    monkeypatch.setattr(load, "load", polytomous)
    update(place)
    assert known(place, "ana")["one"].mastery == pytest.approx((0.2 + 2 * 0.7) / 2)


def test_a_calibrator_is_gone_through_as_in_an_answer(place, monkeypatch):
    monkeypatch.setattr(
        load.Loaded,
        "run",
        lambda _, arrays: {"probabilities": np.full((*arrays["asked"].shape, 2), 0.5)},
    )
    opened = load.load
    platt = Platt(a=1.0, b=1.0)

    def calibrated(*given):
        found = opened(*given)
        signature = found.signature.model_copy(update={"calibration": platt})
        object.__setattr__(found, "signature", signature)
        return found

    monkeypatch.setattr(load, "load", calibrated)
    update(place)
    assert known(place, "ana")["one"].mastery == pytest.approx(1 / (1 + np.e))


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("skills.csv", None, "there is no such file"),
        ("skills.csv", b"item,skill\n1,caf\xe9\n", "is not UTF-8"),
        ("skills.csv", b"", "nothing is in it"),
        ("skills.csv", b"item,skill\n77,x\n78,x\n79,y\n", "knows no item of any of the 2 skills"),
        ("answers.csv", None, "there are no data here"),
        ("answers.csv", b"student_id,item,response\n", "no answers in it"),
        ("answers.csv", b"student_id,item,response\nana,0,5\n", "a response is 5, the model knows 0"),
        ("answers.csv", b"student_id,item,response,time\nana,0,1,nan\n", "time is 'nan'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_files_is_said_and_nothing_is_written(
    place, kt, file, content, what
):
    path = place.root / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    done = kt("mastery", "update", at=place)
    assert done.code == 2
    assert what in done.err
    store = connect.peek(place.root, place.settings)
    assert store is None or not students.skills(store, "grades")


def test_skills_are_those_of_the_data_where_no_file_is_named(place):
    (place.root / "kt.toml").write_text(TOML.replace('skills = "skills.csv"\n', ""))
    with pytest.raises(Invalid, match="nothing says which items practise a skill"):
        update(place)
    (place.root / "answers.csv").write_text(
        "student_id,item,response,skill\nana,0,1,sums\nana,3,1,\nbo,1,1,sums\n"
    )
    update(place)
    assert known(place, "ana").keys() == {"sums"}
    assert known(place, "ana")["sums"].items == 2


def test_without_an_active_version_or_tables_it_is_refused(place):
    (place.root / "kt.toml").write_text(TOML.replace('"tutor"', '"nobody"'))
    with pytest.raises(Refused, match="no version of nobody is active"):
        update(place)
    (place.root / "kt.toml").write_text(f'{TOML}[store]\nurl = ""\n')
    with pytest.raises(Refused, match=r"store\.url is empty"):
        update(place)


def test_a_family_that_predicts_no_answers_is_refused(place, monkeypatch):
    monkeypatch.delattr(answers, "standing")
    with pytest.raises(Invalid, match="tutor@v1 predicts no answers of students to items"):
        update(place)


OUTCOMES = '[[mastery.grades.data]]\nname = "outcomes"\nmodel = "tutor"\n'


def test_sources_that_name_students_do_not_go_with_those_that_hide_them(place):
    (place.root / "kt.toml").write_text(TOML + OUTCOMES)
    with pytest.raises(Invalid, match="others know only their pseudonyms"):
        update(place)


def test_whom_outcomes_know_by_a_pseudonym_goes_by_the_same_one(place, monkeypatch):
    held = secret.ensure(place.root, NOW)
    ana = pseudonym.Pseudonyms(held).labelled("ana").hex()
    text = TOML.replace('name = "files"\npaths = ["answers.csv"]', 'name = "outcomes"\nmodel = "tutor"')  # fmt: skip
    (place.root / "kt.toml").write_text(
        f"{text}[store]\nlog_inputs = 1.0\nlog_fields = ['items']\n"
    )
    path = place.root / "told.csv"
    path.write_text(f"{HEAD}{ana},0,1,2026-01-12\n{'ab' * 10},1,1,2026-01-12\n")
    monkeypatch.setattr("kt.jobs.sources.outcomes.collect", lambda *_: [path])
    done = update(place)
    assert done.measured.students == 1, "the other request named nobody"
    assert known(place, "ana")["one"].answers == 1


def test_a_student_under_an_older_key_is_told_of_once(place):
    update(place)
    held = secret.read(place.root)
    again = secret.rotate(held, NOW, timedelta(days=30))
    secret.write(place.root, again)
    update(place, NOW + timedelta(days=1))
    assert len(known(place, "ana")) == 2
    store = connect.peek(place.root, place.settings)
    assert {row.students for row in students.skills(store, "grades")} == {2}


def test_the_daemon_and_cron_see_to_it_where_kt_toml_asks(place, kt):
    (task,) = [one for one in daemon.tasks(place.settings) if one.name == "mastery grades"]
    assert task.arguments == ("mastery", "update", "grades", "--quiet")
    assert (task.every, task.gentle) == (1_800.0, True)
    assert not any("mastery" in one.name for one in daemon.tasks(Settings()))
    *_, third = kt("export", "cron", at=place).out.splitlines()
    assert third.startswith("*/30 * * * *  nice -n 10 ")
    assert third.endswith(" mastery update --quiet")
    assert len(units.cron("/srv", ["kt"]).splitlines()) == 2


def test_status_says_when_nobody_measures(place, kt):
    said = kt("status", "--json", at=place).result["attention"]
    assert said == ["mastery grades was never measured: kt mastery update grades"]
    now = clock.now()
    update(place, now - timedelta(hours=49))
    (told,) = kt("status", "tutor", "--json", at=place).result["attention"]
    assert told.startswith("mastery grades was measured 2 d")
    update(place, now - timedelta(hours=1))
    assert kt("status", "--json", at=place).result["attention"] == []


def test_one_student_as_json_and_that_it_is_erased(place, kt):
    update(place)
    (told,) = kt("mastery", "--unit", "ana", "--skill", "two", "--json", at=place).result["mastery"]
    (row,) = told["unit"]
    assert row["skill"] == "two"
    assert row["answered_at"] == "2026-01-13T00:00:00Z"
    assert row["at"] == told["measured"]["at"] == "2026-01-20T09:00:00Z"
    assert kt("privacy", "erase", "ana", "--yes", "--json", at=place).result["found"] == {
        "requests": 0,
        "student_mastery": 2,
        "units": 0,
    }
    assert known(place, "ana") == {}
    assert known(place, "bo")


def test_a_dry_run_writes_nothing(place, kt):
    before = sorted(path.name for path in place.root.iterdir() if path.name != ".kt")
    done = kt("mastery", "update", "--dry-run", "--json", at=place).result["mastery"]
    assert [(one["due"], one["skills"], one["students"]) for one in done] == [
        ("never measured", 2, None)
    ]
    assert sorted(path.name for path in place.root.iterdir() if path.name != ".kt") == before


def test_a_name_that_no_path_is_made_of_is_refused(place, kt):
    (place.root / "kt.toml").write_text(TOML.replace("mastery.grades", 'mastery."../grades"'))
    done = kt("mastery", at=place)
    assert done.code == 2
    assert "is not a name for a mastery" in done.err
