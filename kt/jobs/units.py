"""What has kt run on a machine: units of systemd for predictor and daemon, or lines of cron. Pure."""

import shlex
from collections.abc import Sequence

GENTLY = ("nice", "-n", "10")  # in front of a command that gives way to all others
PREDICTOR, DAEMON = "kt-predictor.service", "kt-daemon.service"

UNIT = """\
[Unit]
Description={what} of {root}
After=network.target

[Service]
Type=exec
{owner}WorkingDirectory={root}
ExecStart={command}
{reload}Restart=on-failure
RestartSec=2
TimeoutStopSec={stop}
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy={target}
"""


def systemd(root: str, kt: Sequence[str], owner: str = "") -> dict[str, str]:
    """The units' texts by the names of their files. root: of the workspace, absolute. kt: the command.

    owner: of the workspace, whom they run as; without one for `systemctl --user`, where another target starts them.
    """

    def unit(what: str, verb: str, stop: int, reload: str = "") -> str:
        command = " ".join(quoted(word) for word in (*kt, "-C", root, verb))
        target = "multi-user.target" if owner else "default.target"
        return UNIT.format(
            what=what,
            owner=f"User={owner}\n" if owner else "",
            root=root.replace("%", "%%"),
            command=command,
            reload=reload,
            stop=stop,
            target=target,
        )

    again = "ExecReload=/bin/kill -HUP $MAINPID\n"
    return {
        PREDICTOR: unit("kt serve", "serve", 30),
        DAEMON: unit("kt daemon", "daemon", 15, again),
    }


def quoted(word: str) -> str:
    """A word as systemd reads it."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{word}"' if not word or set(word) & set(" \t'\";") else word


def cron(root: str, kt: Sequence[str], *, mastery: bool = False) -> str:
    """Two lines of a crontab, in place of the daemon, and one that measures mastery. Canaries are stepped also
    where monitors fail."""

    def line(when: str, *verbs: str, before: Sequence[str] = ()) -> str:
        kt_here = shlex.join([*before, *kt, "-C", root])
        commands = "; ".join(f"{kt_here} {verb}" for verb in verbs)
        return f"{when}  {commands}".replace("%", "\\%")

    often = line("* * * * *", "monitor --once --quiet", "canary step --quiet")
    seldom = line("*/30 * * * *", "retrain --deploy --quiet")
    lines = [often, seldom]
    if mastery:
        lines.append(line("*/30 * * * *", "mastery update --quiet", before=GENTLY))
    return "\n".join(lines) + "\n"
