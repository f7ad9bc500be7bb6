import shlex

import pytest

from kt.jobs import units

KT = ("/opt/kt/bin/python", "-m", "kt")


def settings(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_unit_for_the_predictor_and_one_for_the_daemon():
    found = units.systemd("/srv/models", KT)
    assert set(found) == {"kt-predictor.service", "kt-daemon.service"}
    served, watched = map(settings, found.values())
    assert served["ExecStart"] == "/opt/kt/bin/python -m kt -C /srv/models serve"
    assert watched["ExecStart"] == "/opt/kt/bin/python -m kt -C /srv/models daemon"
    assert "ExecReload" in watched
    assert "ExecReload" not in served
    assert served["WantedBy"] == "multi-user.target"
    assert (
        settings(units.systemd("/srv", KT, user=True)["kt-daemon.service"])["WantedBy"]
        == "default.target"
    )


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
