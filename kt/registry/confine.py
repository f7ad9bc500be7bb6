"""Shut this process in, for good, before it opens a file that nobody vouches for.

Linux only, and only as far as the kernel goes: Landlock (5.13 and later) forbids writing outside one
folder, starting programs and TCP; an empty network namespace, where it may be made, forbids the rest
of the network; resource limits bound processor time, memory and file sizes. What this kernel cannot do
is left out and named in the answer.

Landlock's numbers: linux/landlock.h; the system calls have the same numbers on every architecture.
"""

import ctypes
import math
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, SIGKILL = 38, 1, 9
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

EXECUTE, WRITE_FILE = 1 << 0, 1 << 1
REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
REFER, TRUNCATE = 1 << 13, 1 << 14  # since ABI 2 and 3
TCP = 0b11  # bind, connect; since ABI 4
SCOPES = 0b11  # abstract sockets, signals; since ABI 6


def confine(folder: Path) -> list[str]:
    """Writing only into `folder`, no programs, no network. Not to be undone.

    Returns what this kernel cannot enforce. Call it before other threads exist: they would not be bound.
    """
    missing = []
    if sys.platform != "linux":
        return ["files", "programs", "network"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # it ends with whoever asked for it
    isolated = libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    abi = landlock_abi(libc)
    if abi < 1:
        missing += ["files", "programs"]
    else:
        landlock(libc, abi, folder)
    if not isolated and abi < 4:
        missing.append("network")
    return missing


def bound(*, cpu: int, memory: int) -> None:
    """So much of the machine and no more. cpu: seconds in all. memory: bytes of data, and of a file."""
    limit(resource.RLIMIT_CPU, cpu)
    limit(resource.RLIMIT_DATA, memory)
    limit(resource.RLIMIT_FSIZE, memory)
    limit(resource.RLIMIT_CORE, 0)


@contextmanager
def within(cpu: float) -> Iterator[None]:
    """So many seconds of processor time from here to the end of this. Where more are needed SIGXCPU ends the process."""
    before, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soon = math.ceil(time.process_time() + cpu)
    most = soon if before == resource.RLIM_INFINITY else min(soon, before)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (before, hard))


def landlock_abi(libc: ctypes.CDLL | None = None) -> int:
    """The version of Landlock that this kernel offers; 0 without."""
    if sys.platform != "linux":
        return 0
    found = (libc or ctypes.CDLL(None, use_errno=True)).syscall(CREATE_RULESET, None, 0, 1)
    return max(0, int(found))


def limit(what: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def landlock(libc: ctypes.CDLL, abi: int, folder: Path) -> None:
    files = EXECUTE | WRITE_FILE | REMOVE_AND_MAKE
    files |= (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0)
    rules = struct.pack("QQQ", files, TCP if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    rules = rules[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = check(libc.syscall(CREATE_RULESET, rules, len(rules), 0))
    allow(libc, ruleset, folder, files & ~EXECUTE)
    allow(libc, ruleset, Path(os.devnull), WRITE_FILE)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    check(libc.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    """Whatever is beneath `path` may be used so."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    beneath = struct.pack("=Qi", access, descriptor)
    check(libc.syscall(ADD_RULE, ruleset, 1, beneath, 0))
    os.close(descriptor)


def check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
