"""A stream of one's own: scikit-learn's digits, darker from task to task (domain-incremental).

dynamos --dataset examples/own_stream.py:dimmed
dynamos-sweep run --dataset examples/own_stream.py:dimmed --trials 20
"""

import numpy as np
from sklearn.datasets import load_digits

BRIGHTNESS = (1.0, 0.6, 0.3)  # of the tasks


def dimmed(part):
    """Return images (N, 8, 8) from 0 to 1, labels (N,) and the task of each image (N,)."""
    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 5 == 0
    chosen = is_test if part == "test" else ~is_test
    images, labels = digits.images[chosen] / 16, digits.target[chosen]
    tasks = np.repeat(np.arange(len(BRIGHTNESS)), len(labels))
    return (
        np.concatenate([images * factor for factor in BRIGHTNESS]),
        np.tile(labels, len(BRIGHTNESS)),
        tasks,
    )
