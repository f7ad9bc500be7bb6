import shlex
import shutil
import subprocess

import forge
import pytest

from kt.jobs import units

KT = ("/opt/kt/bin/python", "-m", "kt")


def settings(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_unit_for_the_predictor_and_one_for_the_daemon():
    found = units.systemd("/srv/models", KT, "ana")
    assert set(found) == {"kt-predictor.service", "kt-daemon.service"}
    served, watched = map(settings, found.values())
    assert served["ExecStart"] == "/opt/kt/bin/python -m kt -C /srv/models serve"
    assert watched["ExecStart"] == "/opt/kt/bin/python -m kt -C /srv/models daemon"
    assert "ExecReload" in watched
    assert "ExecReload" not in served
    assert (served["User"], served["WantedBy"]) == ("ana", "multi-user.target")
    mine = settings(units.systemd("/srv", KT)["kt-daemon.service"])
    assert (mine.get("User"), mine["WantedBy"]) == (None, "default.target")


def test_they_are_written_for_the_owner_of_the_workspace_and_systemd_takes_them(
    kt, place, tmp_path
):
    done = kt("export", "systemd", "--out", str(tmp_path / "units"), at=place)
    assert done.code == 0, done.err
    assert (
        "Next: systemctl daemon-reload && systemctl enable --now kt-predictor.service" in done.out
    )
    written = sorted((tmp_path / "units").iterdir())
    assert [path.name for path in written] == ["kt-daemon.service", "kt-predictor.service"]
    assert f"User={place.root.owner()}\n" in written[0].read_text()
    if verify := shutil.which("systemd-analyze"):
        said = subprocess.run(
            [verify, "verify", *written], capture_output=True, text=True, check=False
        )
        assert "kt-" not in said.stderr, said.stderr


@pytest.mark.parametrize("option", [["--user"], ["--out", "units"]], ids=" ".join)
def test_an_option_of_units_is_refused_with_anything_else(kt, place, option):
    done = kt("export", "cron", *option, at=place)
    assert done.code == 2
    assert done.err.startswith(f"kt: {option[0]}: it goes with systemd alone\n")
    assert not (place.root / "units").exists()


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("/srv/my models", '"/srv/my models"'),
        ("/srv/50%", "/srv/50%%"),
        ("/srv/$x", "/srv/$$x"),
        ('/a"b', '"/a\\"b"'),
    ],
)
def test_any_path_is_quoted(root, said):
    command = settings(units.systemd(root, KT)["kt-predictor.service"])["ExecStart"]
    assert command == f"/opt/kt/bin/python -m kt -C {said} serve"


@pytest.mark.parametrize("what", ["systemd", "cron"])
def test_a_path_that_fits_no_line_is_refused(kt, tmp_path, what):
    place = forge.workspace(tmp_path / "two\nlines")
    done = kt("export", what, at=place)
    assert (done.code, done.out) == (3, "")
    assert "has a line break" in done.err


def test_two_lines_of_cron():
    often, seldom = units.cron("/srv/my models", KT).splitlines()
    assert often.startswith("* * * * *  ")
    assert shlex.split(seldom)[5:] == [
        *KT,
        "-C",
        "/srv/my models",
        "retrain",
        "--deploy",
        "--quiet",
    ]
    assert "\\%" in units.cron("/srv/50%", KT)
