"""The same work gives the same results wherever it runs, and a process that dies is an error."""

import json
import os
import subprocess
import sys

import pytest
from predictors import within

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


WORK = """
import hashlib, os, sys

import numpy as np

from kt import compute
from kt.config import Compute
from kt.errors import KtError
from kt.models import sakt
from kt.models.data import Data
from kt.models.run import Options
from kt.models.train import learn, prepare


def learners(count, seed):
    rng = np.random.default_rng(seed)
    return Data(
        students=tuple(f"s{seed}-{n}" for n in range(count)),
        offsets=np.arange(count + 1) * 8,
        items=rng.integers(5, size=count * 8),
        responses=rng.integers(2, size=count * 8),
        folds=np.full(count, -2),
        names=tuple("abcde"),
    )


def learnt(seed):
    settings = {"d_model": 4, "heads": 1, "window": 8, "dropout": 0.2}
    options = Options(epochs=1, batch=8, seed=seed)
    state, _ = learn(prepare(sakt, learners(24, 1), learners(12, 2), settings, options), None)
    hashed = hashlib.sha256()
    for tensor in state.best.values():
        hashed.update(tensor.numpy().tobytes())
    return hashed.hexdigest(), os.getpid()


def die(seed):
    os._exit(9)


if __name__ == "__main__":
    backend, address = sys.argv[1:]
    many = 2 if backend == "ray" else 1
    how = Compute(backend=backend, n_jobs=many, address=address, wait=20 if address else 120)
    found = list(compute.each(learnt, [(seed,) for seed in (1, 2)], how))
    print([made for made, _ in found] == [learnt(seed)[0] for seed in (1, 2)])
    print(os.getpid() in {pid for _, pid in found})
    try:
        list(compute.each(die, [(1,), (2,)], how))
    except KtError as error:
        print(error)
"""


def elsewhere(tmp_path, backend, address=""):
    """What is said of the same trainings elsewhere and here, and of a process that dies."""
    program = tmp_path / "work.py"
    program.write_text(WORK)
    ran = subprocess.run(
        [sys.executable, program, backend, address],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
        },
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-3:]


@pytest.mark.slow
def test_a_cluster_of_dask_gives_the_same_and_tells_of_a_death(tmp_path):
    pytest.importorskip("distributed", reason="dask is not installed: pip install .[dask]")
    same, here, died = elsewhere(tmp_path, "dask")
    assert (same, here) == ("True", "False")
    assert "dask: " in died


@pytest.mark.slow
def test_a_cluster_of_ray_gives_the_same_and_tells_of_a_death(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install .[ray]")
    same, here, died = elsewhere(tmp_path, "ray")
    assert (same, here) == ("True", "False")
    assert "ray: " in died


@pytest.fixture
def joined(tmp_path):
    """The address of a scheduler of dask with one worker, whom nobody starts anew."""
    pytest.importorskip("distributed", reason="dask is not installed: pip install .[dask]")
    told = tmp_path / "scheduler.json"
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])

    def start(what, *more):
        command = [sys.executable, "-m", f"distributed.cli.{what}", "--scheduler-file", told]
        return subprocess.Popen(
            [*command, "--no-dashboard", *more],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            stderr=subprocess.DEVNULL,
        )

    running = [
        start("dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        start("dask_worker", "--no-nanny", "--nthreads", "1"),
    ]
    within(lambda: told.is_file() and told.stat().st_size)
    yield json.loads(told.read_text())["address"]
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_whose_last_worker_died_is_not_waited_for(tmp_path, joined):
    same, here, died = elsewhere(tmp_path, "dask", joined)
    assert (same, here) == ("True", "False")
    assert died == "dask: no worker is left"


def test_a_worker_must_be_as_this_process_is():
    ours = compute.versions()
    compute.refuse_others({"a": ours})
    with pytest.raises(Refused, match=r"the worker b has torch 1\.0, here it is") as caught:
        compute.refuse_others({"a": ours, "b": ours | {"torch": "1.0"}})
    assert f"torch=={ours['torch']}" in caught.value.do
    with pytest.raises(Refused, match="cannot run kt: No module named 'kt'"):
        compute.refuse_others({"a": ModuleNotFoundError("No module named 'kt'")})
    compute.refuse_threads({"a": 1})
    with pytest.raises(Refused, match="does 4 jobs at once"):
        compute.refuse_threads({"a": 4})


def test_a_backend_that_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Invalid, match="ray, which is not installed") as caught:
        list(compute.each(squared, [(1,)], Compute(backend="ray")))
    assert caught.value.do == "pip install 'kt[ray]'"
