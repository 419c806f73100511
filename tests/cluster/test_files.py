"""The files in cluster/, checked by the programs that read them: Ray's launcher, Kubernetes,
KubeRay, docker and our parser."""

import configparser
import re
from typing import Any

import kubernetes_validate
import pytest
from dockerfile_parse import DockerfileParser
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.helpers.cluster_files import CLUSTER, ROOT, command_lines, document, pods
from tune.cli.flags.parser import parser_of

# The fields of KubeRay 1.6 that we use
# (https://docs.ray.io/en/master/cluster/kubernetes/references/api.html).
KNOWN: dict[str, dict[str, type]] = {
    "RayCluster": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
        "authOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
    },
    "RayJob": {
        "submissionMode": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "entrypoint": str,
        "rayClusterSpec": dict,
    },
    "autoscalerOptions": {"idleTimeoutSeconds": int, "version": str},
    "authOptions": {"mode": str, "secretName": str},
    "headGroupSpec": {
        "serviceType": str,
        "enableIngress": bool,
        "rayStartParams": dict,
        "template": dict,
    },
    "workerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": dict,
    },
}


def setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def locked(package: str, lock: str = "requirements.txt") -> str:
    """Return the version of a package in a lock file."""
    (version,) = re.findall(rf"^{package}==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    return str(version)


def check_known(kind: str, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        assert type(value) is KNOWN[kind][name], f"{kind}.{name}: {value!r}"


@pytest.mark.parametrize(("file", "arguments"), [*command_lines()])
def test_commands_are_ours(file: str, arguments: list[str]) -> None:
    parser_of(arguments[0]).parse(arguments)


def test_there_are_commands_in_every_way_in() -> None:
    assert {file for file, _ in command_lines()} == {
        "README.md",
        "kuberay-raycluster.yaml",
        "kuberay-rayjob.yaml",
        "slurm.sh",
    }


def test_no_command_line_holds_a_password() -> None:
    for file in CLUSTER.iterdir():
        assert not re.search(r"://[^/@\s]*:[^/@\s]*@", file.read_text()), file
        assert "PGPASSWORD" not in file.read_text(), file


def test_launcher_takes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # from the folder in which it is used
    config = prepare_config(document("aws.yaml"))
    validate_config(config)
    assert config["head_node_type"] == "head"
    head, spot = (config["available_node_types"][name] for name in ("head", "spot"))
    assert head["resources"] == {"CPU": 0} and "InstanceMarketOptions" not in head["node_config"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (
        spot["max_workers"] == config["max_workers"]
        and 0 < spot["min_workers"] <= spot["max_workers"]
    )
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all(
        "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token" in line for line in starts
    )
    assert all(
        (ROOT / path).is_file()
        for path in config["file_mounts"].values()
        if not path.startswith("~")
    )


@pytest.mark.parametrize("name", [*pods()])
def test_kubernetes_takes_the_pods(name: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pods()[name]}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_takes_the_claim_that_the_pods_mount() -> None:
    claim = document("kuberay-storage.yaml")
    kubernetes_validate.validate(claim, kubernetes_validate.latest_version(), strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods().values():
        (volume,) = (v for v in pod["volumes"] if "persistentVolumeClaim" in v)
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize("pod", pods().values(), ids=pods())
def test_pods_are_not_root_and_have_the_token_as_a_file(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
    (ray,) = pod["containers"]
    for container in (ray, *pod.get("initContainers", [])):
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}
    environment = {entry["name"]: entry["value"] for entry in ray["env"]}
    assert (
        environment["RAY_AUTH_TOKEN"] == ""
        and environment["RAY_AUTH_TOKEN_PATH"] == "/etc/dynamos/auth_token"
    )
    assert "/etc/dynamos" in {m["mountPath"] for m in ray["volumeMounts"]}


def test_kuberay_knows_the_fields() -> None:
    cluster, job = document("kuberay-raycluster.yaml"), document("kuberay-rayjob.yaml")
    assert {(d["apiVersion"], d["kind"]) for d in (cluster, job)} == {
        ("ray.io/v1", "RayCluster"),
        ("ray.io/v1", "RayJob"),
    }
    check_known("RayJob", job["spec"])
    assert job["spec"]["rayClusterSpec"] == cluster["spec"], "one cluster in two files"
    spec = cluster["spec"]
    check_known("RayCluster", spec)
    check_known("autoscalerOptions", spec["autoscalerOptions"])
    check_known("authOptions", spec["authOptions"])
    check_known("headGroupSpec", spec["headGroupSpec"])
    (workers,) = spec["workerGroupSpecs"]
    check_known("workerGroupSpec", workers)
    assert spec["rayVersion"] == locked("ray"), "KubeRay's probes go by it"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert 0 < workers["minReplicas"] == workers["replicas"] <= workers["maxReplicas"]


def test_image_has_a_python_that_we_support_and_builds_from_files_that_are_there() -> None:
    parsed = DockerfileParser(fileobj=(CLUSTER / "Dockerfile").open("rb"))
    steps = {
        step["instruction"]: step["value"]
        for step in parsed.structure
        if step["instruction"] != "COMMENT"
    }
    python = steps["ARG"].removeprefix("PYTHON=")
    assert python in SpecifierSet(setup()["options"]["python_requires"]) and python in SpecifierSet(
        ">=3.11,<3.15"
    )
    assert steps["FROM"] == "python:${PYTHON}-slim"
    user = pods()["raycluster-head"]["securityContext"]
    assert steps["USER"] == f"{user['runAsUser']}:{user['runAsGroup']}"
    files = re.findall(r"source=(\S+?),", (CLUSTER / "Dockerfile").read_text())
    assert files == ["requirements.txt", "requirements-dev.txt"]
    assert locked("psycopg", "requirements-dev.txt")
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines and all((ROOT / name).exists() for name in sent)
    packages = {
        package.strip().partition(".")[0]
        for package in setup()["options.packages.find"]["include"].split(",")
    }
    assert sent >= {*files, *packages, "setup.cfg", "pyproject.toml", "README.md", "LICENSE"}
