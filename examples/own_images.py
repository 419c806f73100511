"""Write images of your own as a file of arrays; here, scikit-learn's digits in three colours.

python examples/own_images.py
dynamos-sweep run --dataset arrays --data-path images.npz --trials 20
"""

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
grey = (digits.images / 16 * 255).astype(np.uint8)  # (N, H, W)
images = np.stack([grey, 255 - grey, grey // 2], axis=-1)  # (N, H, W, 3)
np.savez("images.npz", images=images, labels=digits.target)
print(f"images.npz: {images.shape[0]} images of {images.shape[1]}x{images.shape[2]} pixels")
