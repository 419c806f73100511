"""Modules of a user's that bear the name of a package of ours and come before it, as those in the working folder do."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# By package, a module of it that no other package of that name is likely to have.
_OURS = {"search_spaces": "space", "results": "definition/sweep_config"}


def strangers(*packages: str) -> Iterator[str]:
    """An error in one line for each that comes before one of the packages."""
    for package in packages:
        spec = find_spec(package)
        places = (spec and spec.submodule_search_locations) or []
        if spec is not None and not any(Path(place, f"{_OURS[package]}.py").is_file() for place in places):
            yield (f"{spec.origin or places[0]} comes before Dynamos's package {package!r}, which is needed here: "
                   "rename it, or work in another folder")


def refuse_strangers(*packages: str) -> None:
    """ImportError where there is one."""
    for error in strangers(*packages):
        raise ImportError(error)
