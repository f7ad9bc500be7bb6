"""A worker that is told to end before it listens for that ends at once: what it is a fork of had other plans with the signal."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from kt.predictor import server

how = getattr(signal, sys.argv[1])
signal.signal(how, lambda *_: None)
server.let_workers_end()
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
os.kill(child, how)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -how)
os.kill(os.getpid(), how)  # is still its own
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_a_fork_ends_where_it_is_told_to_in_its_first_moment(how: str) -> None:
    told = [sys.executable, "-c", PROGRAM, how]
    assert subprocess.run(told, check=True, capture_output=True, text=True).stdout == "True\n"
