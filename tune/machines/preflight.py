"""Checks of every node before a sweep starts: resources, versions, storage, data."""

import datetime as dt
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from dynamos.config import TrainConfig
from dynamos.errors import RunError, UserError
from dynamos.files import AnyPath, write_whole
from results.definition.sweep_config import SweepConfig
from results.wording import count
from tune.machines.cluster import connected, package_folders, this_machine
from tune.machines.images import RawImages, shipped_images
from tune.machines.slots import Node, Slots, refuse_unless_fit
from tune.tracking.store import error_line, reachable

# versions in which every node must equal the driver
SAME = ("python", "torch", "ray", "optuna", "numpy", "code")
NODE_SECONDS = 180.0  # limit for a node's answer; its first worker imports much
CLOCK_SECONDS = 60.0  # largest difference of a node's clock
FREE_BYTES = 1e9
# SQLite's locks do not hold on these.
NETWORK_FILE_SYSTEMS = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "ceph",
    "glusterfs",
    "beegfs",
    "9p",
    "fuse",
)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Report of a node on itself."""

    node: Node
    gpus: str  # kinds and memory
    versions: Mapping[str, str]
    clock: float  # seconds that its clock is ahead of the driver's
    free_bytes: float  # on the disk of its storage
    storage: str | None  # reason why the node cannot write and read the storage; None if it can
    data: str  # "embedded", or the digest of the images that reached it


def preflight(
    config: SweepConfig, storage: AnyPath, address: str | None, base: TrainConfig
) -> None:
    """Print the resources, versions, storage and data of each node.

    Raises RunError for faults, with their remedies.

    `base` decides which images its trials need.
    """
    console = Console(stderr=True)
    with (
        console.status("checking the cluster") as status,
        connected(address, this_machine(config)) as list_nodes,
    ):
        nodes = list_nodes()
        status.update(f"asking {len(nodes)} nodes")
        images = shipped_images(base)
        reports, silent = _reports(images, storage, nodes)
        ours = {**versions(), "data": "embedded" if images is None else digest(images)}
        console.print(_table(reports, Slots(config, list_nodes), ours))
        console.print(
            "here: " + ", ".join(f"{name} {ours[name]}" for name in SAME),
            soft_wrap=True,
            highlight=False,
        )
    problems = silent + [problem for report in reports for problem in problems_of(report, ours)]
    problems += ledger_problems(config, storage)
    answer = None if config.tracking_uri is None else reachable(config.tracking_uri)
    if answer is not None:
        console.print(
            f"MLflow at {config.tracking_uri} does not answer ({answer}); the sweep runs "
            "anyway; run dynamos-sweep sync later.",
            soft_wrap=True,
            highlight=False,
        )
    if problems:
        raise RunError(
            "the cluster is not ready. "
            + " ".join(f"({i}) {p}" for i, p in enumerate(problems, start=1))
        )
    refuse_unless_fit(config, nodes)


def versions() -> dict[str, str]:
    """The version of everything in SAME in this process.

    The version of our code is a hash of its files.
    """
    known = {
        "python": platform.python_version(),
        "code": code_version(map(Path, package_folders())),
    }
    return {name: known.get(name) or version(name) for name in SAME}


def code_version(packages: Iterable[Path]) -> str:
    """8 hex digits of the SHA-256 of packages' modules and YAML files, sub-packages included."""
    hashed = hashlib.sha256()
    for folder in packages:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")):
            hashed.update(
                f"{path.relative_to(folder.parent).as_posix()}\0".encode()
                + path.read_bytes()
                + b"\0"
            )
    return hashed.hexdigest()[:8]


def digest(images: Mapping[str, tuple[Any, Any, int]]) -> str:
    """16 hex digits of the SHA-256 of arrays of pixels and labels."""
    hashed = hashlib.sha256()
    for name in sorted(images):
        pixels, labels, white = images[name]
        hashed.update(f"{name} {white}".encode() + pixels.tobytes() + labels.tobytes())
    return hashed.hexdigest()[:16]


def problems_of(report: NodeReport, own: Mapping[str, str]) -> list[str]:
    """The faults of a node, each in a sentence or two."""
    host, found = report.node.host, []
    for name in SAME:
        if report.versions[name] != own[name]:
            found.append(
                f"{host} has {name} {report.versions[name]}, the driver {own[name]}: install the "
                "same."
            )
    if report.storage is not None:
        found.append(
            f"{host} cannot use the storage: {report.storage}. Give a `storage` that every node "
            "writes and reads: a shared folder or an object store's URL."
        )
    if report.data != own["data"]:
        found.append(f"{host} has other images than the driver: {report.data}, not {own['data']}.")
    if abs(report.clock) > CLOCK_SECONDS:
        found.append(f"{host}'s clock is {report.clock:+.0f} s off: synchronise it (NTP).")
    if report.free_bytes < FREE_BYTES:
        found.append(
            f"{host} has only {report.free_bytes / 1e9:.1f} GB of disk left: free some space."
        )
    return found


def ledger_problems(config: SweepConfig, storage: AnyPath) -> list[str]:
    """The faults of the ledger's place."""
    url = None if config.ledger_url is None else make_url(config.ledger_url)
    if url is None or url.get_backend_name() == "sqlite":
        place = storage if url is None else Path(str(url.database))
        kind = file_system(place) if isinstance(place, Path) else ""
        if kind.startswith(NETWORK_FILE_SYSTEMS):
            return [
                f"{place} is on a network file system ({kind}), where an SQLite ledger is not "
                "safe: use `ledger_url` with another database, or with a file on a disk of this "
                "machine."
            ]
    if config.ledger_url is None:
        return []
    try:
        create_engine(config.ledger_url).connect().close()
    except (SQLAlchemyError, ImportError) as error:
        return [
            f"the ledger at {config.ledger_url} cannot be reached: "
            f"{str(error).strip().splitlines()[0]}"
        ]
    return []


def file_system(path: Path) -> str:
    """The kind of the file system that a path is or would be on; "" if the system lists none."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    entries = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    inside = [(place, kind) for place, kind in entries if path.resolve().is_relative_to(place)]
    # if several are mounted at one place, the last one is on top
    return max(reversed(inside), key=lambda entry: len(entry[0]))[1]


class _Inspector:
    """Inspects the node that it runs on."""

    def look(
        self, probe: AnyPath, name: str, images: Mapping[str, tuple[Any, Any, int]] | None
    ) -> dict[str, Any]:
        return {
            "gpus": _gpus(),
            "versions": versions(),
            "free_bytes": _free(probe),
            "storage": _written(probe, name),
            "data": "embedded" if images is None else digest(images),
        }

    def clock(self) -> float:
        return time.time()


def _reports(
    images: dict[str, RawImages] | None, storage: AnyPath, nodes: Sequence[Node]
) -> tuple[list[NodeReport], list[str]]:
    """(the nodes' reports, a sentence for each node that did not answer)."""
    probe = storage / f".preflight-{uuid.uuid4().hex}"
    try:
        write_whole(probe / "driver", probe.name)
    except OSError as error:
        raise UserError(
            f"`storage` {storage} cannot be written: {error.strerror or error}."
        ) from None
    found, silent = [], []
    try:
        sent = ray.put(images)
        asked: list[tuple[Node, Any, Any]] = []
        for node in nodes:
            on = NodeAffinitySchedulingStrategy(node.id, soft=False)
            there: Any = ray.remote(_Inspector).options(num_cpus=0, scheduling_strategy=on).remote()
            asked.append((node, there, there.look.remote(probe, node.id, sent)))
        until = time.monotonic() + NODE_SECONDS
        for node, there, answer in asked:
            try:
                said = ray.get(answer, timeout=max(until - time.monotonic(), 1))
                before = time.time()
                clock = ray.get(there.clock.remote(), timeout=10) - (before + time.time()) / 2
            except ray.exceptions.RayError as error:
                why = (
                    "in time"
                    if isinstance(error, ray.exceptions.GetTimeoutError)
                    else str(error).splitlines()[0]
                )
                silent.append(f"{node.host} does not answer: {why}.")
                continue
            if said["storage"] is None and not _read(probe / node.id, node.id):
                said["storage"] = f"files that it writes to {storage} are not visible to the driver"
            found.append(NodeReport(node, clock=clock, **said))
    finally:
        for path in [*probe.iterdir()]:
            path.unlink()
        if isinstance(probe, Path):  # a store has no folders
            probe.rmdir()
    return found, silent


def _written(probe: AnyPath, name: str) -> str | None:
    """Read the driver's file and write another beside it.

    Returns the reason if this node cannot do so, else None.
    """
    try:
        if (probe / "driver").read_text() != probe.name:
            return f"{probe.parent} holds another file there"
        write_whole(probe / name, name)
    except Exception as error:  # whatever a store's package raises
        return error_line(error)
    return None


def _read(path: AnyPath, text: str) -> bool:
    try:
        return bool(path.read_text() == text)
    except OSError:
        return False


def _free(probe: AnyPath) -> float:
    """Free bytes on the disk of the storage, or of temporary files if it is not a folder here."""
    place = (
        probe.parent if isinstance(probe, Path) and probe.parent.exists() else tempfile.gettempdir()
    )
    return float(shutil.disk_usage(place).free)


def _gpus() -> str:
    """Kinds and memory of a node's GPUs, as nvidia-smi names them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    said = subprocess.run(
        [program, "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    return "; ".join(dict.fromkeys(said.stdout.strip().splitlines()))


def _table(reports: Sequence[NodeReport], slots: Slots, own: Mapping[str, str]) -> Table:
    """Table of the nodes' reports; only versions unlike the driver's, to fit a narrow screen.

    What does not fit is wrapped, because two nodes may differ in the last digit of their address.
    """
    table = Table(
        box=None,
        title=f"{count(len(reports), 'node')}, {count(slots.count(), 'trial')} at a time "
        f"({dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC)",
    )
    for column in (
        "node",
        "CPUs",
        "GPUs",
        "trials",
        "versions",
        "clock",
        "disk",
        "storage",
        "data",
    ):
        table.add_column(
            column,
            justify="right" if column in ("CPUs", "trials", "clock", "disk") else "left",
            overflow="fold",
        )
    for report in reports:
        node = report.node
        other = [
            f"{name} {report.versions[name]}" for name in SAME if report.versions[name] != own[name]
        ]
        table.add_row(
            node.host,
            f"{node.cpus:g}",
            f"{node.gpus:g} {report.gpus or node.kind or ''}".strip(),
            str(slots.on(node)),
            ", ".join(other) or "as here",
            f"{report.clock:+.1f} s",
            f"{report.free_bytes / 1e9:.0f} GB",
            "yes" if report.storage is None else "NO",
            report.data[:8],
        )
    return table
