"""Export of a trained network: safetensors and its configuration.

`network = dynamos.export.load("DIR")`; then `network(images).logits`, images (N, 3, H, W) in [0,
1].
"""

from pathlib import Path

import yaml

from dynamos import checkpoints
from dynamos.config import TrainConfig, read_yaml
from dynamos.errors import CheckpointError, UserError
from dynamos.files import AnyPath, write_whole
from dynamos.network import ResNet, build_network

WEIGHTS, ABOUT = "model.safetensors", "config.yaml"


def newest_checkpoint(run: Path) -> tuple[TrainConfig, ResNet, int]:
    """(configuration, network in evaluation mode, tasks learned) of a run's newest checkpoint."""
    if not run.is_dir():
        raise UserError(f"no run in {run}: folder not found.")
    found = from_checkpoints(run / "checkpoints")
    if found is None:
        raise CheckpointError(f"no readable checkpoint in {run / 'checkpoints'}.")
    return found


def from_checkpoints(folder: AnyPath) -> tuple[TrainConfig, ResNet, int] | None:
    """(configuration, network in evaluation mode, tasks learned) of a folder's newest checkpoint.

    Returns None if the folder has no readable checkpoint.
    """
    state = checkpoints.latest(folder)
    if state is None:
        return None
    config = TrainConfig.from_dict(state["config"])
    if "network" not in state:
        raise UserError(
            f"{folder} has the state of the trainer {config.model}, not a network of this package; "
            "export it with your own code."
        )
    classes = state.get("classes")  # older states have none
    network = build_network(config, classes or len(state["network"]["linear.bias"]))
    average = state.get("average")  # None also in the states of older versions
    network.load_state_dict(state["network"] if average is None else average["network"])
    return config, network.eval(), len(state["results"])


def write(config: TrainConfig, network: ResNet, folder: Path) -> Path:
    """Write model.safetensors and config.yaml to `folder` and return it."""
    from safetensors.torch import save

    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    about = {"num_classes": network.num_classes, "config": config.to_dict()}
    write_whole(folder / WEIGHTS, save(state))
    write_whole(folder / ABOUT, yaml.safe_dump(about, sort_keys=False))
    return folder


def load(folder: str | Path) -> ResNet:
    """Load the network that `write` put in a folder, on the CPU, in evaluation mode."""
    return read(folder)[1]


def read(folder: str | Path) -> tuple[TrainConfig, ResNet]:
    """(configuration, network on the CPU in evaluation mode) that `write` put in a folder.

    Raises UserError if its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    about = read_yaml(folder / ABOUT)
    if not isinstance(about.get("num_classes"), int) or not isinstance(about.get("config"), dict):
        raise UserError(
            f"{folder / ABOUT} is not an exported configuration with num_classes and config."
        )
    config = TrainConfig.from_dict(about["config"])
    network = build_network(config, about["num_classes"])
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold this network: {error}.") from None
    return config, network.eval()
