"""Methods in a user's file: FILE.py:NAME, a function `loss` or a class."""

from dataclasses import replace

from dynamos.methods import METHODS, OWN, Method
from dynamos.user_code import load

# Attributes of Method that a class may set.
FACTS = ("rehearses", "stores_all", "draws", "cumulative")


def facts(model: str) -> Method:
    """Return the facts of a method; those of FILE.py:NAME are attributes of its class."""
    if model in METHODS:
        return METHODS[model]
    found = load(model, "method")
    return replace(OWN, **{name: getattr(found, name) for name in FACTS if hasattr(found, name)})
