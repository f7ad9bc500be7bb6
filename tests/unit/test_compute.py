"""The same work gives the same results wherever it runs, and a process that dies is an error."""

import os
import subprocess
import sys

import pytest

from kt import compute
from kt.config import Compute
from kt.errors import Invalid, Refused, Unavailable


def squared(x):
    return x * x, os.getpid()


def refuse(x):
    raise Refused(f"not {x}", where="here", do="leave it")


def die(x):
    os._exit(9)


def test_processes_of_this_machine_give_results_in_order():
    found = list(compute.each(squared, [(x,) for x in range(6)], Compute(n_jobs=2)))
    assert [value for value, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {pid for _, pid in found}


def test_what_the_work_raises_is_raised_here_whole():
    with pytest.raises(Refused, match=r"here: not [34]") as caught:
        list(compute.each(refuse, [(3,), (4,)], Compute(n_jobs=2)))
    assert caught.value.do == "leave it"


def test_a_process_that_dies_is_an_error():
    with pytest.raises(Unavailable, match="loky"):
        list(compute.each(die, [(1,), (2,)], Compute(n_jobs=2)))


WHERE = """
import sys
from kt import compute
from kt.config import Compute

def squared(x):
    import os
    return x * x, os.getpid()

if __name__ == "__main__":
    import os
    how = Compute(backend=sys.argv[1], n_jobs=2, address=sys.argv[2])
    found = list(compute.each(squared, [(x,) for x in range(4)], how))
    print([value for value, _ in found], os.getpid() in {pid for _, pid in found})
"""


def elsewhere(tmp_path, backend, address=""):
    program = tmp_path / "work.py"
    program.write_text(WHERE)
    ran = subprocess.run(
        [sys.executable, program, backend, address],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_cluster_of_dask_gives_the_same(tmp_path):
    pytest.importorskip("distributed", reason="dask is not installed: pip install .[dask]")
    assert elsewhere(tmp_path, "dask") == "[0, 1, 4, 9] False"


@pytest.mark.slow
def test_a_cluster_of_ray_gives_the_same(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install .[ray]")
    assert elsewhere(tmp_path, "ray") == "[0, 1, 4, 9] False"


def test_a_backend_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Invalid, match="ray, which is not installed") as caught:
        list(compute.each(squared, [(1,)], Compute(backend="ray")))
    assert caught.value.do == "pip install 'kt[ray]'"
