"""A loader that goes on amidst an epoch."""
# ruff: noqa: ANN001 - shipped beside the client; these types say nothing a reader needs

import itertools

import pytest

torch = pytest.importorskip("torch")
Resumable = pytest.importorskip("scaleahead.loader").Resumable


def made(seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    data = torch.utils.data.TensorDataset(torch.arange(20))
    return Resumable(torch.utils.data.DataLoader(data, batch_size=3, shuffle=True, generator=generator))


def batches(loader):
    while True:
        for (batch,) in loader:
            # what dropout would draw
            yield batch.tolist(), float(torch.rand(1))


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("at", [3, 7, 10])
def test_what_comes_after_is_what_would_have_come(at, seed):
    torch.manual_seed(1)
    left_alone = list(itertools.islice(batches(made(seed)), 24))
    torch.manual_seed(1)
    first = made(seed)
    begun = list(itertools.islice(batches(first), at))
    state = first.state_dict()
    torch.manual_seed(99)
    second = made(seed)
    second.load_state_dict(state)
    assert begun + list(itertools.islice(batches(second), 24 - at)) == left_alone


def test_it_is_the_loader_otherwise():
    loader = made()
    assert (len(loader), loader.batch_size) == (7, 3)
    with pytest.raises(AttributeError):
        _ = loader.nothing
