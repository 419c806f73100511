"""Model files of the original program: state dicts under its names (method.md section 6)."""

from collections.abc import Iterator

from torch import Tensor, nn

from dynamos.errors import UserError

_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def original_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's state under the original's names: 110 entries gated, 70 dense.

    Stem and classifier are in it twice. Other networks than the original's, resnet10, continue its
    names.
    """
    own = network.state_dict()
    return {
        theirs: own[name].detach().cpu().contiguous().clone() for theirs, name in _names(network)
    }


def load_original(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state dict under the original's names.

    Raises UserError if its names or shapes are not the network's.
    """
    own = network.state_dict()
    names = dict(_names(network))
    missing, strange = sorted(set(names) - set(state)), sorted(set(state) - set(names))
    if missing or strange:
        raise UserError(
            "the model file does not fit this network: "
            + "; ".join(
                f"{what} {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
                for what, found in (("missing", missing), ("unknown", strange))
                if found
            )
            + "."
        )
    for theirs, name in names.items():
        if state[theirs].shape != own[name].shape:
            raise UserError(
                f"the model file's {theirs} has shape {tuple(state[theirs].shape)}, the network's "
                f"{tuple(own[name].shape)}: another nf, hidden_dim_ratio or number of classes."
            )
    network.load_state_dict({name: state[theirs] for theirs, name in names.items()})


def _names(network: nn.Module) -> Iterator[tuple[str, str]]:
    """(name in the original, name here) of every entry of a network."""
    own, stages = {*network.state_dict()}, network.stages
    assert isinstance(stages, tuple)
    if not stages:  # a user's network
        yield from zip(sorted(own), sorted(own), strict=True)
        return
    for stem in ("", "_features."):
        conv, bn = ("conv1", "bn1") if not stem else ("_features.0", "_features.1")
        yield f"{conv}.weight", "conv.weight"
        yield from _batch_norm(bn, "bn")
    places = [(stage, place) for stage, count in enumerate(stages) for place in range(count)]
    for i, (stage, place) in enumerate(places):
        ours, theirs = f"blocks.{i}", f"_features.{3 + stage}.{place}"
        for part in ("1", "2"):
            yield f"{theirs}.conv{part}.weight", f"{ours}.conv{part}.weight"
            yield from _batch_norm(f"{theirs}.bn{part}", f"{ours}.bn{part}")
        if f"{ours}.shortcut.0.weight" in own:
            yield f"{theirs}.shortcut.0.weight", f"{ours}.shortcut.0.weight"
            yield from _batch_norm(f"{theirs}.shortcut.1", f"{ours}.shortcut.1")
        for gate in ("gate1", "gate2"):
            if f"{ours}.{gate}.agent.conv.weight" in own:
                agent, net = f"{ours}.{gate}.agent", f"{theirs}.{gate}.channel_net"
                yield f"{net}.pw_conv.weight", f"{agent}.conv.weight"
                yield from _batch_norm(f"{net}.bn", f"{agent}.bn")
                for layer, name in (("prototype.0", "fc1"), ("prototype.2", "fc2")):
                    for entry in ("weight", "bias"):
                        yield f"{net}.{layer}.{entry}", f"{agent}.{name}.{entry}"
    for classifier in ("linear", "classifier"):
        for entry in ("weight", "bias"):
            yield f"{classifier}.{entry}", f"linear.{entry}"


def _batch_norm(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    return ((f"{theirs}.{entry}", f"{ours}.{entry}") for entry in _BN)
