"""The device that a run trains on."""

import torch

from dynamos.errors import UserError


def pick_device(name: str) -> torch.device:
    """The torch device of a configuration's `device`; UserError where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    _, _, index = name.partition(":")
    if name.startswith("cuda") and int(index or 0) >= torch.cuda.device_count():
        raise UserError(f"no device {name!r} here: {torch.cuda.device_count()} CUDA devices found. Use cpu or auto.")
    return torch.device(name)


def lacks_memory(error: Exception) -> bool:
    """Whether the machine's or the GPU's memory did not suffice."""
    # torch's allocator for the CPU has no exception of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
