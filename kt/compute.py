"""The same function on many arguments, in processes: of this machine, or of a cluster that is there already.

joblib does it, with the backend of kt.toml: loky starts processes here, dask and ray send the work to
the cluster at `address`, or without one to processes that they start here. All workers must run kt,
torch and Python as they are here, and one job at a time: then every backend gives the same results. That
is asked before the first job. A process that dies is an error, and so is a cluster that is gone.
"""

import importlib.metadata
import multiprocessing
import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar

from kt import __version__
from kt.config import Compute
from kt.errors import Invalid, Refused, Unavailable

T = TypeVar("T")

LOOK = 0.5  # seconds between two looks at a cluster
MISSED = 3  # looks in a row: one may fail on a machine that has too much to do
OVER = 1e-9  # seconds: a time limit that has passed


@dataclass(frozen=True)
class Workers:
    """What does the work, as joblib is told of it.

    backend: of joblib.parallel_config. parallel: of joblib.Parallel. deaths: what is raised where a process
    died. trouble: why nothing can be waited for any more; an empty text where all is well.
    """

    backend: Mapping[str, Any]
    parallel: Mapping[str, Any]
    deaths: tuple[Any, ...]  # types of exceptions
    trouble: Callable[[], str] | None = None


def each(
    function: Callable[..., T], jobs: Iterable[tuple[Any, ...]], how: Compute
) -> Generator[T, None, None]:
    """function(*job) for each job, in their order, as soon as each is there.

    What the function raises is raised here, and the others are given up. Raises Unavailable where a
    process dies or the cluster is gone for `how.wait` seconds, Invalid where the backend is not installed,
    Refused where the cluster is not as this process is.
    """
    import joblib

    with BACKENDS[how.backend](how) as workers:
        with joblib.parallel_config(**workers.backend):
            run = joblib.Parallel(**workers.parallel)
        with errors(workers, how), watched(run, workers, how.wait):
            results = run(joblib.delayed(function)(*job) for job in jobs)
            try:
                for result in results:  # noqa: UP028  # closed below, where joblib's warning is kept quiet
                    yield result
            finally:
                if isinstance(results, Generator):
                    with warnings.catch_warnings(action="ignore"):
                        results.close()


@contextmanager
def errors(workers: Workers, how: Compute) -> Iterator[None]:
    """What a backend raises, as a person is told of it."""
    try:
        yield
    except (OSError, *workers.deaths) as error:
        raise Unavailable(
            f"{how.backend}: {(str(error) or type(error).__name__).splitlines()[0][:200]}",
            do="give it fewer jobs at once: compute.n_jobs in kt.toml"
            if how.backend == "loky"
            else "look at the cluster: compute.address in kt.toml",
        ) from error


@contextmanager
def watched(run: Any, workers: Workers, wait: float) -> Iterator[None]:
    """Have joblib give up once there has been trouble for so long: it would wait for ever."""
    over, found = threading.Event(), list[str]()

    def look() -> None:
        assert workers.trouble is not None
        well, missed = time.monotonic(), 0
        while not over.wait(LOOK):
            if not (why := workers.trouble()):
                well, missed = time.monotonic(), 0
                continue
            missed += 1
            if missed >= MISSED and time.monotonic() - well > wait:
                found.append(why)
                run.timeout = OVER  # joblib asks it at each turn
                return

    looking = threading.Thread(target=look, daemon=True)
    if workers.trouble:
        looking.start()
    try:
        yield
    except multiprocessing.TimeoutError as error:  # joblib's own
        raise ConnectionError(found[0] if found else str(error)) from error
    finally:
        over.set()


@contextmanager
def loky(how: Compute) -> Iterator[Workers]:
    """Processes of this machine, which are as this one is."""
    from joblib.externals.loky.process_executor import BrokenProcessPool

    yield Workers(
        # one thread each, so that numpy in many processes does not fight for the cores
        {"backend": "loky", "inner_max_num_threads": 1},
        {"n_jobs": how.n_jobs, "return_as": "generator"},
        (BrokenProcessPool,),
    )


@contextmanager
def dask(how: Compute) -> Iterator[Workers]:
    """The workers of a scheduler, or of one that is started here."""
    from concurrent.futures import CancelledError

    with installed("dask"):
        from distributed import Client, KilledWorker
        from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        def submit(self, func: Any, callback: Any = None) -> Any:
            """As joblib's, which tells nobody of a job whose workers died: it would be waited for."""
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: done.exception() and callback(done.exception()))
            return future

        def effective_n_jobs(self, n_jobs: int) -> int:
            """For one at a time joblib would leave the cluster alone and work in this process."""
            return max(2, int(super().effective_n_jobs(n_jobs)))

    many = how.n_jobs if how.n_jobs > 0 else os.cpu_count()
    here = {"n_workers": many, "threads_per_worker": 1, "dashboard_address": None}
    start: Any = Client
    with reached("dask"):
        client = start(how.address or None, timeout=how.wait, **({} if how.address else here))
    with client:
        with reached("dask"):
            client.wait_for_workers(1, timeout=how.wait)
            refuse_others(client.run(versions, on_error="return"))
            refuse_threads(client.nthreads())

        def trouble() -> str:
            try:
                left = client.sync(client.scheduler.ncores, callback_timeout=how.wait)
            except (OSError, RuntimeError):
                return "the scheduler does not answer"
            return "" if left else "no worker is left"

        yield Workers(
            {"backend": Backend(client=client)},
            {
                "n_jobs": -1,
                "pre_dispatch": how.n_jobs if how.n_jobs > 0 else "2 * n_jobs",
                "return_as": "generator",
            },
            (KilledWorker, CancelledError),
            trouble,
        )


@contextmanager
def ray(how: Compute) -> Iterator[Workers]:
    """The nodes of a cluster, or one that is started here. Their results are given when all are there."""
    with installed("ray"):
        import ray
        from ray.exceptions import RayError
        from ray.util.joblib import register_ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    with redirect_stdout(sys.stderr):  # Ray prints that a worker has died; stdout holds kt's answer
        with reached("ray"):
            ray.init(how.address or None, log_to_driver=False, logging_level="ERROR")
        register_ray()
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            probe = ray.remote(versions)
            asked = [
                probe.options(
                    num_cpus=0, scheduling_strategy=On(node["NodeID"], soft=False)
                ).remote()
                for node in nodes
            ]
            with reached("ray", RayError):
                said = ray.get(asked, timeout=how.wait)
            refuse_others({node["NodeName"]: one for node, one in zip(nodes, said, strict=True)})
            yield Workers({"backend": "ray"}, {"n_jobs": how.n_jobs}, (RayError,))
        finally:
            ray.shutdown()


BACKENDS = {"loky": loky, "dask": dask, "ray": ray}


@contextmanager
def installed(backend: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Invalid(
            f"compute.backend is {backend}, which is not installed",
            where="kt.toml",
            do=f"pip install 'kt[{backend}]'",
        ) from error


@contextmanager
def reached(backend: str, *besides: Any) -> Iterator[None]:
    """A cluster must answer. besides: types of exceptions that say that it does not."""
    try:
        yield
    except (OSError, *besides) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise Unavailable(
            f"{backend}: {why}", do="look at the cluster: compute.address in kt.toml"
        ) from error


def versions() -> dict[str, str]:
    """Of what the results rest on, in the process that is asked."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"kt": __version__, "torch": importlib.metadata.version("torch"), "python": python}


def refuse_others(workers: Mapping[str, dict[str, str] | Exception]) -> None:
    """Raises Refused where a worker has other versions than this process, or cannot run kt."""
    ours = versions()
    for name, theirs in workers.items():
        if isinstance(theirs, Exception):
            raise Refused(f"the worker {name} cannot run kt: {theirs}", do=INSTALL.format(**ours))
        for what, version in ours.items():
            if theirs[what] != version:
                raise Refused(
                    f"the worker {name} has {what} {theirs[what]}, here it is {version}",
                    do=INSTALL.format(**ours),
                )


INSTALL = "have the same there: Python {python}, pip install kt=={kt} torch=={torch}"


def refuse_threads(workers: Mapping[str, int]) -> None:
    """Raises Refused where a worker does several jobs at once: torch has one source of chance a process."""
    for name, threads in workers.items():
        if threads > 1:
            raise Refused(
                f"the worker {name} does {threads} jobs at once in one process",
                do="start it with: dask worker ADDRESS --nworkers auto --nthreads 1",
            )
