"""Ask a network that `mlflow models serve` serves on port 5001 for the classes of five digits.

python examples/ask.py
"""

import numpy as np
import requests
from sklearn.datasets import load_digits

digits = load_digits()
images = np.stack([digits.images[:5] / 16] * 3, axis=1)  # (N, 3, H, W), from 0 to 1
answer = requests.post(
    "http://127.0.0.1:5001/invocations", json={"inputs": images.tolist()}, timeout=60
)
print("predicted", answer.json()["predictions"]["class"], "true", digits.target[:5].tolist())
