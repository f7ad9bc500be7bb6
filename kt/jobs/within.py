"""A program within its bounds: it gives way to all others, takes no more memory than is allowed, and
ends with whoever started it, with all that it has started itself.

    python -I within.py BYTES PROGRAM ARGUMENT...      BYTES 0: as much as there is

It leads a process group of its own (whoever starts it sees to that), and stays to end the group where nobody
else is left to. It imports nothing of kt: the program may be of another environment.
"""

import ctypes
import os
import resource
import signal
import sys

NICE = 10
PR_SET_PDEATHSIG = 1  # linux/prctl.h; what is executed inherits it


def main(arguments: list[str]) -> None:
    memory, *command = arguments
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: end_if_left(parent))
    end_with_parent(parent, signal.SIGTERM)
    os.nice(NICE)
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    us, program = os.getpid(), os.fork()
    if not program:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent(us, signal.SIGKILL)
        try:
            os.execvp(command[0], command)  # noqa: S606  # a list of arguments, no shell
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            os._exit(1)
    end_as(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))


def end_with_parent(parent: int, how: int) -> None:
    """Have the kernel send us a signal when our parent ends; at once where it has already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), how)


def end_if_left(parent: int) -> None:
    """End all of the group; not where we are told by our parent, who tells the program too and waits for it."""
    if os.getppid() != parent:
        os.killpg(0, signal.SIGKILL)


def end_as(code: int) -> None:
    """As the program has ended: with its exit code, or by its signal."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has dumped its own
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
