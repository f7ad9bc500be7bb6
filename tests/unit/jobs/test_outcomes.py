"""What a predictor was asked and what came of it, as data to learn from."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forge
import pytest
from conftest import spawn
from predictors import Made, serving, within

from kt import clock
from kt.config import Job
from kt.errors import Invalid
from kt.jobs import watch
from kt.jobs.sources import outcomes as source
from kt.models import tokens, tracing
from kt.stats.scored import binary
from kt.store import answered, connect, requests, secret, traffic
from kt.store.answered import Rules
from kt.store.batch import Batch, Logged, Stream
from kt.store.ids import Ticket
from kt.store.outcomes import Outcome
from kt.store.rollup import roll_up

STREAM = Stream("m", "v1", "", "", 1, 1, 100.0, "probability")
RULES = Rules(timedelta(days=30), lambda _: 0.0)
LOGGED = '[store]\nlog_inputs = 1.0\nlog_fields = ["items", "answers"]\n'
JOB = '[jobs.nightly]\nmodel = "m"\nfamily = "irt"\nthen = "register"\n[[jobs.nightly.data]]\nname = "outcomes"\n'


@pytest.fixture
def place(place: Any) -> Any:
    (place.root / "kt.toml").write_text(f'git = "off"\n{LOGGED}{JOB}')
    vars(place).pop("settings", None)
    return place


class Log:
    """Requests of ten minutes ago, and outcomes of five."""

    def __init__(self, place: Any) -> None:
        self.place, self.number = place, 0
        self.now = int(clock.now().timestamp())
        self.store = connect.open(place.root, place.settings)

    def ask(self, unit: str, request: str, *told: float, ago: int = 300, days: int = 0) -> Ticket:
        """ago: seconds since the outcomes were told. days: so much earlier, all of it."""
        self.number += 1
        name = self.number.to_bytes(10)
        at = self.now - 86_400 * days - 600 + self.number / 100
        who = unit.encode().ljust(17, b".") if unit else b""
        row = Logged(name, STREAM.id, at, who, request, "{}")
        batch = Batch(streams={STREAM.id: STREAM}, logged=[row])
        traffic.append(self.store, "w", self.number, batch, self.now // 60)
        ticket = Ticket(
            name, STREAM.id, "probability", int(at) // 60, 3, (binary(0.5),) * max(1, len(told))
        )
        self.tell(ticket, *told, at=self.now - 86_400 * days - ago)
        return ticket

    def tell(self, ticket: Ticket, *told: float, at: float) -> None:
        found = [Outcome(ticket, place, value) for place, value in enumerate(told)]
        counted = answered.ingest(self.store, found, datetime.fromtimestamp(at, UTC), RULES)
        assert counted.accepted == len(told)


@pytest.fixture
def log(place: Any) -> Log:
    return Log(place)


def settings(place: Any) -> Any:
    (only,) = watch.sources(place, "nightly", place.settings.jobs["nightly"])
    return only.settings


def collected(place: Any, folder: Path) -> list[str]:
    (path,) = source.collect(place, settings(place), folder)
    return path.read_text().splitlines()


def test_the_job_says_whose_requests_unless_the_source_does(place: Any) -> None:
    assert settings(place).model == "m"
    table = {"name": "outcomes", "model": "tutor"}
    (other,) = watch.sources(place, "nightly", Job.model_validate({"data": [table]}))
    assert other.settings.model == "tutor"  # type: ignore[attr-defined]


def test_a_unit_is_what_it_had_answered_and_then_its_outcomes(
    place: Any, log: Log, tmp_path: Path
) -> None:
    log.ask("bo", '{"items": ["5"], "answers": [{"item": "4", "response": 0}]}', 1)
    log.ask("ana", '{"items": ["8", "9"], "answers": []}', 0, 1)
    log.ask("bo", '{"items": ["6"], "answers": [{"item": "4", "response": 0}]}')  # not told yet
    log.ask("bo", '{"items": ["7"], "answers": [{"item": "5", "response": 1}]}', 0)
    log.ask("", '{"items": ["3"]}', 1)
    bo, ana = (unit.encode().ljust(17, b".").hex() for unit in ("bo", "ana"))
    at = log.now - 300
    assert collected(place, tmp_path) == [
        "time,came,student_id,item,response",
        f"{at},{at},{bo},4,0",
        f"{at},{at},{bo},5,1",
        f"{at},{at},{bo},7,0",
        f"{at},{at},{ana},8,0",
        f"{at},{at},{ana},9,1",
        f"{at},{at},{(5).to_bytes(10).hex()},3,1",
    ]
    assert source.count(place, settings(place)) == 5
    told = datetime.fromtimestamp(log.now - 300, UTC)
    assert source.new(place, settings(place), 0, told - timedelta(seconds=1)) == 5
    assert source.new(place, settings(place), 0, told) == 0
    assert source.new(place, settings(place), 0, None) == 5


def test_the_file_grows_at_its_end_and_a_unit_keeps_its_order(
    place: Any, log: Log, tmp_path: Path
) -> None:
    log.ask("bo", '{"items": ["1"]}', 1, ago=300)
    log.ask("ana", '{"items": ["2"], "answers": [{"item": "9", "response": 1}]}', 1, ago=200)
    log.ask("bo", '{"items": ["3"]}', 0, ago=250)
    before = collected(place, tmp_path)
    log.ask("bo", '{"items": ["4"]}', 1, ago=100)
    log.ask("bo", '{"items": ["5"]}', 0, ago=150)  # told first, and was asked last
    log.ask("cy", '{"items": ["6"]}', 0, ago=120)
    after = collected(place, tmp_path)
    assert after[: len(before)] == before
    lines = [line.split(",") for line in after[1:]]
    assert [(log.now - int(time), item) for time, _, _, item, _ in lines] == [
        (300, "1"), (250, "3"), (200, "9"), (200, "2"), (120, "6"), (100, "4"), (100, "5"),
    ]  # fmt: skip
    assert log.now - int(lines[-1][1]) == 150


def test_what_was_told_after_the_cut_off_is_not_learnt_from(
    place: Any, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.ask("bo", '{"items": ["5"]}', 1)
    before = datetime.fromtimestamp(log.now - 301, UTC)
    monkeypatch.setattr(source, "clock", SimpleNamespace(now=lambda: before))
    with pytest.raises(Invalid, match="no outcome was told"):
        collected(place, tmp_path)


def test_before_anything_was_asked_there_are_no_samples(place: Any, tmp_path: Path) -> None:
    assert source.count(place, settings(place)) == 0
    with pytest.raises(Invalid, match="no outcome was told"):
        collected(place, tmp_path)


@pytest.mark.parametrize("table", ["", "[store]\nlog_inputs = 1.0\n"])
def test_where_nothing_is_kept_it_says_what_to_write(place: Any, kt: Any, table: str) -> None:
    (place.root / "kt.toml").write_text(f'git = "off"\n{table}{JOB}')
    refused = kt("retrain", "--check", at=place)
    assert refused.code == 2
    assert "no request to m is kept" in refused.err
    assert "[models.m] log_inputs = 1.0" in refused.err


def test_where_the_wrong_fields_are_kept_it_names_the_right_ones(
    place: Any, log: Log, tmp_path: Path
) -> None:
    log.ask("bo", "{}", 1)
    with pytest.raises(Invalid, match="was kept with what is learnt from") as caught:
        collected(place, tmp_path)
    assert '[models.m] log_fields = ["items"]' in caught.value.do


def test_a_form_of_which_nobody_learns_is_told(place: Any, log: Log, tmp_path: Path) -> None:
    known = forge.record.read(place, "m", "v1")
    spec = known.spec.model_copy(update={"form": "kt.models.vectors"})
    path = forge.record.folder(place, "m", "v1") / forge.RECORD
    path.write_bytes(forge.record.dump(known.model_copy(update={"spec": spec})))
    log.ask("bo", '{"vectors": []}', 1)
    with pytest.raises(Invalid, match="it lacks SAMPLE"):
        collected(place, tmp_path)


def test_forms_say_what_an_outcome_teaches() -> None:
    asked = {"items": ["7", "8"], "answers": None}
    known: Any = None
    assert tracing.sample(asked, 1, 3.0, known) == ("8", "3")
    assert tracing.past(asked) == []
    signature = tokens.Signature(tokens=("a",), labels=("ham", "spam"), window=5)
    said = {"tokens": ["cheap", "two words", "a"]}
    assert tokens.sample(said, 0, 1.0, signature) == ("spam", "cheap a")


ITEMS, UNITS = 10, 40
PAST = '[compute]\nn_jobs = 1\n[[jobs.nightly.trigger]]\nname = "samples"\ncount = 120\n'


@pytest.mark.slow
def test_a_job_that_learns_from_outcomes_is_reproduced_and_replayed(
    kt: Any, place: Any, log: Log, one_thread: None
) -> None:
    """Ten units a day, of four answers each; some are told only after the training, out of order."""
    text = f'git = "off"\n{LOGGED}{JOB.replace("irt", "marginal")}{PAST}'
    (place.root / "kt.toml").write_text(text)
    late = []
    for day in range(9, 0, -1):
        for unit in range(10):
            for step in range(4):
                item, right = (unit + step) % ITEMS, (unit * 7 + step * 3) % 5 % 2
                told = [] if (unit, step) == (3, 1) else [right]
                ticket = log.ask(f"d{day}-{unit}", f'{{"items": ["{item}"]}}', *told, days=day)
                late += [] if told else [ticket]
    made = kt("retrain", "--force", "--json", at=place)
    assert made.code == 0, made.err
    assert made.result["jobs"][0]["ended"]["version"] == "v4"
    for ticket in late:
        log.tell(ticket, 1.0, at=clock.now().timestamp())
    log.ask("new", '{"items": ["1"]}', 1.0, ago=0)
    again = kt("reproduce", "m@v4", at=place)
    assert again.code == 0, again.err
    assert again.out == "m@v4: the same weights, bit for bit\n"
    checked = kt("retrain", "--check", "--json", at=place).result["jobs"][0]
    assert checked["blocked"] == {"cooldown": "24 h after the last run"}
    begin, end = (
        datetime.fromtimestamp(log.now - 86_400 * days, UTC).isoformat() for days in (9, 1)
    )
    replayed = kt("backtest", "nightly", "--from", begin, "--to", end, "--json", at=place)
    assert replayed.code == 0, replayed.err
    found = replayed.result["retrainings"]
    assert [one["reasons"]["samples"].partition(" ")[0] for one in found] == ["156", "156"]
    assert [one["outcome"] for one in found] == ["first", "kept"]
    assert found[0]["gain"]["n"] > 0
    # the requests of four days go, of which 156 were told; "new" was told before the run was done
    roll_up(log.store, clock.now(), log=timedelta(days=5, hours=12))
    (place.root / "kt.toml").write_text(text.replace("[store]", "[store]\nlog_days = 5.5"))
    expired = kt("reproduce", "m@v4", at=place)
    assert expired.code == 2
    day = datetime.fromtimestamp(log.now, UTC) - timedelta(days=5, hours=12)
    assert (
        "requests to m: 155 of the 351 outcomes that it learnt from are gone: requests of before"
        f" {day:%Y-%m-%d} are not kept any more ([store] log_days = 5.5)" in expired.err
    )
    assert "--data outcomes.csv" in expired.err


@pytest.mark.slow
@pytest.mark.e2e
def test_a_predictor_is_asked_told_and_a_version_learns_from_it(
    tmp_path: Path, checkpoints: Path
) -> None:
    place = forge.workspace(tmp_path / "w")
    samples = '[[jobs.nightly.trigger]]\nname = "samples"\n'
    text = f'git = "off"\n[predictor]\nflush = 0.2\n{LOGGED}{JOB}{samples}'
    (place.root / "kt.toml").write_text(text)
    # by their pseudonyms some are to validate on: with a secret that is drawn perhaps nobody
    secret.ensure(place.root, clock.now(), lambda size: bytes([7]) * size)
    deployed = spawn("deploy", str(checkpoints / "1.pt"), "--model", "m", at=place.root)
    assert deployed.code == 0, deployed.err
    with serving(Made(place.root, {})) as there:
        told = []
        for unit in range(UNITS):
            answers: list[dict[str, Any]] = []
            for step in range(5):
                item, right = str((unit + step) % ITEMS), (unit * 7 + step * 3) % 5 % 2
                body = {"student_id": f"canary-{unit}", "answers": answers, "items": [item]}
                status, answer = there.ask("POST", "/predict", body)
                assert status == 200
                told.append({"prediction_id": answer["prediction_id"], "outcome": right})
                answers.append({"item": item, "response": right})
        assert there.ask("POST", "/feedback", told)[1]["accepted"] == 5 * UNITS
        store = connect.open(place.root, place.settings)
        assert within(lambda: requests.count(store, "m") == 5 * UNITS)
    due = spawn("retrain", "--check", "--json", at=place.root)
    assert due.code == 10
    assert due.result["jobs"][0]["reasons"] == {"samples": "200 new labelled samples (limit 100)"}
    done = spawn("retrain", "--force", "--json", at=place.root)
    assert done.code == 0, done.err
    ended = done.result["jobs"][0]["ended"]
    assert ended["outcome"] in ("registered", "kept")
    assert ended["scores"]["counts"]["students"] == UNITS // 5  # the newest
    after = spawn("retrain", "--check", "--json", at=place.root)
    assert after.result["jobs"][0]["reasons"] == {}
    for path in place.root.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes(), path
