"""What every family does in training where its weights are: on a GPU nothing may be left on the processor.

Without a GPU the device "meta" stands for it, whose tensors have shapes and no numbers; with one, a step is taken there too.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kt import plugins
from kt.models import metrics, simulate, simulate_chains, simulate_tokens, task
from kt.models.family import is_trainable
from kt.models.run import Options
from kt.models.train import train
from kt.registry import load

FAMILIES = [
    name
    for name in plugins.names("models")
    if is_trainable(load.family(Path(), name)) and hasattr(load.family(Path(), name), "loss")
]


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture
def data(family, tmp_path):
    if family.TASK == "kt.models.answers":
        simulate.write(simulate.learning(students=40, items=8, categories=2, seed=0), tmp_path)
    elif family.TASK == "kt.models.labelled":
        drawn = simulate_tokens.simulate(units=60, labels=2)
        simulate.write_tables({"train.csv": drawn.train}, drawn.truth, tmp_path)
    else:
        simulate_chains.write(simulate_chains.simulate(documents=20, dimension=8), tmp_path)
    return task.of(family).read([tmp_path])


class OneDevice(TorchDispatchMode):
    """Raises where an operation takes tensors of two devices; a number may be a tensor of any."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [
            leaf
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, torch.Tensor) and leaf.dim()
        ]
        devices = {tensor.device.type for tensor in tensors}
        assert len(devices) < 2 or func.overloadpacket is torch.ops.aten.copy_, func
        return func(*args, **(kwargs or {}))


def test_a_step_and_a_look_at_others_take_place_where_the_weights_are(family, data):
    given = task.of(family)
    config, signature = given.configure(family, data, family.SIZES.get("small", {}))
    model = family.Model(config).to("meta").train()
    step = next(iter(given.steps(data, signature, 8, np.random.default_rng(0))))
    unseen = _config.patch(meta_nonzero_assume_all_nonzero=True)  # a mask that has no numbers
    with unseen, OneDevice():
        loss = family.loss(model, *(tensor.to("meta") for tensor in step.tensors))
        loss.backward()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert any(parameter.grad is not None for parameter in model.parameters())
    # all is computed, and there are no numbers to be had
    with OneDevice(), pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        given.predict(model, signature, data)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_gpu_has_trained_says_the_same_here(name, family, data, precision):
    given = task.of(family)
    parts = given.split(data)
    options = Options.of(family, epochs=1, batch=8, device="cuda", precision=precision)
    settings = family.SIZES.get("small", {})
    found = train(family, name, parts.train, parts.valid, settings=settings, options=options)

    def score(device):
        predicted = given.predict(found.model.to(device), found.signature, parts.valid)
        return metrics.score(family.METRIC, predicted)

    assert score("cuda") == pytest.approx(score("cpu"), rel=1e-3)
