"""Every setting is documented, a wrong one is named with its line, and a name can be a path's part."""

import json
import re
from pathlib import Path

import pytest
from annotated_types import Le

from kt import config
from kt.config import Settings
from kt.errors import Invalid

GOOD = ["v3", "v3.1", "retrain_v3", "bigger-memory", "a", "0", "x" * 64, "kt.toml", "2026-01-12"]
BAD = [
    "", " ", ".", "..", "a/b", "/abs", "~root", "a:b", "--help", "-v", "a b", "a\nb", "a\0b", "a\x1b[2J",
    "V1", "ä", "a..b", "a.", ".a", "_a", "x" * 65, "latest", "head", "none", "active", "control",
    "../../x", "a\\b", "%2e%2e", "a\u202eb", "$(id)", "`id`", "*", "v1;ls", "v1\n", "ⅷ",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_itself(name: str) -> None:
    assert config.check_name(name, "a version") == name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_before_a_path_is_made_of_it(name: str) -> None:
    with pytest.raises(Invalid, match="is not a name for a version"):
        config.check_name(name, "a version")


def test_the_published_names_are_judged_as_they_ask(shared: Path) -> None:
    for case in json.loads((shared / "hostile" / "names.json").read_text())["cases"]:
        try:
            verdict = "accept" if config.check_name(case["name"], "a model") else ""
        except Invalid:
            verdict = "refuse"
        assert case["expect"] in (verdict, "either"), case


def test_every_setting_says_what_it_means() -> None:
    for known in config.known_settings():
        assert len(known.meaning) > 15, known
        assert known.type, known


def test_every_number_says_its_unit() -> None:
    bare = {k.key for k in config.known_settings() if k.type in ("int", "float") and not k.unit}
    assert bare <= {"predictor.port", "jobs.NAME.seed"}


def test_every_time_is_bounded_so_that_a_date_can_be_moved_by_it() -> None:
    for table in config.Table.__subclasses__():
        for name, field in table.model_fields.items():
            unit = (
                field.json_schema_extra["unit"] if isinstance(field.json_schema_extra, dict) else ""
            )
            if unit in ("seconds", "minutes", "hours", "days"):
                assert any(isinstance(bound, Le) for bound in field.metadata), f"{table}: {name}"


def test_the_template_shows_every_setting_and_parses_when_uncommented(tmp_path: Path) -> None:
    text = config.template()
    path = tmp_path / "kt.toml"
    path.write_text(text)
    assert config.load(path) == Settings()
    opened = re.sub(r"^# (\[.*\]|[a-z_]+ = .*)$", r"\1", text, flags=re.MULTILINE)
    path.write_text(opened.replace("NAME", "m"))
    loaded = config.load(path)
    assert loaded.predictor == Settings().predictor
    assert list(loaded.models) == ["m"]
    assert loaded.gate[0].name == loaded.models["m"].gate[0].name == "latency"
    for known in config.known_settings():
        assert re.search(
            rf"^{known.key.rpartition('.')[2]} =|\[{known.key}\]\]", opened, re.MULTILINE
        ), known


@pytest.mark.parametrize(
    ("text", "line", "what", "do"),
    [
        ("gti = 'on'\n", 1, "there is no setting gti", "did you mean git?"),
        ("\n[predictor]\nprot = 1\n", 3, "there is no setting predictor.prot", "did you mean port?"),
        ("[models.m]\nfamilly = 'sakt'\n", 2, "there is no setting models.m.familly", "did you mean family?"),
        ("engine = 'torch'\n", 1, "there is no setting engine", "engine stands under [predictor]"),
        ("[store]\nlock_wait = 1\n", 2, "there is no setting store.lock_wait", "under no table, at the top"),
        ("[predictor]\nport = 70000\n", 2, "predictor.port: input should be less than", "kt config"),
        ("[predictor]\nport = true\n", 2, "predictor.port: input should be a valid integer", "kt config"),
        ("[predictor]\ntimeout = nan\n", 2, "predictor.timeout: ", "kt config"),
        ("[predictor]\ntimeout = inf\n", 2, "predictor.timeout: ", "kt config"),
        ("lock_wait = -1\n", 1, "lock_wait: ", "kt config"),
        ("lock_wait = 1e308\n", 1, "lock_wait: ", "kt config"),
        ("git = 'false'\n", 1, "git: ", "kt config"),
        ("model = 5\n", 1, "model: ", "kt config"),
        ("[decision]\naccept = 1.5\n", 2, "decision.accept: ", "kt config"),
        ('model = "a\\u0000b"\n', 1, "model: holds a control character", ""),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_line(
    text: str, line: int, what: str, do: str, tmp_path: Path
) -> None:
    path = tmp_path / "kt.toml"
    path.write_text(text)
    with pytest.raises(Invalid) as error:
        config.load(path)
    assert error.value.what.startswith(what)
    assert error.value.where == f"{path}:{line}"
    assert do in error.value.do


@pytest.mark.parametrize(
    "data",
    [b"a = 1\na = 2\n", b"name = \"\xe9\"\n", b"x = \0", b"<<<<<<< HEAD\n", b"a." * 3000 + b"b = 1\n"],
    ids=["twice", "latin-1", "nul", "conflict", "deep"],
)  # fmt: skip
def test_what_is_no_toml_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "kt.toml"
    path.write_bytes(data)
    with pytest.raises(Invalid) as error:
        config.load(path)
    assert str(path) in error.value.where


def test_marks_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "kt.toml"
    path.write_bytes(b"\xef\xbb\xbf[predictor]\r\nworkers = 3\r\n")
    assert config.load(path).predictor.workers == 3


def test_a_model_may_not_be_named_like_a_path(tmp_path: Path) -> None:
    path = tmp_path / "kt.toml"
    path.write_text("\n[models.'../x']\nfamily = 'sakt'\n")
    with pytest.raises(Invalid, match="is not a name for a model"):
        config.load(path)


def test_a_setting_of_one_model_goes_before_that_of_all(tmp_path: Path) -> None:
    path = tmp_path / "kt.toml"
    path.write_text("[decision]\naccept = 0.8\n[models.m.decision]\naccept = 0.99\n")
    loaded = config.load(path)
    assert loaded.decision_of("m").accept == 0.99
    assert loaded.decision_of("other").accept == 0.8
