"""Both forms of the memory's recurrence against its equations written out."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from kt.models import recurrence
from kt.models.recurrence import Recurrence, recur, tier
from kt.registry import confine


def written_out(w, e, a, memory):
    """DKVMN's equations, a step at a time, under autograd."""
    M = memory.expand(w.shape[0], -1, -1)
    read = []
    for t in range(w.shape[1]):
        column = w[:, t, :, None]
        read.append((column * M).sum(1))
        M = M * (1 - column * e[:, t, None]) + column * a[:, t, None]
    return torch.stack(read, 1)


@pytest.fixture(params=["torch", "numba"])
def form(request):
    if request.param == "torch":
        return Recurrence
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    from kt.models.fused import Recurrence as compiled

    return compiled


def drawn(B, T, N, D, dtype=torch.float32):
    torch.manual_seed(0)
    w = torch.rand(B, T, N, dtype=dtype).softmax(-1)
    e, a, upstream = (torch.rand(B, T, D, dtype=dtype) for _ in range(3))
    return [w, e, a, torch.rand(N, D, dtype=dtype)], upstream


def gradients(function, given, upstream):
    inputs = [x.clone().requires_grad_() for x in given]
    read = function(*inputs)
    return [read, *torch.autograd.grad(read, inputs, upstream, materialize_grads=True)]


@pytest.mark.parametrize("T", [1, 2, Recurrence.BLOCK, 2 * Recurrence.BLOCK + 3])
def test_values_and_gradients_are_autograd_s(form, T):
    given, upstream = drawn(3, T, 4, 5)
    ours, theirs = (gradients(f, given, upstream) for f in (form.apply, written_out))
    torch.testing.assert_close(ours, theirs)


def test_strides_do_not_matter(form):
    given, upstream = drawn(3, 4, 2, 5)
    turned = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in given]
    whole, strided = (gradients(form.apply, x, upstream) for x in (given, turned))
    torch.testing.assert_close(strided, whole)
    once = torch.ones(1).expand(upstream.shape)  # as the gradient of a sum comes
    torch.testing.assert_close(
        gradients(form.apply, given, once), gradients(form.apply, given, once.contiguous())
    )


def test_the_compiled_form_is_taken_where_it_works():
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    assert tier().name == f"numba {importlib.metadata.version('numba')}"
    assert not tier().why


def test_without_numba_it_is_torch_s(monkeypatch):
    monkeypatch.setitem(sys.modules, "kt.models.fused", None)
    monkeypatch.delattr("kt.models.fused", raising=False)
    chosen = tier.__wrapped__()
    assert chosen.form is Recurrence
    assert chosen.why


def test_a_process_that_may_write_nowhere_takes_torch_s(tmp_path):
    """As the one that opens model files: Numba finds no folder for what it compiles."""
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    if confine.landlock_abi() < 1:
        pytest.skip("this kernel has no Landlock")
    script = (
        "from pathlib import Path; from kt.registry import confine; confine.confine(Path.cwd())\n"
        "from kt.models.recurrence import tier; print(tier().name, '|', tier().why)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("torch | cannot cache")


def test_a_compiled_form_that_is_wrong_is_not_taken(monkeypatch):
    pytest.importorskip("numba", reason="pip install 'kt[fast]'")
    monkeypatch.setattr(recurrence, "difference", lambda _: 0.1)
    with pytest.warns(RuntimeWarning, match="off by 0.1"):
        assert tier.__wrapped__().form is Recurrence


def test_a_form_that_differs_is_seen(form):
    class Off(form):
        @staticmethod
        def forward(ctx, w, e, a, memory):
            return form.forward(ctx, w, e, a, memory) * 1.0001

    assert recurrence.difference(form) < recurrence.TOLERANCE < recurrence.difference(Off)


@pytest.mark.parametrize(
    ("B", "dtype"), [(2, torch.float32), (200, torch.float64)], ids=["few", "float64"]
)
def test_few_steps_and_what_is_not_float32_are_torch_s(B, dtype):
    given, upstream = drawn(B, 3, 2, 3, dtype)
    ours, theirs = (gradients(f, given, upstream) for f in (recur, written_out))
    torch.testing.assert_close(ours, theirs)
    assert type(ours[0].grad_fn) is Recurrence._backward_cls
