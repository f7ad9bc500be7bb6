import torch
from torch import nn

from kt.models import tables
from kt.models.tables import Table


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(5, 3)
        self.calls = 0
        self.table = Table(self, self.of, 5)

    def of(self, items):
        self.calls += 1
        x = self.item(items)
        return x, x.sum(-1, keepdim=True)


def look(model, items):
    with torch.no_grad():
        return model.table(items)


def test_what_was_computed_once_is_looked_up():
    model, items = Model().eval(), torch.tensor([[1, 4], [2, 2]])
    look(model, items)
    calls = model.calls
    found = look(model, items)
    assert model.calls == calls
    torch.testing.assert_close(found, list(model.of(items)))


def test_it_is_computed_again_once_a_parameter_was_written_to():
    model, items = Model().eval(), torch.tensor([3])
    look(model, items)
    for write in (lambda: model.item.weight.add_(1), lambda: model.item.reset_parameters()):
        with torch.inference_mode():
            write()
        torch.testing.assert_close(look(model, items), list(model.of(items)))


def test_nothing_is_kept_in_training_nor_where_gradients_are_wanted():
    model, items = Model(), torch.tensor([3])
    look(model, items)
    model.eval()
    x, _ = model.table(items)
    x.sum().backward()
    assert model.item.weight.grad is not None
    assert model.calls == 2


def test_what_would_be_too_large_is_computed(monkeypatch):
    monkeypatch.setattr(tables, "LARGEST", 19)  # numbers; this one has 20
    model, items = Model().eval(), torch.tensor([3])
    torch.testing.assert_close(look(model, items), model.of(items))
    assert not model.table.kept(items.device)


def test_parameters_whose_writes_torch_does_not_count_are_not_looked_up():
    with torch.inference_mode():
        model = Model().eval()
        model.table(torch.tensor([3]))
        model.item.weight.add_(1)
        x, _ = model.table(torch.tensor([3]))
        torch.testing.assert_close(x, model.item.weight[3:4])
