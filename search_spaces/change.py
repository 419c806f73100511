"""Change of the space of a sweep that has run."""

from dataclasses import replace
from typing import Any

from dynamos.errors import UserError
from search_spaces.parameter import Parameter, value_text
from search_spaces.space import SearchSpace


def changed(old: SearchSpace, new: SearchSpace, since: int) -> SearchSpace | None:
    """Return a sweep's new space from trial `since` on, or None if nothing changes.

    Ranges, choices, steps, priors and rules may change. Raises UserError for another change, which
    would alter the meaning of the trials so far, and if trial 0 does not fit.
    """
    _refuse_other_fields(old, new)
    there = new.within(old.around)
    before = {p.name: p for p in old.parameters}
    kept = tuple(_revised(before[p.name], p, since) for p in new.parameters)
    # the order of the columns stays
    order = [p.name for p in old.parameters]
    made = replace(there, parameters=tuple(sorted(kept, key=lambda p: order.index(p.name))))
    if _meaning(made) == _meaning(old):
        return None
    try:
        made.check(old.around)
    except UserError as error:
        raise UserError(f"trial 0, the baseline, must stay in the space: {error}") from None
    return replace(made, since=since)


def _meaning(space: SearchSpace) -> Any:
    """The content of a space without its name and the traces of changes."""
    content = replace(space, since=0, description="").to_dict()
    for spec in content["parameters"].values():
        spec.pop("revised", None)
    return content


def _revised(old: Parameter, new: Parameter, since: int) -> Parameter:
    """The new parameter with a stored name of its own, if the old name cannot take its values."""
    same = (old.choices, old.log, old.whole) == (new.choices, new.log, new.whole)
    return replace(new, revised=old.revised if same else since)


def _refuse_other_fields(old: SearchSpace, new: SearchSpace) -> None:
    names, others = [p.name for p in old.parameters], [p.name for p in new.parameters]
    other = "; for that start a sweep with `warm_start`"
    for name in others:
        if name not in names:
            raise UserError(
                f"the space {new.name} searches {name}, and the trials so far have one value of "
                f"it{other}."
            )
    for name in names:
        if name not in others:
            raise UserError(
                f"the space {new.name} lacks {name}, of which the trials so far have several "
                f"values{other}."
            )
    conditions = {p.name: p.when for p in old.parameters}
    for p in new.parameters:
        if p.when != conditions[p.name]:
            raise UserError(
                f"the space {new.name} searches {p.name} under other conditions than so far{other}."
            )
    for name in {**old.fixed, **new.fixed}:
        if name not in new.fixed:
            continue  # the base keeps the value
        if new.fixed[name] != old.around[name]:
            raise UserError(
                f"the space {new.name} fixes {name} at {value_text(new.fixed[name])}, and the "
                f"trials so far have {value_text(old.around[name])}{other}."
            )
