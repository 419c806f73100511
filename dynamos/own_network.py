"""Networks in a user's file: FILE.py:NAME, a function of the configuration and the classes."""

import copy

import torch
from torch import Tensor, nn

from dynamos.config import TrainConfig
from dynamos.errors import DynamosError, UserError
from dynamos.network import Output
from dynamos.user_code import in_words, load


class OwnNetwork(nn.Module):
    """A user's module with the interface of a dense ResNet."""

    stages: tuple[int, ...] = ()
    gated = False
    gate_channels: tuple[int, ...] = ()
    num_policy_logits = 0
    noise_shape = (0, 0)

    def __init__(self, module: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.module, self.num_classes = module, num_classes

    def forward(self, images: Tensor, noise: Tensor | None = None, bypass: bool = False) -> Output:
        """Output of images (N, 3, H, W) in [0, 1]; a dense network uses no noise."""
        logits = self.module(images).float()
        none = logits.new_zeros(len(images), 0)
        return Output(logits, none, none.reshape(len(images), 0, 0), none)


def own_network(config: TrainConfig, num_classes: int) -> OwnNetwork:
    """Return the network that the function of config.network builds, on the CPU.

    Raises UserError if the function fails or returns something else than a module with parameters.
    """
    function = load(config.network, "network")
    try:
        module = function(config, num_classes)
    except DynamosError:
        raise
    # the user's function may raise anything
    except (Exception, SystemExit) as error:
        raise UserError(f"{config.network} raises {in_words(error)}.") from error
    if not isinstance(module, nn.Module):
        raise UserError(
            f"{config.network} returns a {type(module).__name__}; it must return a torch.nn.Module."
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UserError(f"{config.network} returns a module without parameters to train.")
    return OwnNetwork(module, num_classes)


def refuse_unfit(network: OwnNetwork, name: str, height: int, width: int) -> None:
    """Raise UserError if a user's network cannot train on images of a size.

    It is tried on one image and on two, in training and in evaluation: a last batch may have one.
    """
    own = copy.deepcopy(network).cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for training in (True, False):
            own.train(training)
            for n in (1, 2):
                before = torch.get_rng_state()
                try:
                    logits = own.module(torch.zeros(n, 3, height, width))
                # the user's module may raise anything
                except Exception as error:
                    raise UserError(
                        f"{name} fails on {n} image{'s' if n > 1 else ''} of {height}x{width} in "
                        f"{'training' if training else 'evaluation'}: {in_words(error)}."
                    ) from error
                wanted = n, network.num_classes
                if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
                    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
                    raise UserError(f"{name} returns {found} for {n} images; it must be {wanted}.")
                if not torch.equal(before, torch.get_rng_state()):
                    raise UserError(
                        f"{name} draws from torch's global generator, for instance by dropout; a "
                        "run with it does not resume exactly."
                    )
