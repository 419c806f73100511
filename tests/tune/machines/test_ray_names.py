"""Private names of Ray that we use. If an upgrade removes one, a test here fails."""

import inspect
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import ray._raylet

from tests.helpers.private_names import check_there, imported_by, mentioned_in
from tune.machines.ray_names import _AGENT_PORTS

GCS = "GCS_SERVER_PORT_NAME"
TOKENS = "ray._private.authentication.authentication_token_setup"
USES = {
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER": "keeping a private Ray on loopback",
    "ray._private.ray_constants.GLOBAL_GRPC_OPTIONS": "asking a cluster whether it wants a token",
    "ray._private.utils.set_sigterm_handler": "keeping our handler of SIGTERM",
    f"{TOKENS}.maybe_enable_token_auth_if_token_available": "sending a cluster's token",
    "ray._raylet.AuthenticationTokenLoader.instance": "checking the file of a token",
    "ray._raylet.AuthenticationTokenLoader.has_token": "checking the file of a token",
    "ray._raylet.Config.initialize": "joining a cluster without a token",
    "ray._private.runtime_env.constants.RAY_JOB_CONFIG_JSON_ENV_VAR": (
        "telling whether Ray Jobs started a driver"
    ),
    "ray._private.services.canonicalize_bootstrap_address_or_die": "--address auto",
    "ray._private.services.start_ray_process": "keeping SIGTERM from Ray's processes",
    "ray._private.node.Node.start_monitor": "a private Ray without helpers",
    "ray._private.node.Node.start_log_monitor": "a private Ray without helpers",
    "ray._private.node.Node.start_api_server": "a private Ray without helpers",
    "ray._raylet.persist_port": "a private Ray without agents",
    "ray.tune.execution.class_cache.DEFAULT_ENV_VARS": "letting trials run in started workers",
    "ray.tune.execution.class_cache.ENV_VARS_TO_PROPAGATE": "letting trials run in started workers",
    "ray._private.worker._global_node": "ending Ray's processes",
    "ray._private.node.Node.kill_all_processes": "ending Ray's processes",
    "ray._private.node.Node.get_gcs_client": "ending Ray's processes",
    "ray._private.ray_constants.PROCESS_TYPE_RAYLET": "ending Ray's processes",
    "ray._raylet.InnerGcsClient.drain_nodes": "ending Ray's processes",
    "ray._raylet.GcsClient": "announcing that a node leaves",
    "ray._raylet.InnerGcsClient.drain_node": "announcing that a node leaves",
    "ray.core.generated.autoscaler_pb2.DrainNodeReason": "announcing that a node leaves",
    "ray._private.state.state.get_draining_nodes": "giving no trial to a node about to leave",
    "ray._private.state.state.node_table": "listing the nodes of a cluster",
    "ray.job_config.JobConfig._runtime_env_has_working_dir": (
        "keeping a user's modules from hiding ours in workers"
    ),
    "ray.tune.execution.tune_controller.TuneController": "keeping idle workers",
    "ray.tune.utils.object_cache._ObjectCache.increase_max": "keeping idle workers",
    "ray.tune.utils.object_cache._ObjectCache.decrease_max": "giving up idle workers",
}


@pytest.mark.parametrize("name", USES)
def test_ray_has(name: str) -> None:
    check_there(name, USES)


def test_a_job_takes_the_drivers_path() -> None:
    from ray.job_config import JobConfig

    assert "_py_driver_sys_path" in inspect.signature(JobConfig).parameters, (
        f"Ray {version('ray')} no longer has JobConfig(_py_driver_sys_path=): used for keeping a "
        "driver's folder from workers"
    )


def test_a_controller_keeps_idle_workers_in_a_cache_with_a_number() -> None:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.utils.object_cache import _ObjectCache

    from tune.machines.ray_names import end_idle_workers, keep_workers

    assert "_actor_cache" in TuneController.__init__.__code__.co_names, (
        f"Ray {version('ray')} no longer has TuneController._actor_cache: used for keeping idle "
        "workers"
    )
    controller = SimpleNamespace(_actor_cache=_ObjectCache(may_keep_one=True))
    for more, kept in ((3, 3), (2, 5), (-5, 0)):
        keep_workers(controller, "resources", more)
        assert controller._actor_cache.total_max_objects == kept
    ended: list[bool] = []
    controller._cleanup_cached_actors = lambda force_all: ended.append(force_all)
    end_idle_workers(controller)
    assert ended == [True]
    assert list(inspect.signature(TuneController._cleanup_cached_actors).parameters) == [
        "self",
        "force_all",
    ], f"Ray {version('ray')} ends idle workers in another way"


def test_a_raylet_waits_for_the_ports_of_these_agents() -> None:
    names = {name for name in dir(ray._raylet) if name.endswith("_PORT_NAME")} - {GCS}
    assert {getattr(ray._raylet, name) for name in names} == set(_AGENT_PORTS), (
        f"Ray {version('ray')} has other agents: used for a private Ray without agents"
    )


def test_they_are_in_one_module_and_each_has_its_use() -> None:
    private = r"\bray\._|\bray [^\n]*\._private|_actor_cache|_py_driver_sys_path"
    assert mentioned_in(private) == ["tune/machines/ray_names.py"]
    found = imported_by("tune/machines/ray_names.py", "ray")
    unexplained = [
        name for name in found if not any(use == name or use.startswith(f"{name}.") for use in USES)
    ]
    assert found and not unexplained, "add what they are used for to USES"
