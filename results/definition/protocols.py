"""Protocols: the images on which configurations are chosen.

Published numbers must come from test images that were not used before.
"""

# Meaning of each protocol, by name; for streams and accuracies as in docs/explanation/method.md.
PROTOCOLS = {
    "val-all-seen": "chosen on held-out training images of every task",
    # Each task's held-out images are used once, when it has just been learned: no access to
    # earlier images is assumed.
    "val-current": "chosen on held-out training images of the task just learned, never of earlier "
    "ones",
    # Chaudhry et al. 2019 (arXiv 1812.00420); Lee et al. 2024 (arXiv 2404.06466).
    "first-k": "chosen on held-out training images of the first tasks, then applied to the whole "
    "stream",
    # Cha & Cho 2024 (arXiv 2403.09066).
    "two-stream": "chosen on held-out training images of one stream, then applied to another",
    "test": "chosen on test images",
}
# protocol of a sweep that tests another sweep's choice; users cannot ask for it
CONFIRMATION = "confirmation"
NOT_PUBLISHABLE = "NOT PUBLISHABLE: configurations were chosen on test images"


def images_of(protocol: str) -> str:
    """The images on which a protocol evaluates trials: "validation" or "test"."""
    return "test" if protocol in ("test", CONFIRMATION) else "validation"
