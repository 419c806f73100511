"""load_stream: the stream of a configuration, from its data set."""

import hashlib
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from dynamos.config import TrainConfig, default
from dynamos.data import Images
from dynamos.errors import UserError
from dynamos.streams.classes import count_classes, most_tasks
from dynamos.streams.domains import DOMAIN_OF
from dynamos.streams.names import OWN, definition_of
from dynamos.streams.rotating import rotating_order, turned
from dynamos.streams.sources import read, read_own, refuse_locked_test_images
from dynamos.streams.splits import VALIDATION
from dynamos.streams.stream import Stream, shuffled_order


def read_images(config: TrainConfig, download: bool = False) -> dict[str, Images]:
    """Read the images of a configuration: "training" and, with evaluate_on `test`, "test".

    Raises UserError if its data is missing, and TestImagesLocked for `test` in a sweep.
    """
    folder = None if config.data_path is None else Path(config.data_path)
    names = ("training", "test") if config.evaluate_on == "test" else ("training",)
    definition = definition_of(config.dataset)
    if definition is OWN:
        return {name: read_own(config.dataset, name == "test") for name in names}
    return {name: read(definition.data, folder, name == "test", download) for name in names}


def load_stream(
    config: TrainConfig,
    device: torch.device,
    download: bool = False,
    images: dict[str, Images] | None = None,
) -> Stream:
    """Load the stream of a configuration; UserError if its data is missing or its tasks do not fit.

    With evaluate_on `validation` the test file is not opened; with `test`, TestImagesLocked is
    raised in a sweep. `images` is the result of `read_images`, if the caller has it already.
    """
    if config.evaluate_on == "test":
        refuse_locked_test_images()
    definition = definition_of(config.dataset)
    kind = definition.tasks
    if images is None and definition is OWN:
        images = read_images(config)  # once: the user's function may take long
    # images that were sent may have no files here
    counted = None if images is None else int(images["training"].labels.max()) + 1
    classes = count_classes(config, counted)
    in_tasks = images is not None and images["training"].tasks is not None
    tasks = () if in_tasks else _tasks(config, classes)
    found = read_images(config, download) if images is None else images
    training = found["training"]
    data_hash, split_hash = training.digest(), None
    if config.evaluate_on == "test":
        train, evaluation = training, found["test"]
        if definition is OWN:
            _refuse_other_test(config.dataset, train, evaluation, classes)
    else:
        of_task = None if training.tasks is None else training.tasks.numpy()
        kept, held_out = VALIDATION.of(training.labels.numpy(), of_task)
        split_hash = hashlib.sha256(held_out.tobytes()).hexdigest()[:16]
        train, evaluation = (training.take(torch.from_numpy(part)) for part in (kept, held_out))
    if in_tasks:
        return _in_tasks(config, classes, train, evaluation, device, (data_hash, split_hash))
    for name, part in (("training", train), (config.evaluate_on, evaluation)):
        missing = set(chain(*tasks)) - set(part.labels.unique().tolist())
        if missing:
            raise UserError(
                f"the {name} images of {config.dataset} have no image of class {min(missing)}."
            )
    rotating, domain = kind == "rotating", DOMAIN_OF.get(kind)
    cut = _first_of_each_class if rotating else _first_images
    # the parts of each set of classes, once: tasks of a domain-incremental stream share them
    parts = {
        own: (
            cut(_of_classes(train, own), config.max_train_images_per_task).to(device),
            _of_classes(evaluation, own),
        )
        for own in dict.fromkeys(tasks)
    }

    def shown(task: int, part: Images) -> Images:
        if domain is not None:
            return Images(domain(task, part.pixels), part.labels, part.white)
        return turned(part) if rotating else part

    return Stream(
        config.dataset,
        classes,
        tasks,
        tuple(parts[own][0] for own in tasks),
        tuple(shown(task, parts[own][1]).to(device) for task, own in enumerate(tasks)),
        rotating_order if rotating else shuffled_order,
        data_hash,
        split_hash,
        domain,
    )


def _refuse_other_test(dataset: str, train: Images, test: Images, classes: int) -> None:
    """Raise UserError if test images have another form than the training images."""
    if (train.tasks is None) != (test.tasks is None):
        raise UserError(f"{dataset} returns tasks for one part only; return them for both.")
    shapes = [tuple(part.pixels.shape[1:]) for part in (train, test)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{dataset}: training images are {shapes[0]} and test images {shapes[1]} (C, H, W)."
        )
    if (last := int(test.labels.max())) >= classes:
        raise UserError(
            f"{dataset}: a test image has class {last}, and the training labels end at "
            f"{classes - 1}."
        )


def _in_tasks(
    config: TrainConfig,
    classes: int,
    train: Images,
    evaluation: Images,
    device: torch.device,
    hashes: tuple[str, str | None],
) -> Stream:
    """The stream of images that know their tasks."""
    for name in ("classes_per_task", "class_order_seed"):
        if getattr(config, name) != default(name):
            raise UserError(
                f"{name} {getattr(config, name)} does not apply to {config.dataset}, which returns "
                f"the tasks of its images; keep the default {default(name)}."
            )
    assert train.tasks is not None
    most = int(train.tasks.max()) + 1
    n_tasks = most if config.n_tasks is None else config.n_tasks
    if n_tasks > most:
        raise UserError(f"n_tasks {n_tasks}: {config.dataset} has {most} tasks.")
    parts = [[_of_task(part, task) for task in range(n_tasks)] for part in (train, evaluation)]
    tasks = tuple(tuple(part.labels.unique().tolist()) for part in parts[0])
    for task, (known, shown) in enumerate(zip(tasks, parts[1], strict=True)):
        if len(shown) == 0:
            raise UserError(f"{config.dataset} has no {config.evaluate_on} images of task {task}.")
        if strange := {*shown.labels.tolist()} - {*known}:
            raise UserError(
                f"{config.dataset}: the {config.evaluate_on} images of task {task} have class "
                f"{min(strange)}, its training images do not."
            )
    most_images = config.max_train_images_per_task
    return Stream(
        config.dataset,
        classes,
        tasks,
        tuple(_first_images(part, most_images).to(device) for part in parts[0]),
        tuple(part.to(device) for part in parts[1]),
        shuffled_order,
        *hashes,
    )


def _of_task(images: Images, task: int) -> Images:
    """The images of a task, which need not know it any longer."""
    assert images.tasks is not None
    return replace(images.take((images.tasks == task).nonzero().ravel()), tasks=None)


def _tasks(config: TrainConfig, classes: int) -> tuple[tuple[int, ...], ...]:
    """Classes of each task."""
    most = most_tasks(config, classes)
    if most == 0:
        raise UserError(
            f"classes_per_task {config.classes_per_task} is more than the {classes} classes "
            f"of {config.dataset}."
        )
    n_tasks = most if config.n_tasks is None else config.n_tasks
    if definition_of(config.dataset).tasks not in ("classes", "own"):
        if n_tasks > most:
            raise UserError(
                f"n_tasks {n_tasks}: {config.dataset} has {most} tasks; give at most so many."
            )
        return (tuple(range(classes)),) * n_tasks
    if n_tasks > most:
        raise UserError(
            f"n_tasks {n_tasks} of {config.classes_per_task} classes are more than "
            f"{config.dataset} has; at most {most}."
        )
    order = list(range(classes))
    if config.class_order_seed is not None:
        order = np.random.default_rng(config.class_order_seed).permutation(classes).tolist()
    size = config.classes_per_task
    return tuple(tuple(order[t * size : (t + 1) * size]) for t in range(n_tasks))


def _of_classes(images: Images, classes: tuple[int, ...]) -> Images:
    return images.take(torch.isin(images.labels, torch.tensor(classes)).nonzero().ravel())


def _first_images(images: Images, most: int | None) -> Images:
    return images if most is None else images.take(torch.arange(min(most, len(images))))


def _first_of_each_class(images: Images, most: int | None) -> Images:
    if most is None:
        return images
    classes = images.labels.unique()
    each = max(most // len(classes), 1)
    index = torch.cat([(images.labels == j).nonzero().ravel()[:each] for j in classes])
    return images.take(index.sort().values)
