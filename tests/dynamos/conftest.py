import pytest
import torch


@pytest.fixture(autouse=True)
def torch_as_it_was():
    """One thread, as a run's default is, and nothing that a run switches on left for the next test."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
