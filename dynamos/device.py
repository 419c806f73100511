"""Device of a run."""

import torch

from dynamos.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the torch device of a configuration's `device`.

    Raises UserError if this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    _, _, index = name.partition(":")
    if name.startswith("cuda") and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"no device {name!r} here: {torch.cuda.device_count()} CUDA devices found. Use cpu or "
            "auto."
        )
    return torch.device(name)


def lacks_memory(error: Exception) -> bool:
    """True if an error means too little memory, of the machine or of the GPU."""
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(
        error
    )
