from collections.abc import Iterator
from contextlib import nullcontext

import pytest


@pytest.fixture(autouse=True)
def no_early_ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start Ray only where a sweep runs: most tests of commands replace run_sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.engine.early.early", lambda *_: nullcontext())
        yield
