"""Checkpoint files of a Trainer's state: atomic, checksummed, the last two kept."""

import hashlib
import io
import logging
import re
from typing import Any

import torch

from dynamos.files import TEMPORARY, AnyPath, write_whole

log = logging.getLogger(__name__)

MAGIC = b"dynamos checkpoint 1\n"
KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{6,})\.pt")


def save(state: dict[str, Any], folder: AnyPath) -> AnyPath:
    """Write `state` (Trainer.state_dict) to a new checkpoint file in `folder`; return its path.

    Only the newest KEPT files stay. A file consists of MAGIC, the SHA-256 of the payload in
    hexadecimal, a line break and the payload of torch.save.
    """
    payload = io.BytesIO()
    torch.save(_apart(state), payload)
    content = payload.getvalue()
    present = _numbered(folder)
    number = present[-1][0] + 1 if present else 1
    path = write_whole(
        folder / f"checkpoint-{number:06d}.pt",
        MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content,
    )
    # Old files, and temporary files of a killed writer, are deleted only now: the new file is safe.
    for _, old in present[: len(present) + 1 - KEPT]:
        old.unlink(missing_ok=True)
    for scrap in folder.glob(f".checkpoint-*{TEMPORARY}"):
        scrap.unlink(missing_ok=True)
    return path


def _apart(state: Any) -> Any:
    """Return the state with a copy of each tensor that is part of a larger one.

    torch.save would write the larger one; runs of a cohort are parts of stacks.
    """
    if isinstance(state, dict):
        return {name: _apart(value) for name, value in state.items()}
    if isinstance(state, torch.Tensor) and state.untyped_storage().nbytes() > state.nbytes:
        return state.clone()
    return state


def latest(folder: AnyPath) -> dict[str, Any] | None:
    """Return the newest undamaged state in `folder`, on the CPU; None if it has none.

    A damaged file is skipped with a warning.
    """
    for _, path in reversed(_numbered(folder)):
        try:
            return _read(path)
        except (OSError, ValueError) as error:
            log.warning("checkpoint %s is damaged (%s); trying the one before it", path, error)
    return None


def _read(path: AnyPath) -> dict[str, Any]:
    """Return the state in a file; ValueError if `save` did not write the file or it changed."""
    content = path.read_bytes()
    if not content.startswith(MAGIC):
        raise ValueError("it is not a checkpoint file")
    checksum, _, payload = content[len(MAGIC) :].partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        raise ValueError("its checksum is wrong")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def _numbered(folder: AnyPath) -> list[tuple[int, AnyPath]]:
    """(number, file) of the checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)
