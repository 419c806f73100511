#!/usr/bin/env bash
# scikit-learn 1.9.1, numpy 2.4.6. One Gaussian process written in two ways gives two standard deviations.
#
# Guess: noise given as WhiteKernel(v) in the kernel or as alpha=v is the same model, so predict(return_std=True)
# agrees, and both shrink as a point is measured more often.
# Seen: the mean agrees to the last digits. With alpha the deviation is that of the function: 0.021 after 200
# measurements with a noise of 0.3. With WhiteKernel it is that of a new measurement, 0.301, and never falls below the
# noise. If one call gets the same point twice, the covariance off the diagonal is that of the function (0.021
# squared), and on the diagonal that of a measurement. So the probability that A is better than B, computed from these
# deviations, is too near one half, and an upper confidence bound is dominated by noise. Subtract the learned noise from
# the diagonal first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

generator = np.random.default_rng(0)
points = np.repeat(np.linspace(0, 1, 5), 200)[:, None]
values = np.sin(3 * points[:, 0]) + generator.normal(0, 0.3, len(points))
by_kernel = GaussianProcessRegressor(RBF(0.5) + WhiteKernel(0.09), optimizer=None).fit(points, values)
by_alpha = GaussianProcessRegressor(RBF(0.5), alpha=0.09, optimizer=None).fit(points, values)
(mean_kernel, std_kernel), (mean_alpha, std_alpha) = (m.predict(points[:1], return_std=True) for m in (by_kernel, by_alpha))
twice = by_kernel.predict(points[[0, 0]], return_cov=True)[1]
print(f"means agree: {np.allclose(mean_kernel, mean_alpha)}")
print(f"deviation with alpha {std_alpha[0]:.3f}, with WhiteKernel {std_kernel[0]:.3f}")
print(f"one point twice, WhiteKernel: on the diagonal {twice[0, 0] ** 0.5:.3f}, off it {twice[0, 1] ** 0.5:.3f}")
PY
diff - <("$folder/venv/bin/python" "$folder/seen.py") <<'SEEN'
means agree: True
deviation with alpha 0.021, with WhiteKernel 0.301
one point twice, WhiteKernel: on the diagonal 0.301, off it 0.021
SEEN
echo "as written"
