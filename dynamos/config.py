"""TrainConfig: every hyperparameter of a run.

Flags, YAML files and search spaces derive from its fields.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import yaml

from dynamos.depths import LAST, NETWORKS, stages_with_gates
from dynamos.errors import UserError, unknown
from dynamos.fields import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SEEDS,
    Range,
    Setting,
    setting,
    settings,
    words,
)
from dynamos.files import AnyPath
from dynamos.methods import METHODS, method_of
from dynamos.methods.hyperparameters import (
    PREFIX,
    about_value,
    declared,
    filled,
    fitting,
    no_hyperparameter,
    of_method,
    scalar,
    scalar_of_text,
)
from dynamos.streams.names import DATASETS, definition_of
from dynamos.user_code import code_of, short_name

TEST_LOCK = "DYNAMOS_TEST_IMAGES"  # environment variable; "locked" in every process of a sweep


_OF_CLASSES = "classes_per_task", "class_order_seed"
# Fields that keep their default, by the kind of a stream's tasks.
_FIXED = {
    "rotating": ("n_epochs", "n_tasks", *_OF_CLASSES),
    "permuted": _OF_CLASSES,
    "rotated": _OF_CLASSES,
}

# Fields in which the runs of a cohort (cohort.py) must agree: they shape its tensors, or are the
# process's.
ALIKE = (
    "model",
    "dataset",
    "augment",
    "network",
    "gated_stages",
    "nf",
    "hidden_dim_ratio",
    "buffer_size",
    "batch_size",
    "minibatch_size",
    "precision",
    "device",
    "threads",
    "step_mode",
    "deterministic",
    "log_every",
)

OF_CODE = "model", "dataset", "network"  # fields that may name code in a user's file, FILE.py:NAME

LARGEST = 3.4028234663852886e38  # the largest number of single precision


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Every hyperparameter of a run.

    A run repeats exactly with the same values, kind of device, number of threads and versions.

    The constructor checks every value and raises UserError. The metadata of each field holds its
    description, `help`.

    Attributes:
        method: values of the method's hyperparameters that are no fields, by name. `to_dict`,
            `from_dict` and `replace` have them as method.NAME.
    """

    model: str = setting(
        "dynamos",
        "what",
        "method; "
        + "; ".join(f"{name}: {of.summary}" for name, of in METHODS.items())
        + "; or FILE.py:NAME, a method of your own (docs/how-to/own-methods.md)",
        tuple(METHODS),
    )
    dataset: str = setting(
        "seq-digits",
        "what",
        "stream of tasks; arrays and folder: of your own images; or FILE.py:NAME, a function that "
        "returns your own (docs/how-to/own-images.md)",
        DATASETS,
    )
    data_path: str | None = setting(
        None,
        "what",
        "folder of the data set (the digits need none); of arrays: the .npz file, or a folder of "
        ".npy files, which are mapped into memory",
    )
    buffer_size: int = setting(500, "what", "size of the rehearsal buffer, in images", AT_LEAST_ONE)
    seed: int = setting(42, "what", "seed of initialisation, image order, gates and buffer", SEEDS)
    evaluate_on: str = setting(
        "test",
        "what",
        "images to evaluate on: `validation` holds out a fixed 10 % of the training images, "
        "`test` trains on all of them",
        ("validation", "test"),
    )

    n_epochs: int = setting(
        1, "stream", "passes over each task (rotating streams: 1)", AT_LEAST_ONE
    )
    batch_size: int = setting(10, "stream", "stream images per training step", AT_LEAST_ONE)
    classes_per_task: int = setting(
        2, "stream", "classes per task, except in rotating, perm- and rot- streams", AT_LEAST_ONE
    )
    n_tasks: int | None = setting(
        None,
        "stream",
        "number of tasks; default: as many as the classes allow, 20 of perm-mnist and rot-mnist",
        AT_LEAST_ONE,
    )
    class_order_seed: int | None = setting(
        None,
        "stream",
        "seed that shuffles the order of the classes; default: 0, 1, 2, ...",
        SEEDS,
    )
    max_train_images_per_task: int | None = setting(
        None,
        "stream",
        "train on the first N images of each task only; in rotating streams N is the total, "
        "spread evenly over the digits",
        AT_LEAST_ONE,
    )

    augment: str = setting(
        "none",
        "stream",
        "random change of training and replayed images; crop-flip: black padding of 4 pixels, a "
        "crop of the image's size, and a horizontal flip of every second image on average; the "
        "buffer keeps unchanged images",
        ("none", "crop-flip"),
    )

    readings: int = setting(
        0,
        "stream",
        "evaluations on part of the validation images, spread over the last tenth of the last "
        "task, for val_class_il_median",
        Range(0, 1000),
    )

    lr: float = setting(0.07, "optimisation", "learning rate of plain SGD", POSITIVE)
    minibatch_size: int = setting(
        10, "optimisation", "buffer images per training step", AT_LEAST_ONE
    )
    alpha: float = setting(
        0.2, "optimisation", "weight of the distance to the stored class logits", NOT_NEGATIVE
    )
    beta: float = setting(
        2.0, "optimisation", "weight of the label and policy losses of buffer images", NOT_NEGATIVE
    )
    policy_alpha: float = setting(
        0.2, "optimisation", "weight of the distance to the stored policy logits", NOT_NEGATIVE
    )

    average_decay: float = setting(
        0.0,
        "optimisation",
        "evaluate and save an exponential average over steps of weights and batch-norm statistics, "
        "with this decay; it covers about 1 / (1 - decay) steps, at most a third of a task; "
        "0: evaluate and save the network of the last step",
        Range(0, 0.99999),
    )

    gated_stages: str = setting(
        LAST, "gates", "stages with gates: last, all, or numbers from 1, for instance 2,3"
    )
    keep_ratio: float = setting(
        0.7, "gates", "fraction of a gated layer's channels to keep", Range(0, 1)
    )
    policy_penalty: float = setting(
        -500.0,
        "gates",
        "penalty of a wrong prediction: -500 multiplies the gates' reward by 500",
        Range(high=0),
    )
    reward_weight: float = setting(
        0.5, "gates", "weight of the policy (REINFORCE) loss", NOT_NEGATIVE
    )
    prototype_loss: float = setting(0.3, "gates", "weight of the prototype loss", NOT_NEGATIVE)
    temperature: float = setting(0.15, "gates", "temperature of the gates' sigmoid", POSITIVE)
    hidden_dim_ratio: int = setting(
        16, "gates", "an agent's channels divided by its number of hidden units", AT_LEAST_ONE
    )
    infer_mode: str = setting(
        "threshold",
        "gates",
        "how gates decide at evaluation: by threshold, or sampled as in training",
        ("threshold", "sample"),
    )
    inf_thresh: float = setting(
        0.5, "gates", "keep a channel whose probability is at least this", Range(0, 1)
    )
    warmup: bool = setting(False, "gates", "bypass the gates at the start of the first task")
    warmup_epochs: int = setting(
        10, "gates", "warm-up epochs; used if n_epochs is greater than this", AT_LEAST_ONE
    )
    warmup_steps: int = setting(
        10, "gates", "warm-up steps; used if warmup_epochs is not used", AT_LEAST_ONE
    )

    network: str = setting(
        "resnet10",
        "network",
        "residual network; by name, blocks of each stage: "
        + "; ".join(f"{name} {'+'.join(map(str, of))}" for name, of in NETWORKS.items())
        + "; or FILE.py:NAME, a function that builds your own (docs/how-to/own-networks.md)",
        tuple(NETWORKS),
    )
    nf: int = setting(
        32,
        "network",
        "channels of the first stage; each later one has twice as many",
        Range(1, 2**16),
    )

    device: str = setting("auto", "machine", "auto, cpu, cuda or cuda:N")
    threads: int = setting(1, "machine", "CPU threads of one training run", Range(1, 1024))
    precision: str = setting(
        "fp32", "machine", "precision of the forward and backward pass", ("fp32", "bf16")
    )
    step_mode: str = setting(
        "eager",
        "machine",
        "execution of a training step; graph: usual steps as one CUDA graph, auto: graph on a GPU, "
        "eager on a CPU",
        ("eager", "compile", "graph", "auto"),
    )
    deterministic: bool = setting(
        False, "machine", "refuse operations that may differ from run to run"
    )
    log_every: int = setting(
        0,
        "machine",
        "every N steps, write the means of the loss terms and of the fraction that each gate "
        "keeps to curve.csv and event files; 0: never",
        Range(0, 10**14),
    )

    method: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check every field; raise UserError for a value of the wrong type or outside its range."""
        for name in FIELDS:
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        given = {name: checked(PREFIX + name, value) for name, value in self.method.items()}
        if self.model in METHODS:
            given = filled(self.model, METHODS[self.model].hyperparameters, given)
        object.__setattr__(self, "method", given)
        gated, own = method_of(self.model).gated, code_of(self.network) is not None
        if gated and own:
            dense = [name for name, of in METHODS.items() if not of.gated]
            raise UserError(
                f"model {self.model} needs a network with gates, and {self.network} is your own; "
                f"use {', '.join(dense[:-1])} or {dense[-1]}."
            )
        least = 0 if own else self.nf * 2 ** stages_with_gates(self.gated_stages, self.network)[0]
        if gated and least // self.hidden_dim_ratio < 1:
            raise UserError(
                f"hidden_dim_ratio {self.hidden_dim_ratio} leaves an agent without hidden units; "
                f"with nf {self.nf} it may be at most {least}."
            )
        if method_of(self.model).cumulative and definition_of(self.dataset).tasks not in (
            "classes",
            "own",
        ):
            raise UserError(
                f"model {self.model} needs a stream whose tasks have classes of their own, which "
                f"{self.dataset} is not."
            )
        if self.readings and self.evaluate_on == "test":
            raise UserError(
                f"readings {self.readings}: readings are taken on validation images; set "
                "evaluate_on to validation, or readings to 0."
            )
        for name in _FIXED.get(definition_of(self.dataset).tasks, ()):
            if getattr(self, name) != default(name):
                why = (
                    "is one pass without task boundaries"
                    if "n_tasks" in _FIXED[definition_of(self.dataset).tasks]
                    else "has all classes in every task"
                )
                raise UserError(
                    f"{name} {getattr(self, name)} does not apply to {self.dataset}, which {why}; "
                    f"keep the default {default(name)}."
                )

    @property
    def names_of_code(self) -> list[str]:
        """Values of the fields that may name code in a user's file."""
        return [getattr(self, name) for name in OF_CODE]

    @property
    def method_name(self) -> str:
        """Name of the method, without the file of one's own method."""
        return short_name(self.model)

    @property
    def stream_name(self) -> str:
        """Name of the stream, without the file of one's own stream."""
        return short_name(self.dataset)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the TrainConfig of a mapping.

        Raises UserError for an unknown key; the message names the nearest field.
        """
        method = values.get("method") or {}
        if not isinstance(method, Mapping):
            raise UserError(f"method {method!r} does not hold a mapping of names to values.")
        fields, method = dict[str, Any](), dict(method)
        for key, value in values.items():
            if of_method(key):
                method[key.removeprefix(PREFIX)] = value
            elif key in FIELDS:
                fields[key] = value
            elif key != "method":
                raise unknown_field(key)
        return cls(**fields, method=method)

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name, in order, then method.NAME, as plain values."""
        return {name: getattr(self, name) for name in FIELDS} | {
            PREFIX + name: value for name, value in self.method.items()
        }

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        With another model, it has that method's hyperparameters. Raises UserError for an unknown
        name, as `from_dict` does.
        """
        values = self.to_dict()
        if isinstance(changes.get("method"), Mapping):
            changes |= {PREFIX + name: value for name, value in changes.pop("method").items()}
        if changes.get("model", self.model) != self.model:
            values = {name: value for name, value in values.items() if not of_method(name)}
        known = [name for name in values if of_method(name)]
        for name in filter(of_method, changes if known else ()):
            if name not in known:
                raise no_hyperparameter(self.model, name, known)
            about = about_value(name.removeprefix(PREFIX), values[name])
            changes[name] = fitting(about, changes[name])
        return type(self).from_dict(values | changes)

    def whole(self) -> Self:
        """Return a copy that has all hyperparameters of its method.

        Reads the file of FILE.py:NAME. Raises UserError for a name that it does not have, and for
        a value of another type.
        """
        about = declared(self.model)
        return dataclasses.replace(self, method=filled(self.model, about, self.method))


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of fields that differ, so that a run of `b` cannot resume a checkpoint of `a`.

    `log_every` may differ. So may `data_path`, because a checkpoint holds the hashes of its images.
    An older checkpoint that lacks a field has its default.
    """
    return sorted(
        name
        for name in {*FIELDS, *filter(of_method, [*a, *b])}
        if name not in ("data_path", "log_every")
        and a.get(name, default(name)) != b.get(name, default(name))
    )


FIELDS = settings(TrainConfig)


def default(name: str) -> Any:
    """The default of a field; None for method.NAME, whose default is the method's."""
    return FIELDS[name].default if name in FIELDS else None


def unknown_field(name: object, allowed: Iterable[str] | None = None) -> UserError:
    """Return the error for a name that is neither a field nor method.NAME."""
    return unknown(
        "field",
        name,
        FIELDS if allowed is None else allowed,
        f" A hyperparameter of a method is named {PREFIX}NAME.",
    )


def setting_of(values: Mapping[str, Any], name: str) -> Setting | None:
    """Return the description of a field, or of a hyperparameter of the method in `values`.

    `values` are those of `to_dict`. Returns None for a hyperparameter that they do not have.
    """
    if name in FIELDS:
        return FIELDS[name]
    short, model = name.removeprefix(PREFIX), values.get("model")
    about = METHODS[model].hyperparameters if model in METHODS else ()
    found = next((one for one in about if one.name == short), None)
    return about_value(short, values[name]) if found is None and name in values else found


def unused(model: str) -> list[str]:
    """Names of the fields that a method does not use."""
    method = method_of(model)
    idle = {name for name in ("alpha", "beta", "policy_alpha") if name not in method.weights}
    if not method.gated:
        idle |= {name for name, field in FIELDS.items() if field.group == "gates"}
    if not method.rehearses:
        idle |= {"buffer_size", "minibatch_size"}
    return [name for name in FIELDS if name in idle]


def field_type(name: str) -> tuple[type, bool]:
    """(type of a field's values, whether it may also be None)."""
    return FIELDS[name].kind, FIELDS[name].optional


def checked(name: str, value: Any) -> Any:
    """Return `value` in the field's type; UserError if it does not fit the type or the range.

    A value of method.NAME may have any type of `scalar`.
    """
    field = FIELDS.get(name)
    value = scalar(name, value) if field is None else field.typed(value)
    if isinstance(value, float) and math.isfinite(value) and abs(value) > LARGEST:
        raise UserError(
            f"{name} {value} is too large: networks compute in single precision, to {LARGEST:.3g}."
        )
    if field is None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} {value} is not a finite number.")
        return value
    if name in OF_CODE and code_of(value) is not None:
        return value
    value = field.within(value)
    if name == "device" and not re.fullmatch("auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?", value):
        raise UserError(f"unknown device {value!r}. Allowed: auto, cpu, cuda, cuda:N.")
    return value


def parsed(name: str, text: str) -> Any:
    """Return the value of a field from its text on a command line.

    Raises UserError if the text does not fit the field.
    """
    if of_method(name):
        return checked(name, scalar_of_text(text))
    if name not in FIELDS:
        raise unknown_field(name)
    kind, optional = field_type(name)
    if optional and text.lower() in ("none", "null", ""):
        return None
    if kind is str:
        return checked(name, text)
    if kind is bool:
        truths = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return checked(name, truths.get(text.lower(), text))
    for number in dict.fromkeys((kind, float)):  # 1e3 is a whole number, too
        try:
            return checked(name, number(text))
        except ValueError:
            continue
    raise UserError(f"{name} {text!r} is not {words(kind)}.")


def parsed_settings(texts: list[str]) -> dict[str, Any]:
    """Fields of `--set field=value ...` arguments."""
    values = {}
    for given in texts:
        name, equals, text = given.partition("=")
        if not equals:
            raise UserError(f"--set {given!r} is not of the form field=value.")
        name = name.strip() if of_method(name.strip()) else name.strip().replace("-", "_")
        values[name] = parsed(name, text.strip())
    return values


class DoubledKey(ValueError):
    """A YAML mapping has a key twice; PyYAML would silently drop the first value."""


class UniqueKeys:
    """Mixin of a YAML loader that refuses a mapping with a repeated key."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping as the loader does; raise DoubledKey if a key repeats."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                first = lines[name]
                where = f"line {line}" if line == first else f"lines {first} and {line}"
                raise DoubledKey(f"{name} is given twice, in {where}; remove one")
            lines[name] = line
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Reader(UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe YAML loader, ten times as fast where PyYAML was built with libyaml."""


def read_yaml(path: AnyPath) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises UserError if the file is missing, unreadable or not a mapping.
    """
    try:
        content = yaml.load(path.read_bytes(), _Reader)
    except FileNotFoundError:
        raise UserError(f"no file {path}.") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}.") from None
    except DoubledKey as error:
        raise UserError(f"{path}: {error}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise UserError(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a mapping of names to values.")
    return content


def read_config(path: AnyPath) -> dict[str, Any]:
    """Return the TrainConfig fields in a YAML file: its section `config`, else the whole file."""
    content = read_yaml(path)
    values = content.get("config", content)
    if not isinstance(values, dict):
        raise UserError(f"'config' in {path} does not hold a mapping of fields to values.")
    return {name: number_of_text(name, value) for name, value in values.items()}


def number_of_text(name: str, value: Any) -> Any:
    """Return `value`, as a number if it is one that YAML 1.1 reads as a text, such as 1e-3."""
    if isinstance(value, str) and name in FIELDS and field_type(name)[0] in (int, float):
        return parsed(name, value)
    if isinstance(value, str) and of_method(name):
        number = scalar_of_text(value)
        return value if isinstance(number, bool) else number
    return value


@cache
def _presets() -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / "presets.yaml")


# Kinds of presets: the paper's settings, and the confirmed results of our own sweeps.
PRESETS = {"paper": "streams", "tuned": "tuned"}  # their sections in presets.yaml


def preset_names(kind: str = "paper") -> Iterator[tuple[str, int]]:
    """(stream, buffer size) of every preset of a kind."""
    for dataset, sizes in _presets()[PRESETS[kind]].items():
        for size in sizes:
            yield dataset, size


def preset(
    dataset: str, buffer_size: int, model: str = "dynamos", kind: str = "paper"
) -> dict[str, Any]:
    """Return the fields that a preset sets (method.md section 5).

    Raises UserError if no such preset exists.
    """
    sizes = _presets()[PRESETS[kind]].get(dataset, {})
    if buffer_size not in sizes or model != "dynamos":
        known = ", ".join(f"{name} {size}" for name, size in preset_names(kind))
        which = "preset" if kind == "paper" else f"{kind} preset"
        raise UserError(
            f"no {which} for {model} on {dataset} with buffer_size {buffer_size}. "
            f"{which.capitalize()}s of dynamos (stream, buffer_size): {known}."
        )
    return {
        **_presets()["everywhere"],
        **sizes[buffer_size],
        "model": model,
        "dataset": dataset,
        "buffer_size": buffer_size,
    }


def start(dataset: str, buffer_size: int | None) -> dict[str, Any]:
    """Return the fields at which a search of a stream starts.

    They are the stream's preset for the buffer. A stream without presets has values that nobody
    has tuned: those of seq-mnist's preset, and its own number of classes per task.
    """
    if buffer_size is not None:
        return preset(dataset, buffer_size)
    own = _presets()["untuned"]
    return {
        **_presets()["everywhere"],
        **own["every stream"],
        **own.get(dataset, {}),
        "model": "dynamos",
        "dataset": dataset,
    }


def preset_sizes(dataset: str, kind: str = "paper") -> list[int]:
    """Buffer sizes for which the stream has a preset of a kind, ascending."""
    return sorted(size for name, size in preset_names(kind) if name == dataset)
