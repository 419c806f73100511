"""Numbers of classes and tasks of a stream.

The readers of the user's images are imported on use, because they need numpy.
"""

from pathlib import Path

from dynamos.config import TrainConfig
from dynamos.streams.names import DOMAIN_TASKS, OWN, ROTATING_CLASSES, data_of, definition_of


def count_classes(config: TrainConfig, of_data: int | None = None) -> int:
    """Return the number of classes of a configuration's stream.

    For the user's own images it is `of_data`, or read from their labels if that is None. Raises
    UserError if they cannot be read.
    """
    definition = definition_of(config.dataset)
    if definition.tasks == "rotating":
        return ROTATING_CLASSES
    known = data_of(config.dataset).classes
    if known is not None:
        return known
    if of_data is not None:
        return of_data
    if definition is OWN:
        from dynamos.streams import own

        return int(own.own_images(config.dataset, test=False)[1].max()) + 1
    path = None if config.data_path is None else Path(config.data_path)
    if config.dataset == "arrays":
        from dynamos.streams import arrays

        return arrays.count_classes(path)
    from dynamos.streams import folder

    return len(folder.class_names(path))


def most_tasks(config: TrainConfig, classes: int | None = None) -> int:
    """Return the largest number of tasks that a stream with so many classes allows.

    `classes` None: they are counted, which reads the labels of the user's own images.
    """
    kind = definition_of(config.dataset).tasks
    if kind == "rotating":
        return 1
    if kind == "own" and classes is None:
        from dynamos.streams import own

        _, labels, tasks, _ = own.own_images(config.dataset, test=False)
        if tasks is not None:
            return int(tasks.max()) + 1
        classes = int(labels.max()) + 1
    if kind not in ("classes", "own"):
        return DOMAIN_TASKS
    return (count_classes(config) if classes is None else classes) // config.classes_per_task


def count_shown_classes(config: TrainConfig) -> int:
    """Return the number of classes in the tasks of a configuration."""
    if definition_of(config.dataset).tasks not in ("classes", "own"):
        return count_classes(config)
    return config.classes_per_task * (config.n_tasks or most_tasks(config))


def with_tasks(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the number of tasks of the user's own images.

    A sweep records it, so that its trials and reports need not read the images for it.
    """
    if config.n_tasks is not None or data_of(config.dataset).classes is not None:
        return config
    # 0 tasks: load_stream says which field does not fit
    return config.replace(n_tasks=most_tasks(config) or None)


def has_made_test(config: TrainConfig) -> bool:
    """True if the test images are a fixed stratified fifth of images without a test set."""
    if definition_of(config.dataset) is OWN:
        from dynamos.streams import own

        return not own.has_own_test(config.dataset)
    path = None if config.data_path is None else Path(config.data_path)
    if config.dataset == "arrays":
        from dynamos.streams import arrays

        return not arrays.has_test_arrays(path)
    from dynamos.streams import folder

    return config.dataset == "folder" and not folder.has_test_folder(path)
