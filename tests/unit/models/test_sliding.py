import torch

from kt.models.sliding import ALL_BUT, STRIDE, Kept, Write, enter, kept, newest_last, slid, written


def test_padding_comes_to_stand_in_front():
    x = torch.tensor([[1, 2, 0, 0], [1, 2, 3, 4]])
    assert newest_last(x, torch.tensor([2, 4])).tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]


def test_the_oldest_leaves_a_full_window():
    x, new = torch.tensor([[1, 2]]), torch.tensor([9])
    assert enter(x, new, 3).tolist() == [[1, 2, 9]]
    assert enter(x, new, 2).tolist() == [[2, 9]]


def drawn(T, hard):
    """Writes of one student; every answer whose place is in `hard` erases nearly all of the first slot."""
    rng = torch.Generator().manual_seed(0)
    w = torch.rand(1, T, 2, generator=rng) * 0.5
    e, a = torch.rand(2, 1, T, 3, generator=rng)
    w[0, hard, 0] = 1
    e[0, hard] = ALL_BUT
    return Write(w, e, a)


def at(writes, t):
    return Write(*(x[:, t] for x in writes))


def test_a_memory_slides_as_if_there_had_been_nothing_before_its_window():
    """Also where the oldest answers left less of the memory than a number can say."""
    window, T = 60, 200
    writes = drawn(T, hard=slice(0, 50))
    first = torch.ones(2, 3)
    left = kept(Write(*(x[:, :window] for x in writes)))
    assert left.strides.max() >= 2
    memory = first.expand(1, -1, -1).double()
    for t in range(window):
        memory = written(memory, at(writes, t))
    for t in range(window, T):
        memory, left = slid(memory, left, first, at(writes, t - window), at(writes, t))
        wanted = first.expand(1, -1, -1).double()
        for s in range(t - window + 1, t + 1):
            wanted = written(wanted, at(writes, s))
        torch.testing.assert_close(memory, wanted, atol=1e-6, rtol=0)
        assert (left.share > 1 / STRIDE / 2).all()
        assert (left.share <= 2).all()
    assert (left.strides == 0).all()
    assert isinstance(left, Kept)
