"""The task of next-vector prediction: files read or refused, splits that do not leak, ranks over a fixed bank."""

import zipfile

import numpy as np
import pytest
import torch

from kt.errors import Invalid
from kt.models import chains, copy_last, mean_of_context, metrics
from kt.models.documents import BANK
from kt.models.vectors import Signature

D = 3
SIGNATURE = Signature(dimension=D, window=4)


def bank(seed=0):
    found = np.random.default_rng(seed).normal(size=(BANK, D)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def arrays(lengths=(3, 2), seed=1, **other):
    rng = np.random.default_rng(seed)
    return {
        "vectors": rng.normal(size=(sum(lengths), D)).astype(np.float32),
        "document": np.array([f"d{seed}-{n}" for n in range(len(lengths))]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "bank": bank(),
    } | other


def save(path, held):
    np.savez(path, **{name: array for name, array in held.items() if array is not None})
    return path


def test_a_file_is_read_as_it_was_written(tmp_path):
    held = arrays()
    found = chains.read(save(tmp_path / "a.npz", held))
    assert found.counts == {"vectors": 5, "documents": 2}
    long = held["vectors"] / np.linalg.norm(held["vectors"], axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, long, atol=1e-6)
    assert found.bank.shape == (BANK, D)
    assert found.steps.to.tolist() == [1, 2, 4]
    assert found.steps.document.tolist() == [0, 0, 1]


def test_a_folder_is_read_whole_and_test_files_are_kept_for_testing(tmp_path):
    save(tmp_path / "train.npz", arrays(seed=1))
    save(tmp_path / "test.npz", arrays(seed=2, bank=None))
    found = chains.read(tmp_path)
    assert found.documents == ("d2-0", "d2-1", "d1-0", "d1-1")
    assert found.testing.tolist() == [True, True, False, False]
    assert chains.only_test(found).documents == ("d2-0", "d2-1")
    assert chains.without_test(found).documents == ("d1-0", "d1-1")
    kept = chains.only_test(found)
    assert kept.offsets.tolist() == [0, 3, 5]
    assert np.array_equal(kept.vectors, found.vectors[:5])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"vectors": None}, "lacks vectors"),
        ({"document": None}, "lacks document"),
        ({"vectors": np.ones(5, np.float32)}, "shape"),
        ({"vectors": np.ones((5, D), np.int64)}, "vectors holds int64"),
        ({"vectors": np.array([[1.0, None, 2.0]] * 5, object)}, "vectors holds object"),
        ({"vectors": np.zeros((5, D), np.float32)}, r"vectors\[0\] has no direction"),
        ({"vectors": np.full((5, D), np.nan)}, r"vectors\[0\] has no direction"),
        ({"vectors": np.asfortranarray(np.ones((5, D)))}, "by column"),
        ({"document": np.array([1, 2])}, "document holds int"),
        ({"document": np.array(["a", "a"])}, "twice"),
        ({"offsets": np.array([0, 3])}, "offsets"),
        ({"offsets": np.array([0, 3, 4])}, "offsets"),
        ({"offsets": np.array([0, 5, 5])}, "offsets"),
        ({"offsets": np.array([0, -3, 5])}, "offsets"),
        ({"offsets": np.array([0.0, 3.0, 5.0])}, "offsets holds float64"),
        ({"bank": np.ones((7, D), np.float32)}, "bank has the shape"),
        ({"bank": np.ones((BANK, D), np.float32)}, "1 different vectors"),
        ({"bank": None}, "5 different vectors"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, other, says):
    with pytest.raises(Invalid, match=says):
        chains.read(save(tmp_path / "a.npz", arrays(**other)))


def forged(path, vectors):
    """A good file but for the bytes of `vectors`."""
    held = arrays()
    save(path, held)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"vectors.npy": vectors}).items():
            archive.writestr(name, content)
    return path


def magic(text):
    raw = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


@pytest.mark.parametrize(
    "vectors",
    [
        b"",
        b"\x93NUMPY\x09\x00",
        magic("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }"),
        magic("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }"),
        magic("{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 3), }") + bytes(60),
        magic("{'descr': '|O', 'fortran_order': False, 'shape': (5, 3), }") + bytes(120),
        magic("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }") + bytes(61),
        magic("__import__('os').abort()"),
        magic("{'descr': '<f4', "),
        magic("(" * 100),
    ],
    ids=range(10),
)
def test_a_forged_array_is_refused(tmp_path, vectors):
    with pytest.raises(Invalid, match="not data of documents"):
        chains.read(forged(tmp_path / "a.npz", vectors))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"a,b\n1,2\n", bytes(1000)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(Invalid, match="not data of documents"):
        chains.read(tmp_path / "a.npz")


def test_what_is_not_there_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(Invalid):
            chains.read(path)


def test_files_that_differ_in_their_bank_or_dimension_are_refused(tmp_path):
    save(tmp_path / "a.npz", arrays(seed=1))
    save(tmp_path / "b.npz", arrays(seed=2, bank=bank(5)))
    with pytest.raises(Invalid, match="different banks"):
        chains.read(tmp_path)
    save(tmp_path / "b.npz", arrays(seed=2, bank=None, vectors=np.ones((5, 4))))
    with pytest.raises(Invalid, match="different dimensions"):
        chains.read(tmp_path)


def test_without_a_bank_one_is_drawn_from_the_vectors_whatever_their_order(tmp_path):
    rng = np.random.default_rng(0)
    many = rng.normal(size=(BANK + 500, D)).astype(np.float32)
    ends = np.array([0, BANK + 500])
    held = {"document": np.array(["d"]), "offsets": ends}
    one = chains.read(save(tmp_path / "a.npz", held | {"vectors": many}))
    other = chains.read(save(tmp_path / "b.npz", held | {"vectors": many[::-1].copy()}))
    assert len(one.bank) == BANK
    assert {row.tobytes() for row in one.bank} == {row.tobytes() for row in other.bank}


def documents(count=40, length=6, seed=3):
    return arrays((length,) * count, seed)


def test_a_document_stays_on_one_side_as_data_grow(tmp_path):
    few = chains.read(save(tmp_path / "a.npz", documents(40)))
    many = chains.read(save(tmp_path / "b.npz", documents(80)))
    small, large = chains.split(few), chains.split(many)
    assert set(small.valid.documents) <= set(large.valid.documents)
    assert not set(large.valid.documents) & set(large.train.documents)
    assert small.test is None


def test_windows_of_one_text_that_overlap_are_refused(tmp_path):
    """As chains are cut in half-overlapping windows, each called a document of its own."""
    rng = np.random.default_rng(0)
    text = rng.normal(size=(43, D)).astype(np.float32)
    pieces = np.concatenate([text[n : n + 4] for n in range(0, 40, 2)])
    held = {
        "vectors": pieces,
        "document": np.array([f"w{n}" for n in range(20)]),
        "offsets": np.arange(21) * 4,
        "bank": bank(),
    }
    found = chains.read(save(tmp_path / "a.npz", held))
    with pytest.raises(Invalid, match="in training documents too") as caught:
        chains.split(found)
    assert "one document" in caught.value.do


def test_a_shared_vector_is_no_overlap_but_a_shared_step_is(tmp_path):
    held = documents(40)
    held["vectors"][::6] = held["vectors"][0]  # all begin alike
    found = chains.read(save(tmp_path / "a.npz", held))
    assert len(chains.split(found).valid.documents)
    held["vectors"][1::6] = held["vectors"][1]  # and go on alike
    with pytest.raises(Invalid, match="steps of the validation documents"):
        chains.split(chains.read(save(tmp_path / "a.npz", held)))


def test_too_few_documents_are_refused(tmp_path):
    with pytest.raises(Invalid, match="too few"):
        chains.split(chains.read(save(tmp_path / "a.npz", arrays((3,)))))


def test_a_step_holds_its_windows_what_followed_and_a_queue_that_goes_round(tmp_path):
    found = chains.read(save(tmp_path / "a.npz", documents(10)))
    steps = chains.steps(found, SIGNATURE, 3, np.random.default_rng(0))
    assert steps.usual == 3 * 2.5  # five steps of a document are windows of four and of one
    batches = list(steps)
    assert sum(step.events for step in batches) == 50 == len(found.steps.to)
    where = {row.tobytes(): place for place, row in enumerate(found.vectors)}
    seen = []
    for step in batches:
        vectors, lengths, candidates, owners = (tensor.numpy() for tensor in step.tensors)
        events = [where[vectors[b, t].tobytes()] for b, n in enumerate(lengths) for t in range(n)]
        after = [where[row.tobytes()] for row in candidates]
        assert after[: step.events] == [event + 1 for event in events]
        assert sorted(after[step.events :]) == sorted(found.steps.to.tolist())
        assert owners.tolist() == [place // 6 for place in after]
        seen.append(after)
    first = batches[0].events
    assert seen[1][batches[1].events :][:first] == seen[0][:first][::-1]


class Says(torch.nn.Module):
    """The same vector, whatever came before."""

    def __init__(self, vector):
        super().__init__()
        self.vector = torch.tensor(vector, dtype=torch.float32)

    def forward(self, vectors, lengths):
        return self.vector.expand(*vectors.shape[:2], D)


def scores(model, data):
    found = chains.predict(model, SIGNATURE, data)
    return {name: metrics.score(name, found) for name in chains.names(SIGNATURE)}


def test_ranks_count_what_is_as_near_as_the_next_vector():
    around = bank()
    said = around[:4].copy()
    np.testing.assert_array_equal(chains.ranks(said, said, around), 1)  # its own row is no rival
    far = chains.ranks(said, -said, around)
    assert (far == BANK + 1).all()
    for nothing in (np.zeros_like(said), np.full_like(said, np.nan)):
        assert (chains.ranks(nothing, said, around) >= BANK).all()


def test_a_model_that_says_nothing_finds_nothing(tmp_path):
    found = chains.read(save(tmp_path / "a.npz", documents(10)))
    assert scores(Says([0.0, 0, 0]), found)["hit@10/10000"] == 0


def test_every_step_is_predicted_once_and_within_the_window(tmp_path):
    found = chains.read(save(tmp_path / "a.npz", documents(3, length=11)))
    predicted = chains.predict(copy_last.Model(None), SIGNATURE, found)
    assert predicted.counts == {"vectors": 30, "documents": 3}
    cosine = (found.vectors[:-1] * found.vectors[1:]).sum(1)
    np.testing.assert_allclose(predicted.cosine, cosine[found.steps.to - 1], atol=1e-6)
    short = chains.predict(mean_of_context.Model(None), Signature(dimension=D, window=1), found)
    np.testing.assert_allclose(short.cosine, cosine[found.steps.to - 1], atol=1e-6)


def test_hits_grow_with_k_and_lie_under_the_rank(tmp_path):
    found = chains.read(save(tmp_path / "a.npz", documents(10)))
    said = scores(copy_last.Model(None), found)
    assert said["hit@1/10000"] <= said["hit@5/10000"] <= said["hit@10/10000"]
    assert said["mrr/10000"] >= said["hit@1/10000"]
    assert all(metrics.higher_is_better(name) for name in said)


def test_vectors_of_another_dimension_are_refused(tmp_path):
    found = chains.read(save(tmp_path / "a.npz", documents(3)))
    with pytest.raises(Invalid, match="vectors of 3 numbers, the model takes 7"):
        chains.predict(copy_last.Model(None), Signature(dimension=7, window=4), found)


def test_predictions_are_compared_where_they_are_of_the_same_steps(tmp_path):
    one = chains.read(save(tmp_path / "a.npz", documents(10)))
    other = chains.read(save(tmp_path / "b.npz", documents(11)))
    model = copy_last.Model(None)
    a, again, b = (chains.predict(model, SIGNATURE, data) for data in (one, one, other))
    assert a.asked_as(again)
    assert not a.asked_as(b)
