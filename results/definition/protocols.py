"""Protocols: on which images configurations are chosen. What is published is measured on test images that none saw."""

# By name, what it means in words. METHOD's streams; class-incremental accuracies.
PROTOCOLS = {
    "val-all-seen": "chosen on held-out training images of every task",
    # Each task's held-out images are looked at once, when it has just been learned: no memory of the past is assumed.
    "val-current": "chosen on held-out training images of the task just learned, never of earlier ones",
    # Chaudhry et al. 2019 (arXiv 1812.00420); Lee et al. 2024 (arXiv 2404.06466).
    "first-k": "chosen on held-out training images of the first tasks, then applied to the whole stream",
    # Cha & Cho 2024 (arXiv 2403.09066).
    "two-stream": "chosen on held-out training images of one stream, then applied to another",
    "test": "chosen on test images",
}
CONFIRMATION = "confirmation"  # of a study that tests what a sweep chose; no sweep of a user's own has it
NOT_PUBLISHABLE = "NOT PUBLISHABLE: configurations were chosen on test images"


def images_of(protocol: str) -> str:
    """What a protocol's trials are evaluated on: "validation" or "test"."""
    return "test" if protocol in ("test", CONFIRMATION) else "validation"
