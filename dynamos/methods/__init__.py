"""Methods by name: what they need and where their step is.

Adding one is an entry here and a module with the functions that `dynamos.methods.learner` names.
"""

from dataclasses import dataclass

from dynamos.fields import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range, Setting


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        summary: what it is, for the help.
        module: module in this package that has its step.
        made: the class in the module of which each run has an instance; "" for functions.
        gated: True if its network has gates.
        rehearses: True if it replays images from the buffer.
        weights: the fields among alpha, beta and policy_alpha that it uses.
        stores_all: True if every stream image is a candidate for the buffer; False: only those that
            are classified correctly.
        draws: number of minibatches that a step draws from the buffer, independently.
        cumulative: True if each task trains on the images of all tasks so far.
        stacked: True if a cohort trains several runs as one program; False: one after the other.
        hyperparameters: those that are no fields of TrainConfig, named method.NAME elsewhere.
    """

    summary: str
    module: str
    gated: bool = False
    rehearses: bool = False
    weights: tuple[str, ...] = ()
    stores_all: bool = False
    draws: int = 1
    cumulative: bool = False
    stacked: bool = False
    hyperparameters: tuple[Setting, ...] = ()
    made: str = ""


def _baseline(
    summary: str, module: str, *, weights: tuple[str, ...] = (), draws: int = 1
) -> Method:
    """A dense method that replays images of a plain reservoir."""
    return Method(summary, module, rehearses=True, weights=weights, stores_all=True, draws=draws)


def _hyperparameter(
    name: str, default: float, help: str, allowed: Range | tuple[str, ...] | None = None
) -> Setting:
    return Setting(name, type(default), False, default, "method", help, allowed)


METHODS = {
    "dynamos": Method(
        "gated network with rehearsal",
        "modular",
        gated=True,
        rehearses=True,
        weights=("alpha", "beta", "policy_alpha"),
        stacked=True,
    ),
    "dynamos_sgd": Method("gated without rehearsal", "modular", gated=True, stacked=True),
    "multi_scale": Method(
        "dense with rehearsal", "modular", rehearses=True, weights=("alpha", "beta"), stacked=True
    ),
    "sgd": Method("dense without rehearsal", "modular", stacked=True),
    "er": _baseline("experience replay", "er"),
    "der": _baseline("dark experience replay", "der", weights=("alpha",)),
    "derpp": _baseline("DER++", "derpp", weights=("alpha", "beta"), draws=2),
    "er_ace": _baseline("replay with an asymmetric cross entropy", "er_ace"),
    "agem": _baseline("averaged gradient episodic memory, with a reservoir", "agem"),
    "lwf": Method(
        "learning without forgetting",
        "lwf",
        made="LwF",
        weights=("alpha",),
        hyperparameters=(
            _hyperparameter(
                "temperature", 2.0, "temperature of the softmax of earlier answers", POSITIVE
            ),
        ),
    ),
    "ewc_on": Method(
        "online elastic weight consolidation",
        "ewc_on",
        made="OnlineEwc",
        hyperparameters=(
            _hyperparameter(
                "e_lambda", 10.0, "weight of the penalty on moved weights", NOT_NEGATIVE
            ),
            _hyperparameter(
                "gamma", 0.9, "decay of the Fisher information of earlier tasks", Range(0, 1)
            ),
            _hyperparameter(
                "fisher_images",
                1000,
                "images of a task that estimate its Fisher information",
                AT_LEAST_ONE,
            ),
        ),
    ),
    "joint": Method("dense, on all tasks so far: an upper bound", "modular", cumulative=True),
}

# A method in a user's file, FILE.py:NAME, before the file is read: all weights may be used.
OWN = Method(
    "a method in a file",
    "",
    rehearses=True,
    weights=("alpha", "beta", "policy_alpha"),
    stores_all=True,
)


def method_of(model: str) -> Method:
    """Return the method of a name; OWN for FILE.py:NAME, whose file is not read here."""
    return METHODS.get(model, OWN)
