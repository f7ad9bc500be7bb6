"""A program within its bounds: it gives way to all others, takes no more memory than is allowed, and
ends with whoever started it.

    python -I within.py BYTES PROGRAM ARGUMENT...      BYTES 0: as much as there is

It imports nothing of kt: the program may be of another environment.
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
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == 1:  # it ended before this was said
            sys.exit(1)
    os.nice(NICE)
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    try:
        os.execvp(command[0], command)  # noqa: S606  # a list of arguments, no shell
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
