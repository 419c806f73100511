"""The process that holds a sweep's lease, as every reader sees it (lease.py takes the lease)."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Study attribute: {"owner": "HOST:PID" or None, "processes": see `processes`, "epoch": number of
# drivers so far, "heartbeat": a counter}
LEASE = "lease"


def processes() -> str:
    """Identifier of this process's PID namespace; containers may share a host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: no containers share a host name
        return socket.gethostname()


def gone(lease: Mapping[str, Any]) -> bool:
    """True if a lease's owner was a process of this host that has ended."""
    host, _, pid = lease["owner"].rpartition(":")
    if host != socket.gethostname() or lease["processes"] != processes():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
