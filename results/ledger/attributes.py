"""Attributes of a sweep's study: its state, budget, uses of test images, tags and note."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from results.ledger import holder
from results.names import RERUN

if TYPE_CHECKING:
    from results.definition.sweep_config import SweepConfig

EXTENDED = "extended_by"  # study attribute: trials added to the budget after the start
# study attribute: {"reason": why no new configuration is tried, "overruled": whether the sweep was
# extended since}
DONE = "done"
BATCH = "batch_size"  # study attribute, of a sweep in deterministic order
# study attributes, by confirmation: time and configurations of a use of test images
LOOK = "look/"
# Key of a confirmation's outcome, in the entry of the confirmation in the sweep's ledger.
OUTCOME = "outcome"
NOTE = "note"  # study attribute: a user's note on the sweep
TAG = "tag/"  # study attributes, by name: a user's tags; "" for a removed tag
STOP = "stop"  # study attribute: epoch of the driver that is asked to stop

# "starting" and the silence of a driver on another machine are known only to a service.
StateName = Literal["starting", "running", "stopping", "stopped", "killed", "finished"]


@dataclass(frozen=True, slots=True)
class SweepState:
    """State of a sweep: its name, the driver that runs or ran it, and the trials left."""

    name: StateName
    driver: str | None  # HOST:PID; None if no driver holds the sweep
    left: int  # trials of the budget that have not ended

    def __str__(self) -> str:
        """The state in words."""
        if self.name == "killed":
            return f"killed ({self.driver} is gone)"
        if self.driver is not None:
            return f"{self.name} ({self.driver})"
        return f"stopped, {self.left} left" if self.name == "stopped" else self.name


def state_of(held: Mapping[str, Any], attributes: Mapping[str, Any], left: int) -> SweepState:
    """Return the state of a sweep.

    `held` is its lease, `attributes` are its study's, `left` is its number of trials left.
    """
    driver = held["owner"]
    if driver is None:
        return SweepState("stopped" if left > 0 else "finished", None, left)
    if holder.gone(held):
        return SweepState("killed", driver, left)
    name: StateName = "stopping" if asked_to_stop(held, attributes) else "running"
    return SweepState(name, driver, left)


def asked_to_stop(held: Mapping[str, Any], attributes: Mapping[str, Any]) -> bool:
    """True if the driver that holds the lease was asked to end."""
    return held["owner"] is not None and attributes.get(STOP) == held["epoch"]


def asked_for(trials: int, sources: Iterable[str]) -> int:
    """Number of requested trials, reruns included.

    `trials` are those of the configuration and of extensions, `sources` the sources of all trials.
    """
    return trials + sum(source.startswith(RERUN) for source in sources)


def done_by(attributes: Mapping[str, Any]) -> str | None:
    """Return the reason why a sweep tries no new configuration; None if it does."""
    done = attributes.get(DONE)
    return None if done is None or done["overruled"] else str(done["reason"])


def countable(config: "SweepConfig") -> bool:
    """True if a sweep has finitely many configurations, which limit its budget."""
    return config.sampler == "grid" or config.space.size is not None


def looks_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Uses of test images in the attributes of a study, by confirmation, the oldest first."""
    found = [
        (key.removeprefix(LOOK), value) for key, value in attributes.items() if key.startswith(LOOK)
    ]
    return dict(sorted(found, key=lambda look: look[1]["at"]))


def latest_outcome(looks: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the outcome of a sweep's latest confirmation that has an answer; None if none has."""
    return next((look[OUTCOME] for look in reversed(list(looks.values())) if OUTCOME in look), None)


def tags_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Tags among the attributes of a study, by name."""
    return {
        key.removeprefix(TAG): value
        for key, value in sorted(attributes.items())
        if key.startswith(TAG) and value
    }
