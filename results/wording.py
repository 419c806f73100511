"""Text of values, for the terminal and the pages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.trial import TrialRecord

# metrics between 0 and 1; the others are percents and points of them
FRACTIONS = ("keep_fraction", "compute")


def parameters(config: dict[str, Any]) -> str:
    """Searched fields and their values, in four significant digits."""
    return ", ".join(f"{name} {number(value)}" for name, value in config.items())


def setting(config: Mapping[str, Any], name: str) -> str:
    """The value of a searched field as text; "-" for an inactive one."""
    return number(config[name]) if name in config else "-"


def number(value: Any) -> str:
    """A value as text: a float in four significant digits.

    True, False and None are written as in YAML and flags.
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measured(metric: str, value: float) -> str:
    """A metric's value as text: two decimals, of a fraction four significant digits."""
    return number(float(value)) if metric in FRACTIONS else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds as 1h 02m, 3m 04s or 5s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def count(amount: int, what: str) -> str:
    """An amount with its noun: 1 seed, 2 seeds."""
    return f"{amount} {what}" + "s" * (amount != 1)


def mean_and_spread(trial: "TrialRecord", metric: str) -> str:
    """A metric's mean over seeds ± their standard deviation, if there are several seeds.

    Returns "" without a mean.
    """
    mean, spread = trial.last(metric), trial.spread(metric)
    return (
        ""
        if mean is None
        else measured(metric, mean) + ("" if spread is None else f" ± {measured(metric, spread)}")
    )
