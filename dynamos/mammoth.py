"""Arguments of Mammoth (github.com/aimagelab/mammoth), written and read.

Mammoth calls a method `model` and a stream `dataset`, as this package does. Its arguments are those
of its utils/args.py and of each method's parser.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.config import FIELDS, TrainConfig, default, number_of_text, read_yaml, unused
from dynamos.errors import UserError, unknown
from dynamos.files import AnyPath
from dynamos.methods import method_of
from dynamos.methods.hyperparameters import PREFIX, of_method
from dynamos.streams.classes import most_tasks

# Names of methods; our agem keeps a reservoir, as Mammoth's agem_r does.
MODELS = {
    "sgd": "sgd",
    "er": "er",
    "der": "der",
    "derpp": "derpp",
    "er_ace": "er_ace",
    "agem": "agem_r",
    "lwf": "lwf",
    "ewc_on": "ewc_on",
    "joint": "joint",
}
# Streams that both have, with Mammoth's number of classes in a task; None where it has no number.
STREAMS = {
    "seq-mnist": 2,
    "seq-cifar10": 2,
    "seq-cifar100": 10,
    "seq-tinyimg": 20,
    "perm-mnist": None,
    "rot-mnist": None,
    "mnist-360": None,
}
# Fields by Mammoth's argument.
ARGUMENTS = {
    "model": "model",
    "dataset": "dataset",
    "lr": "lr",
    "batch_size": "batch_size",
    "n_epochs": "n_epochs",
    "seed": "seed",
    "buffer_size": "buffer_size",
    "minibatch_size": "minibatch_size",
    "alpha": "alpha",
    "beta": "beta",
    "softmax_temp": f"{PREFIX}temperature",
    "e_lambda": f"{PREFIX}e_lambda",
    "gamma": f"{PREFIX}gamma",
    "device": "device",
    "stop_after": "n_tasks",
}
# Arguments that stand for a value of a field: {argument: (value, field, its value)}.
_VALUES: dict[str, tuple[Any, str, Any]] = {
    "validation": (10, "evaluate_on", "validation"),
    "code_optimization": (2, "precision", "bf16"),
}
# Arguments without an effect on training, and values that are those of this package.
_SILENT = (
    *("base_path", "results_path", "notes", "non_verbose", "disable_log", "num_workers"),
    *("enable_other_metrics", "distributed", "savecheck", "ckpt_name", "wandb_name"),
    *("wandb_entity", "wandb_project", "conf_jobnum", "conf_host", "conf_timestamp"),
    *("conf_git_hash", "conf_external_path", "validation_mode", "eval_future", "noise_type"),
    *("scheduler_mode", "sched_multistep_lr_gamma", "cache_path_noisy_labels", "model_config"),
    *("early_stopping_patience", "early_stopping_metric", "early_stopping_freq"),
    *("early_stopping_epsilon", "load_best_args", "eval_epochs"),
)
_USUAL = {
    "optimizer": "sgd",
    "fitting_mode": "epochs",
    "label_perc": 1,
    "label_perc_by_class": 1,
    "lr_scheduler": "none",
}


@dataclass(frozen=True, slots=True)
class Translation:
    """Values in the other program's names.

    Attributes:
        values: by name.
        left_out: values that have no counterpart, in words.
    """

    values: dict[str, Any]
    left_out: tuple[str, ...]


def arguments_of(config: TrainConfig) -> Translation:
    """Return Mammoth's arguments for a configuration.

    Raises UserError for a method or a stream that Mammoth does not have.
    """
    if config.model not in MODELS:
        raise unknown("method of Mammoth", config.model, MODELS)
    if config.dataset not in STREAMS:
        raise unknown("stream of Mammoth", config.dataset, STREAMS)
    values, idle = config.to_dict(), unused(config.model)
    found: dict[str, Any] = {"model": MODELS[config.model]}
    for argument, field in ARGUMENTS.items():
        if field in values and field not in ("model", "n_tasks", *idle):
            found[argument] = values[field]
    if config.device == "auto":
        del found["device"]
    whole = most_tasks(config)
    if config.n_tasks is not None and config.n_tasks < whole:
        found["stop_after"] = config.n_tasks
    for argument, (value, field, meant) in _VALUES.items():
        if values[field] == meant:
            found[argument] = value
    if "validation" in found:
        found["validation_mode"] = "complete"
    return Translation(found, _without_counterpart(config, found))


def _without_counterpart(config: TrainConfig, found: Mapping[str, Any]) -> tuple[str, ...]:
    """The network, and values other than the defaults that no argument has."""
    known = {*ARGUMENTS.values(), *(field for _, field, _ in _VALUES.values())}
    idle = {*unused(config.model), "nf", "classes_per_task"}
    left = [
        f"{name} {value}"
        for name, value in config.to_dict().items()
        if name not in known
        and name not in idle
        and (of_method(name) or FIELDS[name].group != "machine")
        and name != "data_path"
        and (of_method(name) or value != default(name))
    ]
    classes = STREAMS[config.dataset]
    if classes not in (None, config.classes_per_task):
        left.append(f"classes_per_task {config.classes_per_task} (Mammoth has {classes})")
    return (f"the network (nf {config.nf})", *left)


def fields_in(
    path: AnyPath, dataset: str | None = None, buffer_size: int | None = None
) -> Translation:
    """Return the fields in a YAML file of Mammoth's arguments.

    The file holds one mapping of arguments, or, like Mammoth's models/config/*.yaml, arguments by
    stream and, below it, by buffer size; `dataset` and `buffer_size` choose among several. Raises
    UserError for a method or a stream that this package does not have.
    """
    try:
        content = _flat(read_yaml(path), dataset, buffer_size)
        return _fields(content, path.stem)
    except UserError as error:
        raise error if str(path) in str(error) else error.within(str(path)) from None


def _fields(content: Mapping[str, Any], stem: str) -> Translation:
    given = {str(name).replace("-", "_"): value for name, value in content.items()}
    model = str(given.pop("model", stem)).replace("-", "_")
    ours = {theirs: name for name, theirs in MODELS.items()}
    if model not in ours:
        raise unknown("method", model, ours)
    found: dict[str, Any] = {"model": ours[model]}
    stream = given.get("dataset")
    if stream is not None:
        if stream not in STREAMS:
            raise unknown("stream", stream, STREAMS)
        if (classes := STREAMS[stream]) is not None:
            found["classes_per_task"] = classes
    left = []
    names = {PREFIX + one.name for one in method_of(found["model"]).hyperparameters}
    for name, value in given.items():
        field = ARGUMENTS.get(name)
        if isinstance(value, str) and name in _VALUES:
            value = number_of_text("lr", value)
        if (
            field is not None
            and value is not None
            and not (of_method(field) and field not in names)
        ):
            found[field] = number_of_text(field, value)
        elif name in _VALUES and value:
            usual, field, meant = _VALUES[name]
            if name == "code_optimization" and value != usual:
                left.append(f"{name} {value}")
                continue
            found[field] = meant
            if value not in (usual, usual / 100):
                left.append(f"{name} {value} (it is {usual} here)")
        elif name not in _SILENT and value and value != _USUAL.get(name):
            left.append(f"{name} {value}")
    return Translation(found, tuple(left))


def _flat(
    content: Mapping[Any, Any], dataset: str | None, buffer_size: int | None
) -> dict[str, Any]:
    """One mapping of arguments, chosen by stream and buffer size."""
    if not any(isinstance(value, Mapping) for value in content.values()):
        return {str(name): value for name, value in content.items()}
    streams = [name for name in content if name != "default"]
    chosen = _chosen("dataset", dataset, streams)
    found = {**_mapping(content.get("default")), **_mapping(content[chosen]), "dataset": chosen}
    sizes = [name for name, value in found.items() if isinstance(value, Mapping)]
    if sizes:
        size = _chosen("buffer_size", buffer_size, sizes)
        found = found | _mapping(found[size]) | {"buffer_size": size}
    return {str(name): value for name, value in found.items() if name not in sizes}


def _chosen(name: str, wanted: Any, there: list[Any]) -> Any:
    if wanted is None and len(there) == 1:
        return there[0]
    if wanted is None:
        raise UserError(
            f"it has several values of {name}; choose one of {', '.join(map(str, there))}."
        )
    if wanted not in there:
        raise unknown(name, wanted, map(str, there))
    return wanted


def _mapping(value: Any) -> dict[Any, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
