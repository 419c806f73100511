"""Streams of tasks: built-in ones and the user's images."""

from typing import TYPE_CHECKING

from dynamos.doors import opens

if TYPE_CHECKING:
    from dynamos.streams.loading import load_stream, read_images
    from dynamos.streams.stream import Batch, Stream

__all__ = ["Batch", "Stream", "load_stream", "read_images"]
__getattr__ = opens(
    __name__,
    {
        "Batch": "dynamos.streams.stream",
        "Stream": "dynamos.streams.stream",
        "load_stream": "dynamos.streams.loading",
        "read_images": "dynamos.streams.loading",
    },
)
