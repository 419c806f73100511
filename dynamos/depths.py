"""Networks by name: residual blocks of each stage, and the stages that have gates."""

from dynamos.errors import UserError

# Basic blocks of each stage. The name counts the layers: two of each block, stem and classifier.
NETWORKS = {
    "resnet10": (2, 2),
    "resnet8": (1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet20": (3, 3, 3),
    "resnet32": (5, 5, 5),
}
LAST, ALL = "last", "all"


def stages_with_gates(text: str, network: str) -> tuple[int, ...]:
    """Return the stages, from 0, that a text such as "last", "all" or "2,3" (from 1) names.

    Raises UserError if the network has no such stage.
    """
    count = len(NETWORKS[network])
    if text in (LAST, ALL):
        return tuple(range(count - 1 if text == LAST else 0, count))
    numbers = text.split(",")
    found = {int(n) for n in numbers if n.strip().isdigit()}
    if len(found) < len(numbers) or not found <= {*range(1, count + 1)}:
        raise UserError(
            f"gated_stages {text!r} is not {LAST}, {ALL} or different numbers from 1 to {count}, "
            f"the stages of {network}, with commas between them."
        )
    return tuple(sorted(number - 1 for number in found))
