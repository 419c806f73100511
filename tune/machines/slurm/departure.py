"""Announce to a Ray cluster that a node leaves; the driver then moves the node's trials.

Run: python -m tune.machines.slurm.departure ADDRESS NODE SECONDS

A process of its own, because a process can have the token of one cluster only.
"""

import sys

from tune.machines.ray_names import announce_departure

if __name__ == "__main__":
    address, node, seconds = sys.argv[1:]
    sys.exit(not announce_departure(address, node, int(seconds)))
