"""Facts about data and machine that a sweep needs before it starts, read in a separate process.

The driver lives as long as the sweep and does not use torch, which would double its memory.
"""

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

from dynamos.config import TrainConfig
from dynamos.errors import UserError
from dynamos.methods.hyperparameters import is_trainer
from dynamos.streams.classes import has_made_test
from dynamos.user_code import changed_code, code_hashes, code_of

if TYPE_CHECKING:
    from dynamos.streams import Stream
    from results.definition.sweep_config import SweepConfig

# Fields that decide whether a configuration can train at all.
FITTING = (
    "model",
    "warmup",
    "warmup_epochs",
    "warmup_steps",
    "n_epochs",
    "batch_size",
    "network",
    "gated_stages",
    "nf",
    "hidden_dim_ratio",
)
CODES = "code_hashes"  # in sweep.yaml: hash of each of the user's files, by FILE.py:NAME
_CODE = "code_hash"  # in older ones: hash of the file of the base's method
CODE = (CODES, _CODE)
CLASSES = "classes"  # in sweep.yaml: number of classes in the tasks of a user's stream
# sweep.yaml says so of images that come without a test set
MADE_TEST = "a fixed stratified fifth of all images"
LIBRARIES = ("dynamos", "ray", "optuna", "mlflow", "torch", "numpy", "scikit-learn")
Answer = TypeVar("Answer")


def apart(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Run a function in a new process and return its result.

    The function may import modules that this process must not import.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def data_record(
    base: TrainConfig, here: bool, sweep: "SweepConfig | None" = None
) -> dict[str, Any]:
    """Return the record in sweep.yaml: date, revision, hashes, number of images, versions.

    Raises UserError if the base's data is missing, and for values of the sweep's points and space
    with which no trial could train on these images. If trials train `here`, also for a device that
    this machine lacks.
    """
    from dynamos.device import pick_device
    from dynamos.own_trainer import UNUSED as OWN_UNUSED
    from dynamos.provenance import git_revision, now_utc
    from dynamos.runs import build_run
    from dynamos.streams import load_stream
    from dynamos.trainer import check_fit
    from results.analysis.sampling_error import IMAGES

    if here:
        pick_device(base.device)
    stream = load_stream(base, pick_device("cpu"))
    check_fit(base, stream)
    if code_of(base.model) is not None or code_of(base.network) is not None:
        build_run(base, stream)  # a fault in a user's code shows before anything starts
    if sweep is not None and is_trainer(base.model):
        sweep.refuse_fields(OWN_UNUSED, f"with the trainer {base.model}")
    codes = code_hashes([*base.names_of_code, *(sweep.own_code if sweep else ())])
    own = code_of(base.dataset) is not None
    if sweep is not None:
        if own and not stream.has_task_il:
            sweep.refuse_metrics(("task_il",), "has the same classes in every task")
        _refuse_unfit(sweep, lambda config: check_fit(config, stream))
    return {
        "created_at": now_utc(),
        "git_revision": git_revision(),
        "data_hash": stream.data_hash,
        "validation_hash": stream.split_hash,
        IMAGES: [len(part) for part in stream.evaluation],
        **({"test_images": MADE_TEST} if has_made_test(base) else {}),
        **({CODES: codes} if codes else {}),
        **({CLASSES: len({*itertools.chain(*stream.tasks)})} if own else {}),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def moved_images(base: TrainConfig, hashes: Mapping[str, Any]) -> None:
    """Raise UserError if the images of a sweep are missing from the base's folder, or differ."""
    from dynamos.device import pick_device
    from dynamos.streams import load_stream

    other = other_images(base, load_stream(base, pick_device("cpu")), hashes)
    if other is not None:
        raise UserError(other)


def other_images(base: TrainConfig, stream: "Stream", hashes: Mapping[str, Any]) -> str | None:
    """A sentence on how the images of a stream differ from a sweep's hashes; None if they agree."""
    for name, found in (("data_hash", stream.data_hash), ("validation_hash", stream.split_hash)):
        if hashes.get(name) not in (None, found):
            where = "" if base.data_path is None else f" under data_path {base.data_path}"
            return (
                f"the images of {base.dataset}{where} differ from those that the sweep started "
                f"with: {name} {found}, not {hashes[name]}."
            )
    return None


def other_code(base: TrainConfig, hashes: Mapping[str, Any]) -> str | None:
    """A sentence if a file of the user's has changed since the sweep started, else None.

    Raises UserError if the file is missing.
    """
    known = hashes.get(CODES) or {}
    if hashes.get(_CODE) is not None:
        known = {base.model: hashes[_CODE]}
    changed = changed_code(known)
    return f"the file of {changed[0]} has changed since the sweep started." if changed else None


def _refuse_unfit(sweep: "SweepConfig", check: Callable[[TrainConfig], None]) -> None:
    """Raise UserError if a point, or an end or choice of a parameter, fails a check."""

    def refusal(changes: Mapping[str, Any]) -> str | None:
        try:
            check(sweep.base.replace(**changes))
        except UserError as error:
            return str(error)
        return None

    for number, point in enumerate(sweep.points, start=1):
        if (why := refusal(point)) is not None:
            raise UserError(f"`points`, configuration {number}: {why}")
    ends = {
        p.name: p.choices or (p.low, p.high) for p in sweep.space.parameters if p.name in FITTING
    }
    met = {p.name: p.conditions_met for p in sweep.space.parameters}
    for name, values in ends.items():
        others = [other for other in ends if other != name]
        for value in values:
            settings = itertools.product(*(ends[other] for other in others))
            reasons = [
                refusal(met[name] | {name: value} | dict(zip(others, setting, strict=True)))
                for setting in settings
            ]
            if None not in reasons:
                raise UserError(
                    f"the space {sweep.space.name} has {name} {value}, which cannot be trained: "
                    f"{reasons[0]}"
                )


def gpu_count() -> int:
    """Number of GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
