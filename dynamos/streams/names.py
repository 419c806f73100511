"""Streams and data sets by name: what is known of them before any file is read."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Data:
    """A data set.

    Attributes:
        classes: number of its classes; None if the user's files decide.
        white: pixel value that means 1.0.
    """

    classes: int | None
    white: int = 255


@dataclass(frozen=True, slots=True)
class Definition:
    """A stream: a data set and the way its tasks are made.

    Attributes:
        data: name of the data set.
        tasks: "classes": each task has classes of its own (class-incremental);
            "permuted" or "rotated": each task has all classes, its images with permuted pixels or
            turned by an angle (domain-incremental); "rotating": one task of slowly turning digits;
            "own": a user's function decides.
    """

    data: str
    tasks: str = "classes"


DATA = {
    "digits": Data(10, white=16),
    "mnist": Data(10),
    "fashion-mnist": Data(10),
    "kmnist": Data(10),
    "emnist": Data(47),
    "svhn": Data(10),
    "cifar10": Data(10),
    "cifar100": Data(100),
    "tinyimg": Data(200),
    "arrays": Data(None),
    "folder": Data(None),
}
STREAMS = {
    "seq-digits": Definition("digits"),
    "seq-mnist": Definition("mnist"),
    "seq-svhn": Definition("svhn"),
    "digits-360": Definition("digits", "rotating"),
    "mnist-360": Definition("mnist", "rotating"),
    "perm-mnist": Definition("mnist", "permuted"),
    "rot-mnist": Definition("mnist", "rotated"),
    "seq-fashion-mnist": Definition("fashion-mnist"),
    "seq-kmnist": Definition("kmnist"),
    "seq-emnist": Definition("emnist"),
    "seq-cifar10": Definition("cifar10"),
    "seq-cifar100": Definition("cifar100"),
    "seq-tinyimg": Definition("tinyimg"),
    "arrays": Definition("arrays"),
    "folder": Definition("folder"),
}
# A stream that a user's function returns, FILE.py:NAME: its images decide how tasks are made.
OWN = Definition("", "own")
DATASETS = tuple(STREAMS)
ROTATING = tuple(name for name, of in STREAMS.items() if of.tasks == "rotating")
DOMAINS = tuple(name for name, of in STREAMS.items() if of.tasks in ("permuted", "rotated"))
ROTATING_CLASSES = 9  # rotating streams leave out the 9, because a turned 6 looks like it
DOMAIN_TASKS = 20  # tasks of a domain-incremental stream


def definition_of(dataset: str) -> Definition:
    """Return the definition of a stream; OWN for FILE.py:NAME, whose file is not read here."""
    return STREAMS.get(dataset, OWN)


def data_of(dataset: str) -> Data:
    """Return the data set of a stream."""
    definition = definition_of(dataset)
    return Data(None) if definition is OWN else DATA[definition.data]


def metrics_missing(dataset: str) -> tuple[str, ...]:
    """Return the names of metrics that a stream does not have.

    A rotating stream has no tasks. In a domain-incremental stream all tasks have the same classes,
    so that knowing the task rules out no class; its class-il is what the literature calls
    domain-il (van de Ven and Tolias, arXiv 1904.07734).
    """
    if dataset in ROTATING:
        return "task_il", "learning_accuracy", "forgetting"
    return ("task_il",) if dataset in DOMAINS else ()


def lack_of(dataset: str) -> str:
    """Return the reason, as a predicate, why a stream lacks `metrics_missing`."""
    return "has no tasks" if dataset in ROTATING else "has the same classes in every task"
