from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """One thread, as a run's default is, and nothing of a run left for the next test."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True, scope="session")
def digits_read_once() -> Iterator[None]:
    """scikit-learn unpacks its file at every call; many small runs would spend most of their time
    there."""
    from sklearn import datasets

    whole = datasets.load_digits()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", lambda: whole)
        yield
