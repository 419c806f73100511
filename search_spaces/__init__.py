"""Search spaces as data, checked against TrainConfig."""

from typing import TYPE_CHECKING

from dynamos.doors import opens

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace, read_space

__all__ = ["SearchSpace", "read_space"]
__getattr__ = opens(
    __name__, {"SearchSpace": "search_spaces.space", "read_space": "search_spaces.space"}
)
