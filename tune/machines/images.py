"""Images of a sweep's stream, sent from the driver to the trials on other nodes."""

from typing import TYPE_CHECKING, TypeAlias

from dynamos.config import TrainConfig
from tune.machines.probe import apart

if TYPE_CHECKING:
    import numpy as np

    from dynamos.data import Images

# (N, C, H, W) uint8, (N,) int64, the white that means 1.0
RawImages: TypeAlias = "tuple[np.ndarray, np.ndarray, int]"


def shipped_images(base: TrainConfig) -> dict[str, RawImages] | None:
    """The images for training and evaluation, to send to nodes.

    None for embedded ones, and for a file that is mapped into memory: it may be larger than that.
    """
    return None if base.data_path is None else apart(raw_images, base)


def raw_images(base: TrainConfig) -> dict[str, RawImages] | None:
    """The images that a configuration reads: "training" and, if it is evaluated on them, "test".

    None for a file that is mapped into memory.
    """
    from dynamos.streams import read_images

    found = read_images(base)
    if any(images.rows is not None for images in found.values()):
        return None
    return {
        name: (images.pixels.numpy(), images.labels.numpy(), images.white)
        for name, images in found.items()
    }


def received(images: dict[str, RawImages] | None) -> "dict[str, Images] | None":
    """The driver's images for load_stream, as copies: arrays in the object store are read-only."""
    import torch

    from dynamos.data import Images

    return (
        None
        if images is None
        else {
            name: Images(torch.tensor(pixels), torch.tensor(labels), white)
            for name, (pixels, labels, white) in images.items()
        }
    )
