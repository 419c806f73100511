"""Names of torch that are not public.

If an upgrade removes one, the test of this module fails and says what the name was used for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def compile_error() -> type[Exception]:
    """Return the exception that a compiled function raises if compiling fails."""
    from torch._dynamo.exc import TorchDynamoException  # importing it takes seconds

    return TorchDynamoException


def add_products(
    to: "list[Tensor]", left: "list[Tensor]", right: "list[Tensor]", factor: float
) -> None:
    """Add factor * left * right to each tensor, in place and in few operations for all."""
    from torch import _foreach_addcmul_

    _foreach_addcmul_(to, left, right, value=factor)


def fused_sgd(parameters: "list[Tensor]", gradients: "list[Tensor]", lr: float) -> None:
    """Subtract lr * gradient from each parameter, in place and in few operations for all."""
    from torch import _fused_sgd_

    if parameters:
        _fused_sgd_(
            parameters,
            gradients,
            [],
            weight_decay=0.0,
            momentum=0.0,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
