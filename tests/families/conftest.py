"""Models are run on one thread, as a worker of the predictor and kt train run them."""

from pathlib import Path

import pytest

from kt.registry import load


@pytest.fixture(autouse=True)
def alone_on_a_core(one_thread):
    return


@pytest.fixture
def family(name):
    """The family of the name that a file of tests gives."""
    return load.family(Path(), name)
