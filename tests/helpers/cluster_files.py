"""The files in cluster/, parsed for tests."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all((CLUSTER / name).read_text()))


def document(name: str) -> dict[str, Any]:
    """Return the only document of a YAML file."""
    (only,) = documents(name)
    return only


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yields (file, arguments) of every `dynamos-sweep` command in a file; those of a SLURM job are
    the arguments of `run`."""
    for file in sorted(CLUSTER.iterdir()):
        text = re.sub(r"\\\n[# ]*", "", file.read_text())
        for run, arguments in re.findall(
            r"(?:dynamos-sweep|(cluster/slurm\.sh)) ([a-z-][^\n`|&>;)#]+)", text
        ):
            # The flags that the script passes on are in other lines.
            words = [word for word in shlex.split(arguments) if word != "${flags[@]}"]
            yield file.name, ["run", *words] if run else words


def pods() -> dict[str, dict[str, Any]]:
    """Return every pod's specification, by file and group."""
    found = {}
    for name, spec in (
        ("raycluster", document("kuberay-raycluster.yaml")["spec"]),
        ("rayjob", document("kuberay-rayjob.yaml")["spec"]["rayClusterSpec"]),
    ):
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            found[f"{name}-{group.get('groupName', 'head')}"] = group["template"]["spec"]
    return found
