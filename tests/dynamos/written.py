"""What runs wrote, read back."""

import csv
import struct

from tensorboardX.proto.event_pb2 import Event


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder):
    """{name: [(step, value), ...]} of the event file in a folder."""
    (path,) = folder.iterdir()
    content, found = path.read_bytes(), {}
    while content:  # a record: length, its checksum, the event, its checksum
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12:12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length:]
    return found
