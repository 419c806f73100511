"""Names of fields in messages, as flags of the command line.

Messages of the packages below name a field as `gpus_per_trial`, which suits a notebook and the
service. The command line alone knows that its flag is --gpus-per-trial.
"""

import re
from functools import cache

# Fields without a Setting, and arguments of other commands than `run`.
_FLAGS = {"base": "set", "constraints": "constraint", "objectives": "objective"} | {
    name: name.replace("_", "-")
    for name in (
        "address",
        "baseline",
        "choose",
        "class_orders",
        "data_path",
        "extend",
        "final",
        "first_k",
        "ledger_url",
        "max_compute",
        "name",
        "points",
        "register",
        "report_on",
        "space",
        "storage",
        "top",
        "tracking_uri",
        "trial",
        "trials",
    )
}


def with_flags(text: str) -> str:
    """Return a text in which every `field` that has a flag is that flag."""
    return re.sub(r"`(\w+)`", lambda m: flag(m[1]) or m[0], text) if "`" in text else text


def flag(field: str) -> str | None:
    """Return the flag of a field, or None."""
    name = _flags().get(field)
    return None if name is None else f"--{name}"


@cache
def _flags() -> dict[str, str]:
    from dynamos.fields import settings
    from results.definition.sweep_config import SweepConfig

    return _FLAGS | {s.name: s.flag for s in settings(SweepConfig).values() if s.flag is not None}
