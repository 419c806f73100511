"""Files of runs, read back."""

import csv
import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {name: [(step, value), ...]} of all event files in a folder; a resumed run may have
    repeated steps."""
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    found: dict[str, list[tuple[int, float]]] = {}
    while content:  # a record: length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length :]
    return found
