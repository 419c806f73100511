"""User modules that shadow a package of Dynamos, for instance from the working folder."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# A module of each package that another package of that name is unlikely to have.
_OURS = {"search_spaces": "space", "results": "definition/sweep_config"}


def strangers(*packages: str) -> Iterator[str]:
    """Yield an error of one line for each of the packages that a user module shadows."""
    for package in packages:
        spec = find_spec(package)
        places = (spec and spec.submodule_search_locations) or []
        if spec is not None and not any(
            Path(place, f"{_OURS[package]}.py").is_file() for place in places
        ):
            yield (
                f"{spec.origin or places[0]} shadows the package {package!r} of Dynamos: "
                "rename it, or work in another folder"
            )


def refuse_strangers(*packages: str) -> None:
    """Raise ImportError if a user module shadows one of the packages."""
    for error in strangers(*packages):
        raise ImportError(error)
