"""The same function on many arguments, in processes: of this machine, or of a cluster that is there already.

joblib does it, with the backend of kt.toml: loky starts processes here, dask and ray send the work to
the cluster at `address`, or without one to processes that they start here.
"""

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kt.config import Compute
from kt.errors import Invalid, Unavailable

T = TypeVar("T")


def each(
    function: Callable[..., T], jobs: Iterable[tuple[Any, ...]], how: Compute
) -> Generator[T, None, None]:
    """function(*job) for each job, in their order, as soon as each is there.

    What the function raises is raised here, and the others are given up. Raises Unavailable where a
    process dies or the cluster does not answer, Invalid where the backend is not installed.
    """
    import joblib
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # ray's backend gives results only when all are there
    given = "list" if how.backend == "ray" else "generator"
    try:
        with backend(how):
            run = joblib.Parallel(n_jobs=how.n_jobs, return_as=given)
            results = run(joblib.delayed(function)(*job) for job in jobs)
            try:
                for result in results:  # noqa: UP028  # closed below, where joblib's warning is kept quiet
                    yield result
            finally:
                if given == "generator":
                    with warnings.catch_warnings(action="ignore"):
                        results.close()
    except (BrokenProcessPool, OSError) as error:
        raise Unavailable(
            f"{how.backend}: {str(error).splitlines()[0][:200]}",
            do="give it fewer jobs at once: compute.n_jobs in kt.toml"
            if how.backend == "loky"
            else "look at the cluster: compute.address in kt.toml",
        ) from error


@contextmanager
def backend(how: Compute) -> Iterator[None]:
    """joblib's context in which Parallel uses the backend."""
    import joblib

    if how.backend == "loky":
        # one thread each, so that numpy in many processes does not fight for the cores
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield
        return
    try:
        cluster = dask(how) if how.backend == "dask" else ray(how)
    except ImportError as error:
        raise Invalid(
            f"compute.backend is {how.backend}, which is not installed",
            where="kt.toml",
            do=f"pip install 'kt[{how.backend}]'",
        ) from error
    try:
        with joblib.parallel_config(how.backend):
            yield
    finally:
        cluster()


def dask(how: Compute) -> Callable[[], Any]:
    """Joins a cluster, or starts one; returns what leaves it."""
    from distributed import Client

    client: Any = Client
    leave: Callable[[], Any] = client(how.address or None, timeout=how.wait).close
    return leave


def ray(how: Compute) -> Callable[[], Any]:
    """Joins a cluster, or starts one; returns what leaves it."""
    import ray
    from ray.util.joblib import register_ray

    ray.init(how.address or None, log_to_driver=False)
    register_ray()
    leave: Callable[[], Any] = ray.shutdown
    return leave
