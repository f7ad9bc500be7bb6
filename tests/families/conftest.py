"""Models are run on one thread, as a worker of the predictor and kt train run them."""

import pytest


@pytest.fixture(autouse=True)
def alone_on_a_core(one_thread):
    return
